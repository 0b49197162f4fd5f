"""Measure the default search's regret against how many of its trials are in flight.

    python experiments/search_quality/in_flight.py    an hour on one core

More in flight keep more workers busy, and know less when they are drawn. Searches that are already in
`runs/search_quality/in_flight.csv` are skipped.
"""

import argparse
import csv
import math
from pathlib import Path

import default
import numpy as np
import pandas as pd
import report
import tables
from confirmed import split
from matplotlib.figure import Figure

HERE = Path(__file__).parent
SEARCHES = Path("runs/search_quality/in_flight.csv")
FIELDS = ("evaluations", "in_flight", "table", "seed", "regret")
KEYS = ["evaluations", "in_flight"]

BUDGETS = (100, 400, 1_600)
SHARES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
"""Trials in flight, as shares of the search. With all of them in flight it is random search, then confirmed."""
COLOURS = {100: "#f59e0b", 400: "#c2410c", 1_600: "#7c2d12"}


def main() -> None:
    """Run the missing searches, then write the table and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budgets", nargs="+", type=int, default=BUDGETS, choices=BUDGETS)
    arguments = parser.parse_args()
    done = _done()
    for seed in range(arguments.seeds):
        for budget in arguments.budgets:
            for share in SHARES:
                in_flight = math.ceil(share * split(budget)[0])
                for name in tables.names():
                    if (str(budget), str(in_flight), name, str(seed)) not in done:
                        _append(budget, in_flight, name, seed)
    write(pd.read_csv(SEARCHES))


def write(searches: pd.DataFrame) -> None:
    """Write `in_flight.csv`, `in_flight.md` and `in_flight.png`."""
    groups = searches.groupby([*KEYS, "table"])
    by_table = groups.agg(regret=("regret", "mean"), sem=("regret", "sem"), searches=("seed", "size"))
    fresh = report.mean_over_tables(by_table.reset_index(), KEYS)
    fresh["searches"] = groups.size().groupby(KEYS).min()
    frame = fresh.round(5).reset_index()
    frame.to_csv(HERE / "in_flight.csv", index=False)
    cells = [
        [f"{row.evaluations:,}", f"{row.in_flight:,}", f"{row.mean:.3f} ± {row.half:.3f}", str(row.searches)]
        for row in frame.itertuples()
    ]
    (HERE / "in_flight.md").write_text(
        report.table(["evaluations", "in flight", "mean regret", "seeds"], cells)
    )
    _figure(frame).savefig(HERE / "in_flight.png", dpi=150)


def _figure(frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.subplots()
    for budget in frame["evaluations"].unique().tolist():
        part = frame[frame["evaluations"] == budget]
        shares = part["in_flight"] / split(budget)[0]
        axes.errorbar(
            shares, part["mean"], part["half"], color=COLOURS[budget], label=f"{budget:,} evaluations"
        )
    ticks = np.array(SHARES)
    axes.set(xscale="log", xlabel="share of the search in flight", ylabel="mean regret")
    axes.set_xticks(ticks, [f"{tick:.0%}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _done() -> set[tuple[str, ...]]:
    if not SEARCHES.is_file():
        SEARCHES.parent.mkdir(parents=True, exist_ok=True)
        SEARCHES.write_text(",".join(FIELDS) + "\n")
    with SEARCHES.open(newline="") as file:
        return {tuple(row[field] for field in FIELDS[:-1]) for row in csv.DictReader(file)}


def _append(budget: int, in_flight: int, name: str, seed: int) -> None:
    table = tables.load(name)
    found = default.coarse_to_fine(table, budget, seed, in_flight=in_flight)
    with SEARCHES.open("a", newline="") as file:
        csv.writer(file).writerow((budget, in_flight, name, seed, f"{table.regret(found.row):.6f}"))


if __name__ == "__main__":
    main()
