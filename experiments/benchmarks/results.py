"""Seconds for looking at the results of a run: opening its frames, reading curves, and what else shows or exports them.

    python experiments/benchmarks/simulated_run.py RUNS
    python experiments/benchmarks/results.py RUNS/simulated [--repeats 5]

Each repeat opens the run anew; the files are in the memory of the system by then.
"""

import argparse
import io
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

import caviar as cv
from caviar.reporting.details import overview
from caviar.reporting.run_json import json_text
from caviar.reporting.summary import show

TASKS: dict[str, Callable[[cv.Run], object]] = {
    "trials": lambda run: run.trials,
    "the curve of one trial": lambda run: run.read_curves(
        int(run.trials["trial"].iloc[len(run.trials) // 2])
    ),
    "the curves of the best 100": lambda run: run.read_curves(run.trials.nlargest(100, "value")["trial"]),
    "all curves, one metric": lambda run: run.read_curves(columns=run.metric),
    "all curves": lambda run: run.curves,
    "confirmed": lambda run: run.confirmed,
    "caviar show": lambda run: show(run, Console(file=io.StringIO(), width=100)),
    "caviar show --json": lambda run: json_text(overview(run).data()),
}
"""Tasks in this order; each has what those before it have read."""


def measure(path: Path, repeats: int) -> dict[str, tuple[float, float]]:
    """Return the median seconds of each task, and those of the processor."""
    seconds, processor = defaultdict(list), defaultdict(list)
    for _ in range(repeats):
        run = cv.load(path)
        for task, perform in TASKS.items():
            began, worked = time.perf_counter(), time.process_time()
            perform(run)
            seconds[task].append(time.perf_counter() - began)
            processor[task].append(time.process_time() - worked)
    return {task: (statistics.median(seconds[task]), statistics.median(processor[task])) for task in TASKS}


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
    print("| task | seconds | of the processor |\n| --- | --- | --- |")
    for task, (seconds, processor) in measure(options.run, options.repeats).items():
        print(f"| {task} | {seconds:.3f} | {processor:.3f} |")


if __name__ == "__main__":
    main()
