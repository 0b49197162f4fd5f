"""caviar beside Ray Tune: trainings a second of whole searches, from the start of the process to its end.

python experiments/benchmarks/ray_tune.py [OUT] [--repeats 3] [--workers 2]

digits    100 trials of the space of experiments/digits.py, 20 epochs
small     200 trials of networks of at most 2 x 64 units, 10 epochs

Both train the same networks: Ray Tune gets the params, epochs and seeds that caviar's search came to, confirmation and
final training included, and trains them with plain torch, as caviar's reference engine does. It reuses its actors, has
no loggers, and reports once a trial. Each search runs in a process of its own, with a Ray cluster of its own. They take
turns. Ray Tune needs `pip install 'caviar[benchmarks]'`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import caviar as cv

CASES = {"digits": (100, 20, {}), "small": (200, 10, {"layers": (1, 2), "units": (16, 64)})}
"""Trials, epochs, and limits of the space of each case."""
AIMS = {"digits": 8, "small": 20}
"""Ratio of caviar's trainings a second to Ray Tune's."""


def main() -> None:
    """Run both in turn, and print and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", help="folder for ray_tune.md")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    options = parser.parse_args()
    lines = list(compare_all(options.cases, options.repeats, options.workers))
    if options.out:
        (options.out / "ray_tune.md").write_text("\n".join([*lines, ""]))


def compare_all(cases: list[str], repeats: int, workers: int) -> Iterator[str]:
    """Yield the lines of the table, and print each."""
    for line in (
        "| search | trainings | caviar, trainings/s | Ray Tune, trainings/s | ratio | aim |",
        "| --- | --- | --- | --- | --- | --- |",
    ):
        print(line)
        yield line
    for case in cases:
        line = compare(case, repeats, workers)
        print(line, flush=True)
        yield line


def compare(case: str, repeats: int, workers: int) -> str:
    """Return a line of the table."""
    pace: dict[str, list[float]] = {"caviar": [], "tune": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            for name, found in pace.items():
                started = time.perf_counter()
                command = [sys.executable, __file__, "--inside", name, case, folder, str(workers)]
                subprocess.run(command, check=True, capture_output=True, cwd=folder)
                seconds = time.perf_counter() - started
                count = len(json.loads(Path(folder, "trainings.json").read_text()))
                found.append(count / seconds)
    ours, theirs = (statistics.median(pace[name]) for name in ("caviar", "tune"))
    ranges = {name: f"{min(each):.2f} .. {max(each):.2f}" for name, each in pace.items()}
    return (
        f"| {case} | {count} | {ours:.2f} ({ranges['caviar']}) | {theirs:.2f} ({ranges['tune']}) | "
        f"{ours / theirs:.1f}x | {AIMS[case]}x |"
    )


def run_caviar(case: str, folder: Path, workers: int) -> None:
    """Search, and write the params, epochs and seeds of all trainings."""
    from caviar.experiment_script import load_study

    trials, epochs, limits = CASES[case]
    digits = load_study(Path(__file__).parents[1] / "digits.py")
    narrow: dict[str, Any] = {
        name: cv.integer(low, high, scale="log" if name == "units" else "linear")
        for name, (low, high) in limits.items()
    }
    study = replace(
        digits,
        space=cv.Space(**{**dict(digits.space), **narrow}),
        rounds=cv.coarse_to_fine(trials=trials, epochs=epochs),
    )
    run = study.run(workers=workers, runs=folder, progress=False)
    from caviar.columns import params_from_row

    rows = run.trials.to_dict("records")
    trainings = [
        {"params": params_from_row(study.space, row), "epochs": row["epochs"], "seed": row["seed"]}
        for row in rows
    ]
    (folder / "trainings.json").write_text(json.dumps(trainings))


def run_tune(case: str, folder: Path, workers: int) -> None:
    """Train the same networks with Ray Tune."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    import logging

    import ray
    from ray import tune

    from caviar.engine import Part, Progress
    from caviar.trial import Trial

    ray.init(
        address="local",
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    trainings = json.loads((folder / "trainings.json").read_text())
    dataset = cv.Classifier(data="sklearn:digits", preprocess="scale").load().without_test()

    class Network(tune.Trainable):
        """A training: plain torch, on one core, all epochs in one step."""

        def setup(self, config: dict[str, Any], dataset: Any = None, trainings: Any = None) -> None:
            from caviar.training.reference import ReferenceEngine

            self.engine, self.trainings = ReferenceEngine(dataset), trainings
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.asked = self.trainings[new_config["number"]]
            return True

        def step(self) -> dict[str, Any]:
            trial = Trial(number=0, round=1, **self.asked)
            events = self.engine.train([Part(trial=trial)])
            accuracies = [e.measurement.metrics["dev_accuracy"] for e in events if isinstance(e, Progress)]
            return {"dev_accuracy": accuracies[-1] if accuracies else 0.0, "done": True}

    del case
    trainable = tune.with_resources(
        tune.with_parameters(Network, dataset=dataset, trainings=trainings), {"cpu": 1}
    )
    results = tune.Tuner(
        trainable,
        param_space={"number": tune.grid_search(list(range(len(trainings))))},
        tune_config=tune.TuneConfig(
            metric="dev_accuracy", mode="max", reuse_actors=True, max_concurrent_trials=workers
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()
    assert len(results) == len(trainings)
    assert not results.num_errors
    ray.shutdown()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        _, _, name, case, folder, workers = sys.argv
        {"caviar": run_caviar, "tune": run_tune}[name](case, Path(folder), int(workers))
    else:
        main()
