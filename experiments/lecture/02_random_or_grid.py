"""Draw at random, not on a grid: n trials then try n values of the parameter that matters.

Both ways get the same number of trials, then the best four of each are trained again with fresh seeds, and the winner's
mean test loss over five more trainings counts. The grid is complete: 5 x 5 points in the lecture's example (the
learning rate, and Adam's epsilon, which hardly matters), and 3 x 3 x 3 x 3 points for four numbers. A grid may be lucky
with a range whose values happen to hit the optimum, so each repetition moves the range of the learning rate, for both
ways alike; it also splits the data anew.
"""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from gallery import Finding, Verdict, main
from plotly.subplots import make_subplots
from searches import COLORS, classifier, data_sets, fresh_loss, ratio, ratio_text, search

import caviar as cv
from caviar.records.frames import Run
from caviar.reporting.plots import theme

WAYS = ("grid", "random")


def plane(shift: float) -> cv.Space:
    """Return the lecture's example, with a range of the learning rate that is moved by so many decades."""
    return cv.Space(learning_rate=cv.log(10 ** (-4 + shift), 10**shift), epsilon=cv.log(1e-10, 1e-4))


def four_numbers(shift: float) -> cv.Space:
    """Return four numbers that are often tuned, with the same ranges of the learning rate."""
    return cv.Space(
        learning_rate=cv.log(10 ** (-4 + shift), 10**shift),
        beta1=cv.reverse_log(0.8, 0.99),
        units=cv.integer(8, 128, scale="log"),
        l2=cv.log(1e-6, 1e-1),
    )


SPACES = {"5 x 5": (plane, 25), "3 x 3 x 3 x 3": (four_numbers, 81)}
"""For each grid its space and its number of points."""


def searches(quick: bool) -> tuple[pd.DataFrame, dict[str, Run]]:
    """Return a row for each search, and the two runs of one repetition in the plane."""
    repetitions, epochs = (2, 1) if quick else (6, 10)
    shown: dict[str, Run] = {}
    rows: list[dict[str, Any]] = []
    for data, source in list(data_sets(quick).items())[:2]:
        for name, (make, trials) in list(SPACES.items())[: 1 if quick else None]:
            for seed in range(repetitions):
                shift = seed / repetitions - 0.5
                for way in WAYS:
                    objective = classifier(source, split_seed=seed, fixed={"optimizer": "adam"})
                    rounds = [cv.Round(trials, epochs), cv.Confirmation(4)]
                    run = search(objective, make(shift), rounds, seed, sampler=way)
                    tried = run.trials[run.trials["stage"] == "search"]
                    best = run.best
                    assert best is not None
                    rows.append(
                        {"data": data, "space": name, "way": way, "seed": seed}
                        | {"loss": fresh_loss(objective, best.params, epochs)}
                        | {"accuracy": best.test_accuracy, "values": tried["params_learning_rate"].nunique()}
                    )
                    shown.setdefault(way, run)
    return pd.DataFrame(rows), shown


def measure(quick: bool) -> Finding:
    """Compare random search with a grid of as many trials."""
    found, shown = searches(quick)
    table, ratios = [], {}
    wide = found.pivot_table(
        index=["data", "space", "seed"], columns="way", values=["loss", "accuracy", "values"]
    )
    for (data, space), part in wide.groupby(level=[0, 1], sort=False):
        ratios[data, space] = ratio(part["loss"]["random"], part["loss"]["grid"])
        table.append(
            {
                "data": data,
                "grid": space,
                "values of the learning rate": f"{part['values']['grid'].mean():.0f} and "
                f"{part['values']['random'].mean():.0f}",
                "test loss of grid": f"{part['loss']['grid'].mean():.4f}",
                "test loss of random": f"{part['loss']['random'].mean():.4f}",
                "random / grid": ratio_text(ratios[data, space]),
                "random better": f"{(part['loss']['random'] < part['loss']['grid']).mean():.0%}",
            }
        )
    overall = ratio(wide["loss"]["random"], wide["loss"]["grid"])
    better, worse = (sum(test(*r[1:]) for r in ratios.values()) for test in (_is_below, _is_above))
    verdict: Verdict = "holds" if better == len(ratios) else "does not hold here"
    if overall[2] < 1 and worse < better < len(ratios):
        verdict = "holds weakly"
    return Finding(
        claim="Draw hyperparameters at random, not on a grid: n trials then try n values of the one that matters.",
        verdict=verdict,
        found=f"A grid of 25 or 81 points tries {found[found['way'] == 'grid']['values'].min()} to "
        f"{found[found['way'] == 'grid']['values'].max()} values of the learning rate, random search one a trial. The "
        f"winner's test loss after random search is {ratio_text(overall)} times that after the grid (95 % "
        f"interval over {len(wide)} pairs). Of {len(ratios)} comparisons random search is surely better in {better} "
        f"and surely worse in {worse}.",
        table=pd.DataFrame(table),
        figure=draw(wide, ratios, shown),
    )


def _is_below(low: float, high: float) -> bool:
    return high < 1


def _is_above(low: float, high: float) -> bool:
    return low > 1


def draw(wide: pd.DataFrame, ratios: dict[Any, Any], shown: dict[str, Run]) -> go.Figure:
    """Draw the trials of one repetition in the plane, and the ratio of losses in each comparison."""
    figure = make_subplots(
        1, 3, subplot_titles=["Grid", "Random", "Test loss: random / grid"], column_widths=[0.29, 0.29, 0.42],
        horizontal_spacing=0.07,
    )  # fmt: skip
    everything = pd.concat(run.trials[run.trials["stage"] == "search"] for run in shown.values())["value"]
    low, high = np.log10([everything.min(), min(everything.max(), 10 * everything.min())])
    for column, way in enumerate(WAYS, start=1):
        trials = shown[way].trials
        tried = trials[trials["stage"] == "search"]
        figure.add_scatter(
            x=tried["params_learning_rate"], y=tried["params_epsilon"], mode="markers", showlegend=False,
            marker={
                "color": np.log10(tried["value"]).clip(low, high), "size": 11, "coloraxis": "coloraxis",
                "line": {"width": 1, "color": "#57606a"},
            },
            row=1, col=column,
        )  # fmt: skip
        figure.add_scatter(
            x=tried["params_learning_rate"], y=np.full(len(tried), 10**-10.6), mode="markers", showlegend=False,
            marker={"symbol": "line-ns-open", "size": 10, "color": theme.BEST}, row=1, col=column,
        )  # fmt: skip
        figure.update_xaxes(
            type="log",
            title="learning rate",
            dtick=1,
            exponentformat="power",
            tickfont={"size": 11},
            row=1,
            col=column,
        )
        figure.update_yaxes(
            type="log", title="epsilon" if column == 1 else "", range=[-10.9, -3.7], dtick=2,
            exponentformat="power", showticklabels=column == 1, row=1, col=column,
        )  # fmt: skip
    for place, ((data, space), (middle, lower, upper)) in enumerate(ratios.items()):
        part = wide.xs((data, space), level=(0, 1))["loss"]
        color = COLORS[list(dict.fromkeys(key[0] for key in ratios)).index(data)]
        figure.add_scatter(
            x=part["random"] / part["grid"], y=[place] * len(part), mode="markers", showlegend=False,
            marker={"size": 6, "color": color, "opacity": 0.4}, row=1, col=3,
        )  # fmt: skip
        figure.add_scatter(
            x=[middle], y=[place], mode="markers", showlegend=False, marker={"size": 10, "color": color},
            error_x={"type": "data", "symmetric": False, "array": [upper - middle], "arrayminus": [middle - lower]},
            row=1, col=3,
        )  # fmt: skip
    figure.add_vline(x=1, line={"dash": "dot", "color": "#808080"}, row=1, col=3)
    figure.update_yaxes(
        tickvals=list(range(len(ratios))), ticktext=[f"{data}<br>{space}" for data, space in ratios],
        range=[len(ratios) - 0.5, -0.5], side="right", row=1, col=3,
    )  # fmt: skip
    figure.update_xaxes(type="log", title="below 1: random is better", row=1, col=3)
    figure.update_layout(height=420, coloraxis={"showscale": False, "reversescale": True})
    notes = [
        "Left: one repetition with 25 trials each; the darker, the lower the dev loss. Below, the values of the "
        "learning rate that were tried. Right: dots are repetitions, large dots geometric means with 95 % intervals."
    ]
    return theme.finish(figure, "Random search and a grid of as many trials", notes, head=20)


if __name__ == "__main__":
    main(measure)
