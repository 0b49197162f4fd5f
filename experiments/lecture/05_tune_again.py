"""Intuitions go stale as data change: tune again from time to time. Some carry over, some do not.

A study is tuned on old data. Then the data change: other rows of the same kind take their place, there are eight times
as many rows, many labels become wrong, or the images are blurred. After each change caviar tunes again, as this command
does:

    caviar retune RUN --data NEW

Half of its trials are the old best and its neighbours, half a fresh search of as many trials as the old one. The best
of each kind trains again with fresh seeds, and by these trainings the verdict is to keep the old best, to use a
neighbour of it, or to tune again. The verdict sees the dev split alone. Whether it is right is measured on the test
split, by the mean loss of five more trainings. Each repetition draws the rows anew.

The claim is judged by the three real changes: it holds if the configuration that retuning chooses has a surely lower
test loss than the old best after most of them, and weakly if after one. A first run (seeds 0 to 5) compared the old
best with fresh searches alone and had no other rows. The seeds of this run are new.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from gallery import Finding, Verdict, finish, main
from plotly.subplots import make_subplots
from ratios import add_ratios, label_ratios, ratio, ratio_text
from scipy.ndimage import gaussian_filter
from searches import MAX_LOSS, classifier, fresh_loss, run_here
from sklearn.datasets import load_digits

import caviar as cv
from caviar.analysis.retuning import FRESH, NEIGHBOUR, OLD, retuning
from caviar.operations.retune import begin_at, declare
from caviar.reporting.plots import theme

SPACE = cv.Space(
    learning_rate=cv.log(1e-4, 1.0),
    batch_size=cv.integer(16, 256, scale="log"),
    units=cv.integer(8, 128, scale="log"),
    layers=cv.integer(0, 3),
    l2=cv.log(1e-5, 1.0),
    dropout=cv.linear(0.0, 0.5),
)
KINDS = {
    OLD: ("keep", "#808080", "circle"),
    NEIGHBOUR: ("its neighbourhood is better", theme.PLAIN, "diamond"),
    FRESH: ("tune again", theme.BEST, "square"),
}
"""For each candidate of a retuning the verdict that chooses it, its colour and its symbol."""
SHOWN = ("learning_rate", "batch_size", "l2")
"""Params whose move is shown."""
Data = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]
CHANGES = ("other rows", "more rows", "wrong labels", "blur")


def old_and_new(change: str, seed: int, rows: int) -> tuple[Data, Data]:
    """Return the digits before and after a change."""
    random = np.random.default_rng(seed)
    x, y = load_digits(return_X_y=True)
    order = random.permutation(len(y))[:rows]
    x, y = x[order], y[order]
    if change == "other rows":
        return (x[: rows // 2], y[: rows // 2]), (x[rows // 2 :], y[rows // 2 :])
    if change == "more rows":
        return (x[: rows // 8], y[: rows // 8]), (x, y)
    if change == "wrong labels":
        is_wrong = random.random(rows) < 0.4
        return (x, y), (x, np.where(is_wrong, random.integers(0, 10, rows), y))
    blurred = np.stack([gaussian_filter(image, 1.5) for image in x.reshape(-1, 8, 8)]).reshape(rows, 64)
    return (x, y), (blurred, y)


def measure_changes(quick: bool) -> pd.DataFrame:
    """Return a row for each change and repetition: the verdict, each candidate's test loss, and what was chosen."""
    repetitions, trials, epochs, rows = (2, 10, 1, 1_200) if quick else (6, 40, 10, 1_600)
    found: list[dict[str, Any]] = []
    for change in CHANGES[: 1 if quick else None]:
        for seed in range(100, 100 + repetitions):
            old, new = (classifier(data, split_seed=seed) for data in old_and_new(change, seed, rows))
            rounds = cv.coarse_to_fine(trials=trials, epochs=epochs)
            study = cv.Study(name="digits", objective=old, space=SPACE, rounds=rounds, seed=seed)
            tuned = run_here(study)
            again = declare(replace(study, objective=new), trials=2 * trials, seeds=4, name="digits-retuned")
            answer = retuning(run_here(begin_at(again, tuned, "digits")))
            assert tuned.best is not None
            assert answer is not None
            params = {one.name: one.params for one in answer.candidates}
            losses = {
                kind: fresh_loss(new, params[kind], epochs) if kind in params else MAX_LOSS for kind in KINDS
            }
            chosen = answer.chosen
            found.append({"change": change, "seed": seed, "verdict": answer.verdict, "sentence": str(answer)})
            found[-1] |= losses | {"chosen": losses[chosen.name]}
            found[-1] |= {f"old {name}": tuned.best.params[name] for name in SHOWN}
            found[-1] |= {f"chosen {name}": chosen.params[name] for name in SHOWN}
    return pd.DataFrame(found)


def measure(quick: bool) -> Finding:
    """Tune again after each change, and compare the candidates on the test split."""
    found = measure_changes(quick)
    changes = list(dict.fromkeys(found["change"]))
    chosen, table = {}, []
    for change, part in found.groupby("change", sort=False):
        chosen[change] = ratio(part["chosen"], part[OLD])
        row: dict[str, Any] = {"change": change}
        row |= {verdict: int((part["verdict"] == verdict).sum()) for verdict, *_ in KINDS.values()}
        row["test loss of the old best"] = f"{part[OLD].mean():.3f}"
        for kind in (NEIGHBOUR, FRESH):
            row[f"{kind} / old best"] = ratio_text(ratio(part[kind], part[OLD]))
        row["chosen / old best"] = ratio_text(chosen[change])
        for name in SHOWN:
            row[name.replace("_", " ")] = " -> ".join(
                f"{np.exp(np.log(part[f'{way} {name}']).mean()):.2g}" for way in ("old", "chosen")
            )
        table.append(row)
    real = [change for change in changes if change != "other rows"]
    better = [change for change in real if chosen[change][2] < 1]
    verdict: Verdict = "holds weakly" if better else "does not hold here"
    if len(better) > len(real) / 2:
        verdict = "holds"
    kept = {change: int((found[found["change"] == change]["verdict"] == "keep").sum()) for change in changes}
    return Finding(
        claim="Intuitions go stale as data, models or machines change: tune again from time to time. Some carry over.",
        verdict=verdict,
        found=f"Of {len(found) // len(changes)} repetitions each, `caviar retune` keeps the old best in "
        + ", ".join(f"{count} after {change}" for change, count in kept.items())
        + ". The test loss of what it chooses, as a multiple of that of the old best: "
        + ", ".join(f"{ratio_text(chosen[change])} after {change}" for change in changes)
        + " (95 % intervals). What it chooses is surely better after "
        + (" and ".join(better) or "none of the changes")
        + f'. One answer in its own words, after {changes[-1]}: "{found["sentence"].iloc[-1]}".',
        table=pd.DataFrame(table),
        figure=draw(found),
    )


def draw(found: pd.DataFrame) -> go.Figure:
    """Draw the verdicts after each change, and the ratios of the test losses."""
    changes = list(dict.fromkeys(found["change"]))
    figure = make_subplots(
        1, 2, subplot_titles=["Verdicts of caviar retune", "Test loss: candidate / old best"], horizontal_spacing=0.05
    )  # fmt: skip
    for verdict, color, _ in KINDS.values():
        counts = [((found["change"] == change) & (found["verdict"] == verdict)).sum() for change in changes]
        figure.add_bar(
            x=counts, y=list(range(len(changes))), orientation="h", width=0.4, name=verdict,
            marker={"color": color}, row=1, col=1,
        )  # fmt: skip
    for place, change in enumerate(changes):
        part = found[found["change"] == change]
        for kind, shift in ((NEIGHBOUR, -0.12), (FRESH, 0.12)):
            add_ratios(figure, place + shift, part[kind] / part[OLD], KINDS[kind][1:], column=2)
    figure.update_xaxes(title="repetitions", dtick=1, row=1, col=1)
    figure.update_yaxes(showticklabels=False, range=[len(changes) - 0.5, -0.5], row=1, col=1)
    label_ratios(
        figure, "below 1: better than the old best", changes, [0.25, 0.5, 0.7, 1, 1.4, 2, 4], column=2
    )
    figure.update_layout(height=460, margin={"b": 100}, barmode="stack", legend_traceorder="normal")
    return finish(
        figure,
        "The old best on new data, its neighbourhood, and a fresh search",
        "Left: by the dev split. Right: by the test split, which no verdict sees: the best neighbour and the best of "
        "the fresh search. Faint marks are repetitions, the others geometric means with 95 % intervals.",
    )


if __name__ == "__main__":
    main(measure)
