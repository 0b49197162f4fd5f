"""The right scale: learning rates on a log scale, momenta on that of 1 - 10^r.

First, without training: which share of the draws falls into each order of magnitude on each scale (`caviar space` shows
the same for a study of yours). Then random searches of equal budget, with the right scales and with linear ones for the
learning rate, for the momentum, and for both. The winner's mean loss of fresh trainings counts.
"""

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from gallery import Finding, main
from plotly.subplots import make_subplots
from searches import COLORS, classifier, data_sets, ratio, ratio_text, search

import caviar as cv
from caviar.analysis.space_preview import preview
from caviar.reporting.plots import theme

RATES = {"right": cv.log(1e-4, 1.0), "linear": cv.linear(1e-4, 1.0)}
MOMENTA = {"right": cv.reverse_log(0.9, 0.999), "linear": cv.linear(0.9, 0.999)}
ARMS = {
    "right scales": ("right", "right"),
    "linear learning rate": ("linear", "right"),
    "linear momentum": ("right", "linear"),
    "both linear": ("linear", "linear"),
}
"""For each arm the scales of the learning rate and of the momentum."""


def shares() -> pd.DataFrame:
    """Return the share of the draws in each order of magnitude, on each scale."""
    rows: list[dict[str, Any]] = []
    for scale in ("right", "linear"):
        space = cv.Space(learning_rate=RATES[scale], momentum=MOMENTA[scale])
        objective = cv.Classifier(data="sklearn:digits")
        study = cv.Study(name="scales", objective=objective, space=space, rounds=[cv.Round(1_000, 1)])
        rows += [
            {"parameter": parameter.name, "scale": parameter.scale, "part": part.label, "share": part.share}
            for parameter in preview(study).parameters
            for part in parameter.parts
        ]
    return pd.DataFrame(rows)


def searches(quick: bool) -> pd.DataFrame:
    """Return a row for each search: the winner's fresh dev loss, with each arm's scales."""
    repetitions, trials, epochs = (2, 8, 1) if quick else (10, 30, 10)
    rows: list[dict[str, Any]] = []
    for data, source in data_sets(quick).items():
        for seed in range(repetitions):
            for arm, (rate, momentum) in ARMS.items():
                space = cv.Space(learning_rate=RATES[rate], momentum=MOMENTA[momentum], l2=cv.log(1e-6, 1e-2))
                rounds = [cv.Round(trials, epochs), cv.Confirmation(4)]
                best = search(classifier(source, split_seed=seed), space, rounds, seed).best
                assert best is not None
                rows.append({"data": data, "seed": seed, "arm": arm, "loss": best.value})
    return pd.DataFrame(rows)


def measure(quick: bool) -> Finding:
    """Count the draws an order of magnitude, and search with right and wrong scales."""
    counted, found = shares(), searches(quick)
    wide = found.pivot_table(index=["data", "seed"], columns="arm", values="loss")
    ratios = {
        (data, arm): ratio(part[arm], part["right scales"])
        for data, part in wide.groupby(level=0, sort=False)
        for arm in list(ARMS)[1:]
    }
    overall = {arm: ratio(wide[arm], wide["right scales"]) for arm in list(ARMS)[1:]}
    linear = counted[counted["scale"] == "linear"].set_index(["parameter", "part"])["share"]
    worse = sum(low > 1 for _, low, _ in overall.values())
    table = [
        {"data": data, "right scales": f"{wide.xs(data)['right scales'].mean():.4f}"}
        | {f"{arm} / right": ratio_text(ratios[data, arm]) for arm in list(ARMS)[1:]}
        for data in dict.fromkeys(key[0] for key in ratios)
    ]
    table.append(
        {"data": "all", "right scales": ""} | {f"{a} / right": ratio_text(r) for a, r in overall.items()}
    )
    return Finding(
        claim="Draw on the right scale: learning rates as 10^r, momenta as 1 - 10^r. On a linear scale of 0.9 to "
        "0.999, 90 % of the effort goes to 0.9 to 0.99.",
        verdict="holds" if worse == len(overall) else "holds weakly" if worse else "does not hold here",
        found=f"On a linear scale {linear['learning_rate', '0.1 .. 1']:.0%} of the learning rates of 0.0001 to 1 are "
        f"above 0.1, and {linear['momentum', '0.9 .. 0.99']:.0%} of the momenta are below 0.99; on the right scales "
        "each order of magnitude has the same share. With equal budget, the winner's fresh dev loss is "
        + ", ".join(f"{ratio_text(found)} times as high with {arm}" for arm, found in overall.items())
        + f" (95 % intervals over {len(wide)} pairs).",
        table=pd.DataFrame(table),
        figure=draw(counted, wide, ratios),
    )


def draw(counted: pd.DataFrame, wide: pd.DataFrame, ratios: dict[Any, Any]) -> go.Figure:
    """Draw the shares on each scale, and the ratios of the losses."""
    figure = make_subplots(
        1, 3, subplot_titles=["Learning rate: draws", "Momentum: draws", "Loss: wrong / right scale"],
        column_widths=[0.27, 0.2, 0.53], horizontal_spacing=0.09,
    )  # fmt: skip
    for column, parameter in enumerate(("learning_rate", "momentum"), start=1):
        for kind, color in (("right", theme.PLAIN), ("linear", theme.BEST)):
            is_linear = counted["scale"] == "linear"
            part = counted[
                (counted["parameter"] == parameter) & (is_linear if kind == "linear" else ~is_linear)
            ]
            figure.add_bar(
                x=part["part"].str.replace(" .. ", " ..<br>"), y=part["share"], legendgroup=kind, name=f"{kind} scale",
                showlegend=column == 1, marker={"color": color}, text=[f"{share:.0%}" for share in part["share"]],
                textposition="outside", row=1, col=column,
            )  # fmt: skip
        figure.update_yaxes(range=[0, 1.08], tickformat=".0%", row=1, col=column)
    arms, names = list(ARMS)[1:], list(dict.fromkeys(key[0] for key in ratios))
    for number, data in enumerate(names):
        for place, arm in enumerate(arms):
            middle, low, high = ratios[data, arm]
            part, y = wide.loc[data], place + 0.25 * (number - 1)
            figure.add_scatter(
                x=part[arm] / part["right scales"], y=[y] * len(part), mode="markers", showlegend=False,
                marker={"size": 5, "color": COLORS[number], "opacity": 0.35}, row=1, col=3,
            )  # fmt: skip
            figure.add_scatter(
                x=[middle], y=[y], mode="markers", name=data, legendgroup=data, showlegend=place == 0,
                marker={"size": 9, "color": COLORS[number]},
                error_x={"type": "data", "symmetric": False, "array": [high - middle], "arrayminus": [middle - low]},
                row=1, col=3,
            )  # fmt: skip
    figure.add_vline(x=1, line={"dash": "dot", "color": "#808080"}, row=1, col=3)
    figure.update_yaxes(
        tickvals=list(range(len(arms))), ticktext=[arm.replace(" ", "<br>", 1) for arm in arms],
        range=[len(arms) - 0.4, -0.6], row=1, col=3,
    )  # fmt: skip
    figure.update_xaxes(type="log", title="above 1: the right scales are better", row=1, col=3)
    figure.update_layout(height=440, margin={"b": 100}, barmode="group")
    notes = ["Right: small dots are repetitions, large ones geometric means with 95 % intervals."]
    return theme.finish(figure, "Scales: what is drawn, and what comes of it", notes, head=20)


if __name__ == "__main__":
    main(measure)
