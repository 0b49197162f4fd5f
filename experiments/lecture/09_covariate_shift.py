"""Batch norm and covariate shift: does a later layer see less of a shift, and do networks stand a shift of the inputs?

Within a network: networks of four hidden layers are trained with and without batch norm, each at the learning rate
that did best in a random search, and both at the best one without batch norm. After each epoch each unit's mean over
the dev rows is measured in the third layer, of z~, which the activation receives. The shift of an epoch is how far the
means move, in standard deviations (the root mean square over the units): in all epochs, and in the first few, in which
both networks still learn most of what they learn.

Between data sets: networks learn from the thinner half of the digits and are tested on the bolder half, and they learn
from all digits and are tested on fainter, noisy and moved ones. Batch norm uses its averages, or the statistics of the
shifted rows (`batch_statistics=True`). It helps against a shift if it makes networks lose less accuracy by it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from gallery import Finding, Verdict, finish, main, mean_and_half
from networks import Problem, Trained, draw_and_train, layers_of
from plotly.subplots import make_subplots
from sklearn.datasets import load_digits
from sources import spirals

import caviar as cv
from caviar.engine import Checkpoint
from caviar.reporting.plots import theme
from caviar.training.batch_statistics import use_batch_statistics
from caviar.training.native.engine import NativeEngine
from caviar.training.recipe import recipe_from
from caviar.training.reference import limited_threads, trained_network
from caviar.trial import Trial

FIXED = {"layers": 4, "units": 32, "batch_size": 64}
SPACE = cv.Space(batch_norm=cv.choice(True, False), learning_rate=cv.log(1e-3, 1.0))
LAYER = 3
FIRST = 4
"""Number of first shifts that are averaged alone, from epoch 2 on."""
DATA: dict[str, Any] = {"digits": "sklearn:digits", "spirals": spirals(1500, 3)}
NORMS = {True: "with", False: "without"}
WAYS = ("without", "averages", "batch statistics")

study = cv.Study(
    name="with_and_without_batch_norm",
    objective=cv.Classifier(data=DATA["digits"], metric="dev_loss", fixed=FIXED, layer_statistics=4),
    space=SPACE,
    rounds=[cv.Round(60, 25), cv.Confirmation(1, 1)],
)


class Units:
    """Mean and standard deviation over the dev rows of what each unit's activation receives, after each epoch."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.found: list[tuple[np.ndarray, np.ndarray]] = []

    @limited_threads()
    def __call__(self, trial: Trial, checkpoint: Checkpoint) -> dict[str, float]:
        """Record the units of a network; it adds no metric."""
        dataset = self._problem.dataset
        recipe = recipe_from({**FIXED, **trial.params})
        network = trained_network(recipe, checkpoint, dataset.features, len(dataset.classes))
        *below, layer = layers_of(network)[:LAYER]
        with torch.no_grad():
            x = torch.from_numpy(dataset.dev.x)
            for each in below:
                x = each(x)
            z_tilde = layer.norm(layer.linear(x)).numpy()
        self.found.append((z_tilde.mean(axis=0), z_tilde.std(axis=0)))
        return {}

    @property
    def shifts(self) -> np.ndarray:
        """The shift of each epoch after the first."""
        pairs = zip(self.found, self.found[1:], strict=False)
        steps = [(new - old) / np.maximum(std, 1e-6) for (old, std), (new, _) in pairs]
        return np.asarray(np.sqrt(np.square(steps).mean(axis=1)))


def best_rates(data: str, trials: int, epochs: int) -> dict[bool, float]:
    """Return the learning rate with the lowest dev loss, with and without batch norm."""
    drawn, _ = draw_and_train(
        cv.Classifier(data=DATA[data], metric="dev_loss", fixed=FIXED), SPACE, trials, epochs
    )
    best = drawn.dropna(subset="value").sort_values("value").groupby("params_batch_norm").head(1)
    return dict(zip(best["params_batch_norm"], best["params_learning_rate"], strict=True))


def shifts_within(data: str, rates: dict[bool, float], epochs: int, seeds: int) -> dict[bool, np.ndarray]:
    """Return the shift of each seed and epoch, with and without batch norm."""
    found: dict[bool, list[np.ndarray]] = {}
    problem = Problem(DATA[data], fixed=FIXED)
    for norm, rate in rates.items():
        for seed in range(seeds):
            units = Units(problem)
            problem.engine = NativeEngine(problem.dataset, FIXED, observe=units)
            problem.train({"batch_norm": norm, "learning_rate": rate}, epochs, seed)
            found.setdefault(norm, []).append(units.shifts)
    return {norm: np.array(of) for norm, of in found.items()}


def distributions(data: str, rates: dict[bool, float], epochs: int) -> dict[bool, pd.DataFrame]:
    """Return a curve with the statistics of layers, with and without batch norm."""
    problem = Problem(DATA[data], fixed=FIXED, layer_statistics=LAYER)
    return {
        norm: problem.train({"batch_norm": norm, "learning_rate": rate}, epochs).curve
        for norm, rate in rates.items()
    }


def shifted_rows() -> Iterator[
    tuple[str, tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray] | None]
]:
    """Yield for each shift its name, what to learn from, and shifted rows to test on, or None for those below."""
    x, y = load_digits(return_X_y=True)
    ink = x.sum(axis=1)
    is_thin = np.array([ink[i] <= np.median(ink[y == y[i]]) for i in range(len(y))])
    yield "thin to bold", (x[is_thin], y[is_thin]), (x[~is_thin], y[~is_thin])
    for name in CHANGES:
        yield name, (x, y), None


CHANGES = {
    "half as dark": lambda x: x / 2,
    "noisy": lambda x: x + np.random.default_rng(0).normal(scale=4, size=x.shape),
    "moved by a pixel": lambda x: np.roll(x.reshape(-1, 8, 8), 1, axis=2).reshape(len(x), -1),
}


@limited_threads()
def accuracy(
    problem: Problem, trained: Trained, x: np.ndarray, y: np.ndarray, *, batch_statistics: bool
) -> float:
    """Return the accuracy on rows that are not preprocessed."""
    network = problem.network(trained)
    if batch_statistics:
        use_batch_statistics(network)
    with torch.no_grad():
        z = network(torch.from_numpy(problem.dataset.preprocessing.apply(x)))
    return float((problem.dataset.labels[z.argmax(dim=1).numpy()] == y).mean())


def between_data(rates: dict[bool, float], epochs: int, seeds: int) -> dict[tuple[str, str], list[float]]:
    """Return the accuracy of each seed on unshifted and shifted rows, by shift and way."""
    found: dict[tuple[str, str], list[float]] = {}
    for name, data, test in shifted_rows():
        for seed in range(seeds):
            problem = Problem(data, preprocess="scale", split_seed=seed, fixed=FIXED)
            dev, shift = problem.dataset.dev, problem.dataset.preprocessing
            x_dev, y_dev = dev.x * shift.scale + shift.shift, problem.dataset.labels[dev.y]
            x, y = test or (CHANGES[name](x_dev), y_dev)
            for norm, rate in rates.items():
                trained = problem.train({"batch_norm": norm, "learning_rate": rate}, epochs, seed)
                for way in WAYS[1:] if norm else WAYS[:1]:
                    by_batch = way == "batch statistics"
                    for rows, (a, b) in {"": (x, y), "unshifted, ": (x_dev, y_dev)}.items():
                        found.setdefault((name, rows + way), []).append(
                            accuracy(problem, trained, a, b, batch_statistics=by_batch)
                        )
    return found


def measure(quick: bool) -> Finding:
    """Measure the shift within networks, and the accuracy on shifted inputs."""
    trials, epochs, seeds = (6, 3, 2) if quick else (60, 25, 8)
    rates = {data: best_rates(data, trials, epochs) for data in DATA}
    within = {data: shifts_within(data, rates[data], epochs, seeds) for data in DATA}
    same = {
        data: shifts_within(data, dict.fromkeys(NORMS, rates[data][False]), epochs, seeds) for data in DATA
    }
    table, ratios = [], {}
    for data in DATA:
        for kind, found in (("best rates", within[data]), ("same rate", same[data])):
            for period, epochs_of in (
                ("all epochs", slice(None)),
                (f"epochs 2 to {1 + FIRST}", slice(FIRST)),
            ):
                means = {norm: found[norm][:, epochs_of].mean(axis=1) for norm in NORMS}
                mean, half = mean_and_half(list(np.log(means[True]) - np.log(means[False])))
                ratios[data, kind, period] = mean, half
                both = {
                    NORMS[norm]: "{:.3f} ± {:.3f}".format(*mean_and_half(list(means[norm]))) for norm in NORMS
                }
                ratio = f"{np.exp(mean):.2f} ({np.exp(mean - half):.2f} .. {np.exp(mean + half):.2f})"
                table.append({"what": f"shift, {kind}, {period}", "data": data, **both, "ratio": ratio})
    between = between_data(rates["digits"], epochs, seeds)
    lost = {
        (name, way): np.subtract(between[name, f"unshifted, {way}"], between[name, way])
        for name, way in between
        if way in WAYS
    }
    gains = {}
    for name in dict.fromkeys(name for name, _ in between):
        gains[name] = {way: mean_and_half(list(lost[name, "without"] - lost[name, way])) for way in WAYS[1:]}
        for rows in ("unshifted, ", ""):
            both = {way: "{:.3f} ± {:.3f}".format(*mean_and_half(between[name, rows + way])) for way in WAYS}
            table.append(
                {
                    "what": "accuracy" if rows == "" else "accuracy on unshifted rows",
                    "data": name,
                    "with": both["averages"],
                    "without": both["without"],
                    "with batch statistics": both["batch statistics"],
                }
            )
    less, more = (sum(sign * mean > half for mean, half in ratios.values()) for sign in (-1, 1))
    wins, losses = (sum(s * g["averages"][0] > g["averages"][1] for g in gains.values()) for s in (1, -1))
    adapted = sum(g["batch statistics"][0] > g["batch statistics"][1] for g in gains.values())
    verdict: Verdict = "does not hold here"
    if less > more or wins > losses:
        verdict = "holds" if less == len(ratios) and wins == len(gains) else "holds weakly"

    def times(period: str) -> str:
        return " and ".join(f"{np.exp(ratios[data, 'best rates', period][0]):.2f}" for data in DATA)

    return Finding(
        claim="Batch norm works by making what later layers see shift less, and helps against a shift of the inputs.",
        verdict=verdict,
        found=f"What the activations of layer {LAYER} receive moves {times('all epochs')} times as far an epoch with "
        f"batch norm as without it ({' and '.join(DATA)}, each at its best learning rate), and in the first epochs "
        f"{times(f'epochs 2 to {1 + FIRST}')} times: less in {less} and more in {more} of {len(ratios)} comparisons. "
        f"On shifted digits batch norm with its averages loses less accuracy than without it in {wins} and more in "
        f"{losses} of {len(gains)} shifts; with the statistics of the shifted rows less in {adapted} (95 % intervals).",
        table=pd.DataFrame(table).fillna(""),
        figure=draw(
            {data: distributions(data, rates[data], epochs) for data in DATA}, within, between, seeds
        ),
    )


def draw(
    curves: dict[str, dict[bool, pd.DataFrame]],
    within: dict[str, dict[bool, np.ndarray]],
    between: dict[tuple[str, str], list[float]],
    seeds: int,
) -> go.Figure:
    """Draw distribution and shift over the epochs, and the accuracy on shifted inputs."""
    titles = [
        f"{data.capitalize()}: {what}"
        for what in ("distribution", "shift from epoch to epoch")
        for data in within
    ]
    figure = make_subplots(
        3, 2, subplot_titles=[*titles, "Accuracy on shifted digits"], vertical_spacing=0.11,
        specs=[[{}, {}], [{}, {}], [{"colspan": 2}, None]],
    )  # fmt: skip
    looks = {
        False: ("without batch norm", theme.BEST, "rgba(213, 94, 0, 0.18)"),
        True: ("with batch norm", theme.PLAIN, "rgba(43, 140, 196, 0.25)"),
    }
    for column, (data, found) in enumerate(within.items(), start=1):
        for norm, (_, color, area) in looks.items():
            curve = curves[data][norm]
            middle, spread = curve[f"z_tilde_mean_{LAYER}"], curve[f"z_tilde_std_{LAYER}"]
            figure.add_scatter(
                x=[*curve["epoch"], *curve["epoch"][::-1]], y=[*(middle + spread), *(middle - spread)[::-1]],
                fill="toself", fillcolor=area, line={"width": 0}, showlegend=False, hoverinfo="skip", row=1, col=column,
            )  # fmt: skip
            figure.add_scatter(
                x=curve["epoch"], y=middle, mode="lines", showlegend=False, line={"color": color, "width": 2.5},
                row=1, col=column,
            )  # fmt: skip
            for shifts in found[norm]:
                figure.add_scatter(
                    x=np.arange(2, 2 + len(shifts)), y=shifts, mode="lines", opacity=0.25, showlegend=False,
                    line={"color": color, "width": 1}, row=2, col=column,
                )  # fmt: skip
            figure.add_scatter(
                x=np.arange(2, 2 + found[norm].shape[1]), y=np.exp(np.log(found[norm]).mean(axis=0)),
                mode="lines", showlegend=False, line={"color": color, "width": 2.5}, row=2, col=column,
            )  # fmt: skip
        for row in (1, 2):
            figure.update_xaxes(title="epoch", row=row, col=column)
        ticks = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1]
        figure.update_yaxes(type="log", tickvals=ticks, row=2, col=column)
    figure.update_yaxes(title="z~: mean and std", row=1, col=1)
    figure.update_yaxes(title="shift (standard deviations)", row=2, col=1)
    bars = {
        "without": ("without batch norm", theme.BEST),
        "averages": ("with batch norm", theme.PLAIN),
        "batch statistics": ("with the statistics of the shifted rows", "#009e73"),
    }
    names = list(dict.fromkeys(name for name, _ in between))
    for way, (name, color) in bars.items():
        summary = [mean_and_half(between[shift, way]) for shift in names]
        figure.add_bar(
            x=names, y=[mean for mean, _ in summary], error_y={"array": [half for _, half in summary]}, name=name,
            marker_color=color, row=3, col=1,
        )  # fmt: skip
    figure.update_yaxes(range=[0, 1.02], title="accuracy", row=3, col=1)
    figure.update_layout(height=1000, margin={"b": 100}, barmode="group", bargap=0.35)
    return finish(
        figure,
        "Covariate shift",
        f"Above, what the activations of layer {LAYER} receive: mean and standard deviation over dev rows and units, "
        f"and how far the units' means moved since the epoch before ({seeds} seeds, and their geometric mean).",
        "Below: mean accuracy with 95 % intervals.",
    )


if __name__ == "__main__":
    main(measure)
