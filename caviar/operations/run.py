"""Run a study in a new run directory."""

import logging
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from caviar.driver.backend import Backend
from caviar.durations import duration_words
from caviar.errors import RunError, StudyError
from caviar.fingerprint import SCRIPT_MODULE
from caviar.operations.execution import execute
from caviar.operations.worker_choice import HERE, BackendFactory, choose_backend
from caviar.records.run_files import StudyFile, is_run_directory
from caviar.reporting.progress import announce
from caviar.resources import usable_cores
from caviar.search.schedule import Phase
from caviar.storage.location import Location
from caviar.storage.uri import locate
from caviar.study import Study, check_name

if TYPE_CHECKING:
    from caviar.records.frames import Run
    from caviar.records.ledger import Ledger

_log = logging.getLogger(__name__)


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
    factory = backend or choose_backend(study, address, workers, gpus)
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

    return execute(study, dataset, begun.phases(), create, factory, progress, None if time_s is None else fit)


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
