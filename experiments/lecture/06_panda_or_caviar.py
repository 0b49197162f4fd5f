"""Panda or caviar is a question of compute.

The same number of epochs is spent in three ways, over several budgets, data sets and seeds:

- panda: one network is trained from the defaults of `cv.Classifier`, and babysat by fixed rules. After each epoch the
  suggestion that `caviar panda` would show is followed: step back, divide the learning rate, regularise more. Epochs
  that are thrown away count. The best epoch by dev loss is handed over.
- panda, random start: the same from a random point of the space, for a problem without good defaults.
- caviar: `cv.coarse_to_fine` with trials of ten epochs, confirmation and final training within the budget.

The loss on the test split of what is handed over counts. A panda needs its epochs one after another; of caviar's, most
can be trained at the same time.

Spirals were added after a first run on digits and clusters (seeds 0 to 4; with 800 epochs caviar's loss was 1.02 and
0.79 times that of the two pandas), before anything was trained on them. The rule of the verdict is the same, and the
seeds of this run are new.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from gallery import Finding, Verdict, finish, main
from plotly.subplots import make_subplots
from ratios import ratio, ratio_text
from searches import classifier, search
from sources import data_sets

import caviar as cv
from caviar.analysis.suggestions import Curve, suggest
from caviar.engine import Part, PartDone, Progress
from caviar.space_draws import draw as draw_point
from caviar.training.recipe import used_hyperparameters
from caviar.trial import Trial, Value

SPACE = cv.Space(
    learning_rate=cv.log(1e-4, 1.0),
    momentum=cv.reverse_log(0.8, 0.999),
    batch_size=cv.integer(8, 256, scale="log"),
    units=cv.integer(8, 128, scale="log"),
    layers=cv.integer(1, 3),
    l2=cv.log(1e-6, 1e-1),
)
TRIAL_EPOCHS = 10
WAYS = ("panda", "panda, random start", "caviar")
LOOKS = (("#2b8cc4", "circle"), ("#aa44ff", "triangle-up"), ("#d55e00", "diamond"))
"""The colour and the symbol of each way."""


@dataclass
class Babysitting:
    """The training of one network, epoch by epoch, and what its babysitter does."""

    objective: cv.Classifier
    params: dict[str, Value]
    seed: int
    path: list[dict[str, Any]] = field(default_factory=list)
    """The epochs that led to the present state: their metrics, and the checkpoint after each."""
    since: int = 0
    """Epoch of the last change."""

    def __post_init__(self) -> None:
        self.dataset = self.objective.load()
        self.engine = self.objective.make_engine(self.dataset.without_test(), "cpu")
        self.best: tuple[float, Trial, Any] | None = None

    def train_epoch(self) -> str | None:
        """Train one epoch more; return why the training diverged, if it did."""
        epoch = len(self.path) + 1
        trial = Trial(number=0, round=1, params=self.params, epochs=max(epoch, 2), seed=self.seed)
        checkpoint = self.path[-1]["checkpoint"] if self.path else None
        told = self.engine.train_openly(
            Part(trial=trial, checkpoint=checkpoint, until=epoch, keep_checkpoint=True)
        )
        end = next(event for event in told if isinstance(event, PartDone))
        measured = [event.measurement.metrics for event in told if isinstance(event, Progress)]
        if end.failure is not None or not measured or end.checkpoint is None:
            return end.failure or "no measurement"
        self.path.append({**measured[-1], "checkpoint": end.checkpoint})
        loss = float(measured[-1]["dev_loss"])
        if math.isfinite(loss) and (self.best is None or loss < self.best[0]):
            self.best = loss, trial, end.checkpoint
        return None

    def follow_suggestion(self, diverged: str | None) -> None:
        """Do what caviar would suggest to somebody who watches this curve: the first of several alternatives."""
        curve = Curve(
            epochs=range(1, len(self.path) + 1),
            train=[epoch["train_loss"] for epoch in self.path],
            dev=[epoch["dev_loss"] for epoch in self.path],
            params=self.params,
            since=self.since,
            diverged=diverged,
        )
        if (suggestion := suggest(curve)) is None:
            return
        for command in suggestion.commands[0].split("; "):
            name, _, change = command.partition(" ")
            if name == "back":
                del self.path[int(change) :]
            elif name != "go":
                self.params = {**self.params, name: _changed(float(self.params[name]), change)}  # type: ignore[arg-type]
        self.since = len(self.path)

    def test_scores(self) -> Mapping[str, float]:
        """Return the scores of the best epoch on the test split."""
        assert self.best is not None
        _, trial, checkpoint = self.best
        return self.engine.score_winner(trial, checkpoint, self.dataset.test)


def _changed(value: float, change: str) -> float:
    if change[0] in "/*":
        factor = float(change[1:])
        return value / factor if change[0] == "/" else value * factor
    return float(change)


def babysit(objective: cv.Classifier, params: Mapping[str, Value], seed: int, budgets: list[int]) -> Any:
    """Yield each budget of epochs with the test scores of what would be handed over then."""
    sitting = Babysitting(objective, dict(params), seed)
    for spent in range(1, max(budgets) + 1):
        sitting.follow_suggestion(sitting.train_epoch())
        if spent in budgets:
            yield spent, sitting.test_scores() if sitting.best else {"loss": math.inf, "accuracy": 0.0}


def trainings(quick: bool) -> pd.DataFrame:
    """Return a row for each way, budget, data set and seed: the test loss and accuracy of what is handed over."""
    budgets, repetitions = ([50], 2) if quick else ([50, 200, 800], 5)
    rows: list[dict[str, Any]] = []
    for data, source in data_sets(quick, "digits", "clusters", "spirals").items():
        for seed in range(100, 100 + repetitions):
            objective = classifier(source, split_seed=seed)
            default = {n: v for n, v in used_hyperparameters({}).items() if n in SPACE or n == "dropout"}
            start = {"dropout": 0.0, **draw_point(SPACE, Random(seed))}
            for way, params in (("panda", default), ("panda, random start", start)):
                rows += [
                    {"data": data, "seed": seed, "way": way, "epochs": spent, **scores}
                    for spent, scores in babysit(objective, params, seed, budgets)
                ]
            for spent in budgets:
                rounds = cv.coarse_to_fine(trials=spent // TRIAL_EPOCHS - 1, epochs=TRIAL_EPOCHS)
                final = search(objective, SPACE, rounds, seed).trials.iloc[-1]
                scores = {"loss": final["test_loss"], "accuracy": final["test_accuracy"]}
                rows.append({"data": data, "seed": seed, "way": "caviar", "epochs": spent, **scores})
    return pd.DataFrame(rows)


def measure(quick: bool) -> Finding:
    """Spend the same epochs in each way, and compare the test losses."""
    found = trainings(quick)
    wide = found.pivot_table(
        index=["epochs", "data", "seed"], columns="way", values=["loss", "accuracy"], sort=False
    )
    table: list[dict[str, Any]] = []
    ratios: dict[tuple[str, int], tuple[float, float, float]] = {}
    for spent in sorted(set(found["epochs"])):
        part = wide.xs(spent, level="epochs")
        losses, accuracies = part["loss"], part["accuracy"]
        row: dict[str, Any] = {"epochs": spent}
        for way in WAYS:
            row[f"{way}: loss"] = f"{np.exp(np.log(losses[way]).mean()):.3f}"
            row[f"{way}: accuracy"] = f"{accuracies[way].mean():.3f}"
        for way in WAYS[:2]:
            ratios[way, spent] = ratio(losses["caviar"], losses[way])
            row[f"caviar / {way}"] = ratio_text(ratios[way, spent])
        table.append(row)
    small, large = min(found["epochs"]), max(found["epochs"])
    ahead = {way: ratios[way, large] for way in WAYS[:2]}
    behind = {way: ratios[way, small] for way in WAYS[:2]}
    crosses = [behind[way][0] > ahead[way][0] for way in WAYS[:2]]
    verdict: Verdict = "holds weakly" if any(crosses) else "does not hold here"
    if all(high < 1 for _, _, high in ahead.values()) and behind["panda"][1] > 1:
        verdict = "holds"
    return Finding(
        claim="Panda or caviar is a question of compute: with little, babysit one model; with much, train many.",
        verdict=verdict,
        found=f"With {small} epochs in all, caviar's test loss is {ratio_text(behind['panda'])} times that of one "
        f"network babysat from good defaults, and {ratio_text(behind['panda, random start'])} times that of one from a "
        f"random start. With {large} epochs it is {ratio_text(ahead['panda'])} and "
        f"{ratio_text(ahead['panda, random start'])} times (95 % intervals over {len(wide) // len(table)} pairs).",
        table=pd.DataFrame(table),
        figure=draw(wide, ratios),
    )


def draw(wide: pd.DataFrame, ratios: Mapping[tuple[str, int], tuple[float, float, float]]) -> go.Figure:
    """Draw the test loss of each way against the budget, on each data set, and its ratio over all."""
    names = list(dict.fromkeys(wide.index.get_level_values("data")))
    titles = [*(name.capitalize() for name in names), "Caviar / panda"]
    figure = make_subplots(1, len(names) + 1, subplot_titles=titles, horizontal_spacing=0.06)
    budgets = sorted(set(wide.index.get_level_values("epochs")))
    for place, way in enumerate(WAYS):
        for column, data in enumerate(names, start=1):
            parts = [wide.xs((spent, data), level=(0, 1))["loss"][way] for spent in budgets]
            add_curve(
                figure, place, budgets, [ratio(part, np.ones(len(part))) for part in parts], column, way
            )
        if way != "caviar":
            add_curve(figure, place, budgets, [ratios[way, spent] for spent in budgets], len(names) + 1, way)
    figure.add_hline(y=1, line={"dash": "dot", "color": "#808080"}, row=1, col=len(names) + 1)
    figure.update_yaxes(type="log", tickvals=[0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4])
    figure.update_yaxes(title="test loss (nats)", row=1, col=1)
    figure.update_xaxes(
        type="log", title="epochs in all", tickvals=budgets, ticktext=[f"{n}" for n in budgets]
    )
    figure.update_layout(height=420, margin={"b": 100})
    return finish(
        figure,
        "The same epochs, spent on one network or on many",
        "Geometric means over repetitions with 95 % intervals. Right: all data sets together; below 1, caviar is "
        "better than that panda.",
    )


def add_curve(
    figure: go.Figure,
    place: int,
    budgets: list[int],
    values: list[tuple[float, float, float]],
    column: int,
    way: str,
) -> None:
    """Draw means with intervals against the budget, each way a little beside the others."""
    color, symbol = LOOKS[place]
    middles, lows, highs = (np.array(these) for these in zip(*values, strict=True))
    figure.add_scatter(
        x=np.array(budgets) * 1.12 ** (place - 1), y=middles, mode="lines+markers", name=way, legendgroup=way,
        showlegend=column == 1, line={"color": color}, marker={"symbol": symbol, "size": 8},
        error_y={
            "type": "data", "symmetric": False, "thickness": 1.5,
            "array": highs - middles, "arrayminus": middles - lows,
        },
        row=1, col=column,
    )  # fmt: skip


if __name__ == "__main__":
    main(measure)
