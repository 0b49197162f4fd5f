"""Execution of a study: workers, ledger, loop and signals, for runs that begin and runs that go on.

The workers are asked for before the driver imports what decides and records: pandas, pyarrow and Optuna load while Ray
and the workers start.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from caviar.data.splits import Dataset
from caviar.driver.backend import Backend
from caviar.driver.status_writer import StatusWriter
from caviar.driver.watcher import Watcher
from caviar.driver.watchers import Watchers
from caviar.errors import ClusterError, InterruptedStudy
from caviar.notebook_kernel import is_notebook
from caviar.operations.interruption import Interruption, end_script_quietly
from caviar.operations.worker_choice import BackendFactory
from caviar.reporting.progress import Display
from caviar.search.schedule import Phase
from caviar.study import Study

if TYPE_CHECKING:
    from caviar.records.frames import Run
    from caviar.records.ledger import Ledger

_log = logging.getLogger(__name__)


def execute(
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
            interruption = outer.enter_context(Interruption())
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
            report(run, progress)  # before Ray's processes end, which takes half a second
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
    end_script_quietly()
    if ledger is None or ledger.is_empty:
        return InterruptedStudy(f"{how}, before a trial was finished")
    return InterruptedStudy(
        f"{how}; all finished trials are recorded: continue with `{ledger.resume_command}`"
    )


def report(run: "Run", progress: bool) -> None:
    """Show how a run went; without progress, warn only of a network that is no better than a constant answer.

    In a notebook, the progress has ended with the winner, and the run shows itself.
    """
    from caviar.reporting.summary import NO_BETTER, show

    if progress and not is_notebook():
        show(run)
    elif run.best is not None and run.best.beats_baseline is False:
        _log.warning(NO_BETTER)
