"""The choice of workers: on a Ray cluster, or one in this process."""

import logging
from collections.abc import Callable

from caviar.data.splits import Dataset
from caviar.driver.backend import Backend
from caviar.errors import RunError
from caviar.study import Study

_log = logging.getLogger(__name__)
BackendFactory = Callable[[Dataset | None], Backend]
"""Returns the workers, given train and dev split; the test split stays with the driver."""
HERE = "here"
"""Address of this process."""


def choose_backend(study: Study, address: str, workers: int | None, gpus: int | None) -> BackendFactory:
    """Return what makes the workers at an address.

    Raises:
        RunError: the counts are no whole numbers from 0, there are no workers, or this process cannot be what the study
            asks for.
    """
    require_workers(study, workers, gpus)

    def start_here(dataset: Dataset | None) -> Backend:
        from caviar.backends.inline import ThisProcess

        return ThisProcess(study.objective, dataset)

    def start_on_ray(dataset: Dataset | None) -> Backend:
        from caviar.backends.ray.backend import RayBackend

        return RayBackend(study.objective, dataset, address, workers, gpus)

    if address != HERE:
        return start_on_ray
    require_one_worker(study, workers, gpus)
    return start_here


def require_workers(study: Study, workers: int | None, gpus: int | None) -> None:
    """Refuse counts that are not whole numbers from 0, zero workers in all, and GPUs that no trial would use."""
    for name, count in (("workers", workers), ("gpus", gpus)):
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
            raise RunError(f"--{name} {count!r}: must be a whole number from 0")
    if workers == 0 and gpus == 0:
        raise RunError("--workers 0 --gpus 0: no workers: ask for at least one")
    resources = study.objective.resources
    if gpus and resources is not None and not resources.gpus:
        raise RunError(
            f"--gpus {gpus}: the trials of {study.name} take no GPU: give its objective "
            "resources=cv.Resources(gpus=1), or leave --gpus out"
        )


def require_one_worker(study: Study, workers: int | None, gpus: int | None) -> None:
    """Refuse what a worker in this process cannot be given, and warn of limits that it cannot enforce."""
    resources, limit_s = study.objective.resources, study.objective.time_limit_s
    if workers not in (None, 1):
        raise RunError(
            f"--workers {workers} --address here: one worker trains in this process; leave out one of the two"
        )
    if gpus or (resources is not None and resources.gpus):
        raise RunError("--address here: the worker in this process has no GPU; use --address local")
    if limit_s is not None:
        _log.warning(
            "--address here: a trial that takes longer than %g s is waited for before it counts as failed",
            limit_s,
        )
    if resources is not None and resources.memory_gib:
        _log.warning("--address here: the memory of trials is not limited")
