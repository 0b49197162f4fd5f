"""Batch norm normalises z of each hidden layer, and learns gamma and beta, one pair a unit.

Networks with three hidden layers are trained on two data sets with each of the four optimizers. For the last hidden
layer, each unit's mean and standard deviation over the dev rows are measured at three places: z = a W, normalised z,
and gamma z_norm + beta, which the activation receives. In float64, a layer in training mode is compared with the
formula; and the formula is applied, with epsilon and without, to a unit that has the same z in all rows.
"""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from gallery import Finding, finish, main, mean_and_half
from networks import Problem, Trained, layers_of
from plotly.subplots import make_subplots
from sources import spirals

from caviar.reporting.plots import theme
from caviar.training.recipe import OPTIMIZERS, Recipe
from caviar.training.reference import HiddenLayer, limited_threads

RATES = {"sgd": 0.3, "momentum": 0.05, "rmsprop": 0.003, "adam": 0.01}
PLACES = ("z", "normalised z", "gamma z_norm + beta")


@limited_threads()
def of_last_layer(problem: Problem, trained: Trained) -> dict[str, np.ndarray]:
    """Return what the last hidden layer computes for the dev rows, (N, H), at each place."""
    *below, last = layers_of(problem.network(trained))
    with torch.no_grad():
        x = torch.from_numpy(problem.dataset.dev.x)
        for layer in below:
            x = layer(x)
        z = last.linear(x)
        z_norm = (z - last.norm.running_mean) / (last.norm.running_var + last.norm.eps).sqrt()
        return dict(zip(PLACES, (z.numpy(), z_norm.numpy(), last.norm(z).numpy()), strict=True))


@limited_threads()
def difference_from_formula(seed: int) -> float:
    """Return the largest difference of a layer in training mode from the formula of the notes, in float64."""
    torch.manual_seed(seed)
    layer: Any = HiddenLayer(7, 5, Recipe(batch_norm_epsilon=1e-5)).double()
    torch.nn.init.normal_(layer.norm.weight)
    torch.nn.init.normal_(layer.norm.bias)
    with torch.no_grad():
        x = torch.randn(32, 7, dtype=torch.float64)
        z = x @ layer.linear.weight.T
        mu, sigma2 = z.mean(dim=0), z.var(dim=0, unbiased=False)
        z_tilde = layer.norm.weight * (z - mu) / (sigma2 + 1e-5).sqrt() + layer.norm.bias
        return float((layer.norm(z) - z_tilde).abs().max())


def normalised_constant(epsilon: float) -> float:
    """Return what the formula makes of a unit whose z is the same in all rows of a mini-batch."""
    z = torch.full((32,), 0.5, dtype=torch.float64)
    return float(((z - z.mean()) / (z.var(unbiased=False) + epsilon).sqrt())[0])


def measure(quick: bool) -> Finding:
    """Train with each optimizer, and measure each unit's distribution before and after batch norm."""
    seeds, epochs = (2, 2) if quick else (8, 20)
    problems = {"digits": Problem("sklearn:digits"), "spirals": Problem(spirals(300 if quick else 2000, 3))}
    table: list[dict[str, Any]] = []
    gammas, shown = [], {}
    for data, problem in problems.items():
        for optimizer in OPTIMIZERS:
            spread: dict[str, list[float]] = {}
            for seed in range(seeds):
                params = {"layers": 3, "units": 48, "optimizer": optimizer, "learning_rate": RATES[optimizer]}
                trained = problem.train(params, epochs, seed)
                values = of_last_layer(problem, trained)
                for place, z in values.items():
                    spread.setdefault(f"{place}: means", []).append(float(abs(z.mean(axis=0)).mean()))
                    spread.setdefault(f"{place}: stds", []).append(float(z.std(axis=0).mean()))
                gamma, beta = (
                    np.asarray(trained.checkpoint[f"hidden.2.{name}"], dtype=float)
                    for name in ("gamma", "beta")
                )
                spread.setdefault("gamma", []).append(float(np.std(gamma)))
                spread.setdefault("beta", []).append(float(np.std(beta)))
                gammas.append((data, optimizer, gamma, beta))
                shown[data, optimizer] = values
            row = {"data": data, "optimizer": optimizer}
            for place, short in zip(PLACES, ("z", "z_norm", "z~"), strict=True):
                row[f"{short} means"] = "{:.2f} ± {:.2f}".format(*mean_and_half(spread[f"{place}: means"]))
                row[f"{short} stds"] = "{:.2f} ± {:.2f}".format(*mean_and_half(spread[f"{place}: stds"]))
            row |= {
                f"spread of {name}": "{:.3f} ± {:.3f}".format(*mean_and_half(spread[name]))
                for name in ("gamma", "beta")
            }
            table.append({**row, "_spread": spread})
    everything = {key: np.concatenate([row["_spread"][key] for row in table]) for key in table[0]["_spread"]}
    most = max(difference_from_formula(seed) for seed in range(5))
    moved = min(min(row["_spread"][name]) for row in table for name in ("gamma", "beta"))
    normalised = (
        everything["normalised z: means"].max() < 0.3
        and abs(everything["normalised z: stds"] - 1).max() < 0.3
    )
    units = [abs(everything[f"{place}: {what}"]).mean() for place in PLACES[:2] for what in ("means", "stds")]
    return Finding(
        claim="Batch norm normalises z of each hidden layer; gamma and beta, a pair for each unit, are learned.",
        verdict="holds" if most < 1e-12 and normalised and moved > 0.001 else "holds weakly",
        found=f"A layer computes the formula to {most:.0e} in float64. In the last of three layers the units' means of "
        f"z are {units[0]:.2f} from 0 on average and their standard deviations {units[1]:.2f}; after normalisation, by "
        f"the averages of training and on dev rows, {units[2]:.2f} and {units[3]:.2f}. Every optimizer learned gamma "
        f"and beta, which begin as 1 and 0: over the units of a layer gamma has a standard deviation of "
        f"{everything['gamma'].min():.3f} to {everything['gamma'].max():.3f} and beta of "
        f"{everything['beta'].min():.3f} to {everything['beta'].max():.3f}. If a unit has the same z in all rows of a "
        f"mini-batch, epsilon 1e-5 normalises it to {normalised_constant(1e-5):.0f}; without epsilon the result is "
        f"{'not a number' if np.isnan(normalised_constant(0.0)) else 'a number, too'}.",
        table=pd.DataFrame(table).drop(columns="_spread"),
        figure=draw(shown["digits", "adam"], [entry for entry in gammas if entry[0] == "digits"]),
    )


def draw(values: dict[str, np.ndarray], gammas: list[tuple[str, str, np.ndarray, np.ndarray]]) -> go.Figure:
    """Draw the distribution of some units at each place, and what each optimizer learned."""
    titles = ["z", "Normalised z", "gamma z_norm + beta", "Learned gamma and beta"]
    figure = make_subplots(
        2, 3, subplot_titles=titles, vertical_spacing=0.15,
        specs=[[{}, {}, {}], [{"colspan": 3}, None, None]],
    )  # fmt: skip
    chosen = np.argsort(values["z"].mean(axis=0))[:: max(1, values["z"].shape[1] // 12)]
    for column, z in enumerate(values.values(), start=1):
        for place, unit in enumerate(chosen):
            figure.add_box(
                y=z[:, unit], x=[place] * len(z), marker_color=theme.PLAIN, line_width=1, boxpoints=False,
                showlegend=False, row=1, col=column,
            )  # fmt: skip
        figure.update_xaxes(showticklabels=False, title="units", row=1, col=column)
    colors = ("#2b8cc4", "#d55e00", "#009e73", "#aa44ff")
    symbols = ("circle", "diamond", "square", "triangle-up")
    for optimizer, color, symbol in zip(OPTIMIZERS, colors, symbols, strict=True):
        mine = [(gamma, beta) for _, its, gamma, beta in gammas if its == optimizer]
        gamma, beta = (np.concatenate(arrays) for arrays in zip(*mine, strict=True))
        figure.add_scatter(
            x=gamma, y=beta, mode="markers", name=optimizer, row=2, col=1,
            marker={"size": 5, "color": color, "symbol": symbol, "opacity": 0.5},
        )  # fmt: skip
    figure.add_scatter(
        x=[1], y=[0], mode="markers", name="before training", row=2, col=1,
        marker={"symbol": "x", "size": 11, "color": "#1f2328"},
    )  # fmt: skip
    figure.update_yaxes(matches="y", row=1)
    figure.update_xaxes(title="gamma", row=2, col=1)
    figure.update_yaxes(title="beta", row=2, col=1)
    figure.update_yaxes(title="value", row=1, col=1)
    figure.update_layout(height=720, margin={"b": 100})
    return finish(
        figure,
        "Before and after batch norm",
        "Above: the last of three hidden layers on dev rows of digits, trained with adam; a box for every fourth unit, "
        "with whiskers to its extremes.",
        "Below: gamma and beta of all units of that layer after training with each optimizer.",
    )


if __name__ == "__main__":
    main(measure)
