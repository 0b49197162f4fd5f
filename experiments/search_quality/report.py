"""The tables and the figures of `compare.py`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tables
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import stdtrit

HERE = Path(__file__).parent
SHOWN = (100, 400, 1_600)
PEERS_SHOWN = (100, 400)
OURS, THEIRS = "#c2410c", "#1d4ed8"
WORDS = {
    "caviar": "caviar's default",
    "gp": "Optuna's Gaussian process",
    "smac": "SMAC3",
    "confopt": "ConfOpt",
    "tpe": "Optuna's TPE",
    "tpe_liar": "TPE, a fifth in flight (constant liar)",
    "random": "random",
    "grid": "grid",
}
CONFIRMED = " + confirmation"
LINES = {
    "caviar": (OURS, "-"),
    "gp": ("#7c3aed", "--"),
    "gp + confirmation": ("#7c3aed", "-"),
    "tpe": (THEIRS, "--"),
    "tpe + confirmation": (THEIRS, "-"),
    "random": ("#475569", "--"),
    "random + confirmation": ("#475569", "-"),
    "grid": ("#94a3b8", "-."),
}
"""Colour and line of the methods in the figure of regret against evaluations."""


def write(searches: Path) -> None:
    """Write `regret.csv`, `regret.md`, `regret.png` and `peers.png` next to this file.

    What was not searched anew keeps its rows of `regret.csv`.
    """
    groups = pd.read_csv(searches).groupby(["method", "table", "evaluations"], sort=True)
    fresh = groups.agg(
        regret=("regret", "mean"),
        sem=("regret", "sem"),
        searches=("seed", "size"),
        deciding_s=("deciding_s", "mean"),
    )
    fresh = fresh.round({"regret": 5, "sem": 5, "deciding_s": 4}).reset_index()
    frame = with_kept_rows(fresh, HERE / "regret.csv", ["method", "table", "evaluations"])
    (HERE / "regret.md").write_text(_markdown(frame))
    _figure(frame).savefig(HERE / "regret.png", dpi=150)
    _peers_figure(frame).savefig(HERE / "peers.png", dpi=150)


def write_precise(rows: list[dict[str, object]]) -> None:
    """Write `precise.md`: the mean regret, and how often the winner's interval holds its true mean."""
    frame = pd.DataFrame(rows)
    cells = []
    for title, part in {"all twelve tables": frame, **_halves(frame)}.items():
        by_seed = part.groupby("seed")["regret"].mean()
        half = 1.96 * float(by_seed.sem())  # type: ignore[arg-type]
        cells.append([title, f"{by_seed.mean():.4f} ± {half:.4f}", f"{part['held'].dropna().mean():.1%}"])
    header = ["tables", "mean regret after 100 evaluations", "its 95 % interval holds"]
    (HERE / "precise.md").write_text(table(header, cells))


def with_kept_rows(fresh: pd.DataFrame, path: Path, keys: list[str]) -> pd.DataFrame:
    """Add fresh rows to a file, and return all its rows.

    A method that uses caviar's code (its search or its confirmation) loses its older rows, so that rows of different
    versions do not mix. Of another method, the row of more searches stays.

    Args:
        fresh: the rows, with a column `method`.
        path: the file.
        keys: columns that identify a row; the last one is the number of evaluations, or the time.
    """
    frame = fresh
    if path.is_file():
        kept, searched = pd.read_csv(path), keys[:-1]
        ours = kept["method"].str.startswith("caviar") | kept["method"].str.endswith(CONFIRMED)
        anew = pd.MultiIndex.from_frame(kept[searched]).isin(pd.MultiIndex.from_frame(fresh[searched]))
        both = pd.concat([kept[~(ours & anew)], fresh], ignore_index=True)
        frame = both.sort_values("searches", kind="stable").drop_duplicates(keys, keep="last")
    frame = frame.sort_values(keys, ignore_index=True)
    frame.to_csv(path, index=False)
    return frame


def mean_over_tables(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return the mean over tables and seeds, and half the width of its 95 % interval, by some keys.

    The interval is over seeds, with the same tables, so the variances of the tables add up. Few seeds say little about
    the variance of one table, so it is Student's t with the degrees of freedom of all tables together.
    """
    groups = frame.assign(variance=frame["sem"] ** 2, free=frame["searches"] - 1).groupby(keys)
    spread = groups["variance"].sum(min_count=1).pow(0.5) / groups.size()
    quantile = stdtrit(groups["free"].sum(), 0.975)
    return pd.DataFrame({"mean": groups["regret"].mean(), "half": quantile * spread})


def _halves(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of the tables on which the default was chosen, and those of the others."""
    chosen_on = frame["table"].isin(tables.CHOSEN_ON)
    return {
        "the six on which the default was chosen": frame[chosen_on],
        "the six that only test it": frame[~chosen_on],
    }


def _parts(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of all twelve tables, of each half of them, and of those of NAS-Bench-201."""
    twelve = frame[frame["table"].isin(tables.names())]
    held_out = frame[frame["table"].isin(tables.HELD_OUT)]
    return {"all twelve tables": twelve, **_halves(twelve), "NAS-Bench-201": held_out}


def _markdown(frame: pd.DataFrame) -> str:
    blocks = [f"**{title[0].upper()}{title[1:]}**\n\n{_block(part)}" for title, part in _parts(frame).items()]
    blocks.append(f"**Processor seconds that deciding took in a search** (not training)\n\n{_seconds(frame)}")
    return "\n\n".join(blocks) + "\n"


def _label(method: str) -> str:
    plain = method.removesuffix(CONFIRMED)
    return WORDS[plain] + (", confirmed" if plain != method else "")


def _block(frame: pd.DataFrame) -> str:
    means = _complete_means(frame)
    rows = [(_label(method), method, 1) for plain in WORDS for method in (plain, plain + CONFIRMED)]
    rows += [(f"random, {times} times the evaluations", "random", times) for times in (2, 4)]
    cells = [
        [label, *(str(means.get((method, n * times), "")) for n in SHOWN)] for label, method, times in rows
    ]
    header = ["mean regret (seeds) after", *(f"{n:,} evaluations" for n in SHOWN)]
    return table(header, [row for row in cells if any(row[1:])])


@dataclass(frozen=True, slots=True)
class _Mean:
    """The mean regret over tables and seeds."""

    mean: float
    half: float
    """Half the width of its 95 % interval; not a number with one seed."""
    seeds: int

    def __str__(self) -> str:
        spread = f" ± {self.half:.3f}" if self.seeds > 1 else ""
        return f"{self.mean:.3f}{spread} ({self.seeds})"


def _complete_means(frame: pd.DataFrame) -> dict[tuple[str, int], _Mean]:
    """Return the mean regret by method and evaluations, of those that have searched every table."""
    count, keys = frame["table"].nunique(), ["method", "evaluations"]
    complete = frame[frame.groupby(keys)["table"].transform("size") == count]
    means = mean_over_tables(complete, keys)
    means["seeds"] = complete.groupby(keys)["searches"].min()
    return {key: _Mean(*rest) for key, *rest in means.itertuples()}


def _seconds(frame: pd.DataFrame) -> str:
    twelve = frame[frame["table"].isin(tables.names())]
    groups = twelve.groupby(["method", "evaluations"])[["deciding_s"]].mean()
    means: dict[tuple[str, int], float] = dict(groups.itertuples())
    cells = [
        [words, *(f"{means[method, n]:.2f}" if (method, n) in means else "" for n in SHOWN)]
        for method, words in WORDS.items()
        if method not in ("random", "grid")
    ]
    return table(["", *(f"{n:,} evaluations" for n in SHOWN)], [row for row in cells if any(row[1:])])


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _figure(frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    twelve = frame[frame["table"].isin(tables.names())]
    for axes, (title, part) in zip(panels, _halves(twelve).items(), strict=True):
        means = _complete_means(part)
        for method, (colour, style) in LINES.items():
            line = sorted((n, at.mean, at.half) for (name, n), at in means.items() if name == method)
            x, y, half = np.array(line).reshape(-1, 3).T
            axes.plot(x, y, color=colour, linestyle=style, label=_label(method))
            axes.fill_between(x, y - half, y + half, color=colour, alpha=0.12, linewidth=0)
        axes.set(xscale="log", xlabel="evaluations", title=title)
        ticks = np.array([25, 100, 400, 1_600, 6_400])
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("mean regret (0: best, 1: median configuration)")
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def _peers_figure(frame: pd.DataFrame) -> Figure:
    """Return a figure of each method at some budgets, with confirmation (filled) and without (hollow)."""
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    columns = ["all twelve tables", "the six that only test it", "NAS-Bench-201"]
    columns_means = [_complete_means(_parts(frame)[title]) for title in columns]
    for line, evaluations in zip(figure.subplots(2, 3, sharey="row"), PEERS_SHOWN, strict=True):
        shown = {
            method.removesuffix(CONFIRMED)
            for means in columns_means
            for method, n in means
            if n == evaluations
        }
        methods = [method for method in reversed(WORDS) if method in shown]
        for axes, title, means in zip(line, columns, columns_means, strict=True):
            for end, shift in (("", -0.14), (CONFIRMED, 0.14)):
                for place, method in enumerate(methods):
                    if (at := means.get((method + end, evaluations))) is not None:
                        _mark(axes, at, place + shift, ours=method == "caviar", confirmed=bool(end))
            axes.set(title=title, xlabel=f"mean regret after {evaluations} evaluations")
            axes.set_yticks(range(len(methods)), [WORDS[method] for method in methods])
            axes.set_xlim(left=0)
            axes.grid(alpha=0.3)
    return figure


def _mark(axes: Axes, at: _Mean, place: float, *, ours: bool, confirmed: bool) -> None:
    axes.errorbar(
        at.mean,
        place if not ours else round(place),
        xerr=at.half if at.seeds > 1 else None,
        fmt="o",
        color=OURS if ours else THEIRS,
        fillstyle="full" if ours or confirmed else "none",
    )
