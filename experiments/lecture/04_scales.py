"""The right scale: learning rates on a log scale, momenta on that of 1 - 10^r.

First, without training: which share of the draws falls into each order of magnitude on each scale (`caviar space` shows
the same for a study of yours). Then random searches of equal budget, for two optimizers, with the right scales and with
linear ones for the learning rate, for the momentum (Adam's beta1), and for both. The winner's mean test loss over five
fresh trainings counts. A wrong scale costs nothing where the best values lie in the order of magnitude that it draws
most, so where the winners lie is counted, too.

Adam was added after a first run with other seeds (0 to 7), in which a linear learning rate cost the momentum optimizer
nothing that could be measured, and spirals after a second one (100 to 109) on digits and clusters. The rule of the
verdict is that of the second run, and the seeds of this run are new.
"""

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from gallery import Finding, Verdict, finish, main
from plotly.subplots import make_subplots
from ratios import add_ratios, label_ratios, ratio, ratio_text
from searches import classifier, fresh_loss, search
from sources import LOOKS, data_sets

import caviar as cv
from caviar.analysis.space_preview import preview

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
    seeds, trials, epochs = (range(2), 8, 1) if quick else (range(200, 210), 20, 10)
    rows: list[dict[str, Any]] = []
    for data, source in data_sets(quick, "digits", "clusters", "spirals").items():
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
    wide = found.pivot_table(index=["optimizer", "data", "seed"], columns="arm", values="loss", sort=False)
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
    right = found[found["arm"] == "right scales"]
    effects = [
        f"{a_wrong_scale} {' and '.join(ratio_text(overall[optimizer, arm]) for optimizer in OPTIMIZERS)}"
        for arm, a_wrong_scale in zip(
            wrong, ("a linear learning rate", "a linear momentum", "both linear"), strict=True
        )
    ]
    return Finding(
        claim="Draw on the right scale: learning rates as 10^r, momenta as 1 - 10^r. On a linear scale of 0.9 to "
        "0.999, 90 % of the effort goes to 0.9 to 0.99.",
        verdict=verdict,
        found=f"The shares are as claimed: on a linear scale {linear['learning_rate', '0.1 .. 1']:.0%} of the learning "
        f"rates of 0.0001 to 1 are above 0.1, and {linear['momentum', '0.9 .. 0.99']:.0%} of the momenta below 0.99. "
        f"The winner's test loss at equal budget, as a multiple of that with the right scales, with "
        f"{' and with '.join(OPTIMIZERS)}: {', '.join(effects)} (95 % intervals over "
        f"{len(wide) // len(OPTIMIZERS)} pairs). A linear scale is surely worse in {len(harmful)} and surely better in "
        f"{len(helpful)} of these {len(overall)}. It does no harm if it draws most where the best lie: with the "
        f"right scales, {(right['rate'] > 0.1).mean():.0%} of the winners have a learning rate above 0.1, but "
        f"{(right['beta'] < 0.99).mean():.0%} a momentum below 0.99.",
        table=pd.DataFrame(
            [
                {"optimizer": optimizer, "data": data}
                | {"right scales": f"{wide.xs((optimizer, data))['right scales'].mean():.4f}"}
                | {f"{arm} / right": ratio_text(ratios[optimizer, arm, data]) for arm in wrong}
                for optimizer in OPTIMIZERS
                for data in dict.fromkeys(found["data"])
            ]
        ),
        figure=draw(counted, wide),
    )


def draw(counted: pd.DataFrame, wide: pd.DataFrame) -> go.Figure:
    """Draw the shares on each scale, and the ratios of the losses."""
    figure = make_subplots(
        1, 3, subplot_titles=["Draws of the learning rate", "Draws of the momentum", "Test loss: wrong / right scale"],
        column_widths=[0.32, 0.22, 0.46], horizontal_spacing=0.07,
    )  # fmt: skip
    for column, parameter in enumerate(("learning_rate", "momentum"), start=1):
        for kind, color in (("right", "#57606a"), ("linear", "#c4cad0")):
            is_linear = counted["scale"] == "linear"
            part = counted[
                (counted["parameter"] == parameter) & (is_linear if kind == "linear" else ~is_linear)
            ]
            figure.add_bar(
                x=part["part"].str.replace(" .. ", "<br>.. "), y=part["share"], legendgroup=kind,
                name=f"{kind} scale", showlegend=column == 1, marker={"color": color}, textposition="outside",
                text=[f"{share:.0%}" for share in part["share"]], textfont={"size": 11}, cliponaxis=False,
                row=1, col=column,
            )  # fmt: skip
        figure.update_yaxes(range=[0, 1.02], tickformat=".0%", row=1, col=column)
    rows = [(optimizer, arm) for optimizer in OPTIMIZERS for arm in list(ARMS)[1:]]
    for number, data in enumerate(dict.fromkeys(wide.index.get_level_values("data"))):
        for place, (optimizer, arm) in enumerate(rows):
            losses = wide.xs((optimizer, data))
            name = data if place == 0 else ""
            add_ratios(
                figure,
                place + 0.25 * (number - 1),
                losses[arm] / losses["right scales"],
                LOOKS[data],
                3,
                name,
            )
    names = [f"{optimizer},<br>{arm.replace(' learning', '<br>learning')}" for optimizer, arm in rows]
    label_ratios(figure, "above 1: the right scales are better", names, [0.6, 0.8, 1, 1.5, 2, 3, 4], column=3)
    figure.update_layout(
        height=540, margin={"b": 100}, barmode="group", uniformtext={"minsize": 11, "mode": "show"}
    )
    return finish(
        figure,
        "Scales: what is drawn, and what comes of it",
        "Left and middle: share of draws in each order of magnitude. Right: faint marks are repetitions, the others "
        "geometric means with 95 % intervals.",
    )


if __name__ == "__main__":
    main(measure)
