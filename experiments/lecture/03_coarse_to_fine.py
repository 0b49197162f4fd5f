"""Coarse to fine: zoom into the region where the best lie, and sample it more densely.

Both ways spend the same budget on a search and on the same confirmation. One is caviar's default, which draws ever
nearer to the elite and trains the most promising of several candidates; the other draws the whole search from the whole
space. Two losses count: the best dev loss that the search found, and the winner's mean test loss over five fresh
trainings. Each repetition splits the data anew, for both ways alike.

The losses that count and the rule of the verdict were chosen after a first run (seeds 0 to 7; the test loss was 0.96
times as high, 95 % interval 0.87 to 1.05). In a second one by that rule (seeds 100 to 107) it was 1.03 times as high
(0.94 to 1.13). Neither had spirals, and both could hardly tell a gain from a loss. The rule of this run is the same;
the seeds are new, and twice as many for each data set.
"""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from gallery import Finding, Verdict, finish, main, mean_and_half
from plotly.subplots import make_subplots
from ratios import add_ratios, label_ratios, ratio, ratio_text
from searches import classifier, fresh_loss, search
from sources import LOOKS, data_sets

import caviar as cv
from caviar.analysis.history import history
from caviar.reporting.plots import theme

SPACE = cv.Space(
    learning_rate=cv.log(1e-4, 1.0),
    momentum=cv.reverse_log(0.8, 0.999),
    batch_size=cv.integer(16, 256, scale="log"),
    units=cv.integer(8, 128, scale="log"),
    layers=cv.integer(1, 3),
    l2=cv.log(1e-6, 1e-1),
)
WAYS = ("whole space", "coarse to fine")


def searches(quick: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a row for each search, and a row for each search trial with the best loss so far."""
    seeds, trials, epochs = (range(2), 20, 1) if quick else (range(200, 216), 100, 10)
    narrowing, confirmation = cv.coarse_to_fine(trials=trials, epochs=epochs)
    rows: list[dict[str, Any]] = []
    best = []
    for data, source in data_sets(quick, "digits", "clusters", "breast cancer", "spirals").items():
        for seed in seeds:
            for way in WAYS:
                rule = narrowing if way == "coarse to fine" else cv.Round(narrowing.trials, epochs)
                objective = classifier(source, split_seed=seed)
                run = search(objective, SPACE, [rule, confirmation], seed)
                winner = run.best
                assert winner is not None
                loss = fresh_loss(objective, winner.params, epochs)
                so_far = history(run)[["trial", "best"]]
                rows.append({"data": data, "way": way, "seed": seed, "loss": loss})
                rows[-1] |= {"accuracy": winner.test_accuracy, "dev": so_far["best"].iloc[-1]}
                best.append(so_far.assign(data=data, way=way, seed=seed))
    return pd.DataFrame(rows), pd.concat(best, ignore_index=True)


def measure(quick: bool) -> Finding:
    """Compare a search that narrows with one that does not, at equal budget."""
    found, best = searches(quick)
    wide = found.pivot_table(
        index=["data", "seed"], columns="way", values=["loss", "accuracy", "dev"], sort=False
    )
    ratios, table = {}, []
    for data, part in wide.groupby(level=0, sort=False):
        ratios[data] = ratio(part["loss"]["coarse to fine"], part["loss"]["whole space"])
        gain = mean_and_half(list(part["accuracy"]["coarse to fine"] - part["accuracy"]["whole space"]))
        table.append(
            {
                "data": data,
                "test loss, whole space": f"{part['loss']['whole space'].mean():.4f}",
                "test loss, coarse to fine": f"{part['loss']['coarse to fine'].mean():.4f}",
                "ratio": ratio_text(ratios[data]),
                "ratio of best dev loss": ratio_text(
                    ratio(part["dev"]["coarse to fine"], part["dev"]["whole space"])
                ),
                "better in": f"{(part['loss']['coarse to fine'] < part['loss']['whole space']).mean():.0%}",
                "test accuracy gained": "{:+.3f} ± {:.3f}".format(*gain),
                "trials to equal the whole search": f"{_median_trials(best[best['data'] == data]):.0f}",
            }
        )
    overall = ratio(wide["loss"]["coarse to fine"], wide["loss"]["whole space"])
    in_search = ratio(wide["dev"]["coarse to fine"], wide["dev"]["whole space"])
    sure = [data for data, (_, _, high) in ratios.items() if high < 1]
    others = wide[~wide.index.get_level_values("data").isin(sure)]["loss"]
    beside = f" ({', '.join(map(str, sure))})" if sure else ""
    if sure and len(others):
        beside += (
            f"; over the others it is {ratio_text(ratio(others['coarse to fine'], others['whole space']))}"
        )
    verdict: Verdict = "holds weakly" if min(overall[2], in_search[2]) < 1 else "does not hold here"
    if len(sure) == len(ratios):
        verdict = "holds"
    return Finding(
        claim="Search coarse to fine: zoom into the region where the best lie, and sample it more densely.",
        verdict=verdict,
        found=f"With the same budget, the best dev loss of a search that narrows is {ratio_text(in_search)} times that "
        f"of a search of the whole space (95 % interval over {len(wide)} pairs), and it needs "
        f"{_median_trials(best):.0f} trials (median) to be as low as the {best['trial'].max() + 1} trials from the "
        f"whole space. The winner's test loss is {ratio_text(overall)} times as high, and surely lower on "
        f"{len(sure)} of {len(ratios)} data sets{beside}.",
        table=pd.DataFrame(table),
        figure=draw(best, wide),
    )


def _median_trials(best: pd.DataFrame) -> float:
    """Return the median number of trials after which narrowing is as good as the whole other search; inf if never."""
    needed = []
    for _, part in best.groupby(["data", "seed"]):
        by_way = part.pivot_table(index="trial", columns="way", values="best")
        reached = by_way["coarse to fine"] <= by_way["whole space"].iloc[-1]
        needed.append(float(reached.idxmax()) + 1 if reached.any() else np.inf)
    return float(np.median(needed))


def draw(best: pd.DataFrame, wide: pd.DataFrame) -> go.Figure:
    """Draw the best loss so far on each data set, and the ratios of the test losses."""
    names = list(dict.fromkeys(best["data"]))
    titles = [*(name.capitalize() for name in names), "Test loss: ratio"]
    figure = make_subplots(1, len(names) + 1, subplot_titles=titles, horizontal_spacing=0.06)
    for column, data in enumerate(names, start=1):
        for way, color in zip(WAYS, (theme.PLAIN, theme.BEST), strict=True):
            part = best[(best["data"] == data) & (best["way"] == way)]
            by_trial = part.groupby("trial")["best"]
            found = pd.DataFrame([ratio(values, np.ones(len(values))) for _, values in by_trial])
            trials = np.arange(len(found)) + 1
            figure.add_scatter(
                x=[*trials, *trials[::-1]], y=[*found[2], *found[1][::-1]], fill="toself", mode="none", fillcolor=color,
                opacity=0.2, showlegend=False, hoverinfo="skip", row=1, col=column,
            )  # fmt: skip
            figure.add_scatter(
                x=trials, y=found[0], mode="lines", line={"color": color}, name=way, legendgroup=way,
                showlegend=column == 1, row=1, col=column,
            )  # fmt: skip
        part = best[(best["data"] == data) & (best["trial"] > 3)]
        means = np.exp(np.log(part["best"]).groupby([part["way"], part["trial"]]).mean())
        figure.update_yaxes(
            type="log", range=np.log10([0.85 * means.min(), 1.1 * means.max()]).tolist(), nticks=6, row=1, col=column
        )  # fmt: skip
        figure.update_xaxes(title="trials", row=1, col=column)
        mine = wide.xs(data, level=0)["loss"]
        ratios = mine["coarse to fine"] / mine["whole space"]
        add_ratios(figure, column - 1, ratios, LOOKS[data], len(names) + 1)
    figure.update_yaxes(title="best dev loss so far (nats)", row=1, col=1)
    rows = [name.replace(" ", "<br>") for name in names]
    label_ratios(figure, "below 1: narrowing is better", rows, [0.5, 0.7, 1, 1.5], len(names) + 1)
    figure.update_layout(height=400, margin={"b": 90})
    return finish(
        figure,
        "Coarse to fine, and the whole space, at equal budget",
        "Left: geometric means over repetitions with 95 % intervals; both ways begin with the same draws. Right: faint "
        "marks are repetitions, the others geometric means with 95 % intervals.",
    )


if __name__ == "__main__":
    main(measure)
