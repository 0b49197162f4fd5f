"""Seconds for looking at the results of a run: opening its frames, reading curves, and what else shows or exports them.

    python experiments/benchmarks/simulated_run.py RUNS
    python experiments/benchmarks/results.py RUNS/simulated [--repeats 5]

Each repeat opens the run anew; the files are in the memory of the system by then.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import caviar as cv

TASKS: dict[str, Callable[[cv.Run], object]] = {
    "trials": lambda run: run.trials,
    "the curve of one trial": lambda run: run.read_curves(
        int(run.trials["trial"].iloc[len(run.trials) // 2])
    ),
    "the curves of the best 100": lambda run: run.read_curves(run.trials.nlargest(100, "value")["trial"]),
    "all curves, one metric": lambda run: run.read_curves(columns=run.metric),
    "all curves": lambda run: run.curves,
    "confirmed": lambda run: run.confirmed,
}
"""Tasks in this order; each has what those before it have read."""


def measure(path: Path, repeats: int) -> dict[str, float]:
    """Return the median seconds of each task."""
    seconds = defaultdict(list)
    for _ in range(repeats):
        run = cv.load(path)
        for task, perform in TASKS.items():
            began = time.perf_counter()
            perform(run)
            seconds[task].append(time.perf_counter() - began)
    return {task: statistics.median(taken) for task, taken in seconds.items()}


def main() -> None:
    """Parse the command line, and print a table of the seconds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    run = cv.load(options.run)
    print(
        f"{len(run.trials):,} trials, {len(run.curves):,} measurements, {run.location.size() / 2**20:.0f} MiB\n"
    )
    print("| task | seconds |\n| --- | --- |")
    for task, seconds in measure(options.run, options.repeats).items():
        print(f"| {task} | {seconds:.3f} |")


if __name__ == "__main__":
    main()
