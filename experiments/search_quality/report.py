"""The tables and the figure of `compare.py`."""

from pathlib import Path

import numpy as np
import pandas as pd
import tables
from matplotlib.figure import Figure

HERE = Path(__file__).parent
SHOWN = (100, 400, 1_600)
WORDS = {
    "caviar": "caviar's default",
    "tpe": "Optuna TPE",
    "confirmed": "random, then confirmed as caviar does",
    "random": "random",
    "grid": "grid",
}
COLOURS = {
    "caviar": "#c2410c",
    "tpe": "#1d4ed8",
    "confirmed": "#0f766e",
    "random": "#475569",
    "grid": "#94a3b8",
}
LINES = {"caviar": "-", "tpe": "--", "confirmed": (0, (3, 1, 1, 1)), "random": ":", "grid": "-."}


def write(searches: Path) -> None:
    """Write `regret.csv`, `regret.md` and `regret.png` next to this file.

    Methods without new searches keep their rows of `regret.csv`.
    """
    groups = pd.read_csv(searches).groupby(["method", "table", "evaluations"], sort=True)
    fresh = groups.agg(
        regret=("regret", "mean"),
        sem=("regret", "sem"),
        searches=("seed", "size"),
        deciding_s=("deciding_s", "mean"),
    )
    fresh = fresh.round({"regret": 5, "sem": 5, "deciding_s": 4}).reset_index()
    kept = pd.read_csv(HERE / "regret.csv")
    frame = pd.concat([fresh, kept[~kept["method"].isin(fresh["method"])]], ignore_index=True)
    frame.sort_values(["method", "table", "evaluations"]).to_csv(HERE / "regret.csv", index=False)
    (HERE / "regret.md").write_text(_markdown(frame))
    _figure(frame).savefig(HERE / "regret.png", dpi=150)


def write_precise(rows: list[dict[str, object]]) -> None:
    """Write `precise.md`: the mean regret, and how often the winner's interval holds its true mean."""
    frame = pd.DataFrame(rows)
    cells = []
    for title, part in {"all twelve tables": frame, **_halves(frame)}.items():
        by_seed = part.groupby("seed")["regret"].mean()
        half = 1.96 * float(by_seed.sem())  # type: ignore[arg-type]
        cells.append([title, f"{by_seed.mean():.4f} ± {half:.4f}", f"{part['held'].dropna().mean():.1%}"])
    header = ["tables", "mean regret after 100 evaluations", "its 95 % interval holds"]
    (HERE / "precise.md").write_text(_table(header, cells))


def mean_regret(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over tables and seeds, and half the width of its 95 % interval, by method and evaluations.

    The interval is over seeds, with the same tables, so the variances of the tables add up.
    """
    groups = frame.assign(variance=frame["sem"] ** 2).groupby(["method", "evaluations"])
    spread = groups["variance"].sum().pow(0.5) / groups.size()
    return pd.DataFrame({"mean": groups["regret"].mean(), "half": 1.96 * spread})


def _halves(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of the tables on which the default was chosen, and those of the others."""
    chosen_on = frame["table"].isin(tables.CHOSEN_ON)
    return {
        "the six on which the default was chosen": frame[chosen_on],
        "the six that only test it": frame[~chosen_on],
    }


def _markdown(frame: pd.DataFrame) -> str:
    parts = {"all twelve tables": frame, **_halves(frame)}
    blocks = [f"**{title.capitalize()}**\n\n{_block(part)}" for title, part in parts.items()]
    blocks.append(f"**Processor seconds that deciding took in a search** (not training)\n\n{_seconds(frame)}")
    return "\n\n".join(blocks) + "\n"


def _block(frame: pd.DataFrame) -> str:
    means = {key: f"{mean:.3f} ± {half:.3f}" for key, mean, half in mean_regret(frame).itertuples()}
    present = {method for method, _ in means}
    rows = [(WORDS[method], method, 1) for method in ("caviar", "tpe", "confirmed", "random")]
    rows += [(f"random, {times} times the evaluations", "random", times) for times in (2, 4)]
    rows.append((WORDS["grid"], "grid", 1))
    cells = [
        [label, *(means[method, n * times] for n in SHOWN)]
        for label, method, times in rows
        if method in present
    ]
    return _table(["mean regret after", *(f"{n:,} evaluations" for n in SHOWN)], cells)


def _seconds(frame: pd.DataFrame) -> str:
    groups = frame.groupby(["method", "evaluations"])[["deciding_s"]].mean()
    means: dict[tuple[str, int], float] = dict(groups.itertuples())
    present = {method for method, _ in means}
    methods = [method for method in ("caviar", "tpe") if method in present]
    cells = [[WORDS[method], *(f"{means[method, n]:.2f}" for n in SHOWN)] for method in methods]
    return _table(["", *(f"{n:,} evaluations" for n in SHOWN)], cells)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _figure(frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (title, part) in zip(panels, _halves(frame).items(), strict=True):
        means = mean_regret(part)
        for method in WORDS:
            if method not in means.index.get_level_values("method"):
                continue
            line = means.loc[method]
            x, y, half = line.index.to_numpy(), line["mean"].to_numpy(), line["half"].to_numpy()
            axes.plot(x, y, color=COLOURS[method], linestyle=LINES[method], label=WORDS[method])
            axes.fill_between(x, y - half, y + half, color=COLOURS[method], alpha=0.15, linewidth=0)
        axes.set(xscale="log", xlabel="evaluations", title=title)
        ticks = np.array([25, 100, 400, 1_600, 6_400])
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("mean regret (0: best, 1: median configuration)")
    panels[0].legend(frameon=False)
    return figure
