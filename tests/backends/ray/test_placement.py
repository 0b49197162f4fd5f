"""Workers of a shape: as many as fit on the machines there are, refused in clear words where none does."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.backends.ray.placement import ResourceDict, WorkerRequest
from caviar.errors import ClusterError, StudyError
from caviar.resources import Resources

LAPTOP = {"CPU": 4.0, "memory": 8.0 * 2**30, "node:127.0.0.1": 1.0, "object_store_memory": 1e9}
SERVER = {"CPU": 16.0, "GPU": 2.0, "memory": 64.0 * 2**30, "license": 3.0}


def count(resources: Resources, *machines: ResourceDict, **asked: Any) -> int:
    wanted = WorkerRequest(resources, asked.get("workers"), asked.get("gpus"))
    wanted.require_room(machines)
    return len(wanted.plan(machines))


@pytest.mark.parametrize(
    ("resources", "fit"),
    [
        (Resources(), 20),
        (Resources(cpus=3), 1 + 5),
        (Resources(cpus=0.1), 200),
        (Resources(gpus=1), 2),
        (Resources(cpus=0, gpus=0.25), 8),
        (Resources(cpus=0, gpus=0.1), 20),
        (Resources(gpus=2), 1),
        (Resources(memory_gib=8), 1 + 8),
        (Resources(custom={"license": 1}), 3),
        (Resources(cpus=8, custom={"license": 1}), 2),
    ],
)
def test_as_many_workers_as_fit_each_on_one_machine(resources: Resources, fit: int) -> None:
    assert count(resources, LAPTOP, SERVER) == fit


@given(st.integers(1, 64), st.floats(0.01, 8.0), st.integers(1, 5))
def test_what_fits_never_exceeds_a_machine_and_no_more_would_fit(cores: int, cpus: float, nodes: int) -> None:
    machines = [{"CPU": float(cores)}] * nodes
    try:
        fitting = count(Resources(cpus=cpus), *machines)
    except ClusterError:
        assert cpus > cores
        return
    each = fitting // nodes
    assert each * cpus <= cores + 1e-3
    assert (each + 1) * cpus > cores


def test_fewer_can_be_asked_for_by_workers_or_by_gpus() -> None:
    assert count(Resources(cpus=2), LAPTOP, SERVER, workers=3) == 3
    assert count(Resources(gpus=0.5), SERVER, gpus=1) == 2


def test_a_request_that_can_never_be_met_is_refused_with_what_there_is() -> None:
    with pytest.raises(
        ClusterError,
        match=r"each worker needs 1 CPU, 1 GPU, and no machine of the cluster has that "
        r"\(4 CPU, 0 GPU, 8.0 GiB memory\): ask for less in cv.Resources",
    ):
        count(Resources(gpus=1), LAPTOP)
    with pytest.raises(ClusterError, match="each worker needs 17 CPU"):
        count(Resources(cpus=17), LAPTOP, SERVER)
    with pytest.raises(ClusterError, match="5 workers with 4 CPU each asked for, but only 4 fit"):
        count(Resources(cpus=4), SERVER, workers=5)
    with pytest.raises(ClusterError, match="no workers"):
        count(Resources(gpus=1), SERVER, gpus=0)


def test_no_workers_are_refused_in_the_words_of_the_command_line() -> None:
    with pytest.raises(ClusterError, match=r"^--workers 0: no workers, for .* 4 cores and 0 GPUs: ask for"):
        WorkerRequest(None, workers=0, gpus=None).require_room([LAPTOP])
    with pytest.raises(ClusterError, match=r"^--workers 0: no workers: ask for at least one$"):
        WorkerRequest(Resources(), workers=0, gpus=None).require_room([LAPTOP])
    with pytest.raises(ClusterError, match=r"^--gpus 0: no workers: ask for at least one, and for 0\.5 GPU$"):
        WorkerRequest(Resources(gpus=0.5), workers=None, gpus=0).require_room([SERVER])
    for gpus in (1, None):
        WorkerRequest(None, workers=0, gpus=gpus).require_room([SERVER])


@pytest.mark.parametrize("resources", [None, Resources()])
def test_of_what_was_asked_for_as_many_are_there_as_still_fit(resources: Resources | None) -> None:
    wanted = WorkerRequest(resources, workers=3, gpus=None)
    large, small = {"CPU": 4.0}, {"CPU": 2.0}
    wanted.require_room([large, small])
    assert len(wanted.plan([large, small])) == 3
    assert len(wanted.plan([small])) == 2
    assert wanted.plan([]) == []
    assert len(wanted.plan([large])) == 3


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"cpus": -1}, r"cpus=-1\): must be a number from 0"),
        ({"cpus": float("nan")}, "must be a number from 0"),
        ({"cpus": "2"}, "must be a number from 0"),
        ({"gpus": 1.5}, "a whole number, or a share of one GPU"),
        ({"cpus": 0}, "asks for nothing"),
        ({"custom": {"license": -1}}, "must be a number from 0"),
    ],
)
def test_amounts_that_cannot_be_are_refused(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        Resources(**asked)
