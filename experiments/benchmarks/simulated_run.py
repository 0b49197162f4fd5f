"""A run of any size within minutes: real search, driver and ledger, on simulated workers with made-up learning curves.

    python experiments/benchmarks/simulated_run.py RUNS [--trials 100000] [--epochs 20] [--workers 64]

The run directory is RUNS/simulated. Its space has every kind of parameter, two of them conditional; trials complete,
stop, diverge and fail. Figures, pages and exports of large runs are tested and timed with it.
"""

import argparse
import math
from pathlib import Path
from random import Random
from typing import Any

import caviar as cv
from caviar.backends.simulated import SimulatedBackend, SimulatedCluster, heavy_tailed
from caviar.data.splits import Dataset
from caviar.operations.run import run_study


def learn(params: dict[str, Any], trial: cv.TrialContext) -> None:
    """Report the curves of a classifier whose error depends on the params as in real trainings."""
    random, floor = trial.restore() or (Random(trial.seed), None)
    rate = math.log10(params["learning_rate"]) + (1.5 if params["optimizer"] == "adam" else 0.5)
    memory = math.log10(1 - params.get("momentum", 0.9)) + 1.3
    if floor is None:
        if rate > 1.2 and random.random() < 0.9:
            trial.report(1, dev_loss=math.nan, dev_accuracy=math.nan)
            return
        if params["units"] > 200 and random.random() < 0.02:
            raise MemoryError(f"no room for {params['units']} units")
        floor = 0.02 + 0.03 * rate**2 + 0.01 * memory**2 + 0.05 / math.sqrt(params["units"])
        floor *= 1 + 0.5 * (params["dropout"] - 0.15) ** 2 + random.gauss(0, 0.05)
    speed = 0.8 / (1 + rate**2)
    for epoch in trial.remaining():
        error = min(0.9, floor + 0.85 * math.exp(-speed * epoch) + abs(random.gauss(0, 0.002)))
        trial.report(epoch, dev_loss=2.3 * error, dev_accuracy=1 - error)
    trial.save((random, floor))


def simulated_study(trials: int, epochs: int) -> cv.Study:
    """Return the study of a run of this size."""
    return cv.Study(
        name="simulated",
        objective=cv.Function(
            learn, metric="dev_accuracy", maximize=True, metrics=("dev_accuracy", "dev_loss")
        ),
        space=cv.Space(
            learning_rate=cv.log(1e-4, 10.0),
            optimizer=cv.choice("sgd", "momentum", "adam"),
            momentum=cv.when(cv.reverse_log(0.8, 0.999), optimizer="momentum"),
            units=cv.integer(16, 256, scale="log"),
            dropout=cv.linear(0.0, 0.5),
            batch_norm=cv.choice(True, False),
        ),
        rounds=cv.coarse_to_fine(trials, epochs, halving=cv.Halving() if epochs >= 4 else None),
    )


def simulate(runs: Path, trials: int, epochs: int, workers: int) -> cv.Run:
    """Run the study on simulated workers.

    Args:
        runs: folder of the run directory.
        trials: number of trials of the study.
        epochs: epochs of a trial that completes.
        workers: number of simulated workers.
    """
    cluster = SimulatedCluster(workers=workers, cost_s=heavy_tailed(10.0, sigma=0.8), driver_s=0.0)

    def make(data: Dataset | None) -> SimulatedBackend:
        return SimulatedBackend(study.objective, data, cluster)

    study = simulated_study(trials, epochs)
    return run_study(study, runs=runs, progress=False, backend=make)


def main() -> None:
    """Parse the command line, and print where the run is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, help="folder of runs")
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=64)
    options = parser.parse_args()
    run = simulate(options.runs, options.trials, options.epochs, options.workers)
    print(f"{run.location}: {len(run.trials):,} trials, {len(run.curves):,} measurements")


if __name__ == "__main__":
    main()
