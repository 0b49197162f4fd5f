"""Compare caviar's default search with random search, Optuna's TPE and a grid, on tables of real trainings.

    python experiments/search_quality/compare.py              about an hour on one core, mostly for TPE's draws
    python experiments/search_quality/compare.py --precise    three minutes

Searches that are already in `runs/search_quality/searches.csv` are skipped.
"""

import argparse
import csv
import time
from collections.abc import Iterator
from pathlib import Path

import baselines
import default
import report
import tables
from tables import Table

BUDGETS = (25, 50, 100, 200, 400, 800, 1_600)
RANDOM_BUDGETS = (*BUDGETS, 3_200, 6_400)
FIELDS = ("method", "table", "seed", "evaluations", "configuration", "regret", "deciding_s")
SEARCHES = Path("runs/search_quality/searches.csv")


def caviar(table: Table, seed: int) -> Iterator[tuple[int, int, float]]:
    """Run one search for each budget, because the rounds depend on it."""
    for budget in BUDGETS:
        found = default.coarse_to_fine(table, budget, seed)
        yield budget, found.row, found.deciding_s


def confirmed(table: Table, seed: int) -> Iterator[tuple[int, int, float]]:
    """Run random search with caviar's confirmation, to tell what narrowing adds to confirmation."""
    for budget in BUDGETS:
        found = default.coarse_to_fine(table, budget, seed, rounds=1)
        yield budget, found.row, found.deciding_s


def random(table: Table, seed: int) -> Iterator[tuple[int, int, float]]:
    """Run one long search and report its best value at each budget."""
    yield from _best_so_far(baselines.random_search(table, RANDOM_BUDGETS[-1], seed), RANDOM_BUDGETS)


def tpe(table: Table, seed: int) -> Iterator[tuple[int, int, float]]:
    """Run one long search and report its best value at each budget."""
    yield from _best_so_far(baselines.tpe(table, BUDGETS[-1], seed), BUDGETS)


def grid(table: Table, seed: int) -> Iterator[tuple[int, int, float]]:
    """Evaluate the largest grid within each budget."""
    for budget in BUDGETS:
        evaluations = list(baselines.grid(table, budget, seed))
        yield budget, min(evaluations, key=lambda evaluation: evaluation[1])[0], 0.0


METHODS = {"caviar": caviar, "confirmed": confirmed, "random": random, "grid": grid, "tpe": tpe}


def _best_so_far(
    evaluations: Iterator[baselines.Evaluation], budgets: tuple[int, ...]
) -> Iterator[tuple[int, int, float]]:
    """Yield the configuration with the best observed value at each budget, and the seconds so far."""
    best, chosen, began = float("inf"), -1, time.process_time()
    for count, (row, value) in enumerate(evaluations, start=1):
        if value < best:
            best, chosen = value, row
        if count in budgets:
            yield count, chosen, time.process_time() - began


def main() -> None:
    """Run the missing searches, then write the table and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--precise",
        action="store_true",
        help="only the default search, at 100 evaluations, with 100 other seeds",
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    arguments = parser.parse_args()
    if arguments.precise:
        report.write_precise(_precise())
        return
    done = _done()
    for method in arguments.methods:
        for seed in range(arguments.seeds):
            for name in tables.names():
                if (method, name, str(seed)) not in done:
                    _append(method, tables.load(name), seed)
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


def _done() -> set[tuple[str, str, str]]:
    if not SEARCHES.is_file():
        SEARCHES.parent.mkdir(parents=True, exist_ok=True)
        SEARCHES.write_text(",".join(FIELDS) + "\n")
    with SEARCHES.open(newline="") as file:
        return {(row["method"], row["table"], row["seed"]) for row in csv.DictReader(file)}


def _append(method: str, table: Table, seed: int) -> None:
    rows = [
        (method, table.name, seed, budget, row, f"{table.regret(row):.6f}", f"{deciding_s:.4f}")
        for budget, row, deciding_s in METHODS[method](table, seed)
    ]
    with SEARCHES.open("a", newline="") as file:
        csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
