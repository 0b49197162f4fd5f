"""Training softmax: the gradient at the logits is a - y, and the loss before training is about ln(classes).

The gradient of the mean cross-entropy at the logits z is compared with (a - y) / rows in float64: by torch's automatic
differentiation, and by central differences of the loss of single rows. The loss before training is measured for 2 to
1,000 classes with caviar's initial weights, and with an output layer of zeros. If the logits of a network that knows
nothing are about normal with variance v, the expected loss is about ln(classes) + v / 2 for many classes.
"""

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from gallery import Finding, Verdict, finish, main, mean_and_half
from networks import Problem
from torch.nn import functional as F  # noqa: N812

from caviar.reporting.plots import theme
from caviar.training.reference import limited_threads

FEATURES, ROWS_OF_A_CLASS = 20, 10


@limited_threads()
def gradient_errors(classes: int, seed: int) -> tuple[float, float]:
    """Return the largest differences of a - y from the gradient at z: automatic, and by central differences."""
    random = np.random.default_rng(seed)
    z = torch.tensor(3 * random.normal(size=(8, classes)), requires_grad=True)
    y = torch.from_numpy(random.integers(classes, size=8))
    loss = F.cross_entropy(z, y, reduction="sum")
    loss.backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    expected = torch.softmax(z.detach(), dim=1) - F.one_hot(y, classes)
    step = 1e-5
    with torch.no_grad():
        few = random.choice(classes, size=min(classes, 5), replace=False)
        numeric = torch.stack(
            [
                (
                    F.cross_entropy(z + move, y, reduction="none")
                    - F.cross_entropy(z - move, y, reduction="none")
                )
                / (2 * step)
                for move in (step * F.one_hot(torch.tensor(k), classes) for k in few)
            ],
            dim=1,
        )
    return float((z.grad - expected).abs().max()), float((numeric - expected[:, few]).abs().max())


@limited_threads()
def losses_at_the_start(classes: int, layers: int, seed: int) -> tuple[float, float, float]:
    """Return the loss of an untrained network, the variance of its logits, and its loss with an output of zeros."""
    random = np.random.default_rng(seed)
    rows = ROWS_OF_A_CLASS * classes
    y = np.arange(rows) % classes
    problem = Problem((random.normal(size=(rows, FEATURES)), y), split=(0.6, 0.2, 0.2))
    untrained = problem.train({"layers": layers, "units": 64}, epochs=1, seed=seed, until=0)
    train = problem.dataset.train
    loss = problem.engine.evaluate(untrained.trial, untrained.checkpoint, train)["loss"]
    with torch.no_grad():
        z_NC = problem.network(untrained)(torch.from_numpy(train.x))
    zeros = {
        name: np.zeros_like(array) if name.startswith("output.") else array
        for name, array in untrained.checkpoint.items()
    }
    of_zeros = problem.engine.evaluate(untrained.trial, zeros, train)["loss"]
    return loss, float(z_NC.var(dim=1, unbiased=False).mean()), of_zeros


def measure(quick: bool) -> Finding:
    """Check the gradient, and measure the loss before training for many numbers of classes."""
    counts, seeds = ((2, 10), 2) if quick else ((2, 3, 4, 6, 10, 20, 50, 100, 300, 1000), 8)
    errors = np.array([gradient_errors(classes, seed) for classes in counts for seed in range(seeds)])
    table, points = [], []
    for layers in (0, 2):
        for classes in counts:
            found = np.array([losses_at_the_start(classes, layers, seed) for seed in range(seeds)])
            excess, half = mean_and_half(list(found[:, 0] - math.log(classes)))
            table.append(
                {
                    "hidden layers": layers,
                    "classes": classes,
                    "ln(classes)": round(math.log(classes), 3),
                    "loss": round(float(found[:, 0].mean()), 3),
                    "above ln(classes)": f"{excess:.3f} ± {half:.3f}",
                    "half the variance of z": round(float(found[:, 1].mean()) / 2, 3),
                    "output of zeros: difference": f"{abs(found[:, 2] - math.log(classes)).max():.1g}",
                }
            )
            points.append((layers, classes, found, excess))
    most = max(abs(found[:, 2] - math.log(classes)).max() for _, classes, found, _ in points)
    above = [excess for *_, excess in points]
    automatic, numeric = errors.max(axis=0)
    exact = automatic < 1e-12 and numeric < 1e-6 and most < 1e-5
    verdict: Verdict = (
        "holds" if exact and max(above) < 0.05 else "holds weakly" if exact else "does not hold here"
    )
    return Finding(
        claim="In softmax training dz = a - y, and the loss at the start is ln(classes).",
        verdict=verdict,
        found=f"The gradient is a - y: it differs by at most {automatic:.0e} from automatic differentiation and by "
        f"{numeric:.0e} from differences of the loss. The loss at the start is ln(classes) if the output layer is zero "
        f"(to {most:.0e}). With random initial weights it is {min(above):.2f} to {max(above):.2f} nats more, about "
        "half the variance of the logits.",
        table=pd.DataFrame(table),
        figure=draw(points),
    )


def draw(points: list[tuple[int, int, np.ndarray, float]]) -> go.Figure:
    """Draw the loss at the start against the number of classes."""
    figure = go.Figure()
    counts = sorted({classes for _, classes, *_ in points})
    curve = np.geomspace(counts[0], counts[-1], 100)
    figure.add_scatter(x=curve, y=np.log(curve), mode="lines", name="ln(classes)", line={"color": "#808080"})
    figure.add_scatter(
        x=counts, y=[found[:, 2].mean() for layers, _, found, _ in points if layers == 2], mode="markers",
        name="output layer of zeros", marker={"symbol": "circle-open", "size": 12, "color": "#009e73"},
    )  # fmt: skip
    for layers, color, symbol, beside in (
        (2, theme.PLAIN, "circle", 1.05),
        (0, theme.BEST, "diamond", 1 / 1.05),
    ):
        chosen = [(classes, found[:, 0]) for its, classes, found, _ in points if its == layers]
        figure.add_scatter(
            x=[beside * classes for classes, losses in chosen for _ in losses],
            y=np.concatenate([of for _, of in chosen]),
            mode="markers", name=f"initial weights, {layers or 'no'} hidden layer{'s' if layers else ''}",
            marker={"color": color, "symbol": symbol, "size": 7, "opacity": 0.7},
        )  # fmt: skip
    figure.update_xaxes(type="log", title="classes", tickvals=counts, ticktext=[f"{n:,}" for n in counts])
    figure.update_yaxes(title="loss before training (nats)", rangemode="tozero")
    figure.update_layout(height=480, margin={"b": 100})
    return finish(
        figure,
        "Loss at the start",
        "Each mark is an untrained network on its train rows. The line is the loss of giving all classes the same "
        "probability.",
    )


if __name__ == "__main__":
    main(measure)
