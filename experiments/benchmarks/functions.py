"""Overhead of a trial of a Python function, in trials per second.

python experiments/benchmarks/functions.py [--trials 20000] [--workers 2]

A trivial function is run in a plain loop, by the engine in this process, and by whole studies on Ray (from drawing to
recorded rows): as it is, with a time limit, and reporting epochs; then by Ray Tune, if it is installed.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import caviar as cv
from caviar.backends.worker import Worker
from caviar.driver.messages import Task
from caviar.trial import Trial


def bowl(params: dict[str, Any]) -> float:
    """Return a value with hardly any work."""
    return float((params["x"] - 0.3) ** 2)


def reporting(params: dict[str, Any], trial: cv.TrialContext) -> None:
    """Report five epochs with hardly any work."""
    for epoch in trial.remaining():
        trial.report(epoch, value=(params["x"] - 0.3) ** 2 + 1 / epoch)


def five_milliseconds(params: dict[str, Any]) -> float:
    """Work for five milliseconds."""
    end = time.perf_counter() + 0.005
    while time.perf_counter() < end:
        pass
    return bowl(params)


def plain(trials: int) -> float:
    """Return the seconds of a plain loop."""
    started = time.perf_counter()
    for number in range(trials):
        bowl({"x": number / trials})
    return time.perf_counter() - started


def engine(trials: int) -> float:
    """Return the seconds of a worker in this process."""
    worker = Worker("here", "here", cv.Function(bowl), None)
    chunk = [
        Task(trial=Trial(number=n, round=1, params={"x": n / trials}, epochs=1, seed=n))
        for n in range(trials)
    ]
    started = time.perf_counter()
    worker.run(chunk)
    return time.perf_counter() - started


def study(objective: cv.Function, trials: int, epochs: int, workers: int) -> float:
    """Return the seconds of a study, from the first trial drawn to the last recorded."""
    asked = cv.Study(
        name="functions",
        objective=objective,
        space=cv.Space(x=cv.linear(0.0, 1.0)),
        rounds=[cv.Round(trials, epochs), cv.Confirmation(1, 1)],
    )
    with tempfile.TemporaryDirectory() as runs:
        warm_up = cv.Study(
            name="warm",
            objective=objective,
            space=asked.space,
            rounds=[cv.Round(4, epochs), cv.Confirmation(1, 1)],
        )
        warm_up.run(workers=workers, runs=runs, progress=False)
        started = time.perf_counter()
        asked.run(workers=workers, runs=Path(runs), progress=False)
        return time.perf_counter() - started


def ray_tune(trials: int, workers: int) -> float | None:
    """Return the seconds of the same search by Ray Tune; None if it is not installed."""
    try:
        from ray import tune
    except ImportError:
        return None

    def trainable(config: dict[str, Any]) -> None:
        tune.report({"value": bowl(config)})

    tuner = tune.Tuner(
        trainable,
        param_space={"x": tune.uniform(0.0, 1.0)},
        tune_config=tune.TuneConfig(
            num_samples=trials, metric="value", mode="min", reuse_actors=True, max_concurrent_trials=workers
        ),
        run_config=tune.RunConfig(verbose=0, storage_path=tempfile.mkdtemp()),
    )
    started = time.perf_counter()
    tuner.fit()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    trials, workers = options.trials, options.workers
    few = min(trials, 1_000)

    def row(name: str, count: int, measure: Callable[[], float | None]) -> None:
        seconds = measure()
        said = "not installed" if seconds is None else f"{count / seconds:12,.0f} trials/s"
        print(f"{name:52}{count:8,} trials {said}", flush=True)

    row("a plain loop in Python", trials, lambda: plain(trials))
    row("the engine in this process", trials, lambda: engine(trials))
    import ray

    ray.init(
        address="local",
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        fn = cv.Function
        row("a study: trivial function", trials, lambda: study(fn(bowl), trials, 1, workers))
        row("a study: it reports five epochs", few, lambda: study(fn(reporting), few, 5, workers))
        row("a study: 5 ms of work", 10 * few, lambda: study(fn(five_milliseconds), 10 * few, 1, workers))
        row(
            "a study: trivial function with a time limit",
            few,
            lambda: study(fn(bowl, time_limit_s=10), few, 1, workers),
        )
        row("Ray Tune: trivial function, reused actors", 50, lambda: ray_tune(50, workers))
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
