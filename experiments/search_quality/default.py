"""caviar's search on a table: the same stages as in a real study, without any training."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import tables
from baselines import observed
from tables import Table

import caviar as cv
from caviar.columns import param_column, to_cell
from caviar.data.splits import Dataset, Split
from caviar.engine import Checkpoint, Engine, Part, PartDone, Progress
from caviar.objective import Objective
from caviar.search.schedule import plan_phases
from caviar.search.stages import StagePlan, open_stage
from caviar.trial import Measurement, Outcome, Trial, Value


@dataclass(frozen=True)
class Lookup(Objective):
    """An objective whose losses come from a table."""

    table: str

    @property
    def metric(self) -> str:
        return "loss"

    @property
    def maximize(self) -> bool:
        return False

    @property
    def metric_names(self) -> tuple[str, ...]:
        return ("loss",)

    def adapt(self, space: cv.Space) -> cv.Space:
        return space

    def load(self) -> Dataset | None:
        return None

    def make_engine(self, dataset: Dataset | None, device: str) -> Engine:
        return TableEngine(tables.load(self.table))

    def costs(self, params: Mapping[str, Value], epochs: int, dataset: Dataset | None) -> Mapping[str, float]:
        return {"cpu": 1.0, "cuda": 1.0}

    def describe(self) -> dict[str, Any]:
        return {"kind": "table", "table": self.table}


class TableEngine(Engine):
    """An engine that looks up losses; the seed of a trial chooses among the trainings of its configuration."""

    def __init__(self, table: Table) -> None:
        self._table = table

    @property
    def name(self) -> str:
        return "table"

    def train(self, parts: Sequence[Part]) -> Iterator[Progress | PartDone]:
        for part in parts:
            trial = part.trial
            loss = self._table.training(self._table.row(trial.params), np.random.default_rng(trial.seed))
            yield Progress(trial.number, Measurement(trial.epochs, {"loss": loss}))
            yield PartDone(trial=trial.number, outcome=Outcome.COMPLETED)

    def evaluate(self, trial: Trial, checkpoint: Checkpoint, split: Split) -> Mapping[str, float]:
        raise NotImplementedError("no network is trained")


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search."""

    row: int
    """Number of the configuration that it hands over."""
    value: float
    """Its stated score: the mean of the winner's fresh trainings."""
    interval: tuple[float, float] | None
    """95 % confidence interval of that mean."""
    evaluations: int
    """Number of trainings, including those of the confirmation."""
    deciding_s: float
    """Processor seconds for drawing, narrowing and confirming, without training."""

    def holds(self, table: Table) -> bool | None:
        """Return True if the mean of all trainings of the configuration is in the interval; None without one."""
        if self.interval is None:
            return None
        low, high = self.interval
        return bool(low <= table.regret(self.row) <= high)


def coarse_to_fine(
    table: Table, evaluations: int, seed: int, in_flight: int | None = None, **changes: Any
) -> Found:
    """Run the search of `cv.coarse_to_fine(trials=evaluations)` on a table.

    Args:
        table: the trainings.
        evaluations: the budget.
        seed: determines the draws and the noise.
        in_flight: number of trials that learn nothing from one another; by default as many as caviar chooses. With
            as many as the search has, all are drawn from the whole space.
        changes: other fields of the study.
    """
    study = declare(table, evaluations, seed, in_flight, **changes)
    counted, began = 0, time.process_time()
    for plan, trials, frame in _stages(table, study):  # noqa: B007  the last one counts
        counted += len(frame)
    assert plan.winner is not None
    return Found(
        row=table.row(trials[0].params),
        value=plan.winner.value,
        interval=plan.winner.interval,
        evaluations=counted,
        deciding_s=time.process_time() - began,
    )


def declare(
    table: Table, evaluations: int, seed: int, in_flight: int | None = None, **changes: Any
) -> cv.Study:
    """Declare the study of `cv.coarse_to_fine(trials=evaluations)` on a table; arguments as of `coarse_to_fine`."""
    return cv.Study(
        name=table.name,
        objective=Lookup(table.name),
        space=table.space,
        rounds=cv.coarse_to_fine(trials=evaluations, epochs=1, in_flight=in_flight),
        seed=seed,
        **changes,
    )


def _stages(table: Table, study: cv.Study) -> Iterator[tuple[StagePlan, list[Trial], pd.DataFrame]]:
    """Yield each stage, its trials, and the rows of those that trained; the final trial does not."""
    noise = np.random.default_rng(study.seed)
    recorded, region, last = pd.DataFrame(), None, plan_phases([study.rounds])[0].final
    for number in range(1, last + 1):
        plan = open_stage(study, number, recorded, region)
        trials = list(plan.trials)
        frame = _trained(table, trials, noise) if trials and number < last else pd.DataFrame()
        yield plan, trials, frame
        region = plan.region or region
        recorded = pd.concat([recorded, frame], ignore_index=True)


def _trained(table: Table, trials: Sequence[Trial], noise: np.random.Generator) -> pd.DataFrame:
    """Return the rows that trained trials would have."""
    space = table.space
    rows = [
        {
            "trial": trial.number,
            "round": trial.round,
            "stage": trial.stage.value,
            "outcome": Outcome.COMPLETED.value,
            "value": observed(table, trial.params, noise)[1],
            "epochs": trial.epochs,
            "seed": trial.seed,
            "confirms": trial.confirms,
            **{
                param_column(name): to_cell(space[name].domain, value) for name, value in trial.params.items()
            },
        }
        for trial in trials
    ]
    return pd.DataFrame(rows).astype({"confirms": "Int64"})
