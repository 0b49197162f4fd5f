"""Running studies in tests, and comparing what they leave."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from caviar.backends.inline import InlineBackend
from caviar.data.splits import Dataset
from caviar.driver.backend import Backend, BackendEvent
from caviar.errors import ClusterError
from caviar.records.frames import Run, reproducible
from caviar.runner import resume_study, run_study
from caviar.study import Study

Factory = Callable[[Dataset | None], Backend]


class Failing(InlineBackend):
    """Its cluster dies after some polls."""

    patience = 6

    def poll(self, timeout_s: float) -> list[BackendEvent]:
        self.patience -= 1
        if self.patience == 0:
            raise ClusterError("the cluster has died")
        return super().poll(timeout_s)


def inline(study: Study, workers: int = 1) -> Factory:
    """Workers in this process."""
    return lambda dataset: InlineBackend(study.objective, dataset, workers)


def run_inline(study: Study, runs: str | Path, workers: int = 1) -> Run:
    """A whole run in this process."""
    return run_study(study, runs=runs, progress=False, backend=inline(study, workers))


def resume_inline(study: Study, path: str | Path, repair: bool = False) -> Run:
    """Go on with a run in this process."""
    return resume_study(study, path, progress=False, backend=inline(study), repair=repair)


def assert_same_frames(one: Run, other: Run) -> None:
    """Equal bit for bit, except where and how fast trials were trained."""
    one, other = Run(one.location), Run(other.location)  # from the disk, not from a cache
    pd.testing.assert_frame_equal(reproducible(one.trials), reproducible(other.trials), check_exact=True)
    pd.testing.assert_frame_equal(one.curves, other.curves, check_exact=True)
    pd.testing.assert_frame_equal(one.rounds, other.rounds, check_exact=True)
    assert one.best is not None
    assert other.best is not None
    assert (one.best.params, one.best.value, one.best.test_accuracy) == (
        other.best.params,
        other.best.value,
        other.best.test_accuracy,
    )
