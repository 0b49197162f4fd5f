"""Scheduling on large clusters: simulated workers with the real controller, loop and ledger.

    python experiments/benchmarks/scale.py OUT [--quick]

The script writes OUT/scale.csv and OUT/scale.md. Each row is one study on a simulated cluster
(`caviar.backends.simulated`): a default study (`cv.coarse_to_fine`) with its confirmation and final training, or the
search of a single round. Workers, messages, deaths and the seconds of trials are simulated; the driver's time is the
time that it really takes here, on one core.

- ideal: a lower bound for the makespan: the workers' start, plus the work divided evenly or the longest trial,
  whichever is longer. A trial starts again when its worker dies: with d deaths a second, a trial of L seconds takes
  (exp(d L) - 1) / d seconds on average; a single study can be luckier.
- makespan / ideal: the cost of scheduling.
- utilisation: the fraction of worker time, from the start to the end of the study or of the round, that is training.
- driver: the fraction of the makespan in which the driver is busy; near 1 it is the bottleneck.
"""

import argparse
import math
import random
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

import caviar as cv
from caviar.backends.simulated import SimulatedBackend, SimulatedCluster, heavy_tailed
from caviar.data.splits import Dataset
from caviar.driver.backend import BackendEvent
from caviar.driver.messages import ChunkDone
from caviar.operations.run import run_study
from caviar.training.function.objective import Function
from caviar.trial import Stage, Trial, Value


@dataclass(frozen=True)
class Predicted(Function):
    """A function whose cost is predicted, like a classifier's."""

    mean_s: float = 1.0
    sigma: float = 1.5

    def costs(self, params: Mapping[str, Value], epochs: int, dataset: Dataset | None) -> Mapping[str, float]:
        trial = Trial(number=0, round=1, params=params, epochs=epochs, seed=0)
        return {"cpu": heavy_tailed(self.mean_s, self.sigma)(trial)}


@dataclass(frozen=True)
class Case:
    """A cluster and a study."""

    workers: int
    trials: int
    mean_s: float
    predicted: bool = True
    deaths_per_hour: float = 0.0
    sigma: float = 1.5
    is_default: bool = False
    """True for the default study, False for a single round."""
    in_flight: int | None = None


def default_study(workers: int, trials: int, predicted: bool, in_flight: int | None = None) -> Case:
    """Return the case of a default study with trials of 10 s on average, of which one in a hundred takes 50 s."""
    return Case(workers, trials, 10.0, predicted, sigma=0.8, is_default=True, in_flight=in_flight)


CASES = [
    *(default_study(16, 400, predicted) for predicted in (False, True)),
    *(default_study(64, 2_000, predicted) for predicted in (False, True)),
    *(default_study(64, 2_000, predicted, in_flight=540) for predicted in (False, True)),
    *(default_study(256, 10_000, predicted) for predicted in (False, True)),
    *(default_study(256, 10_000, predicted, in_flight=2_700) for predicted in (False, True)),
    Case(10, 2_000, 1.0),
    Case(100, 10_000, 1.0),
    Case(100, 10_000, 1.0, predicted=False),
    Case(1_000, 100_000, 1.0),
    Case(1_000, 100_000, 10.0),
    Case(1_000, 100_000, 10.0, predicted=False),
    Case(1_000, 100_000, 10.0, deaths_per_hour=1.0),
    Case(1_000, 100_000, 10.0, deaths_per_hour=10.0),
    Case(4_000, 100_000, 60.0, deaths_per_hour=1.0),
]
QUICK = [CASES[0], CASES[1], *CASES[10:13]]


def noisy_bowl(params: dict[str, float]) -> float:
    """Return a value with hardly any work: the seconds of trials are simulated."""
    return (params["x"] - 0.3) ** 2 + random.gauss(0.0, 0.05)


class Watched(SimulatedBackend):
    """A simulated cluster that notes when the last trial of the search, and of the study, finishes."""

    ended_s: Mapping[Stage, float] = {}
    """Simulated time of the last trial of each stage, in seconds."""
    driver_until_s: Mapping[Stage, float] = {}
    """Seconds that the driver had worked by then."""

    def poll(self, timeout_s: float) -> list[BackendEvent]:
        """Return the next events, and note the time of the trials."""
        happened = super().poll(timeout_s)
        for h in happened:
            if isinstance(h, ChunkDone):
                stage = h.results[0].trial.stage
                self.ended_s = {**self.ended_s, stage: self.clock()}
                self.driver_until_s = {**self.driver_until_s, stage: self.driver_s}
        return happened


def simulate(case: Case) -> dict[str, object]:
    """Simulate one study and return its row."""
    predicted = Predicted(noisy_bowl, mean_s=case.mean_s, sigma=case.sigma)
    objective = predicted if case.predicted else Function(noisy_bowl)
    cost_s = heavy_tailed(case.mean_s, case.sigma)
    cluster = SimulatedCluster(
        workers=case.workers, cost_s=cost_s, deaths_per_hour=case.deaths_per_hour, preemptions=1.0
    )
    study = cv.Study(
        name="scale",
        objective=objective,
        space=cv.Space(x=cv.linear(0.0, 1.0)),
        rounds=(
            cv.coarse_to_fine(case.trials, 1, in_flight=case.in_flight)
            if case.is_default
            else [cv.Round(case.trials, 1), cv.Confirmation(1, 1)]
        ),
    )
    backends: list[Watched] = []

    def make(data: Dataset | None) -> Watched:
        backends.append(Watched(objective, data, cluster))
        return backends[0]

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = run_study(study, runs=Path(folder), progress=False, backend=make)
        trials = run.trials
    (backend,) = backends
    last = Stage.FINAL if case.is_default else Stage.SEARCH
    end_s = backend.ended_s[last]
    counted = trials if case.is_default else trials[trials["stage"] == Stage.SEARCH]
    work_s = float(counted["train_s"].sum())
    start_s = cluster.start_s
    longest_s = float(counted["train_s"].max())
    ideal_s = start_s + max(work_s / case.workers, _expected_s(longest_s, case.deaths_per_hour / 3_600))
    return {
        "study": ("default" if case.in_flight is None else f"in_flight={case.in_flight:,}")
        if case.is_default
        else "one round",
        "workers": case.workers,
        "trials": case.trials,
        "mean_s": case.mean_s,
        "cost": "predicted" if case.predicted else "unknown",
        "deaths_per_hour": case.deaths_per_hour,
        "makespan_s": end_s,
        "ideal_s": ideal_s,
        "ratio": end_s / ideal_s,
        "utilisation": work_s / (case.workers * (end_s - start_s)),
        "driver": backend.driver_until_s[last] / end_s,
        "trials_per_s": case.trials / end_s,
        "real_s": time.perf_counter() - began,
    }


def _expected_s(work_s: float, deaths_per_s: float) -> float:
    """Return the expected seconds of a trial that starts again whenever its worker dies."""
    return math.expm1(deaths_per_s * work_s) / deaths_per_s if deaths_per_s else work_s


def main() -> None:
    """Simulate all cases, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--quick", action="store_true", help="only the small cases")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for case in QUICK if options.quick else CASES:
        rows.append(simulate(case))
        print(rows[-1], flush=True)
    frame = pd.DataFrame(rows)
    frame.to_csv(options.out / "scale.csv", index=False, float_format="%.4g")
    (options.out / "scale.md").write_text(_markdown(frame))


def _markdown(frame: pd.DataFrame) -> str:
    header = [
        "study", "workers", "trials", "mean, s", "cost", "deaths an hour", "makespan, s", "/ ideal", "utilisation",
        "driver", "trials/s",
    ]  # fmt: skip
    lines = [header, ["---"] * len(header)]
    for row in frame.itertuples():
        lines.append(
            [
                str(row.study),
                f"{row.workers:,}",
                f"{row.trials:,}",
                f"{row.mean_s:g}",
                str(row.cost),
                f"{row.deaths_per_hour:g}",
                f"{row.makespan_s:,.1f}",
                f"{row.ratio:.2f}",
                f"{row.utilisation:.0%}",
                f"{row.driver:.0%}",
                f"{row.trials_per_s:,.0f}",
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    main()
