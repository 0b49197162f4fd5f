"""The table and the figure of `compare.py`."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

HERE = Path(__file__).parent
COLOURS = {
    "random": "#475569",
    "narrowing": "#c2410c",
    "halving": "#1d4ed8",
    "narrowing and halving": "#15803d",
    "narrowing and a one-epoch screen": "#a21caf",
}
LINES = {
    "random": ":",
    "narrowing": "-",
    "halving": "--",
    "narrowing and halving": "-",
    "narrowing and a one-epoch screen": "-.",
}


def write(searches: Path) -> None:
    """Write `score.csv`, `score.md` and `score.png` next to this file."""
    frame = pd.read_csv(searches)
    means = summary(frame).sort_index(sort_remaining=True)
    means.round(5).reset_index().to_csv(HERE / "score.csv", index=False)
    (HERE / "score.md").write_text(_markdown(means))
    _figure(means).savefig(HERE / "score.png", dpi=150)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the mean error (1 - confirmed dev accuracy) and worker seconds over seeds, by data, method and budget.

    `half` is half the width of the mean's 95 % interval.
    """
    frame = frame.assign(error=1 - frame["value"], test_error=1 - frame["test"])
    groups = frame.groupby(["data", "method", "budget"], sort=False)
    return pd.DataFrame(
        {
            "searches": groups.size(),
            "trials": groups["trials"].mean(),
            "epochs": groups["epochs"].mean(),
            "worker_s": groups["worker_s"].mean(),
            "error": groups["error"].mean(),
            "half": 1.96 * groups["error"].sem(),
            "test_error": groups["test_error"].mean(),
        }
    )


def _markdown(means: pd.DataFrame) -> str:
    budgets = sorted(means.index.unique("budget"))
    header = ["dev error in % (worker seconds)", *(f"{budget} trainings" for budget in budgets)]
    blocks = []
    for data in means.index.unique("data"):
        lines = [header, ["---"] * len(header)]
        for method in COLOURS:
            columns = means.xs((data, method)).loc[budgets, ["error", "half", "worker_s"]].to_numpy()
            cells = [
                f"{100 * error:.2f} ± {100 * half:.2f} ({worker_s:.1f})" for error, half, worker_s in columns
            ]
            lines.append([method, *cells])
        blocks.append(f"**{data}**\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines))
    return "\n\n".join(blocks) + "\n"


def _figure(means: pd.DataFrame) -> Figure:
    names = means.index.unique("data")
    figure = Figure(figsize=(4.2 * len(names), 4.0), layout="constrained")
    for axes, data in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        for method, colour in COLOURS.items():
            line = means.loc[data, method]
            y, half = 100 * line["error"], 100 * line["half"]
            axes.plot(line["worker_s"], y, color=colour, linestyle=LINES[method], marker="o", label=method)
            axes.fill_between(line["worker_s"], y - half, y + half, color=colour, alpha=0.1, linewidth=0)
        axes.set(xscale="log", title=data, xlabel="worker seconds")
        axes.set_xticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("confirmed dev error, %")
    figure.axes[0].legend(frameon=False, fontsize="small")
    return figure
