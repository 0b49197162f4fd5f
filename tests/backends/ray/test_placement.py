"""Placement of workers: as many as fit, clear errors where they do not, and reasons why some wait."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.backends.ray.placement import (
    CPU_WORKER,
    GPU_WORKER,
    ResourceDict,
    WorkerRequest,
    explain_blocked_tasks,
    explain_shortage,
    find_unplaced,
)
from caviar.errors import ClusterError, StudyError
from caviar.resources import Resources

LAPTOP = {"CPU": 4.0, "memory": 8.0 * 2**30, "node:127.0.0.1": 1.0, "object_store_memory": 1e9}
SERVER = {"CPU": 16.0, "GPU": 2.0, "memory": 64.0 * 2**30, "license": 3.0}
HEAD = {"memory": 8.0 * 2**30}
"""A head that is not for workers."""
SMALL_CLUSTER = [{"CPU": 1.0}, {"CPU": 3.0, "GPU": 2.0}]


def count(resources: Resources, *machines: ResourceDict, **asked: Any) -> int:
    request = WorkerRequest(resources, asked.get("workers"), asked.get("gpus"))
    request.require_room(machines)
    return len(request.plan(machines))


@pytest.mark.parametrize(
    ("workers", "gpus", "expected"),
    [(None, None, (4, 2)), (1, None, (1, 2)), (None, 0, (4, 0)), (0, 1, (0, 1)), (4, 2, (4, 2))],
)
def test_default_is_one_worker_per_core_and_gpu(
    workers: int | None, gpus: int | None, expected: tuple[int, int]
) -> None:
    n_cpu, n_gpu = expected
    planned = WorkerRequest(None, workers, gpus).plan(SMALL_CLUSTER)
    assert planned == [CPU_WORKER] * n_cpu + [GPU_WORKER] * n_gpu


@pytest.mark.parametrize(
    ("workers", "gpus", "message"),
    [
        (5, None, "5 workers asked for, but the cluster has 4 cores: use --workers 4"),
        (None, 3, "3 GPU workers asked for, but the cluster has 2 GPUs: use --gpus 2"),
        (0, 0, "no workers"),
    ],
)
def test_more_workers_than_cores_or_gpus_are_refused(
    workers: int | None, gpus: int | None, message: str
) -> None:
    with pytest.raises(ClusterError, match=message):
        WorkerRequest(None, workers, gpus).require_room(SMALL_CLUSTER)


@pytest.mark.parametrize(
    ("resources", "fitting"),
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
def test_each_worker_fits_on_one_machine(resources: Resources, fitting: int) -> None:
    assert count(resources, LAPTOP, SERVER) == fitting


@given(st.integers(1, 64), st.floats(0.01, 8.0), st.integers(1, 5))
def test_workers_fill_each_machine_and_never_exceed_it(cores: int, cpus: float, nodes: int) -> None:
    machines = [{"CPU": float(cores)}] * nodes
    try:
        fitting = count(Resources(cpus=cpus), *machines)
    except ClusterError:
        assert cpus > cores
        return
    each = fitting // nodes
    assert each * cpus <= cores + 1e-3
    assert (each + 1) * cpus > cores


def test_workers_and_gpus_limit_the_number_of_workers() -> None:
    assert count(Resources(cpus=2), LAPTOP, SERVER, workers=3) == 3
    assert count(Resources(gpus=0.5), SERVER, gpus=1) == 2


def test_resources_that_no_machine_has_are_refused() -> None:
    with pytest.raises(
        ClusterError,
        match=r"needs 1 CPU, 1 GPU, and no machine .* \(4 CPU, 0 GPU, 8.0 GiB memory\): ask for less",
    ):
        count(Resources(gpus=1), LAPTOP)
    with pytest.raises(ClusterError, match="each worker needs 17 CPU"):
        count(Resources(cpus=17), LAPTOP, SERVER)
    with pytest.raises(ClusterError, match="5 workers with 4 CPU each asked for, but only 4 fit"):
        count(Resources(cpus=4), SERVER, workers=5)
    with pytest.raises(ClusterError, match="no workers"):
        count(Resources(gpus=1), SERVER, gpus=0)


def test_a_request_for_no_workers_is_refused() -> None:
    with pytest.raises(ClusterError, match=r"^--workers 0: no workers; .* 4 cores and 0 GPUs: ask for"):
        WorkerRequest(None, workers=0, gpus=None).require_room([LAPTOP])
    with pytest.raises(ClusterError, match=r"^--workers 0: no workers: ask for at least one worker$"):
        WorkerRequest(Resources(), workers=0, gpus=None).require_room([LAPTOP])
    with pytest.raises(ClusterError, match=r"^--gpus 0: no workers: .* one worker and 0\.5 GPU$"):
        WorkerRequest(Resources(gpus=0.5), workers=None, gpus=0).require_room([SERVER])
    for gpus in (1, None):
        WorkerRequest(None, workers=0, gpus=gpus).require_room([SERVER])


@pytest.mark.parametrize("resources", [None, Resources()])
def test_the_plan_shrinks_when_machines_leave(resources: Resources | None) -> None:
    request = WorkerRequest(resources, workers=3, gpus=None)
    large, small = {"CPU": 4.0}, {"CPU": 2.0}
    request.require_room([large, small])
    assert len(request.plan([large, small])) == 3
    assert len(request.plan([small])) == 2
    assert request.plan([]) == []
    assert len(request.plan([large])) == 3


@pytest.mark.parametrize(
    ("machines", "workers", "gpus", "cores", "cards"),
    [
        ([LAPTOP], None, None, 0, 0),
        ([LAPTOP], 4, None, 0, 0),
        ([LAPTOP], 6, None, 2, 0),
        ([LAPTOP, {"CPU": 2.0, "GPU": 1.0}], 6, 3, 0, 2),
        ([LAPTOP], 0, 2, 0, 2),
        ([HEAD], None, None, 1, 0),
        ([HEAD], None, 1, 0, 1),
        ([{"CPU": 2.0, "GPU": 1.0}], None, 0, 0, 0),
    ],
)
def test_missing_counts_cores_and_gpus(
    machines: list[dict[str, float]], workers: int | None, gpus: int | None, cores: int, cards: int
) -> None:
    expected = [{"CPU": 1.0}] * cores + [{"GPU": 1.0}] * cards
    assert WorkerRequest(None, workers, gpus).missing(machines) == expected


@pytest.mark.parametrize(
    ("machine", "workers", "gpus", "missing"),
    [
        (LAPTOP, None, None, 1),  # at least one worker is requested
        ({"CPU": 2.0, "GPU": 1.0}, None, None, 0),
        ({"CPU": 2.0, "GPU": 1.0}, 5, None, 3),
        ({"CPU": 2.0, "GPU": 1.0}, None, 3, 4),
        ({"CPU": 2.0, "GPU": 1.0}, None, 0, 0),
        ({"CPU": 2.0, "GPU": 1.0}, 0, None, 0),
    ],
)
def test_missing_counts_workers_with_resources(
    machine: dict[str, float], workers: int | None, gpus: int | None, missing: int
) -> None:
    half = Resources(gpus=0.5)
    assert WorkerRequest(half, workers, gpus).missing([machine]) == [half.needs()] * missing


def test_only_workers_with_an_open_demand_are_unplaced() -> None:
    core, share = {"CPU": 1.0}, {"CPU": 1.0, "GPU": 0.5}
    assert find_unplaced([core] * 3 + [share], []) == []
    assert find_unplaced([core] * 3 + [share], [core, share]) == [core, share]
    assert find_unplaced([core], [core] * 3) == [core], "others wait too"


def test_a_demand_for_other_amounts_is_not_ours() -> None:
    core, eight = {"CPU": 1.0}, {"CPU": 8.0}
    assert find_unplaced([core], [eight]) == []
    assert find_unplaced([core, eight], [eight] * 2) == [eight]


def test_amounts_that_ray_has_rounded_are_recognised() -> None:
    needs = Resources(cpus=4 / 3, memory_gib=0.7 / 3 * 5, custom={"license": 2 / 3}).needs()
    demand = {"license": 0.6666, "CPU": 1.3333, "memory": float(int(needs["memory"]))}  # as Ray 2.60 lists it
    assert find_unplaced([needs], [demand]) == [needs]


@pytest.mark.parametrize(
    ("waiting", "free", "reason"),
    [
        (
            [{"CPU": 1.0}] * 8,
            {},
            "waiting for 8 workers: the cluster's cores are in use (0 of 8 CPU free)",
        ),
        (
            [{"CPU": 4.0, "GPU": 0.5}],
            {"CPU": 3.0, "GPU": 0.25},
            "waiting for 1 worker: the cluster's cores and GPUs are in use "
            "(3 of 8 CPU free, 0.25 of 2 GPU free)",
        ),
        ([{"CPU": 1.0}], {"CPU": 1.0}, None),
        ([], {}, None),
    ],
)
def test_a_shortage_is_explained_where_there_is_one(
    waiting: list[dict[str, float]], free: dict[str, float], reason: str | None
) -> None:
    assert explain_shortage(waiting, {"CPU": 8.0, "GPU": 2.0}, free) == reason


def test_a_shortage_names_resources_that_left_the_cluster() -> None:
    reason = "waiting for 1 worker: no machine of the cluster has cores now"
    assert explain_shortage([{"CPU": 1.0}], {}, {}) == reason
    assert explain_shortage([{"CPU": 1.0, "GPU": 1.0}], {"GPU": 1.0}, {"GPU": 0.0}) == reason


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"cpus": -1}, "cpus must be a finite number of at least 0, not -1"),
        ({"cpus": float("nan")}, "must be a finite number of at least 0"),
        ({"cpus": "2"}, "must be a finite number of at least 0"),
        ({"gpus": 1.5}, "a whole number, or a share of one GPU"),
        ({"cpus": 0}, "all amounts are 0"),
        ({"custom": {"license": -1}}, "must be a finite number of at least 0"),
    ],
)
def test_amounts_that_cannot_be_are_refused(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        Resources(**asked)


@pytest.mark.parametrize(("nested", "fitting"), [(0.0, 4), (1.0, 2), (0.5, 2), (3.0, 1)])
def test_workers_leave_room_for_nested_tasks(nested: float, fitting: int) -> None:
    planned = WorkerRequest(Resources(nested_cpus=nested), None, None).plan([LAPTOP])
    assert len(planned) == fitting
    assert all(spec.actor_options["num_cpus"] == 1.0 for spec in planned)


def test_room_for_nested_tasks_is_required_at_the_start() -> None:
    with pytest.raises(ClusterError, match="5 CPU"):
        WorkerRequest(Resources(nested_cpus=4), None, None).require_room([LAPTOP])
    with pytest.raises(StudyError, match="nested_cpus"):
        Resources(nested_cpus=-1)


def test_only_tasks_of_others_that_cannot_run_are_blocked() -> None:
    ours, theirs = {"CPU": 2.0}, {"CPU": 1.0}
    assert explain_blocked_tasks([ours], [ours], {}) is None
    assert explain_blocked_tasks([theirs], [ours], {"CPU": 1.0}) is None
    reason = explain_blocked_tasks([ours, theirs, theirs], [ours], {"CPU": 0.5})
    assert reason is not None
    assert reason.startswith("2 Ray tasks wait for 1 CPU")
    assert "nested_cpus" in reason
