"""With batch norm the bias is useless, gamma and beta work with any optimizer, and training needs fewer epochs.

The bias: in float64, hidden layers with and without batch norm get a bias before it, and the gradient of the loss at
that bias is compared with the gradient at the weights of its layer.

The epochs: a random search draws optimizer, batch norm and learning rate. For each optimizer, with and without batch
norm, the five learning rates that needed the fewest epochs to a train loss of 0.1 nats are trained with four more seeds
each, and the best of them with fresh seeds. Epochs are interpolated between the two around the loss.

That every optimizer learns gamma and beta is measured in 07.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from gallery import Finding, Verdict, finish, main, mean_and_half
from networks import Problem, draw_and_train, layers_of
from plotly.subplots import make_subplots
from sources import spirals
from torch.nn import functional as F  # noqa: N812

import caviar as cv
from caviar.reporting.plots import theme
from caviar.training.recipe import OPTIMIZERS, Recipe
from caviar.training.reference import Network, limited_threads
from caviar.trial import Value

LOSS = 0.1
FIXED = {"units": 32, "batch_size": 64}
SPACE = cv.Space(
    optimizer=cv.choice(*OPTIMIZERS), batch_norm=cv.choice(True, False), learning_rate=cv.log(1e-4, 3.0)
)
PROBLEMS: dict[str, tuple[Any, int]] = {
    "digits, 4 layers": ("sklearn:digits", 4),
    "digits, 10 layers": ("sklearn:digits", 10),
    "spirals, 4 layers": (spirals(1500, 3), 4),
}

study = cv.Study(
    name="epochs_to_loss",
    objective=cv.Classifier(data="sklearn:digits", metric="dev_loss", fixed={**FIXED, "layers": 4}),
    space=SPACE,
    rounds=[cv.Round(240, 20), cv.Confirmation(1, 1)],
)


@limited_threads()
def bias_gradients(seed: int, batch_norm: bool) -> tuple[float, float]:
    """Return the norm of the gradient at a bias before batch norm (or without), and at the layer's weights."""
    torch.manual_seed(seed)
    network = Network(20, 5, Recipe(layers=2, units=16, batch_norm=batch_norm)).double()
    x, y = torch.randn(64, 20, dtype=torch.float64), torch.randint(5, (64,))
    first, second = layers_of(network)
    bias = torch.randn(16, dtype=torch.float64, requires_grad=True)
    a = first.activation(first.norm(first.linear(x) + bias))
    F.cross_entropy(network.output(second(a)), y).backward()  # type: ignore[no-untyped-call]
    assert bias.grad is not None
    return float(bias.grad.norm()), float(first.linear.weight.grad.norm())


def epochs_to_loss(losses: np.ndarray) -> float:
    """Return the number of epochs after which the train loss falls to LOSS for the first time; infinite if never."""
    below = np.flatnonzero(losses <= LOSS)
    if not len(below):
        return np.inf
    last = int(below[0])
    if last == 0:
        return 1.0
    before, after = np.log(losses[last - 1 : last + 1])
    return float(last + (before - np.log(LOSS)) / (before - after))


def searched(name: str, trials: int, epochs: int) -> pd.DataFrame:
    """Return the trials of a random search with the epochs that each needed."""
    data, layers = PROBLEMS[name]
    objective = cv.Classifier(data=data, metric="dev_loss", fixed={**FIXED, "layers": layers})
    drawn, curves = draw_and_train(objective, SPACE, trials, epochs)
    needed = curves.groupby("trial")["train_loss"].apply(lambda losses: epochs_to_loss(losses.to_numpy()))
    found: pd.DataFrame = drawn.assign(needed=drawn["trial"].map(needed).fillna(np.inf), problem=name)
    return found


def epochs_needed(
    problem: Problem, params: dict[str, Value], epochs: int, seeds: Iterable[int]
) -> np.ndarray:
    """Return the epochs that each seed needs; all of them if it needs more."""
    curves = [problem.train(params, epochs, seed).curve for seed in seeds]
    return np.minimum([epochs_to_loss(curve["train_loss"].to_numpy()) for curve in curves], epochs)


def at_best_rate(
    problem: Problem, tried: pd.DataFrame, params: dict[str, Value], epochs: int, seeds: int
) -> tuple[float, np.ndarray]:
    """Return the best learning rate of those tried, and the epochs that fresh seeds need with it."""
    few = tried[np.isfinite(tried["needed"])].nsmallest(5, "needed")
    found = {
        rate: epochs_needed(problem, {**params, "learning_rate": rate}, epochs, range(100, 104)).mean()
        for rate in few["params_learning_rate"].tolist()
    }
    best = min(found, key=found.__getitem__)
    return best, epochs_needed(problem, {**params, "learning_rate": best}, epochs, range(200, 200 + seeds))


def measure(quick: bool) -> Finding:
    """Measure the gradient at the bias, and the epochs to a loss with and without batch norm."""
    trials, epochs, seeds = (24, 4, 2) if quick else (240, 20, 8)
    biases = {norm: np.array([bias_gradients(seed, norm) for seed in range(20)]) for norm in (True, False)}
    relative = {norm: found[:, 0] / found[:, 1] for norm, found in biases.items()}
    table, everything, ratios = [], [], []
    names = ["spirals, 4 layers"] if quick else list(PROBLEMS)
    for name in names:
        data, layers = PROBLEMS[name]
        frame = searched(name, trials, epochs)
        everything.append(frame)
        problem = Problem(data, fixed={**FIXED, "layers": layers})
        for optimizer in OPTIMIZERS:
            row: dict[str, object] = {"problem": name, "optimizer": optimizer}
            of_both = {}
            for norm, way in ((True, "with"), (False, "without")):
                mine = frame[(frame["params_optimizer"] == optimizer) & (frame["params_batch_norm"] == norm)]
                reached = np.isfinite(mine["needed"])
                row[f"epochs {way}"], row[f"rates that do, {way}"] = "never", f"{reached.mean():.0%}"
                if reached.any():
                    params: dict[str, Value] = {"optimizer": optimizer, "batch_norm": norm}
                    rate, of_both[way] = at_best_rate(problem, mine, params, epochs, seeds)
                    row[f"rate {way}"] = f"{rate:.2g}"
                    row[f"epochs {way}"] = "{:.1f} ± {:.1f}".format(*mean_and_half(list(of_both[way])))
            if len(of_both) == 2:
                mean, half = mean_and_half(list(np.log(of_both["with"]) - np.log(of_both["without"])))
                row["ratio"] = f"{np.exp(mean):.2f} ({np.exp(mean - half):.2f} .. {np.exp(mean + half):.2f})"
                ratios.append((mean, half))
            table.append(row)
    frame = pd.concat(everything)
    works = {
        norm: np.isfinite(frame.loc[frame["params_batch_norm"] == norm, "needed"]).mean()
        for norm in (True, False)
    }
    faster, slower = (sum(sign * mean > half for mean, half in ratios) for sign in (-1, 1))
    useless = relative[True].max() < 1e-10
    verdict: Verdict = (
        "holds"
        if useless and ratios and faster == len(ratios)
        else "holds weakly" if useless and faster + slower and works[True] > works[False] else "does not hold here"
    )  # fmt: skip
    return Finding(
        claim="A bias before batch norm is useless; gamma and beta are learned by any optimizer; training is faster.",
        verdict=verdict,
        found=f"The gradient at a bias before batch norm is at most {relative[True].max():.0e} of that at the weights, "
        f"without batch norm {relative[False].mean():.2f} of it. At its own best learning rate, training with batch "
        f"norm needed fewer epochs to a train loss of {LOSS} in {faster} of {len(ratios)} settings, more in {slower} "
        f"(95 % intervals). Of the learning rates drawn, {works[True]:.0%} reached that loss with it and "
        f"{works[False]:.0%} without.",
        table=pd.DataFrame(table).fillna(""),
        figure=draw(frame, epochs),
    )


def draw(frame: pd.DataFrame, epochs: int) -> go.Figure:
    """Draw the epochs to the loss against the learning rate, a panel for each problem and optimizer."""
    names = list(frame["problem"].unique())
    titles = [f"{name.capitalize()}, {optimizer}" for name in names for optimizer in OPTIMIZERS]
    figure = make_subplots(
        len(names), len(OPTIMIZERS), subplot_titles=titles, shared_xaxes=True, shared_yaxes=True,
        horizontal_spacing=0.02, vertical_spacing=0.07,
    )  # fmt: skip
    never = epochs + 2
    for row, problem in enumerate(names, start=1):
        for column, optimizer in enumerate(OPTIMIZERS, start=1):
            for norm, name, color, symbol, beside in (
                (False, "without batch norm", theme.BEST, "diamond-open", 0.5),
                (True, "with batch norm", theme.PLAIN, "circle", -0.5),
            ):
                mine = frame[
                    (frame["problem"] == problem)
                    & (frame["params_optimizer"] == optimizer)
                    & (frame["params_batch_norm"] == norm)
                ]
                figure.add_scatter(
                    x=mine["params_learning_rate"], y=mine["needed"].where(mine["needed"] <= epochs, never + beside),
                    mode="markers", name=name,
                    legendgroup=name, showlegend=(row, column) == (1, 1), row=row, col=column,
                    marker={"color": color, "symbol": symbol, "size": 6, "opacity": 0.8},
                )  # fmt: skip
    figure.update_xaxes(type="log", dtick=1, exponentformat="power")
    figure.update_xaxes(title="learning rate", row=len(names))
    ticks = list(range(0, epochs, 5))
    figure.update_yaxes(
        tickvals=[*ticks, never], ticktext=[*map(str, ticks), "never"], range=[0, never + 1.5]
    )
    figure.update_yaxes(title=f"epochs to {LOSS} nats", col=1)
    figure.update_layout(height=200 + 210 * len(names), margin={"b": 100})
    return finish(
        figure,
        "Epochs to a loss, with and without batch norm",
        f"Each mark is a trial. It is at the top if its train loss did not fall to {LOSS} nats in {epochs} epochs.",
    )


if __name__ == "__main__":
    main(measure)
