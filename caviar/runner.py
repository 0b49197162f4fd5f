"""From a study to a finished run: data, run directory, workers, loop."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from caviar.data.splits import Dataset
from caviar.driver.backend import Backend
from caviar.driver.loop import Loop
from caviar.errors import InterruptedStudy, RunError, StudyError
from caviar.fingerprint import SCRIPT_MODULE
from caviar.records.frames import Run
from caviar.records.ledger import Ledger
from caviar.records.run_files import StudyFile
from caviar.reporting.progress import Display, Silence
from caviar.reporting.summary import show
from caviar.search.sampling import require_sampler
from caviar.storage.location import Location, silent
from caviar.storage.uri import locate
from caviar.study import Study, check_name

BackendFactory = Callable[[Dataset | None], Backend]
"""Makes the workers, given the data that they may see."""


def run_study(
    study: Study,
    *,
    workers: int | None = None,
    gpus: int | None = None,
    address: str = "local",
    runs: str | Path = "runs",
    name: str | None = None,
    progress: bool = True,
    script: Path | None = None,
    backend: BackendFactory | None = None,
) -> Run:
    """Run a study; see `Study.run`.

    Args:
        study: what to run.
        workers: CPU workers.
        gpus: GPU workers.
        address: of the cluster.
        runs: the folder of run directories, or its URI.
        name: of the run directory; by default the study's, numbered where taken.
        progress: show live progress.
        script: the experiment that declares the study, so that `caviar resume` finds it again.
        backend: other workers than Ray's.
    """
    _require_script_is_loaded()
    check_name(study.name if name is None else name)
    _check_counts(workers, gpus)
    require_sampler(study.sampler)
    folder = locate(runs)
    folder.require_writable()
    dataset = study.objective.load()

    def create() -> Ledger:  # once the workers are there: what is refused before leaves no run directory
        study_file = StudyFile.describe(study, dataset, script)
        return Ledger.create(folder, name or study.name, study_file, numbered=name is None)

    run = _train(study, dataset, create, backend or _ray(study, address, workers, gpus), progress)
    if progress:
        show(run)
    return run


def resume_study(
    study: Study,
    path: str | Path,
    *,
    workers: int | None = None,
    gpus: int | None = None,
    address: str = "local",
    progress: bool = True,
    repair: bool = False,
    backend: BackendFactory | None = None,
) -> Run:
    """Go on with a run; see `Study.resume`.

    Args:
        study: as it was.
        path: the run directory, or its URI.
        workers: CPU workers.
        gpus: GPU workers.
        address: of the cluster.
        progress: show live progress.
        repair: set damaged segments aside and train their trials again.
        backend: other workers than Ray's.
    """
    _check_counts(workers, gpus)
    run = _resumed(study, locate(path), repair, progress, backend or _ray(study, address, workers, gpus))
    if progress:
        show(run)
    return run


def calling_script() -> Path | None:
    """Return the script that Python was started with, if any."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    return Path(file) if file and file.endswith(".py") else None


def _require_script_is_loaded() -> None:
    if getattr(sys.modules.get(SCRIPT_MODULE), "__loading__", False):
        raise StudyError(
            "study.run() is called while `caviar run` reads the script, which would run it twice: "
            'put it under if __name__ == "__main__":'
        )


def _resumed(study: Study, location: Location, repair: bool, progress: bool, factory: BackendFactory) -> Run:
    begun = StudyFile.read(location)
    _require_same_study(location, begun.study, study.to_json())
    _require_same_version(location, begun.versions)
    say = _note if progress else silent
    with closing(Ledger.reopen(location, begun, repair, say)) as ledger:
        run = Run(location)
        if run.finished and not ledger.was_repaired:  # else trials before the last may be missing
            return run
        dataset = _same_data(study, location, begun)
        return _train(study, dataset, lambda: ledger, factory, progress)


def _train(
    study: Study,
    dataset: Dataset | None,
    open_ledger: Callable[[], Ledger],
    factory: BackendFactory,
    progress: bool,
) -> Run:
    """Start the workers and run the loop; Ctrl-C and SIGTERM stop it between chunks."""
    with ExitStack() as stack:
        interruption = stack.enter_context(_Interruption())
        watcher: Display | Silence = Display(study) if progress else Silence()
        stack.enter_context(watcher)
        workers = factory(dataset.without_test() if dataset is not None else None)
        interruption.listen()  # again, for Ray has put its own handlers in place of ours
        stack.callback(workers.close)
        ledger = open_ledger()
        stack.callback(ledger.close)
        watcher.recalled(ledger.trials())
        stack.callback(interruption.ignore)  # from here on all is being closed, which nothing is to cut short
        finished = Loop(study, dataset, ledger, workers, watcher, lambda: interruption.asked).run()
    if not finished:
        _end_script_quietly()
        raise InterruptedStudy(
            f"stopped; what was trained is recorded: go on with `caviar resume {ledger.location.typed}`"
        )
    return Run(ledger.location)


def _ray(study: Study, address: str, workers: int | None, gpus: int | None) -> BackendFactory:
    def make(dataset: Dataset | None) -> Backend:
        from caviar.backends.ray.backend import RayBackend

        return RayBackend(study.objective, dataset, address, workers, gpus)

    return make


class _Interruption:
    """Hears Ctrl-C and SIGTERM while inside: the first asks to stop, a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False
        self._ignored = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def listen(self) -> dict[int, Any]:
        """Hear them from now on; what heard them before."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}

    def ignore(self) -> None:
        """It will end without being asked."""
        self._ignored = True

    def _hear(self, number: int, frame: object) -> None:
        del number, frame
        if self._ignored:
            return
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        os.write(
            2, b"\nstopping after what is under way (once more: at once) ...\n"
        )  # safe amid other output


def _end_script_quietly() -> None:
    """Let a script that does not catch `InterruptedStudy` end with its sentence and 130, as `caviar run` does.

    Errors keep their traceback, which leads to the line of the script; the user's Ctrl-C needs none. Prompts and
    notebooks, which live on after it, are left alone.
    """
    if not hasattr(sys.modules["__main__"], "__file__") or sys.flags.interactive:
        return
    show_others = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, InterruptedStudy):
            show_others(kind, error, trace)
            return
        sys.stderr.write(f"caviar: {error}\n")
        sys.exit(130)

    sys.excepthook = show


def _require_same_study(location: Location, recorded: dict[str, Any], asked: dict[str, Any]) -> None:
    # JSON has no tuples: compare what both would be after a round trip.
    import json

    asked = json.loads(json.dumps(asked))
    differing = [key for key in asked if asked[key] != recorded.get(key)]
    if differing:
        raise RunError(
            f"{location} holds another study: it differs in {', '.join(differing)}; run this one under another name, "
            "by `caviar run EXPERIMENT.py --name NAME` or study.run(name=...)"
        )


def _same_data(study: Study, location: Location, begun: StudyFile) -> Dataset | None:
    """The study's data, if they are still those that the run was begun with."""
    dataset = study.objective.load()
    if dataset is not None and dataset.fingerprint != (begun.data or {}).get("fingerprint"):
        raise RunError(
            f"{location} was trained on other data than {dataset.name} holds now: its rows or splits differ"
        )
    return dataset


def _require_same_version(location: Location, recorded: dict[str, str]) -> None:
    """Numbers are promised to be the same within one version of what computes them."""
    packages = ("caviar", "numpy", "torch", "optuna")
    changed = [p for p in packages if recorded.get(p) != metadata.version(p)]
    if changed:
        was = ", ".join(f"{p} {recorded.get(p)} (now {metadata.version(p)})" for p in changed)
        raise RunError(
            f"{location} was begun with {was}: its numbers would not fit together; install those to go on"
        )


def _note(text: str) -> None:
    sys.stderr.write(f"caviar: {text}\n")


def _check_counts(workers: int | None, gpus: int | None) -> None:
    for name, count in (("workers", workers), ("gpus", gpus)):
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
            raise RunError(f"--{name} {count!r}: must be a whole number from 0")
    if workers == 0 and gpus == 0:
        raise RunError("--workers 0 --gpus 0: no workers: ask for at least one")
