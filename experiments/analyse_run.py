"""An analysis of any run with pandas: importance, the gain from narrowing, and learning curves.

python experiments/analyse_run.py runs/digits [--figures figures]
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import caviar as cv
from caviar.space import Choice, Interval

BINS = 6
MAX_PARTS = 8
"""Largest number of parts into which a search is divided."""
CURVES = 400
"""Largest number of learning curves that are drawn in grey."""


def main() -> None:
    """Print three tables and draw the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run directory or its URI; the run may be unfinished")
    parser.add_argument("--figures", type=Path, default=Path("figures"), help="where figures go")
    options = parser.parse_args()
    run = cv.load(options.run)
    trials = search_trials(run)
    if trials["goodness"].nunique() < 2:
        sys.exit(f"{options.run} has no two trials of different value")
    metric = metric_name(run)

    print(f"{len(trials)} search trials of {options.run}\n")
    mattered = importance(trials[trials["part"] == 1])
    print(
        f"Which hyperparameters mattered? Fraction of the variance of the ranks by {metric} in the first part, drawn"
    )
    print(
        "from the whole space, that each hyperparameter alone explains; noise: the same for shuffled ranks.\n"
    )
    print(mattered.round(3).to_string(), "\n")

    print("What did narrowing gain? Each part beside as many draws of the first, resampled:\n")
    print(gain(trials, run.study_file.maximize).to_string(float_format="{:.4g}".format), "\n")

    curves = search_curves(run, metric)
    best = trials.nlargest(10, "goodness")["trial"]
    if curves["epoch"].max() > 1:
        print(f"How did the best learn? Median {metric} after some epochs, of the best ten and of all:\n")
        print(learning(curves, best).to_string(float_format="{:.4g}".format), "\n")
    draw(run, trials, mattered, curves, options.figures)


def metric_name(run: cv.Run) -> str:
    """Return the name of the metric that ranks trials."""
    return str(run.study["objective"]["metric"])


def search_trials(run: cv.Run) -> pd.DataFrame:
    """Return the trials of the search with their value, the worst one for those that diverged or failed.

    The column `goodness` is the value, negative if small values are good. `part` divides the search: its rounds, or up
    to `MAX_PARTS` groups of its steps, the first of which drew from the whole space.
    """
    trials = run.trials[run.trials["stage"] == "search"].copy()
    values = trials["value"].astype(float)
    trials["value"] = values.fillna(values.min() if run.study_file.maximize else values.max())
    steps = trials["round"].rank(method="dense").to_numpy() - 1
    parts = min(MAX_PARTS - 1, int(steps.max()))
    trials["part"] = 1 + np.ceil(steps * parts / max(1, steps.max())).astype(int)
    trials["goodness"] = trials["value"] * (1 if run.study_file.maximize else -1)
    return trials


def search_curves(run: cv.Run, metric: str) -> pd.DataFrame:
    """Return trial, epoch and metric of each measurement in the rounds."""
    search = run.trials.loc[run.trials["stage"] == "search", "trial"]
    curves = run.curves.loc[run.curves["trial"].isin(search), ["trial", "epoch", metric]]
    return curves.astype({"epoch": int, metric: float})


def importance(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the fraction of the variance of the ranks that each parameter's bins explain, and for shuffled ranks."""
    rng = np.random.default_rng(0)
    shares = {}
    for name in (column for column in trials.columns if column.startswith("params_")):
        present = trials[trials[name].notna()]
        ranks = present["goodness"].rank().to_numpy()
        bins = binned(present[name])
        noise = [explained(rng.permutation(ranks), bins) for _ in range(200)]
        shares[name.removeprefix("params_")] = {
            "explained": explained(ranks, bins),
            "noise": float(np.mean(noise)),
            "trials": len(present),
        }
    found = pd.DataFrame(shares).T
    return found.loc[(found["explained"] - found["noise"]).sort_values(ascending=False).index]


def binned(column: pd.Series) -> np.ndarray:
    """Return bins of equal counts for numbers, or the values themselves if they are few or text."""
    if column.nunique() <= BINS or not pd.api.types.is_numeric_dtype(column):
        return column.astype(str).to_numpy()
    return pd.qcut(column.astype(float), BINS, labels=False, duplicates="drop").to_numpy()


def explained(ranks: np.ndarray, bins: np.ndarray) -> float:
    """Return the between-bin fraction of the variance (eta squared); 0 if there is no variance."""
    if len(ranks) == 0 or np.var(ranks) == 0:
        return 0.0
    means = pd.Series(ranks).groupby(bins).transform("mean").to_numpy()
    return float(np.var(means) / np.var(ranks))


def gain(trials: pd.DataFrame, maximize: bool) -> pd.DataFrame:
    """Compare each part's values with equally many draws from the first one."""
    rng, sign = np.random.default_rng(0), 1 if maximize else -1
    first = trials.loc[trials["part"] == 1, "goodness"].to_numpy()
    rows = {}
    for number, group in trials.groupby("part"):
        goodness = group["goodness"].to_numpy()
        resampled = rng.choice(first, size=(2_000, len(goodness)))
        rows[number] = {
            "trials": len(goodness),
            "median": sign * np.median(goodness),
            "best tenth from": sign * np.quantile(goodness, 0.9),
            "whole space: median": sign * np.median(first),
            "whole space: best tenth from": sign * np.quantile(resampled, 0.9),
            "fraction in whole space's best tenth": float((goodness > np.quantile(first, 0.9)).mean()),
        }
    return pd.DataFrame(rows).T.rename_axis("part")


def learning(curves: pd.DataFrame, best: pd.Series) -> pd.DataFrame:
    """Return the median of the metric after 1, 2, 5, 10, 20, ... and all epochs."""
    last = int(curves["epoch"].max())
    epochs = {step * 10**power for power in range(6) for step in (1, 2, 5)} & set(range(last)) | {last}
    metric = curves.columns[-1]
    groups = {"best ten": curves[curves["trial"].isin(best)], "all": curves}
    medians = {
        name: group[group["epoch"].isin(epochs)].groupby("epoch")[metric].median()
        for name, group in groups.items()
    }
    return pd.DataFrame(medians).T


def draw(
    run: cv.Run, trials: pd.DataFrame, mattered: pd.DataFrame, curves: pd.DataFrame, folder: Path
) -> None:
    """Draw two figures: the search part by part, and the three answers."""
    try:
        import matplotlib
    except ImportError:
        sys.exit("the figures need matplotlib: `make figures` installs it, or pip install matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    name = run.study["name"]
    files = [folder / f"{name}_parts.png", folder / f"{name}_analysis.png"]
    parts = sorted(trials["part"].unique())
    scores = Scores(run, trials["value"])
    always = mattered.index[mattered["trials"] == mattered["trials"].max()]
    numbers = [n for n in always if not isinstance(run.space[n].domain, Choice)]
    if numbers:
        draw_parts(plt, run, trials, numbers[0], scores).savefig(files[0], dpi=110)
    else:
        files.pop(0)

    has_curves = curves["epoch"].max() > 1
    figure, panels = plt.subplots(
        1, 2 + has_curves, figsize=(8.4 + 4.1 * has_curves, 3.8), layout="constrained"
    )
    shown = mattered.iloc[::-1]
    panels[0].barh(shown.index, shown["explained"], color="#3b6ea5")
    panels[0].plot(shown["noise"], shown.index, "|", color="black", ms=9, label="noise")
    panels[0].set(title="importance (first part)", xlabel="fraction of variance explained")
    panels[0].legend(frameon=False)
    panels[1].boxplot(
        [scores.of(trials.loc[trials["part"] == n, "value"]) for n in parts],
        tick_labels=[str(n) for n in parts],
        showfliers=False,
    )
    panels[1].set(title="gain from narrowing", xlabel="part of the search")
    scores.label(panels[1])
    if has_curves:
        best = set(trials.nlargest(10, "goodness")["trial"])
        grey = set(np.random.default_rng(0).permutation(trials["trial"].to_numpy())[:CURVES])
        for number, curve in curves[curves["trial"].isin(best | grey)].groupby("trial"):
            style = (
                {"color": "#c1272d", "lw": 1.2, "zorder": 3}
                if number in best
                else {"color": "0.85", "lw": 0.4}
            )
            panels[2].plot(curve["epoch"], scores.of(curve[scores.metric]), **style)
        panels[2].set(title="learning curves (red: the best ten)", xlabel="epoch", ylim=scores.limits)
        scores.label(panels[2])
    figure.savefig(files[-1], dpi=130)
    print(f"figures: {', '.join(map(str, files))}")


class Scores:
    """Values as the figures show them: an accuracy as its error, and errors and losses on a log scale."""

    def __init__(self, run: cv.Run, values: pd.Series) -> None:
        self.metric = metric_name(run)
        self._is_error = self.metric.endswith("accuracy")
        self._floor = -np.inf
        shown = self.of(values)
        positive = shown[shown > 0]
        falls = self._is_error or not run.study_file.maximize
        is_log = falls and len(positive) > 0 and float((shown >= 0).mean()) == 1
        self._floor = (
            float(positive.min()) / 2 if is_log else -np.inf
        )  # an error of 0 has no place on a log scale
        shown = self.of(values)
        middle = (shown.min(), shown.quantile(0.9)) if falls else (shown.quantile(0.1), shown.max())
        margin = (middle[1] - middle[0]) / 20
        self.limits = (
            (middle[0] * 0.8, middle[1] * 1.2) if is_log else (middle[0] - margin, middle[1] + margin)
        )
        self._scale = "log" if is_log else "linear"

    def label(self, panel: Any) -> None:
        """Set the scale and the label of a panel's vertical axis."""
        from matplotlib.ticker import PercentFormatter

        metric = self.metric.replace("accuracy", "error") if self._is_error else self.metric
        panel.set(yscale=self._scale, ylabel=metric.replace("_", " "))
        if self._is_error:
            panel.yaxis.set_major_formatter(PercentFormatter(1))

    def of(self, values: pd.Series) -> pd.Series:
        """Return what is drawn for values."""
        return (1 - values if self._is_error else values).clip(lower=self._floor)


def draw_parts(plt: Any, run: cv.Run, trials: pd.DataFrame, parameter: str, scores: Scores) -> Any:
    """Return a figure of one panel a part: the values over a number, such as the one that mattered most."""
    parts = sorted(trials["part"].unique())
    colours = plt.get_cmap("viridis")(np.linspace(0.85, 0.05, len(parts)))
    rows = -(-len(parts) // 4)
    figure, grid = plt.subplots(
        rows,
        4,
        figsize=(12.4, 2.5 * rows + 0.5),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    domain = run.space[parameter].domain
    assert isinstance(domain, Interval)
    scale = domain.scale
    for panel, number, colour in zip(grid.flat, parts, colours, strict=False):
        of_part = trials[trials["part"] == number]
        x = of_part[f"params_{parameter}"].astype(float)
        y = scores.of(of_part["value"])
        panel.scatter(
            1 - x if scale == "reverse_log" else x,
            np.clip(y, *scores.limits),
            s=13,
            color=colour,
            linewidths=0,
            clip_on=False,
        )
        panel.axhline(y.median(), color=colour, lw=1, ls=":")
        panel.set(xscale="linear" if scale == "linear" else "log", ylim=scores.limits)
        panel.set_title(f"part {number}: {len(of_part)} trials")
    for panel in list(grid.flat)[len(parts) :]:
        panel.remove()
    for panel in grid[-1]:
        panel.set_xlabel(("1 - " if scale == "reverse_log" else "") + parameter.replace("_", " "))
    for panel in grid[:, 0]:
        scores.label(panel)
    figure.suptitle("From coarse to fine: every dot a trial (dotted: the part's median)")
    return figure


if __name__ == "__main__":
    main()
