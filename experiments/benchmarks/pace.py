"""Pace of studies of a trivial function on Ray: trials per second, processor time and memory per trial.

    python experiments/benchmarks/pace.py [--trials 20000] [--workers 2] [--repeats 3] [--default] [--profile]

The studies have one round, or with `--default` those of `coarse_to_fine`. After each of them Optuna runs as many trials
at random, in memory and in this process. Medians are printed:

    whole       from the call of the study to its return, with the start of the workers
    steady      from the first recorded batch to the last
    driver      processor time of this process in the steady part
    cluster     the same of all processes of Ray: the workers' own work, too
    memory      growth of this process from a quarter of the trials to the end

With `--profile`, the functions that take most time are listed: of the driver, then of a worker.
"""

import argparse
import cProfile
import logging
import pstats
import tempfile
import time
from collections.abc import Callable
from typing import Any

import optuna
import pandas as pd
import psutil
import ray

import caviar as cv
from caviar.backends.objective_pickle import pickle_objective, unpickle_objective
from caviar.backends.worker import Worker
from caviar.driver.messages import Task
from caviar.driver.watcher import Watcher
from caviar.operations import execution
from caviar.training.function.import_path import ImportPath
from caviar.trial import Result, Trial


def bowl(params: dict[str, Any]) -> float:
    """Return a value with hardly any work."""
    return float((params["x"] - 0.3) ** 2)


class Meter(Watcher):
    """Samples time, processor time and memory after each recorded batch."""

    def __init__(self) -> None:
        self._driver = psutil.Process()
        self._trials = 0
        self.samples: list[dict[str, float]] = []

    def recorded(self, results: list[Result]) -> None:
        """Add a sample."""
        self._trials += len(results)
        self.samples.append(
            {
                "trials": self._trials,
                "seconds": time.perf_counter(),
                "driver_s": _processor_s(self._driver),
                "cluster_s": sum(map(_processor_s, self._driver.children(recursive=True))),
                "bytes": self._driver.memory_info().rss,
            }
        )


def _processor_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def run_study(name: str, trials: int, workers: int, is_default: bool) -> None:
    """Run a study of a trivial function in a folder that is deleted."""
    rounds = cv.coarse_to_fine(trials, 1) if is_default else (cv.Round(trials, 1), cv.Confirmation(1, 1))
    study = cv.Study(
        name=name, objective=cv.Function(bowl), space=cv.Space(x=cv.linear(0.0, 1.0)), rounds=rounds
    )
    with tempfile.TemporaryDirectory() as runs:
        study.run(workers=workers, runs=runs, progress=False)


def measure(trials: int, workers: int, is_default: bool) -> dict[str, float]:
    """Return the figures of one study and of Optuna's after it."""
    meter = Meter()
    execution.Watcher = lambda: meter  # type: ignore[attr-defined, assignment]
    began = time.perf_counter()
    run_study("pace", trials, workers, is_default)
    whole_s = time.perf_counter() - began
    samples = pd.DataFrame(meter.samples)
    steady = samples.iloc[-1] - samples.iloc[0]
    late = samples.iloc[-1] - samples[samples["trials"] >= trials / 4].iloc[0]
    return {
        "whole, trials/s": trials / whole_s,
        "steady, trials/s": steady["trials"] / steady["seconds"],
        "driver, us a trial": 1e6 * steady["driver_s"] / steady["trials"],
        "cluster, us a trial": 1e6 * steady["cluster_s"] / steady["trials"],
        "memory, bytes a trial": late["bytes"] / late["trials"],
        "Optuna in memory, trials/s": trials / seconds_of(lambda: run_optuna(trials)),
    }


def run_optuna(trials: int) -> None:
    """Run as many trials of the same search by Optuna."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: bowl({"x": trial.suggest_float("x", 0.0, 1.0)}), n_trials=trials)


def run_worker(trials: int) -> Callable[[], object]:
    """Return an action: a worker in this process trains trials as a worker on Ray does."""
    objective = unpickle_objective(pickle_objective(cv.Function(bowl)), ImportPath.here())
    worker = Worker("here", "here", objective, None)
    points = [{"x": number / trials} for number in range(trials)]
    chunk = [Task(trial=Trial(number=n, round=1, params=p, epochs=1, seed=n)) for n, p in enumerate(points)]
    return lambda: worker.run(chunk)


def seconds_of(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def profile(title: str, action: Callable[[], object]) -> None:
    """Print the functions in which an action spends most time."""
    with cProfile.Profile() as profiler:
        action()
    print(title)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--default", action="store_true")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    ray.init(
        address="local",
        num_cpus=options.workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        run_study("warm", 100, options.workers, options.default)
        figures = [measure(options.trials, options.workers, options.default) for _ in range(options.repeats)]
        print(pd.DataFrame(figures).median().map("{:,.0f}".format).to_string())
        if options.profile:
            profile(
                "the driver:", lambda: run_study("pace", options.trials, options.workers, options.default)
            )
            profile("a worker:", run_worker(options.trials))
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
