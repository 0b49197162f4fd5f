"""An analysis of any run with pandas: what mattered, the gain from narrowing, how the best learned; and its figures.

python experiments/analyse_run.py runs/digits [--figures FOLDER]
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import caviar as cv

MAX_PARTS = 8
"""Largest number of parts into which a search is divided."""
FIGURES = ("history", "rounds")
"""Methods of `run.plot` whose figures are saved; the README shows those of the digits."""


def main() -> None:
    """Print three tables and save the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run directory or its URI; the run may be unfinished")
    parser.add_argument("--figures", type=Path, help="folder in which the figures are saved as PNG")
    options = parser.parse_args()
    run = cv.load(options.run)
    trials = search_trials(run)
    if trials["goodness"].nunique() < 2:
        sys.exit(f"{options.run} has no two trials of different value")

    print(f"{len(trials)} search trials of {options.run}\n")
    print("Which hyperparameters mattered? Shares, with 95 % intervals:\n")
    print(run.importance().round(3).to_string(index=False), "\n")

    print("What did narrowing gain? Each part beside as many draws of the first, resampled:\n")
    print(gain(trials, run.study_file.maximize).to_string(float_format="{:.4g}".format), "\n")

    if trials["epochs_trained"].max() > 1:
        print(f"How did the best learn? Median {run.metric} after some epochs, of the best ten and of all:\n")
        print(learning(run, trials).to_string(float_format="{:.4g}".format), "\n")
    if options.figures:
        save_figures(run, options.figures)


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


def learning(run: cv.Run, trials: pd.DataFrame) -> pd.DataFrame:
    """Return the median of the metric after 1, 2, 5, 10, 20, ... and all epochs."""
    curves = run.read_curves(trials["trial"], run.metric)
    last = int(curves["epoch"].max())
    epochs = {step * 10**power for power in range(6) for step in (1, 2, 5)} & set(range(last)) | {last}
    best = trials.nlargest(10, "goodness")["trial"]
    groups = {"best ten": curves[curves["trial"].isin(best)], "all": curves}
    medians = {
        name: group[group["epoch"].isin(epochs)].groupby("epoch")[run.metric].median()
        for name, group in groups.items()
    }
    return pd.DataFrame(medians).T


def save_figures(run: cv.Run, folder: Path) -> None:
    """Save the figures as PNG, on a white background."""
    try:
        import plotly.io as pio
    except ImportError:
        sys.exit(
            "the figures need plotly and kaleido: `make figures` installs them, or pip install 'caviar[images]'"
        )
    folder.mkdir(parents=True, exist_ok=True)
    figures = [getattr(run.plot, name)().update_layout(paper_bgcolor="white") for name in FIGURES]
    files = [folder / f"{run.study['name']}_{name}.png" for name in FIGURES]
    pio.write_images(
        figures, files, width=1000, height=[figure.layout.height for figure in figures], scale=1.5
    )
    print(f"figures: {', '.join(map(str, files))}")


if __name__ == "__main__":
    main()
