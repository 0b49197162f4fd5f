"""Go on with a run: resume it after an interruption, end its search early, or extend it after its end."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from caviar.errors import DamagedError, RunError, StudyError
from caviar.operations.execution import execute, report
from caviar.operations.worker_choice import BackendFactory, choose_backend
from caviar.records.frames import Run
from caviar.records.ledger import Ledger
from caviar.records.run_files import StudyFile
from caviar.records.same_study import (
    accept_edited_function,
    load_same_data,
    require_same_study,
    require_same_version,
    require_search,
    with_recorded_trials,
)
from caviar.records.start_from import with_recorded_starting_point
from caviar.records.winner import BEST
from caviar.rounds import extension_stages
from caviar.search.stages import is_complete
from caviar.storage.location import Location
from caviar.storage.uri import locate
from caviar.study import Study
from caviar.trial import Stage


def resume_study(
    study: Study,
    path: str | Path | Location,
    *,
    workers: int | None = None,
    gpus: int | None = None,
    address: str = "local",
    progress: bool = True,
    repair: bool = False,
    finish: bool = False,
    same_function: bool = False,
    backend: BackendFactory | None = None,
) -> Run:
    """Continue an interrupted run to its end.

    Args:
        study: the study that the run was started with.
        path: the run directory, or its URI.
        workers: number of CPU workers.
        gpus: number of GPU workers.
        address: address of the Ray cluster; "here" for one worker in this process, without Ray.
        progress: show live progress and the result.
        repair: set damaged segments aside and train their trials again.
        finish: train no more trials of the search, but confirm the best that are recorded.
        same_function: accept that the function was edited, and note it in the run.
        backend: makes other workers than Ray's.

    Raises:
        RunError: the run belongs to another study or version, or another driver is using it.
        CaviarError: the study cannot run or continue; what was recorded stays intact.
    """
    factory = backend or choose_backend(study, address, workers, gpus)
    location, begun, study = _open(path, study)
    now = accept_edited_function(begun, study, Run(location)) if same_function else begun
    require_same_study(location, now, study)
    with closing(Ledger.reopen(location, begun, repair)) as ledger:
        run = Run(location)
        is_whole = run.finished and not run.rounds.empty
        if is_whole and is_complete(study, run.trials, begun.phases()):
            report(run, progress)
            return run
        dataset = load_same_data(study, location, begun)
        if finish:
            now = _end_search(now, run)
        return execute(study, dataset, now.phases(), _reopen(ledger, now), factory, progress)


def extend_study(
    study: Study,
    path: str | Path | Location,
    trials: int,
    *,
    workers: int | None = None,
    gpus: int | None = None,
    address: str = "local",
    progress: bool = True,
    same_function: bool = False,
    backend: BackendFactory | None = None,
) -> Run:
    """Go on with a finished run: more search trials, which learn from all before, and another confirmation.

    Args:
        study: the study that the run was started with.
        path: the run directory, or its URI.
        trials: number of search trials.
        workers: number of CPU workers.
        gpus: number of GPU workers.
        address: address of the Ray cluster; "here" for one worker in this process, without Ray.
        progress: show live progress and the result.
        same_function: accept that the function was edited, and note it in the run.
        backend: makes other workers than Ray's.

    Raises:
        RunError: the run is not finished, belongs to another study or version, or another driver is using it.
        StudyError: the number of trials is out of bounds.
        CaviarError: the study cannot run or continue; what was recorded stays intact.
    """
    if study.start is not None and study.start.is_compared:
        raise StudyError("a study of `caviar retune` ends with its verdict, and cannot be extended")
    if study.sampler == "grid":
        raise StudyError(
            "a grid has as many points as its study has trials: run a larger one under another name"
        )
    factory = backend or choose_backend(study, address, workers, gpus)
    location, begun, study = _open(path, study)
    stages = extension_stages(study.rounds, trials)
    now = accept_edited_function(begun, study, Run(location)) if same_function else begun
    require_same_study(location, now, study)
    with closing(Ledger.reopen(location, begun)) as ledger:
        _require_end(Run(location))
        dataset = load_same_data(study, location, begun)
        now = now.extended(stages)
        return execute(study, dataset, now.phases(), _reopen(ledger, now), factory, progress)


def _open(path: str | Path | Location, study: Study) -> tuple[Location, StudyFile, Study]:
    """Return a run directory, its study file, and the study with what was settled when the run began.

    Raises:
        RunError: it is no run directory of a search, or of another version.
    """
    location = locate(path)
    begun = StudyFile.read(location)
    require_search(location, begun)
    require_same_version(location, begun.versions)
    return location, begun, with_recorded_trials(begun, with_recorded_starting_point(study, begun))


def _require_end(run: Run) -> None:
    """Refuse to extend a run that is not finished, or whose winner cannot be read.

    Raises:
        RunError: it is not.
    """
    if not run.finished:
        raise RunError(
            f"{run.location} is not finished, so it cannot be extended: "
            f"`{run.study_file.resume_command(run.location)}` continues it"
        )
    if run.best is None:
        raise DamagedError(f"{run.location / BEST} is missing: copy the run again, with all its files")
    run.best.require_files()


def _end_search(begun: StudyFile, run: Run) -> StudyFile:
    """Return the study file of a run whose search ends now.

    Raises:
        RunError: no trial has completed that could be confirmed.
    """
    if run.best_so_far is None:
        raise RunError(f"{run.location} has no completed trial to confirm: `caviar resume` trains more")
    phase = begun.phases()[-1]
    own = (run.trials["stage"] == Stage.SEARCH) & (run.trials["round"] >= phase.first_stage)
    return begun.with_search_ended() if own.sum() < phase.trials else begun


def _reopen(ledger: Ledger, study_file: StudyFile) -> Callable[[], Ledger]:
    """Return a function that returns the ledger of a run that goes on, after writing its study file if it has changed.

    It is called only once the workers are there, so that a refused command changes nothing.
    """

    def reopen() -> Ledger:
        if study_file != ledger.study_file:
            ledger.write_study(study_file)
        return ledger

    return reopen
