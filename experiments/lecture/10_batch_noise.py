"""Batch norm regularises slightly, by the noise of mini-batch statistics; a larger batch has less of it.

Networks learn from 512 digits with mini-batches of 2 rows up to all of them, with and without batch norm, for the same
number of updates. For each, the learning rate with the lowest mean dev loss of two seeds is chosen, and fresh seeds
are trained. The noise of the first layer's batch statistics is a metric of caviar (`layer_statistics=1`). The
generalisation gap is dev loss minus train loss, both in evaluation mode. Smaller batches also have noisier gradients,
with or without batch norm: what batch norm adds is the difference of the two. Intervals are over seeds, on one split of
the data.
"""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from gallery import Finding, Verdict, finish, main, mean_and_half
from networks import Problem, Trained
from plotly.subplots import make_subplots
from sklearn.datasets import load_digits

from caviar.reporting.plots import theme
from caviar.trial import Outcome

SIZES = (2, 4, 8, 16, 32, 64, 128, 256, 512)
RATES = (0.03, 0.1, 0.3)
LOST = 0.05
"""Accuracy below that without batch norm from which a batch size does not count: its gap says nothing."""
NORMS = {True: "with", False: "without"}


def gap_of(problem: Problem, trained: Trained) -> float:
    """Return the dev loss minus the train loss of a trained network."""
    dev, train = (
        problem.engine.evaluate(trained.trial, trained.checkpoint, split)["loss"]
        for split in (problem.dataset.dev, problem.dataset.train)
    )
    return float(dev - train)


def params_of(size: int, norm: bool, rate: float) -> dict[str, Any]:
    """Return the hyperparameters of a network."""
    return {"units": 64, "optimizer": "sgd", "batch_size": size, "batch_norm": norm, "learning_rate": rate}


def best_rate(problem: Problem, size: int, norm: bool, epochs: int) -> float:
    """Return the learning rate with the lowest mean dev loss of two seeds; those that diverge are out."""
    found = {}
    for rate in RATES:
        tried = [problem.train(params_of(size, norm, rate), epochs, seed) for seed in (1000, 1001)]
        if all(trained.outcome is Outcome.COMPLETED for trained in tried):
            found[rate] = float(np.mean([trained.curve["dev_loss"].iloc[-1] for trained in tried]))
    return min(found, key=found.__getitem__)


def measure(quick: bool) -> Finding:
    """Measure noise and gap against the batch size."""
    sizes, updates, seeds = ((16, 64, 512), 40, 2) if quick else (SIZES, 1000, 12)
    x, y = load_digits(return_X_y=True)
    data: dict[str, Any] = {"data": (x[:1280], y[:1280]), "split": (0.4, 0.3, 0.3)}
    problem, observed = Problem(**data), Problem(**data, layer_statistics=1)
    table, noises, gaps, accuracies = [], {}, {}, {}
    for size in sizes:
        row: dict[str, object] = {"batch size": size}
        epochs = max(1, round(updates * size / len(problem.dataset.train.y)))
        for norm, name in NORMS.items():
            rate = best_rate(problem, size, norm, epochs)
            networks = [problem.train(params_of(size, norm, rate), epochs, seed) for seed in range(seeds)]
            gaps[size, norm] = [gap_of(problem, trained) for trained in networks]
            accuracies[size, norm] = [trained.curve["dev_accuracy"].iloc[-1] for trained in networks]
            row[f"rate {name}"] = rate
            if norm:
                few = [
                    observed.train(params_of(size, norm, rate), epochs, seed) for seed in range(min(seeds, 3))
                ]
                for what in ("mean", "std"):
                    noises[size, what] = [trained.curve[f"batch_{what}_noise_1"].iloc[-1] for trained in few]
                    row[f"noise of {what}"] = "{:.3f} ± {:.3f}".format(*mean_and_half(noises[size, what]))
        for norm, name in NORMS.items():
            row[f"gap {name}"] = "{:.3f} ± {:.3f}".format(*mean_and_half(gaps[size, norm]))
        for norm, name in NORMS.items():
            row[f"accuracy {name}"] = "{:.3f} ± {:.3f}".format(*mean_and_half(accuracies[size, norm]))
        table.append(row)
    learned = [
        size for size in sizes if np.mean(accuracies[size, True]) > np.mean(accuracies[size, False]) - LOST
    ]
    slopes = {
        norm: [
            np.polyfit(np.log2(learned), [gaps[size, norm][seed] for size in learned], 1)[0]
            for seed in range(seeds)
        ]
        for norm in NORMS
    }
    partial = [size for size in sizes if size < sizes[-1]]
    noise = [np.mean(noises[size, "mean"]) for size in partial]
    power = np.polyfit(np.log(partial), np.log(noise), 1)[0]
    grows, more = mean_and_half(slopes[True]), mean_and_half(list(np.subtract(slopes[True], slopes[False])))
    smallest, largest = (
        mean_and_half(list(np.subtract(gaps[size, True], gaps[size, False])))
        for size in (learned[0], learned[-1])
    )
    failed = "".join(
        f" With {size} rows batch norm fails to learn (accuracy {np.mean(accuracies[size, True]):.2f})."
        for size in sizes
        if size not in learned
    )
    verdict: Verdict = "does not hold here"
    if abs(power + 0.5) < 0.1 and smallest[0] < -smallest[1]:
        verdict = "holds" if more[0] > more[1] else "holds weakly"
    return Finding(
        claim="Batch norm regularises slightly: mini-batch statistics are noisy, and less so with a larger batch.",
        verdict=verdict,
        found=f"The noise of a mini-batch's mean falls as the batch size to the power {power:.2f}, from "
        f"{noise[0]:.2f} standard deviations at {sizes[0]} rows to {noise[-1]:.2f} at {partial[-1]}.{failed} Batch "
        f"norm changes the generalisation gap by {smallest[0]:+.3f} ± {smallest[1]:.3f} nats at {learned[0]} rows, and "
        f"by {largest[0]:+.3f} ± {largest[1]:.3f} with all {sizes[-1]} rows in a batch, where there is no noise. When "
        f"the batch doubles, the gap changes by {grows[0]:+.4f} ± {grows[1]:.4f} with batch norm, which is "
        f"{more[0]:+.4f} ± {more[1]:.4f} more than without.",
        table=pd.DataFrame(table),
        figure=draw(sizes, noises, gaps),
    )


def draw(
    sizes: tuple[int, ...],
    noises: dict[tuple[int, str], list[float]],
    gaps: dict[tuple[int, bool], list[float]],
) -> go.Figure:
    """Draw the noise and the gap against the batch size."""
    figure = make_subplots(1, 2, subplot_titles=["Noise of batch statistics", "Generalisation gap"])
    below = [size for size in sizes if size < sizes[-1]]
    for what, name, color, symbol in (
        ("mean", "mean", "#009e73", "square"),
        ("std", "standard deviation", "#aa44ff", "triangle-up"),
    ):
        figure.add_scatter(
            x=below, y=[np.mean(noises[size, what]) for size in below], mode="lines+markers",
            name=f"noise of the {name}",
            marker={"color": color, "symbol": symbol, "size": 8}, line_color=color, row=1, col=1,
        )  # fmt: skip
    curve, rows = np.geomspace(below[0], below[-1], 50), sizes[-1]
    figure.add_scatter(
        x=curve, y=np.sqrt((rows - curve) / (curve * (rows - 1))), mode="lines", name="expected", row=1, col=1,
        line={"color": "#808080", "dash": "dot"},
    )  # fmt: skip
    for norm, name, color, symbol, beside in (
        (True, "with batch norm", theme.PLAIN, "circle", 0.96),
        (False, "without batch norm", theme.BEST, "diamond", 1.04),
    ):
        summary = [mean_and_half(gaps[size, norm]) for size in sizes]
        figure.add_scatter(
            x=beside * np.array(sizes), y=[mean for mean, _ in summary],
            error_y={"array": [half for _, half in summary], "width": 3},
            mode="lines+markers", name=name, marker={"color": color, "symbol": symbol, "size": 8}, line_color=color,
            row=1, col=2,
        )  # fmt: skip
    figure.update_xaxes(
        type="log", title="batch size", tickvals=sizes, ticktext=[str(size) for size in sizes]
    )
    figure.update_yaxes(
        type="log",
        tickvals=[0.02, 0.05, 0.1, 0.2, 0.5, 1],
        title="noise (standard deviations of z)",
        row=1,
        col=1,
    )
    figure.update_yaxes(title="dev loss - train loss (nats)", rangemode="tozero", row=1, col=2)
    figure.update_layout(height=460, margin={"b": 100})
    return finish(
        figure,
        "Noise of mini-batches",
        "Left: root mean square over mini-batches and units, relative to the standard deviation of z in layer 1. "
        "Expected is the mean's noise if rows are drawn without replacement.",
        "Right: after the same number of updates, with 95 % intervals.",
    )


if __name__ == "__main__":
    main(measure)
