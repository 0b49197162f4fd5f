"""The right scale: learning rates on a log scale, momenta on that of 1 - 10^r.

First, without training: which share of the draws falls into each order of magnitude on each scale (`caviar space` shows
the same for a study of yours). Then random searches of equal budget, for two optimizers, with the right scales and with
linear ones for the learning rate, for the momentum (Adam's beta1), and for both. The winner's mean test loss over five
fresh trainings counts. A wrong scale costs nothing where the best values lie in the order of magnitude that it draws
most, so where the winners lie is counted, too.

Adam was added after a first run with other seeds (0 to 7), in which a linear learning rate cost the momentum optimizer
nothing that could be measured. The seeds of this run are new.
"""

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from gallery import Finding, Verdict, main
from plotly.subplots import make_subplots
from searches import COLORS, classifier, data_sets, fresh_loss, ratio, ratio_text, search

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
OPTIMIZERS = {"momentum": "momentum", "adam": "beta1"}
"""Optimizers, each with the name of its momentum."""
Ratios = dict[tuple[str, str, str], tuple[float, float, float]]
"""Ratios of losses with their intervals, by optimizer, arm and data set."""


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
    """Return a row for each search: the winner's test loss and its values, with each arm's scales."""
    seeds, trials, epochs = (range(2), 8, 1) if quick else (range(100, 110), 20, 10)
    rows: list[dict[str, Any]] = []
    for data, source in list(data_sets(quick).items())[:2]:
        for optimizer, beta in OPTIMIZERS.items():
            for seed in seeds:
                objective = classifier(source, split_seed=seed, fixed={"optimizer": optimizer})
                for arm, (rate, momentum) in ARMS.items():
                    space = cv.Space(
                        **{"learning_rate": RATES[rate], beta: MOMENTA[momentum], "l2": cv.log(1e-6, 1e-2)}
                    )
                    best = search(objective, space, [cv.Round(trials, epochs), cv.Confirmation(4)], seed).best
                    assert best is not None
                    rows.append({"data": data, "optimizer": optimizer, "seed": seed, "arm": arm})
                    rows[-1] |= {"loss": fresh_loss(objective, best.params, epochs)}
                    rows[-1] |= {"rate": best.params["learning_rate"]}
                    rows[-1] |= {"beta": best.params[beta]}
    return pd.DataFrame(rows)


def measure(quick: bool) -> Finding:
    """Count the draws an order of magnitude, and search with right and wrong scales."""
    counted, found = shares(), searches(quick)
    wide = found.pivot_table(index=["optimizer", "data", "seed"], columns="arm", values="loss")
    wrong = list(ARMS)[1:]
    ratios: Ratios = {
        (optimizer, arm, data): ratio(part[arm], part["right scales"])
        for optimizer in OPTIMIZERS
        for data in dict.fromkeys(found["data"])
        for part in [wide.xs((optimizer, data))]
        for arm in wrong
    }
    overall = {
        (optimizer, arm): ratio(part[arm], part["right scales"])
        for optimizer in OPTIMIZERS
        for part in [wide.xs(optimizer)]
        for arm in wrong
    }
    linear = counted[counted["scale"] == "linear"].set_index(["parameter", "part"])["share"]
    harmful = [key for key, (_, low, _) in overall.items() if low > 1]
    helpful = [key for key, (_, _, high) in overall.items() if high < 1]
    verdict: Verdict = "holds weakly" if harmful else "does not hold here"
    if len(harmful) == len(overall):
        verdict = "holds"
    right = found[found["arm"] == "right scales"].groupby("optimizer")
    high_rates = right["rate"].agg(lambda rates: (rates > 0.1).mean())
    low_betas = right["beta"].agg(lambda betas: (betas < 0.99).mean())
    effects = "; ".join(
        f"{optimizer}: "
        + ", ".join(f"{ratio_text(overall[optimizer, arm])} times as high with {arm}" for arm in wrong)
        + f" (with the right scales {high_rates[optimizer]:.0%} of the winners have a learning rate above 0.1, and "
        f"{low_betas[optimizer]:.0%} a momentum below 0.99)"
        for optimizer in OPTIMIZERS
    )
    return Finding(
        claim="Draw on the right scale: learning rates as 10^r, momenta as 1 - 10^r. On a linear scale of 0.9 to "
        "0.999, 90 % of the effort goes to 0.9 to 0.99.",
        verdict=verdict,
        found=f"The shares are as claimed: on a linear scale {linear['learning_rate', '0.1 .. 1']:.0%} of the learning "
        f"rates of 0.0001 to 1 are above 0.1, and {linear['momentum', '0.9 .. 0.99']:.0%} of the momenta below 0.99. "
        f"What comes of it depends on where the best lie. Test loss of the winner at equal budget: {effects}. A "
        f"linear scale is surely worse in {len(harmful)} and surely better in {len(helpful)} of {len(overall)} cases.",
        table=pd.DataFrame(
            [
                {"optimizer": optimizer, "data": data}
                | {"right scales": f"{wide.xs((optimizer, data))['right scales'].mean():.4f}"}
                | {f"{arm} / right": ratio_text(ratios[optimizer, arm, data]) for arm in wrong}
                for optimizer in OPTIMIZERS
                for data in dict.fromkeys(found["data"])
            ]
        ),
        figure=draw(counted, wide, ratios),
    )


def draw(counted: pd.DataFrame, wide: pd.DataFrame, ratios: Ratios) -> go.Figure:
    """Draw the shares on each scale, and the ratios of the losses."""
    figure = make_subplots(
        1, 3, subplot_titles=["Learning rate: draws", "Momentum: draws", "Test loss: wrong / right scale"],
        column_widths=[0.27, 0.19, 0.54], horizontal_spacing=0.1,
    )  # fmt: skip
    for column, parameter in enumerate(("learning_rate", "momentum"), start=1):
        for kind, color in (("right", theme.PLAIN), ("linear", theme.BEST)):
            is_linear = counted["scale"] == "linear"
            part = counted[
                (counted["parameter"] == parameter) & (is_linear if kind == "linear" else ~is_linear)
            ]
            figure.add_bar(
                x=part["part"].str.replace(" .. ", " ..<br>"), y=part["share"], legendgroup=kind,
                name=f"{kind} scale", showlegend=column == 1, marker={"color": color}, textposition="outside",
                text=[f"{share:.0%}" for share in part["share"]], row=1, col=column,
            )  # fmt: skip
        figure.update_yaxes(range=[0, 1.08], tickformat=".0%", row=1, col=column)
        figure.update_xaxes(tickfont={"size": 11}, row=1, col=column)
    rows = [(optimizer, arm) for optimizer in OPTIMIZERS for arm in list(ARMS)[1:]]
    looks = ((COLORS[2], "circle"), (COLORS[3], "square"), ("#808080", "diamond"))
    for number, data in enumerate(dict.fromkeys(key[2] for key in ratios)):
        color, symbol = looks[number]
        for place, (optimizer, arm) in enumerate(rows):
            middle, low, high = ratios[optimizer, arm, data]
            losses, y = wide.xs((optimizer, data)), place + 0.25 * (number - 1)
            figure.add_scatter(
                x=losses[arm] / losses["right scales"], y=[y] * len(losses), mode="markers", showlegend=False,
                marker={"size": 5, "color": color, "symbol": symbol, "opacity": 0.3}, row=1, col=3,
            )  # fmt: skip
            figure.add_scatter(
                x=[middle], y=[y], mode="markers", name=data, legendgroup=data, showlegend=place == 0,
                marker={"size": 9, "color": color, "symbol": symbol},
                error_x={"type": "data", "symmetric": False, "array": [high - middle], "arrayminus": [middle - low]},
                row=1, col=3,
            )  # fmt: skip
    figure.add_vline(x=1, line={"dash": "dot", "color": "#808080"}, row=1, col=3)
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=[f"{optimizer}:<br>{arm}" for optimizer, arm in rows],
        range=[len(rows) - 0.4, -0.6], tickfont={"size": 11}, row=1, col=3,
    )  # fmt: skip
    figure.update_xaxes(type="log", title="above 1: the right scales are better", row=1, col=3)
    figure.update_layout(height=520, margin={"b": 100}, barmode="group")
    notes = ["Right: small dots are repetitions, large ones geometric means with 95 % intervals."]
    return theme.finish(figure, "Scales: what is drawn, and what comes of it", notes, head=20)


if __name__ == "__main__":
    main(measure)
