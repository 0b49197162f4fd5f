"""Run, resume and extend studies: data, run directory, workers, loop, signals.

The workers are asked for before the driver imports what decides and records: pandas, pyarrow and Optuna load while Ray
and the workers start.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from caviar.data.splits import Dataset
from caviar.driver.backend import Backend
from caviar.driver.status_writer import StatusWriter
from caviar.driver.watcher import Watcher
from caviar.driver.watchers import Watchers
from caviar.durations import duration_words
from caviar.errors import ClusterError, DamagedError, InterruptedStudy, RunError, StudyError
from caviar.fingerprint import SCRIPT_MODULE
from caviar.notebook_kernel import is_notebook
from caviar.records.run_files import StudyFile, is_run_directory
from caviar.records.winner import BEST
from caviar.reporting.progress import Display, announce
from caviar.resources import usable_cores
from caviar.rounds import extension_stages
from caviar.search.schedule import Phase
from caviar.storage.location import Location
from caviar.storage.uri import locate
from caviar.study import Study, check_name
from caviar.trial import Stage

if TYPE_CHECKING:
    from caviar.records.frames import Run
    from caviar.records.ledger import Ledger

_log = logging.getLogger(__name__)
BackendFactory = Callable[[Dataset | None], Backend]
"""Returns the workers, given train and dev split; the test split stays with the driver."""
HERE = "here"
"""Address of this process."""


def run_study(
    study: Study,
    *,
    workers: int | None = None,
    gpus: int | None = None,
    address: str = "local",
    runs: str | Path | Location = "runs",
    name: str | None = None,
    progress: bool = True,
    time_s: float | None = None,
    script: Path | None = None,
    command: str | None = None,
    backend: BackendFactory | None = None,
) -> "Run":
    """Run a study to its end in a new run directory.

    Args:
        study: the study.
        time_s: seconds of a time budget. Trials are measured before the run directory exists, and the study gets as
            many as fit; None for as many as it declares.
        workers: number of CPU workers.
        gpus: number of GPU workers.
        address: address of the Ray cluster; "here" for one worker in this process, without Ray.
        runs: the folder of run directories, or its URI.
        name: name of the run directory; the study's by default, numbered if it is taken.
        progress: show live progress and the result.
        script: the script that declares the study, which `caviar resume` loads again.
        command: the command that begins the run, if `caviar resume` cannot continue it.
        backend: makes other workers than Ray's.

    Raises:
        CaviarError: the study cannot run or continue; what was recorded stays intact.
    """
    began_s = time.monotonic()
    _require_script_is_loaded()
    check_name(study.name if name is None else name)
    require_workers(workers, gpus)
    factory = backend or _choose_backend(study, address, workers, gpus)
    _require_sampler(study)
    folder = locate(runs)
    folder.require_writable()
    if name is not None:
        folder.require_free(name)
    if study.start_from is not None:
        from caviar.records.start_from import with_starting_point

        study = with_starting_point(study)
    dataset = study.objective.load()
    study.objective.rehearse(study.space, dataset)
    begun = replace(StudyFile.describe(study, dataset, script), command=command)
    if time_s is None:
        _warn_of_repetition(folder / study.name, begun)

    def create() -> "Ledger":  # only once the workers are there, so that a refused study leaves no directory
        from caviar.records.ledger import Ledger

        return Ledger.create(folder, name or study.name, begun, numbered=name is None, remove_if_empty=True)

    def fit(workers: Backend) -> tuple[Study, Sequence[Phase], Backend]:
        from caviar.planning.budget import choose_trials

        nonlocal begun
        assert time_s is not None
        if progress:
            announce(f"measuring trials, to fit as many as {duration_words(time_s)} allow ...")
        cores = usable_cores() if address in ("local", HERE) else None
        chosen, budget, measured = choose_trials(study, dataset, workers, time_s, began_s, cores)
        begun = replace(StudyFile.describe(chosen, dataset, script), time_budget=budget.to_json())
        if progress:
            announce(str(budget))
        return chosen, begun.phases(), measured

    return _train(study, dataset, begun.phases(), create, factory, progress, None if time_s is None else fit)


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
) -> "Run":
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
    from caviar.records.frames import Run
    from caviar.records.ledger import Ledger
    from caviar.records.same_study import (
        accept_edited_function,
        load_same_data,
        require_same_study,
        require_same_version,
        require_search,
        with_recorded_trials,
    )
    from caviar.records.start_from import with_recorded_starting_point
    from caviar.search.stages import is_complete

    require_workers(workers, gpus)
    factory = backend or _choose_backend(study, address, workers, gpus)
    location = locate(path)
    begun = StudyFile.read(location)
    require_search(location, begun)
    study = with_recorded_starting_point(study, begun)
    require_same_version(location, begun.versions)
    study = with_recorded_trials(begun, study)
    now = accept_edited_function(begun, study, Run(location)) if same_function else begun
    require_same_study(location, now, study)
    with closing(Ledger.reopen(location, begun, repair)) as ledger:
        run = Run(location)
        is_whole = run.finished and not run.rounds.empty
        if is_whole and is_complete(study, run.trials, begun.phases()):
            _report(run, progress)
            return run
        dataset = load_same_data(study, location, begun)
        if finish:
            now = _end_search(now, run)

        return _train(study, dataset, now.phases(), _reopen(ledger, now), factory, progress)


def extend_study(
    study: Study,
    path: str | Path | Location,
    trials: int,
    *,
    workers: int | None = None,
    gpus: int | None = None,
    address: str = "local",
    progress: bool = True,
    backend: BackendFactory | None = None,
) -> "Run":
    """Go on with a finished run: more search trials, which learn from all before, and another confirmation.

    Args:
        study: the study that the run was started with.
        path: the run directory, or its URI.
        trials: number of search trials.
        workers: number of CPU workers.
        gpus: number of GPU workers.
        address: address of the Ray cluster; "here" for one worker in this process, without Ray.
        progress: show live progress and the result.
        backend: makes other workers than Ray's.

    Raises:
        RunError: the run is not finished, belongs to another study or version, or another driver is using it.
        StudyError: the number of trials is out of bounds.
        CaviarError: the study cannot run or continue; what was recorded stays intact.
    """
    from caviar.records.frames import Run
    from caviar.records.ledger import Ledger
    from caviar.records.same_study import (
        load_same_data,
        require_same_study,
        require_same_version,
        require_search,
        with_recorded_trials,
    )
    from caviar.records.start_from import with_recorded_starting_point

    require_workers(workers, gpus)
    if study.start is not None and study.start.is_compared:
        raise StudyError("a study of `caviar retune` ends with its verdict, and cannot be extended")
    if study.sampler == "grid":
        raise StudyError(
            "a grid has as many points as its study has trials: run a larger one under another name"
        )
    location = locate(path)
    begun = StudyFile.read(location)
    require_search(location, begun)
    study = with_recorded_starting_point(study, begun)
    study = with_recorded_trials(begun, study)
    stages = extension_stages(study.rounds, trials)
    factory = backend or _choose_backend(study, address, workers, gpus)
    require_same_version(location, begun.versions)
    require_same_study(location, begun, study)
    with closing(Ledger.reopen(location, begun)) as ledger:
        _require_end(Run(location))
        dataset = load_same_data(study, location, begun)
        now = begun.extended(stages)
        return _train(study, dataset, now.phases(), _reopen(ledger, now), factory, progress)


def _require_end(run: "Run") -> None:
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


def _reopen(ledger: "Ledger", study_file: StudyFile) -> Callable[[], "Ledger"]:
    """Return a function that returns the ledger of a run that goes on, after writing its study file if it has changed.

    It is called only once the workers are there, so that a refused command changes nothing.
    """

    def reopen() -> "Ledger":
        if study_file != ledger.study_file:
            ledger.write_study(study_file)
        return ledger

    return reopen


def declaring_script(study: Study) -> Path | None:
    """Return the script that Python was started with, if it declares the study, so that `caviar resume` finds it."""
    main = vars(sys.modules["__main__"])
    file = main.get("__file__")
    declares = any(value is study for value in main.values())
    return Path(file) if declares and file and file.endswith(".py") else None


def _require_script_is_loaded() -> None:
    """Refuse to run a study while `caviar run` is loading the script that declares it."""
    if getattr(sys.modules.get(SCRIPT_MODULE), "__loading__", False):
        raise StudyError(
            "the script calls study.run() while `caviar run` loads it, so the study would run twice: "
            'put the call under if __name__ == "__main__":'
        )


def _require_sampler(study: Study) -> None:
    """Refuse a grid or a user's sampler that could not draw the study's params."""
    if not study.narrows:
        from caviar.search.sampling import require_sampler

        require_sampler(study)


def _report(run: "Run", progress: bool) -> None:
    """Show how a run went; without progress, warn only of a network that is no better than a constant answer.

    In a notebook, the progress has ended with the winner, and the run shows itself.
    """
    from caviar.reporting.summary import NO_BETTER, show

    if progress and not is_notebook():
        show(run)
    elif run.best is not None and run.best.beats_baseline is False:
        _log.warning(NO_BETTER)


def _train(
    study: Study,
    dataset: Dataset | None,
    phases: Sequence[Phase],
    open_ledger: Callable[[], "Ledger"],
    factory: BackendFactory,
    progress: bool,
    fit: Callable[[Backend], tuple[Study, Sequence[Phase], Backend]] | None = None,
) -> "Run":
    """Start the workers, run the loop and report. A signal stops it between chunks, a second one at once.

    Args:
        study: the study.
        dataset: all splits; None if the objective has no data.
        phases: the phases of the study.
        open_ledger: returns the ledger, once the workers are there.
        factory: makes the workers.
        progress: show live progress and the result.
        fit: changes the study to what its workers can do in time; called before the ledger is opened.
    """
    ledger = None
    train_and_dev = None if dataset is None else dataset.without_test()
    try:
        with ExitStack() as outer:
            interruption = outer.enter_context(_Interruption())
            with ExitStack() as inner:
                if fit is not None:
                    study, phases, workers = fit(outer.enter_context(closing(factory(train_and_dev))))
                display = inner.enter_context(Display(study, phases) if progress else Watcher())
                if fit is None:
                    workers = outer.enter_context(closing(factory(train_and_dev)))
                import scipy.special  # noqa: F401  the interval of the winner needs it, and workers are starting

                from caviar.driver.loop import Loop
                from caviar.records.frames import Run

                ledger = open_ledger()
                inner.callback(ledger.close)
                status = inner.enter_context(StatusWriter(ledger.location, study.objective.metric))
                watcher = Watchers(display, status)
                interruption.await_trials()
                watcher.recalled(ledger.trials())
                inner.callback(interruption.ignore)  # closing must not be cut short
                loop = Loop(study, dataset, ledger, workers, watcher, lambda: interruption.requested)
                finished = loop.run()
            if not finished:
                raise _interrupted("stopped", ledger)
            run = Run(ledger.location)
            _report(run, progress)  # before Ray's processes end, which takes half a second
    except KeyboardInterrupt:
        raise _interrupted("stopped at once", ledger) from None
    except ClusterError as error:
        if ledger is None or ledger.is_empty:
            raise
        hint = f"recorded trials are safe: continue with `{ledger.resume_command}`"
        raise ClusterError(f"{error}; {hint}") from error
    return run


def _interrupted(how: str, ledger: "Ledger | None") -> InterruptedStudy:
    """Return the error of an interrupted study, and prepare its script to end with it."""
    _end_script_quietly()
    if ledger is None or ledger.is_empty:
        return InterruptedStudy(f"{how}, before a trial was finished")
    return InterruptedStudy(
        f"{how}; all finished trials are recorded: continue with `{ledger.resume_command}`"
    )


def _choose_backend(study: Study, address: str, workers: int | None, gpus: int | None) -> BackendFactory:
    """Return what makes the workers at an address."""

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


class _Interruption:
    """A handler of Ctrl-C, SIGTERM and SIGHUP (a closed terminal), which stop the study.

    The first signal lets the running trials finish, and a second one stops at once; so does the first one while the
    workers start. Python ignores the exception in a callback of its own, such as those after a fork: then the study
    stops as soon as its workers have started.
    """

    def __init__(self) -> None:
        self.requested = False
        self._trials_run = self._ignored = False
        self._before: dict[int, Any] = {}
        self._report_unraisable = sys.unraisablehook

    def __enter__(self) -> Self:
        self._before = self._listen()
        sys.unraisablehook = self._report_others
        return self

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self._report_unraisable
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def await_trials(self) -> None:
        """Let the first signal from now on wait for running trials."""
        self._trials_run = True
        self._listen()  # again, because starting Ray may replace signal handlers

    def ignore(self) -> None:
        """Ignore further signals: the study is closing."""
        self._ignored = True

    def _listen(self) -> dict[int, Any]:
        """Install the handler; return the handlers that it replaces."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` sets it
            numbers.append(signal.SIGHUP)
        return {number: signal.signal(number, self._handle) for number in numbers}

    def _report_others(self, ignored: Any) -> None:
        """Report an exception that Python ignores, except for the one of `_handle`."""
        if ignored.exc_type is not KeyboardInterrupt:
            self._report_unraisable(ignored)

    def _handle(self, number: int, frame: object) -> None:
        del number, frame
        if self._ignored or (self.requested and not self._trials_run):
            return  # what was started is being removed
        if self.requested or not self._trials_run:
            self.requested = True
            raise KeyboardInterrupt
        self.requested = True
        if is_notebook():  # its display says so
            return
        with suppress(OSError):  # the terminal is closed
            # `os.write` is safe in a handler. A progress bar of two lines overwrites the empty line at the end.
            os.write(2, b"\nstopping when the running trials are done (Ctrl-C again: at once) ...\n\n")


def _end_script_quietly() -> None:
    """Let a script that does not catch `InterruptedStudy` end with a message and exit code 130, as `caviar run` does.

    Other errors keep their traceback, which names the line of the script. Interactive prompts and notebooks continue
    after the exception, so they are left alone.
    """
    if not hasattr(sys.modules["__main__"], "__file__") or sys.flags.interactive:
        return
    show_other = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, InterruptedStudy):
            show_other(kind, error, trace)
            return
        with suppress(OSError):  # the terminal is closed
            sys.stderr.write(f"caviar: {error}\n")
        sys.exit(130)

    sys.excepthook = show


def _warn_of_repetition(earlier: Location, begun: StudyFile) -> None:
    """Warn if an earlier run has the same study, data and versions, so that this one comes to the same numbers."""
    if not is_run_directory(earlier):
        return
    from caviar.records.frames import Run

    with suppress(RunError):  # it cannot be read, and is left alone
        run = Run(earlier)
        if run.study_file.is_repeated_by(begun):
            instead = (
                f"caviar show {earlier.quoted}" if run.finished else run.study_file.resume_command(earlier)
            )
            _log.warning(
                "this is the study of %s, and a repetition comes to the same numbers: change the seed, or use `%s`",
                earlier,
                instead,
            )


def _end_search(begun: StudyFile, run: "Run") -> StudyFile:
    """Return the study file of a run whose search ends now.

    Raises:
        RunError: no trial has completed that could be confirmed.
    """
    if run.best_so_far is None:
        raise RunError(f"{run.location} has no completed trial to confirm: `caviar resume` trains more")
    phase = begun.phases()[-1]
    own = (run.trials["stage"] == Stage.SEARCH) & (run.trials["round"] >= phase.first_stage)
    return begun.with_search_ended() if own.sum() < phase.trials else begun


def require_workers(workers: int | None, gpus: int | None) -> None:
    """Refuse counts that are not whole numbers from 0, and zero workers in all."""
    for name, count in (("workers", workers), ("gpus", gpus)):
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
            raise RunError(f"--{name} {count!r}: must be a whole number from 0")
    if workers == 0 and gpus == 0:
        raise RunError("--workers 0 --gpus 0: no workers: ask for at least one")
