"""The learning rate matters most; then batch size, momentum and units; then layers and decay; Adam's own hardly.

For each data set and for two optimizers, a few hundred networks are drawn at random from the whole space, without
narrowing. PED-ANOVA says what it takes to be among the best tenth, fANOVA what explains the differences in rank. Both
are compared with the order of the lecture. An importance depends on the ranges: here those that the lecture names. The
table has the mean over the data sets with the least and the greatest, the figure each with its 95 % interval.
"""

from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from gallery import Finding, Verdict, finish, main
from plotly.subplots import make_subplots
from scipy.stats import spearmanr
from searches import classifier, search
from sources import LOOKS, data_sets

import caviar as cv

SHARED = {
    "learning_rate": cv.log(1e-4, 1.0),
    "batch_size": cv.integer(8, 256, scale="log"),
    "units": cv.integer(8, 128, scale="log"),
    "layers": cv.integer(1, 4),
    "decay_rate": cv.log(1e-3, 1.0),
}
OWN = {
    "momentum": {"momentum": cv.reverse_log(0.9, 0.999)},
    "adam": {
        "beta1": cv.reverse_log(0.9, 0.999),
        "beta2": cv.reverse_log(0.9, 0.9999),
        "epsilon": cv.log(1e-10, 1e-4),
    },
}
"""Parameters that an optimizer alone has."""
TIERS = {
    "learning_rate": 1,
    **dict.fromkeys(("batch_size", "momentum", "units"), 2),
    **dict.fromkeys(("layers", "decay_rate"), 3),
    **dict.fromkeys(("beta1", "beta2", "epsilon"), 4),
}
"""The lecture's order: 1 is tuned first, 4 hardly ever."""
METHODS: tuple[Literal["ped_anova", "fanova"], ...] = ("ped_anova", "fanova")
NAMES = ("PED-ANOVA", "fANOVA")


def importances(quick: bool) -> pd.DataFrame:
    """Return a row for each data set, optimizer, method and parameter: importance, interval and rank."""
    trials, epochs = (30, 1) if quick else (400, 10)
    found: list[pd.DataFrame] = []
    for data, source in data_sets(quick, "digits", "clusters", "breast cancer").items():
        for optimizer, own in OWN.items():
            objective = classifier(source, fixed={"optimizer": optimizer, "decay": "inverse"})
            run = search(
                objective, cv.Space(**SHARED, **own), [cv.Round(trials, epochs), cv.Confirmation(1)], seed=0
            )
            for method in METHODS:
                ranking = run.importance(method=method)
                ranking["rank"] = np.arange(1, len(ranking) + 1)
                found.append(ranking.assign(data=data, optimizer=optimizer, method=method))
    table = pd.concat(found, ignore_index=True)
    return table.assign(tier=table["parameter"].map(TIERS))


def measure(quick: bool) -> Finding:
    """Rank the parameters on each data set, and compare with the order of the lecture."""
    found = importances(quick)
    groups = [group for _, group in found.groupby(["data", "optimizer", "method"])]
    firsts = sum(group.set_index("rank").loc[1, "parameter"] == "learning_rate" for group in groups)
    agreement = [float(spearmanr(group["tier"], group["rank"]).statistic) for group in groups]
    means = found.groupby(["method", "tier"])["importance"].mean()
    shares = found[found["parameter"] == "learning_rate"]["importance"]
    is_ordered = all(means[method].is_monotonic_decreasing for method in METHODS)
    verdict: Verdict = "does not hold here"
    if 2 * firsts > len(groups) and np.mean(agreement) > 0:
        verdict = "holds" if firsts == len(groups) and is_ordered else "holds weakly"
    by_tier = "; ".join(
        f"{name} " + ", ".join(f"{means[method][tier]:.3f}" for tier in sorted(set(TIERS.values())))
        for method, name in zip(METHODS, NAMES, strict=True)
    )
    return Finding(
        claim="The learning rate matters most; then mini-batch size, momentum and hidden units; then layers and decay; "
        "Adam's beta1, beta2 and epsilon hardly.",
        verdict=verdict,
        found=f"The learning rate is first in {firsts} of {len(groups)} rankings, with an importance of "
        f"{shares.min():.2f} to {shares.max():.2f}. Mean importance of the lecture's four groups, from the first to "
        f"the last: {by_tier}. The rank correlation with the lecture's order is {np.mean(agreement):.2f} on average "
        f"({min(agreement):.2f} to {max(agreement):.2f}).",
        table=summary(found),
        figure=draw(found),
    )


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each optimizer and parameter: importance over the data sets, and mean rank."""
    rows: list[dict[str, Any]] = []
    for (optimizer, tier, parameter), group in found.groupby(["optimizer", "tier", "parameter"]):
        row = {"optimizer": optimizer, "lecture's group": tier, "parameter": parameter}
        for method, name in zip(METHODS, NAMES, strict=True):
            part = group[group["method"] == method]
            values = part["importance"]
            row[name] = f"{values.mean():.2f} ({values.min():.2f} to {values.max():.2f})"
            row[f"rank by {name}"] = f"{part['rank'].mean():.1f}"
        rows.append(row)
    return pd.DataFrame(rows)


def draw(found: pd.DataFrame) -> go.Figure:
    """Draw the importance of each parameter on each data set, in the order of the lecture."""
    sizes = [5 + len(own) for own in OWN.values()]
    titles = [f"{optimizer.capitalize()}: {method}" for optimizer in OWN for method in NAMES]
    figure = make_subplots(
        2, 2, subplot_titles=titles, row_heights=sizes, shared_xaxes=True, horizontal_spacing=0.17,
        vertical_spacing=0.1,
    )  # fmt: skip
    for row, optimizer in enumerate(OWN, start=1):
        names = sorted({*SHARED, *OWN[optimizer]}, key=lambda name: (TIERS[name], name))
        for column, method in enumerate(METHODS, start=1):
            for number, data in enumerate(found["data"].unique()):
                mine = found[(found["optimizer"] == optimizer) & (found["method"] == method)]
                part = mine[mine["data"] == data].set_index("parameter").loc[names]
                figure.add_scatter(
                    x=part["importance"], y=np.arange(len(names)) + 0.22 * (number - 1), mode="markers",
                    name=data, legendgroup=data, showlegend=row == column == 1,
                    marker={"color": LOOKS[data][0], "symbol": LOOKS[data][1], "size": 8},
                    error_x={
                        "type": "data", "symmetric": False, "thickness": 1.5,
                        "array": part["high"] - part["importance"], "arrayminus": part["importance"] - part["low"],
                    },
                    row=row, col=column,
                )  # fmt: skip
            ticks = [f"{TIERS[name]} · {name.replace('_', ' ')}" for name in names]
            figure.update_yaxes(
                tickvals=list(range(len(names))),
                ticktext=ticks,
                range=[len(names) - 0.5, -0.5],
                row=row,
                col=column,
            )
            figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%", row=row, col=column)
    figure.update_layout(height=640, margin={"b": 80})
    figure.update_xaxes(title="importance", row=2)
    return finish(
        figure,
        "What mattered, in the lecture's order",
        "The number before a name is the lecture's group: 1 is tuned first. Bars are 95 % intervals of a data set.",
    )


if __name__ == "__main__":
    main(measure)
