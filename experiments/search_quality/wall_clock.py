"""Measure regret against wall-clock time on 1, 16, 64 and 256 simulated workers.

    python experiments/search_quality/wall_clock.py --workers 1 16 64    half an hour on one core
    python experiments/search_quality/wall_clock.py --workers 256        an hour

Trainings take 10 s on average, as long as their configuration says: log-normal, with sigma 0.8, unknown beforehand.
Searches that are already in `runs/search_quality/wall_clock` are skipped.
"""

import argparse
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import report
import tables
from confirmed import split
from default import declare
from matplotlib.figure import Figure
from on_workers import Asked, Seconds, ask_tpe, hand_overs, run, then_confirmed

from caviar.trial import derive_seed

HERE = Path(__file__).parent
SEARCHES = Path("runs/search_quality/wall_clock")

BUDGETS = {1: 100, 16: 400, 64: 400, 256: 1_600}
"""Trainings, by the number of workers."""
WIDE = {64: 90, 256: 384}
"""Trials in flight to declare for many workers, as `cluster/SCALING.md` advises."""
MEAN_S, SIGMA = 10.0, 0.8
"""Mean seconds of a training, and the standard deviation of their logarithm over configurations."""
SHOWN = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, np.inf)
"""Moments in the table, as shares of the time in which workers that are never idle train the whole budget; the last
is the end."""
TIMES = np.unique([*SHOWN, *np.geomspace(0.05, 8.0, 45).round(4)])
"""Moments in the figure."""
KEYS = ["workers", "method", "time"]
VALUES = ["regret", "ended"]

WORDS = {
    "caviar": "caviar's default",
    "caviar wide": "caviar, more in flight",
    "random + confirmation": "random, confirmed",
    "tpe": "TPE",
    "tpe + confirmation": "TPE, confirmed",
}
PAIRS = [(our, their) for our in ("caviar", "caviar wide") for their in list(WORDS)[2:]]
"""Methods that are compared in searches of the same table and seed."""
LOOK = {
    "caviar": ("#c2410c", "-"),
    "caviar wide": ("#f59e0b", "-"),
    "random + confirmation": ("#0f766e", (0, (3, 1, 1, 1))),
    "tpe": ("#1d4ed8", "--"),
    "tpe + confirmation": ("#7c3aed", ":"),
}


@lru_cache(maxsize=1)
def seconds_of(name: str, seed: int) -> Seconds:
    """Return how long each configuration of a table trains."""
    scores = tables.load(name).scores
    normal = np.random.default_rng(derive_seed(seed, "seconds", name)).normal(size=len(scores))
    return np.asarray(MEAN_S * np.exp(SIGMA * normal - SIGMA**2 / 2))


def caviar(name: str, workers: int, seed: int, in_flight: int | None = None) -> pd.DataFrame:
    """Run the default search on a table."""
    table = tables.load(name)
    study = declare(table, BUDGETS[workers], seed, in_flight=in_flight)
    trainings: pd.DataFrame = run(study, table, workers, seconds_of(name, seed))
    return trainings


def wide(name: str, workers: int, seed: int) -> pd.DataFrame:
    """Run the default search with more trials in flight."""
    return caviar(name, workers, seed, in_flight=WIDE[workers])


def random(name: str, workers: int, seed: int) -> pd.DataFrame:
    """Run random search with the same confirmation: the default search with all its trials in flight."""
    return caviar(name, workers, seed, in_flight=split(BUDGETS[workers])[0])


@lru_cache(maxsize=1)
def _ask_tpe(name: str, workers: int, seed: int) -> Asked:
    return ask_tpe(tables.load(name), BUDGETS[workers], seed, workers, seconds_of(name, seed))


def tpe(name: str, workers: int, seed: int) -> pd.DataFrame:
    """Run TPE without confirmation."""
    trainings: pd.DataFrame = _ask_tpe(name, workers, seed).trainings
    return trainings


def confirmed_tpe(name: str, workers: int, seed: int) -> pd.DataFrame:
    """Run TPE with the same confirmation."""
    table, asked = tables.load(name), _ask_tpe(name, workers, seed)
    study = then_confirmed(declare(table, BUDGETS[workers], seed), asked)
    trainings: pd.DataFrame = run(study, table, workers, seconds_of(name, seed))
    return trainings


METHODS: dict[str, Callable[[str, int, int], pd.DataFrame]] = {
    "caviar": caviar,
    "caviar wide": wide,
    "random + confirmation": random,
    "tpe": tpe,
    "tpe + confirmation": confirmed_tpe,
}


def main() -> None:
    """Run the missing searches, then write the table and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--workers", nargs="+", type=int, default=list(BUDGETS), choices=BUDGETS)
    arguments = parser.parse_args()
    SEARCHES.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.seeds):
        for workers in arguments.workers:
            for name in tables.names():
                for method in arguments.methods:
                    path = SEARCHES / f"{workers}-{method}-{name}-{seed}.parquet"
                    if not path.is_file() and not (method == "caviar wide" and workers not in WIDE):
                        METHODS[method](name, workers, seed).to_parquet(path)
    write(regrets())


def regrets() -> pd.DataFrame:
    """Return the regret of each search in `SEARCHES` at each of `TIMES`, and when it ended, as a share of the time."""
    parts = []
    for path in sorted(SEARCHES.glob("*.parquet")):
        workers, method, name, seed = path.stem.split("-")
        table, trainings = tables.load(name), pd.read_parquet(path)
        whole_s = BUDGETS[int(workers)] * MEAN_S / int(workers)
        handed = hand_overs(trainings)
        # Before the first training ends, any configuration would be handed over
        by_moment = np.array([table.scores.mean(), *map(table.regret, handed.rows)])
        at = np.searchsorted(handed.moments, TIMES * whole_s, side="right")
        found = pd.DataFrame({"time": TIMES, "regret": by_moment[at]})
        ended = trainings["ended_s"].max() / whole_s
        parts.append(
            found.assign(workers=int(workers), method=method, table=name, seed=int(seed), ended=ended)
        )
    return pd.concat(parts, ignore_index=True)


def write(searches: pd.DataFrame) -> None:
    """Write `wall_clock.csv`, `wall_clock.md` and `wall_clock.png`; what was not run anew keeps its rows."""
    searches = pd.concat([searches, *_differences(searches)], ignore_index=True)
    groups = searches.groupby([*KEYS, "table"])
    by_table = groups.agg(regret=("regret", "mean"), sem=("regret", "sem"), searches=("seed", "size"))
    fresh = report.mean_over_tables(by_table.reset_index(), KEYS)
    fresh["searches"] = groups.size().groupby(KEYS).min()
    fresh["ended"] = searches.groupby(KEYS)["ended"].mean()
    frame = report.with_kept_rows(fresh.round(5).reset_index(), HERE / "wall_clock.csv", KEYS)
    (HERE / "wall_clock.md").write_text(_markdown(frame))
    _figure(frame).savefig(HERE / "wall_clock.png", dpi=150)


def _differences(searches: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the regret of caviar less that of each peer, in searches of the same table and seed."""
    keys = ["workers", "table", "seed", "time"]
    found = {method: searches[searches["method"] == method].set_index(keys)[VALUES] for method in WORDS}
    return [
        (found[our] - found[their]).dropna().reset_index().assign(method=_less(our, their))
        for our, their in PAIRS
    ]


def _less(our: str, their: str) -> str:
    return f"{our} less {their}"


def _markdown(frame: pd.DataFrame) -> str:
    return "\n\n".join(_block(workers, frame) for workers in BUDGETS) + "\n"


def _block(workers: int, frame: pd.DataFrame) -> str:
    rows = {(r.method, r.time): r for r in frame[frame["workers"] == workers].itertuples()}
    less = {_less(our, their): f"{WORDS[our]} less {WORDS[their]}" for our, their in PAIRS}
    cells = []
    for method, words in {**WORDS, **less}.items():
        if found := [rows[method, time] for time in SHOWN if (method, time) in rows]:
            regrets = [f"{row.mean:.3f} ± {row.half:.3f}".removesuffix(" ± nan") for row in found]
            cells.append([words, *regrets, f"{found[-1].ended:.2f}", str(found[-1].searches)])
    header = ["mean regret at time", *(f"{time:.1f}" for time in SHOWN[:-1])]
    header += ["the end", "time of the end", "seeds"]
    return f"**{_title(workers)}**\n\n{report.table(header, cells)}"


def _figure(frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    for axes, (workers, budget) in zip(figure.subplots(2, 2, sharey=True).flat, BUDGETS.items(), strict=True):
        whole = budget * MEAN_S / workers
        for method, (colour, style) in LOOK.items():
            line = frame[(frame["workers"] == workers) & (frame["method"] == method)].sort_values("time")
            line = line[np.isfinite(line["time"])]
            x, y, half = line["time"] * whole, line["mean"], line["half"]
            axes.plot(x, y, color=colour, linestyle=style, label=WORDS[method])
            axes.fill_between(x, y - half, y + half, color=colour, alpha=0.15, linewidth=0)
        axes.axvline(whole, color="#94a3b8", linewidth=0.8)
        axes.set(xscale="log", xlabel="simulated seconds", title=_title(workers), ylim=(0, 0.4))
        shares = np.array([0.1, 0.2, 0.5, 1, 2, 5])
        axes.set_xticks(shares * whole, [f"{share * whole:.4g}" for share in shares])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    for axes in figure.axes[::2]:
        axes.set_ylabel("mean regret")
    figure.legend(
        *figure.axes[2].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False
    )
    return figure


def _title(workers: int) -> str:
    return f"{workers} worker{'s' if workers > 1 else ''}, {BUDGETS[workers]:,} trainings"


if __name__ == "__main__":
    main()
