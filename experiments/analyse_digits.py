"""An analysis of the digits search with pandas: importance, the gain from narrowing, and learning curves.

python experiments/analyse_digits.py [runs/digits] [--figures figures]
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import caviar as cv

BINS = 6


def main() -> None:
    """Print three tables and draw the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "run", nargs="?", default="runs/digits", help="a finished run of experiments/digits.py"
    )
    parser.add_argument("--figures", type=Path, default=Path("figures"), help="where figures go")
    options = parser.parse_args()
    run = cv.load(options.run)
    trials = run.trials[run.trials["stage"] == "search"].copy()
    trials["value"] = trials["value"].astype(float).fillna(0.1)  # a diverged network guesses: 1 in 10

    print(f"{len(trials)} search trials of {options.run}\n")
    mattered = importance(trials[trials["round"] == 1])
    print(
        "Which hyperparameters mattered? Fraction of the variance of dev accuracy in round 1, which drew from the"
    )
    print("whole space, that each hyperparameter alone explains; noise: the same for shuffled accuracies.\n")
    print(mattered.round(3).to_string(), "\n")

    gained = gain(trials)
    print(
        "What did narrowing gain? Each round beside as many draws from the whole space, resampled from round 1:\n"
    )
    print(gained.round(4).to_string(), "\n")

    curves = run.curves.merge(run.trials[["trial", "stage", "value"]], on="trial")
    print("How did the best learn? Median dev accuracy after some epochs, of the best ten and of all:\n")
    print(learning(curves, best=trials.nlargest(10, "value")["trial"]).round(4).to_string(), "\n")
    draw(trials, mattered, curves, options.figures)


def importance(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the fraction of the variance of the value that each parameter's bins explain, and for shuffled values."""
    rng = np.random.default_rng(0)
    shares = {}
    for name in (column for column in trials.columns if column.startswith("params_")):
        present = trials[trials[name].notna()]
        values = present["value"].to_numpy(float)
        bins = binned(present[name])
        noise = [explained(rng.permutation(values), bins) for _ in range(200)]
        shares[name.removeprefix("params_")] = {
            "explained": explained(values, bins),
            "noise": float(np.mean(noise)),
            "trials": len(present),
        }
    return pd.DataFrame(shares).T.sort_values("explained", ascending=False)


def binned(column: pd.Series) -> np.ndarray:
    """Return bins of equal counts for numbers, or the values themselves if they are few."""
    if column.nunique() <= BINS:
        return column.astype(str).to_numpy()
    return pd.qcut(column.astype(float), BINS, labels=False, duplicates="drop").to_numpy()


def explained(values: np.ndarray, bins: np.ndarray) -> float:
    """Return the between-bin fraction of the variance (eta squared)."""
    means = pd.Series(values).groupby(bins).transform("mean").to_numpy()
    return float(np.var(means) / np.var(values))


def gain(trials: pd.DataFrame) -> pd.DataFrame:
    """Compare each round's values with equally many draws from the first round."""
    rng = np.random.default_rng(0)
    first = trials.loc[trials["round"] == 1, "value"].to_numpy()
    rows = {}
    for number, group in trials.groupby("round"):
        values = group["value"].to_numpy()
        resampled = rng.choice(first, size=(2_000, len(values)))
        rows[number] = {
            "trials": len(values),
            "median": np.median(values),
            "top tenth from": np.quantile(values, 0.9),
            "whole space: median": np.median(first),
            "whole space: top tenth from": np.quantile(resampled, 0.9),
            "fraction above whole space's top tenth": float((values > np.quantile(first, 0.9)).mean()),
        }
    return pd.DataFrame(rows).T.rename_axis("round")


def learning(curves: pd.DataFrame, best: pd.Series) -> pd.DataFrame:
    """Return the median dev accuracy after 1, 2, 5, 10 and all epochs."""
    search = curves[curves["stage"] == "search"]
    epochs = [1, 2, 5, 10, int(search["epoch"].max())]
    groups = {"best ten": search[search["trial"].isin(best)], "all": search}
    medians = {
        name: group[group["epoch"].isin(epochs)].groupby("epoch")["dev_accuracy"].median()
        for name, group in groups.items()
    }
    return pd.DataFrame(medians).T


def draw(trials: pd.DataFrame, mattered: pd.DataFrame, curves: pd.DataFrame, folder: Path) -> None:
    """Draw two figures: the search round by round, and the three answers."""
    try:
        import matplotlib
    except ImportError:
        sys.exit("the figures need matplotlib: `make figures` installs it, or pip install matplotlib")
    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    _draw_rounds(trials, folder / "digits_rounds.png")
    _draw_answers(trials, mattered, curves, folder / "digits_analysis.png")
    print(f"figures: {folder}/digits_rounds.png, {folder}/digits_analysis.png")


def _draw_rounds(trials: pd.DataFrame, file: Path) -> None:
    """Draw the dev error of each trial against its learning rate, one panel a round."""
    from matplotlib import pyplot as plt

    rounds = sorted(trials["round"].unique())
    colours = plt.get_cmap("viridis")(np.linspace(0.85, 0.05, len(rounds)))
    rows = -(-len(rounds) // 4)
    figure, grid = plt.subplots(
        rows,
        4,
        figsize=(12.4, 2.5 * rows + 0.5),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for panel, number, colour in zip(grid.flat, rounds, colours, strict=False):
        of_round = trials[trials["round"] == number]
        error = (1 - of_round["value"]).clip(upper=0.15)
        panel.scatter(of_round["params_learning_rate"].astype(float), error, s=13, color=colour, linewidths=0)
        panel.axhline(1 - of_round["value"].median(), color=colour, lw=1, ls=":")
        panel.set(
            xscale="log", yscale="log", title=f"round {number}: {len(of_round)} trials", ylim=(0.0022, 0.18)
        )
        panel.set_yticks([0.003, 0.01, 0.03, 0.15], ["0.3 %", "1 %", "3 %", "15 %\nor more"])
    for panel in list(grid.flat)[len(rounds) :]:
        panel.remove()
    for panel in grid[-1]:
        panel.set_xlabel("learning rate")
    for panel in grid[:, 0]:
        panel.set_ylabel("dev error")
    figure.suptitle("From coarse to fine: every dot a trained network (dotted: the round's median)")
    figure.savefig(file, dpi=110)


def _draw_answers(trials: pd.DataFrame, mattered: pd.DataFrame, curves: pd.DataFrame, file: Path) -> None:
    """Draw which hyperparameters mattered, what narrowing gained, and how the best networks learned."""
    from matplotlib import pyplot as plt

    rounds = sorted(trials["round"].unique())
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12.5, 3.8), layout="constrained")
    shown = mattered.iloc[::-1]
    left.barh(shown.index, shown["explained"], color="#3b6ea5")
    left.plot(shown["noise"], shown.index, "|", color="black", ms=9, label="noise")
    left.set(title="importance (round 1)", xlabel="fraction of variance explained")
    left.legend(frameon=False)
    middle.boxplot(
        [trials.loc[trials["round"] == n, "value"] for n in rounds], tick_labels=[str(n) for n in rounds]
    )
    middle.set(title="gain from narrowing", xlabel="round", ylabel="dev accuracy", ylim=(0.8, 1.0))
    best = set(trials.nlargest(10, "value")["trial"])
    for number, curve in curves[curves["stage"] == "search"].groupby("trial"):
        style = (
            {"color": "#c1272d", "lw": 1.2, "zorder": 3} if number in best else {"color": "0.85", "lw": 0.4}
        )
        right.plot(curve["epoch"].astype(int), curve["dev_loss"].astype(float), **style)
    right.set(
        title="learning curves (red: the best ten)",
        xlabel="epoch",
        ylabel="dev loss",
        yscale="log",
        ylim=(0.01, 5),
    )
    figure.savefig(file, dpi=130)


if __name__ == "__main__":
    main()
