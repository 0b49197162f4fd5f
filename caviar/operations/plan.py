"""The plan of a study: trials are measured on this machine, the cluster is looked at, the course is forecast."""

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace

import psutil

from caviar.data.splits import Dataset
from caviar.driver.learned_costs import LearnedCosts
from caviar.errors import ClusterError, RunError
from caviar.operations.worker_choice import HERE, require_one_worker, require_workers
from caviar.planning.advice import LEAST_TRIALS, advise, trials_in
from caviar.planning.budget import (
    END_S,
    MEND_FIRST,
    count_measured,
    forecaster_of,
    unmeasured_reason,
)
from caviar.planning.costs import TrialCosts, learn_costs
from caviar.planning.forecast import Forecaster, fit_trials
from caviar.planning.measuring import MEASURE_S, Measurement, Measuring
from caviar.planning.plan import Cost, Memory, Places, Plan
from caviar.plurals import counted
from caviar.resources import usable_cores
from caviar.rounds import MAX_TRIALS, resize
from caviar.search.sampling import require_sampler
from caviar.study import Study

WAIT_S = 300.0
"""Seconds for which a single trial is waited for."""
HERE_S = 0.7
"""Seconds until a worker in the driver's process is ready (experiments/benchmarks/results/startup.md)."""
CONNECT_S = 0.9
"""Seconds until Ray is up on a quiet machine (likewise); other steps are as much slower as this one."""
LONG = 1e7
"""Factor from predicted seconds to those assumed if none were measured: nothing else counts beside them."""
SLOW_START_S = 8.0
"""Seconds until workers are ready from which they are started a second time."""


def plan_study(
    study: Study,
    *,
    time_s: float | None = None,
    workers: int | None = None,
    gpus: int | None = None,
    address: str = "local",
    measure_s: float = MEASURE_S,
    loaded_s: float = 0.0,
) -> Plan:
    """Measure some trials of a study on this machine, and return what the study will take.

    Trials are measured in workers of a local Ray cluster, also for another address: they may crash or never end.

    Args:
        study: the study.
        time_s: seconds of the budget; None to plan the number of trials that the study declares.
        workers: number of CPU workers, as for `Study.run`.
        gpus: number of GPU workers, likewise.
        address: address of the cluster that the study will run on, likewise; nothing is trained there.
        measure_s: seconds after which no trial begins that is measured.
        loaded_s: seconds from the start of the program until the study was loaded, which the run takes, too.

    Raises:
        CaviarError: the study cannot run there.
    """
    require_workers(study, workers, gpus)
    require_sampler(study)
    began_s = time.monotonic()
    dataset = study.objective.load()
    study.objective.rehearse(study.space, dataset)
    rehearsed_s = time.monotonic() - began_s
    if address == HERE:
        require_one_worker(study, workers, gpus)
    elsewhere = None if address in ("local", HERE) else _look(study, address, workers, gpus)
    if elsewhere is not None and not _planned(study, elsewhere.workers):
        raise RunError(
            f"{counted(elsewhere.count, 'GPU worker')} at {address} and no CPU worker: a plan measures trials on CPU "
            "workers: ask for some with --workers, or run a small study there and see how long it takes"
        )
    try:
        measured = _measure(study, dataset, measure_s, *_measuring_workers(study, address, workers, gpus))
    except ClusterError as error:
        if elsewhere is None:
            raise
        return _unmeasured(study, dataset, elsewhere, time_s, f"on this machine {error}")
    places = elsewhere or Places(
        address=address, machines=(_this_machine(),), workers=_workers_here(address, gpus, measured)
    )
    measurement = measured.measurement
    costs = learn_costs(measurement.parts, study.space)
    if (reason := unmeasured_reason(measurement, costs)) is not None:
        notes = (MEND_FIRST,) if measurement.all_failed else ()
        return _unmeasured(study, dataset, places, time_s, reason, measured.memory, notes)
    assert costs is not None
    if address == HERE:
        costs = replace(costs, latency_s=0.0)
    slowness = max(1.0, measured.connected_s / CONNECT_S)
    start_s = {"local": measured.connected_s + measurement.start_s, HERE: slowness * HERE_S}
    count = _planned(study, places.workers)
    cores = None if elsewhere else usable_cores()
    return _forecast(
        study,
        forecaster_of(study, dataset, measurement, costs, count, cores),
        places,
        time_s,
        loaded_s + rehearsed_s + start_s.get(address, measurement.start_s),
        slowness * END_S,
        measured.memory,
        _notes(study, places, measurement, address),
    )


def _forecast(
    study: Study,
    forecaster: Forecaster,
    places: Places,
    time_s: float | None,
    before_s: float,
    after_s: float,
    memory: Memory,
    notes: tuple[str, ...],
) -> Plan:
    """Return the plan of a study whose trials were measured."""
    forecaster.prepare()
    smallest = forecaster.forecast(LEAST_TRIALS)
    stages, found, trials = study.rounds, smallest, 0
    if time_s is None:
        found = forecaster.forecast()
        trials = found.trials
    else:
        left_s = time_s - before_s - after_s
        if smallest.trained_s <= left_s:
            trials, found = fit_trials(forecaster.forecast, left_s, LEAST_TRIALS, MAX_TRIALS)
        else:
            trials = trials_in(time_s, before_s + after_s, smallest.mean_s, forecaster.workers)
        stages = resize(study.rounds, max(trials, LEAST_TRIALS))
    cost = Cost(
        costs=forecaster.costs, forecast=found, error=forecaster.error, before_s=before_s, after_s=after_s
    )
    least_s = before_s + smallest.trained_s + after_s
    return Plan(
        name=study.name,
        stages=stages,
        places=places,
        time_s=time_s,
        cost=cost,
        advice=advise(trials, found.mean_s, forecaster.workers, time_s, least_s),
        memory=memory,
        notes=notes,
    )


def _unmeasured(
    study: Study,
    dataset: Dataset | None,
    places: Places,
    time_s: float | None,
    reason: str,
    memory: Memory | None = None,
    notes: tuple[str, ...] = (),
) -> Plan:
    """Return the plan of a study whose trials could not be measured: its duration in units of a trial's."""
    costs = TrialCosts(learned=LearnedCosts(study.space), rate=LONG)
    forecaster = Forecaster(
        study=study, dataset=dataset, costs=costs, parts=(), workers=max(1, places.count), cores=None
    )
    found = forecaster.forecast()
    return Plan(
        name=study.name,
        stages=study.rounds,
        places=places,
        time_s=time_s,
        cost=None,
        advice=None,
        memory=memory or Memory(),
        unmeasured=reason,
        in_trials=found.trained_s / found.mean_s,
        notes=notes,
    )


def _look(study: Study, address: str, workers: int | None, gpus: int | None) -> Places:
    """Return the machines of a running cluster, and the workers that it has room for."""
    from caviar.backends.ray.look import look_at_cluster

    machines, counts = look_at_cluster(address, study.objective.resources, workers, gpus)
    return Places(address=address, machines=machines, workers=counts)


def _measuring_workers(
    study: Study, address: str, workers: int | None, gpus: int | None
) -> tuple[int | None, int | None]:
    """Return the numbers of CPU and GPU workers that measure; GPU workers that train many at once do not."""
    if address == HERE:
        return 1, 0
    has_own = study.objective.resources is not None
    return (workers, gpus if has_own else 0) if address == "local" else (None, None if has_own else 0)


def _planned(study: Study, workers: Mapping[str, int]) -> int:
    """Return the number of workers that a plan counts: those on devices on which it measures trials."""
    if study.objective.resources is None:
        workers = {device: count for device, count in workers.items() if device == "cpu"}
    return count_measured(study, workers)


@dataclass(frozen=True, slots=True)
class _Measured:
    """A measurement on this machine."""

    measurement: Measurement
    memory: Memory
    connected_s: float
    """Seconds until Ray was up."""
    workers: Mapping[str, int]
    """Number of workers on each device that measured."""
    gpu_workers: int
    """Number of GPU workers that this machine has room for."""


def _workers_here(address: str, gpus: int | None, measured: _Measured) -> Mapping[str, int]:
    """Return the number of workers of this machine on each device: GPU workers train, even if none measured."""
    if address == HERE:
        return measured.workers
    also = measured.gpu_workers if gpus is None else min(gpus, measured.gpu_workers)
    return {**({"cuda": also} if also else {}), **measured.workers}


def _measure(
    study: Study, dataset: Dataset | None, measure_s: float, workers: int | None, gpus: int | None
) -> _Measured:
    """Measure trials in workers of a local Ray cluster."""
    from caviar.backends.ray.backend import RayBackend

    began_s = time.monotonic()
    train_and_dev = None if dataset is None else dataset.without_test()
    with closing(RayBackend(study.objective, train_and_dev, "local", workers, gpus)) as backend:
        connected_s = time.monotonic() - began_s
        measurement = Measuring(study, dataset, backend, measure_s, WAIT_S).run()
        memory, counts = _memory(), backend.expected_workers
        gpu_workers = backend.count_room().get("cuda", 0)
    if (
        measurement.start_s > SLOW_START_S
    ):  # kernels were compiled, perhaps, which the study need not do again
        with closing(RayBackend(study.objective, train_and_dev, "local", workers, gpus)) as backend:
            measurement = replace(
                measurement, start_s=Measuring(study, dataset, backend, 0.0, 0.0).run().start_s
            )
    return _Measured(measurement, memory, connected_s, counts, gpu_workers)


def _this_machine() -> Mapping[str, float]:
    """Return the cores and the memory of this machine, by Ray's names."""
    return {"CPU": float(usable_cores()), "memory": float(psutil.virtual_memory().total)}


def _memory() -> Memory:
    """Return the memory of the workers and of this process; Ray's processes on this machine are its children."""
    workers, others = [0], 0
    for child in psutil.Process().children(recursive=True):
        try:
            is_worker, size = "WorkerActor" in " ".join(child.cmdline()), child.memory_info().rss
        except psutil.Error:  # it has just ended
            continue
        workers += [size] * is_worker
        others += 0 if is_worker else size
    if not any(workers):
        return Memory()
    return Memory(worker_bytes=max(workers), driver_bytes=others + psutil.Process().memory_info().rss)


def _notes(study: Study, places: Places, measurement: Measurement, address: str) -> tuple[str, ...]:
    """Return sentences about what the plan leaves out."""
    notes = []
    others = places.count - _planned(study, places.workers)
    if others:
        notes.append(
            f"{counted(others, 'GPU worker')} not counted, because trials are measured on CPU workers: "
            "the study will end earlier"
        )
    if address not in ("local", HERE):
        notes.append("trials were measured on this machine; those of the cluster may be faster or slower")
    failed = sum(part.failure is not None and part.outcome == "failed" for part in measurement.parts)
    if failed:
        notes.append(
            f"{failed:,} of {len(measurement.parts):,} measured trials failed: {measurement.failures[0]}"
        )
    return tuple(notes)
