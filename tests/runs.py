"""Helpers that run studies and compare their frames."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from caviar.backends.inline import InlineBackend
from caviar.data.splits import Dataset
from caviar.driver.backend import Backend, BackendEvent
from caviar.errors import ClusterError
from caviar.operations.resume import resume_study
from caviar.operations.run import run_study
from caviar.records.frames import Run, load, reproducible
from caviar.storage.location import Location
from caviar.study import Study

Factory = Callable[[Dataset | None], Backend]


class Failing(InlineBackend):
    """A backend whose cluster dies after some polls."""

    polls_left = 6

    def poll(self, timeout_s: float) -> list[BackendEvent]:
        self.polls_left -= 1
        if self.polls_left == 0:
            raise ClusterError("the cluster has died")
        return super().poll(timeout_s)


def inline(study: Study, workers: int = 1) -> Factory:
    """Return a factory of workers in this process."""
    return lambda dataset: InlineBackend(study.objective, dataset, workers)


def run_inline(study: Study, runs: str | Path | Location, workers: int = 1) -> Run:
    """Run a study in this process."""
    return run_study(study, runs=runs, progress=False, backend=inline(study, workers))


def resume_inline(study: Study, path: str | Path | Location, repair: bool = False) -> Run:
    """Resume a run in this process."""
    return resume_study(study, path, progress=False, backend=inline(study), repair=repair)


def run_until_failure(study: Study, runs: str | Path, script: Path | None = None) -> Run:
    """Run a study whose cluster dies, and return its unfinished run."""
    with pytest.raises(ClusterError):
        run_study(
            study,
            runs=runs,
            progress=False,
            script=script,
            backend=lambda data: Failing(study.objective, data),
        )
    return load(Path(runs, study.name))


def run_on_ray(study: Study, runs: str | Path, workers: int = 2, **options: Any) -> Run:
    """Run a study on Ray workers; options go to the backend."""
    from caviar.backends.ray.backend import RayBackend

    def make(dataset: Dataset | None) -> Backend:
        return RayBackend(study.objective, dataset, workers=workers, **options)

    return run_study(study, runs=runs, progress=False, backend=make)


def assert_same_frames(one: Run, other: Run) -> None:
    """Assert that two runs are equal bit for bit, except for where and how fast they trained."""
    one, other = Run(one.location), Run(other.location)  # read again from the disk
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
