"""Measure regret against wall-clock time on 1, 16, 64 and 256 simulated workers.

    python experiments/search_quality/wall_clock.py              about an hour on one core, mostly for TPE's draws
    python experiments/search_quality/wall_clock.py --seeds 1    some minutes

Trainings take 10 s on average, as long as their configuration says: log-normal, with sigma 0.8, unknown beforehand.
Deciding takes no time. Searches that are already in `runs/search_quality/wall_clock.csv` are skipped.
"""

import argparse
import csv
import heapq
import warnings
from collections.abc import Callable
from pathlib import Path

import default
import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd
import report
import tables
from baselines import Evaluation, observed
from confirmed import split
from matplotlib.figure import Figure
from optuna.samplers import TPESampler
from sequences import Plan, Workers, hand_overs, searched_only, then_confirmed
from tables import Table

from caviar.search.sampling import distribution
from caviar.trial import derive_seed

HERE = Path(__file__).parent
SEARCHES = Path("runs/search_quality/wall_clock.csv")
FIELDS = ("workers", "method", "table", "seed", "ended", "time", "regret")

BUDGETS = {1: 100, 16: 400, 64: 400, 256: 1_600}
"""Trainings, by the number of workers."""
MEAN_S, SIGMA = 10.0, 0.8
"""Mean seconds of a training, and the standard deviation of their logarithm over configurations."""
TENTHS = np.arange(1, 11) / 10
TIMES = np.unique([*TENTHS, *np.geomspace(0.05, 8.0, 45).round(4), np.inf])
"""Moments in the figure, as shares of the time in which workers that are never idle train the whole budget; the last
is the end."""
SHOWN = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, np.inf)
"""Moments in the table."""

WORDS = {
    "caviar": "caviar's default",
    "random + confirmation": "random, then confirmed as caviar does",
    "tpe": "TPE, asynchronous, constant liar",
    "tpe + confirmation": "the same, then confirmed as caviar does",
}
LOOK = {
    "caviar": ("#c2410c", "-"),
    "random + confirmation": ("#0f766e", (0, (3, 1, 1, 1))),
    "tpe": ("#1d4ed8", "--"),
    "tpe + confirmation": ("#7c3aed", ":"),
}

Seconds = npt.NDArray[np.float64]


def seconds_of(table: Table, seed: int) -> Seconds:
    """Return how long each configuration of a table trains."""
    normal = np.random.default_rng(derive_seed(seed, "seconds", table.name)).normal(size=len(table.scores))
    return np.asarray(MEAN_S * np.exp(SIGMA * normal - SIGMA**2 / 2))


def caviar(table: Table, workers: int, seed: int, seconds: Seconds) -> dict[str, Plan]:
    """Plan the default search."""
    return {"caviar": default.sequence(table, BUDGETS[workers], seed)}


def random(table: Table, workers: int, seed: int, seconds: Seconds) -> dict[str, Plan]:
    """Plan random search with the same confirmation: the default search with all its trials in flight."""
    budget = BUDGETS[workers]
    plan = default.sequence(table, budget, seed, in_flight=split(budget)[0])
    return {"random + confirmation": plan}


def tpe(table: Table, workers: int, seed: int, seconds: Seconds) -> dict[str, Plan]:
    """Run TPE with constant liar, asked whenever a worker is free and told as results arrive."""
    count, confirmation = split(BUDGETS[workers])
    searched = _asynchronous_tpe(table, BUDGETS[workers], workers, seed, seconds)
    return {
        "tpe": searched_only(searched),
        "tpe + confirmation": then_confirmed(table, searched[:count], confirmation, seed),
    }


METHODS: dict[str, Callable[[Table, int, int, Seconds], dict[str, Plan]]] = {
    "caviar": caviar,
    "random": random,
    "tpe": tpe,
}


def _asynchronous_tpe(
    table: Table, evaluations: int, workers: int, seed: int, seconds: Seconds
) -> list[Evaluation]:
    """Return the evaluations in the order in which they start."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(sampler=TPESampler(seed=seed, constant_liar=True))
    noise, pool = np.random.default_rng(seed), Workers(workers)
    distributions = {name: distribution(parameter.domain) for name, parameter in table.space.items()}
    started, running = list[Evaluation](), list[tuple[float, int, optuna.Trial]]()
    for number in range(evaluations):
        while running and running[0][0] <= pool.next_free_at:
            _, told, trial = heapq.heappop(running)
            study.tell(trial, started[told].value)
        trial = study.ask(distributions)
        started.append(observed(table, trial.params, noise))
        heapq.heappush(running, (pool.train(seconds[started[-1].row]), number, trial))
    return started


def regrets(table: Table, plan: Plan, workers: int, seconds: Seconds) -> tuple[float, Seconds]:
    """Return the share of the time at which a plan ends, and the regret of what it would hand over at `TIMES`.

    Before the first training ends, it would hand over any configuration.
    """
    whole = BUDGETS[workers] * MEAN_S / workers
    handed = hand_overs(plan, workers, seconds)
    regrets = np.array([table.scores.mean(), *map(table.regret, handed.rows)])
    return handed.end / whole, regrets[np.searchsorted(handed.moments, TIMES * whole, side="right")]


def main() -> None:
    """Run the missing searches, then write the table and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--workers", nargs="+", type=int, default=list(BUDGETS), choices=BUDGETS)
    arguments = parser.parse_args()
    done = _done()
    for seed in range(arguments.seeds):
        for workers in arguments.workers:
            for method in arguments.methods:
                for name in tables.names():
                    if (str(workers), method, name, str(seed)) not in done:
                        _append(method, workers, name, seed)
    write(pd.read_csv(SEARCHES))


def write(searches: pd.DataFrame) -> None:
    """Write `wall_clock.csv`, `wall_clock.md` and `wall_clock.png`; what was not run anew keeps its rows."""
    groups = searches.groupby(["workers", "method", "time", "table"], sort=True)
    fresh = report.mean_over_tables(
        groups.agg(regret=("regret", "mean"), sem=("regret", "sem"), searches=("seed", "size")).reset_index(),
        ["workers", "method", "time"],
    )
    fresh["searches"] = groups.size().groupby(level=[0, 1, 2]).min()
    fresh["ended"] = searches.groupby(["workers", "method", "time"])["ended"].mean()
    fresh = fresh.round(5).reset_index()
    frame = report.with_kept_rows(fresh, HERE / "wall_clock.csv", ["workers", "method", "time"])
    (HERE / "wall_clock.md").write_text(_markdown(frame))
    _figure(frame).savefig(HERE / "wall_clock.png", dpi=150)


def _markdown(frame: pd.DataFrame) -> str:
    return "\n\n".join(_block(workers, frame) for workers in BUDGETS) + "\n"


def _block(workers: int, frame: pd.DataFrame) -> str:
    rows = {(r.method, r.time): r for r in frame[frame["workers"] == workers].itertuples()}
    cells = []
    for method, words in WORDS.items():
        if found := [rows[method, time] for time in SHOWN if (method, time) in rows]:
            regrets = [f"{row.mean:.3f} ± {row.half:.3f}" for row in found]
            cells.append([words, *regrets, f"{found[-1].ended:.2f}", str(found[-1].searches)])
    header = [
        "mean regret at time",
        *(f"{time:.1f}" for time in SHOWN[:-1]),
        "the end",
        "time of the end",
        "seeds",
    ]
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
        *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False
    )
    return figure


def _title(workers: int) -> str:
    return f"{workers} worker{'s' if workers > 1 else ''}, {BUDGETS[workers]:,} trainings"


def _done() -> set[tuple[str, str, str, str]]:
    if not SEARCHES.is_file():
        SEARCHES.parent.mkdir(parents=True, exist_ok=True)
        SEARCHES.write_text(",".join(FIELDS) + "\n")
    with SEARCHES.open(newline="") as file:
        rows = csv.DictReader(file)
        return {(r["workers"], r["method"].split(" ")[0], r["table"], r["seed"]) for r in rows}


def _append(method: str, workers: int, name: str, seed: int) -> None:
    table = tables.load(name)
    seconds = seconds_of(table, seed)
    rows = []
    for planned, plan in METHODS[method](table, workers, seed, seconds).items():
        ended, found = regrets(table, plan, workers, seconds)
        rows += [
            (workers, planned, name, seed, f"{ended:.4f}", time, f"{regret:.6f}")
            for time, regret in zip(TIMES, found, strict=True)
        ]
    with SEARCHES.open("a", newline="") as file:
        csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
