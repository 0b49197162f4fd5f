"""Compare caviar's default search with other searches on tables of real trainings, each with and without confirmation.

    python experiments/search_quality/compare.py              about an hour on one core, mostly for TPE's draws
    python experiments/search_quality/compare.py --precise    three minutes
    python experiments/search_quality/compare.py --methods gp smac confopt --seeds 4    two hours

Searches that are already in `runs/search_quality/searches.csv` are skipped.
"""

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import baselines
import confirmed
import default
import peers
import report
import tables
from baselines import Evaluation
from tables import Table

BUDGETS = (25, 50, 100, 200, 400, 800, 1_600)
RANDOM_BUDGETS = (*BUDGETS, 3_200, 6_400)
FIELDS = ("method", "table", "seed", "evaluations", "configuration", "regret", "deciding_s")
SEARCHES = Path("runs/search_quality/searches.csv")

Search = Callable[[Table, int, int], Iterator[Evaluation]]
"""Evaluates so many configurations of a table with a seed."""


@dataclass(frozen=True, slots=True)
class Found:
    """The configuration that a method hands over after a budget."""

    method: str
    evaluations: int
    row: int
    deciding_s: float
    """Processor seconds for deciding, without training."""


Method = Callable[[Table, int, tuple[int, ...]], Iterator[Found]]
"""Searches a table with a seed and reports at each of some budgets."""


def caviar(table: Table, seed: int, budgets: tuple[int, ...]) -> Iterator[Found]:
    """Run one search for each budget, because the rounds depend on it."""
    for budget in budgets:
        found = default.coarse_to_fine(table, budget, seed)
        yield Found("caviar", budget, found.row, found.deciding_s)


def grid(table: Table, seed: int, budgets: tuple[int, ...]) -> Iterator[Found]:
    """Evaluate the largest grid within each budget; of choices alone, the only grid is the whole table."""
    for budget in budgets if table.name in tables.names() else ():
        yield Found("grid", budget, _best(list(baselines.grid(table, budget, seed))), 0.0)


def one_long(name: str, search: Search) -> Method:
    """Return the method that runs a search once, with each budget a beginning of it."""

    def run(table: Table, seed: int, budgets: tuple[int, ...]) -> Iterator[Found]:
        evaluated, seconds = _timed(search(table, budgets[-1], seed))
        for budget in budgets:
            yield Found(name, budget, _best(evaluated[:budget]), seconds[budget - 1])
            count, confirmation = confirmed.split(budget)
            row = confirmed.confirm(table, evaluated[:count], confirmation, seed)
            yield Found(name + report.CONFIRMED, budget, row, seconds[count - 1])

    return run


def one_a_budget(name: str, search: Search, to_confirm: Search) -> Method:
    """Return the method that searches anew for each budget and for its confirmation, because it plans ahead."""

    def run(table: Table, seed: int, budgets: tuple[int, ...]) -> Iterator[Found]:
        for budget in budgets:
            evaluated, seconds = _timed(search(table, budget, seed))
            yield Found(name, budget, _best(evaluated), seconds[-1])
            count, confirmation = confirmed.split(budget)
            evaluated, seconds = _timed(to_confirm(table, count, seed))
            row = confirmed.confirm(table, evaluated, confirmation, seed)
            yield Found(name + report.CONFIRMED, budget, row, seconds[-1])

    return run


METHODS: dict[str, tuple[Method, tuple[int, ...]]] = {
    "caviar": (caviar, BUDGETS),
    "random": (one_long("random", baselines.random_search), RANDOM_BUDGETS),
    "grid": (grid, BUDGETS),
    "tpe": (one_long("tpe", baselines.tpe), BUDGETS),
    "tpe_liar": (one_a_budget("tpe_liar", baselines.tpe_liar, baselines.tpe_liar), (100, 400)),
    "gp": (one_long("gp", baselines.gaussian_process), (25, 50, 100)),
    "smac": (one_a_budget("smac", peers.smac, peers.smac_unrepeated), (100,)),
    "confopt": (one_long("confopt", peers.confopt), (25, 50, 100)),
}
"""The methods, and the budgets that one can afford to give them."""
CHEAP = ("caviar", "random", "grid", "tpe")
"""Methods that need less than an hour for all tables and seeds."""


def _best(evaluated: list[Evaluation]) -> int:
    """Return the configuration that a search hands over without confirmation."""
    best = min(evaluated, key=lambda evaluation: evaluation.value)
    chosen: int = best.row if evaluated[-1].choice is None else evaluated[-1].choice
    return chosen


def _timed(evaluations: Iterator[Evaluation]) -> tuple[list[Evaluation], list[float]]:
    """Return the evaluations, and the processor seconds until each of them."""
    evaluated, seconds, began = list[Evaluation](), list[float](), time.process_time()
    for evaluation in evaluations:
        evaluated.append(evaluation)
        seconds.append(time.process_time() - began)
    return evaluated, seconds


def main() -> None:
    """Run the missing searches, then write the tables and the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--precise",
        action="store_true",
        help="only the default search, at 100 evaluations, with 100 other seeds",
    )
    parser.add_argument("--methods", nargs="+", default=CHEAP, choices=METHODS)
    parser.add_argument(
        "--tables", nargs="+", default=(*tables.names(), *tables.HELD_OUT), help="all of them by default"
    )
    parser.add_argument("--budgets", nargs="+", type=int, help="evaluations after which to report")
    arguments = parser.parse_args()
    if arguments.precise:
        report.write_precise(_precise())
        return
    done = _done()
    for seed in range(arguments.seeds):
        for name in arguments.methods:
            method, budgets = METHODS[name]
            for table in arguments.tables:
                missing = [
                    n for n in arguments.budgets or budgets if (name, table, str(seed), str(n)) not in done
                ]
                if missing:
                    _append(method(tables.load(table), seed, tuple(missing)), table, seed)
    report.write(SEARCHES)


def _precise() -> list[dict[str, object]]:
    """Return the results of the default search at 100 evaluations, one row for each search."""
    rows: list[dict[str, object]] = []
    for name in tables.names():
        table = tables.load(name)
        for seed in range(1_000, 1_100):
            found = default.coarse_to_fine(table, 100, seed)
            rows.append(
                {"table": name, "seed": seed, "regret": table.regret(found.row), "held": found.holds(table)}
            )
    return rows


def _done() -> set[tuple[str, str, str, str]]:
    if not SEARCHES.is_file():
        SEARCHES.parent.mkdir(parents=True, exist_ok=True)
        SEARCHES.write_text(",".join(FIELDS) + "\n")
    with SEARCHES.open(newline="") as file:
        return {(r["method"], r["table"], r["seed"], r["evaluations"]) for r in csv.DictReader(file)}


def _append(results: Iterator[Found], name: str, seed: int) -> None:
    table = tables.load(name)
    rows = [
        (f.method, name, seed, f.evaluations, f.row, f"{table.regret(f.row):.6f}", f"{f.deciding_s:.4f}")
        for f in results
    ]
    with SEARCHES.open("a", newline="") as file:
        csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
