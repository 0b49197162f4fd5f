"""Tune neural networks the caviar way: train very many in parallel, and narrow the search from coarse to fine.

Example:
    >>> import caviar as cv
    >>> study = cv.Study(
    ...     name="digits",
    ...     objective=cv.Classifier(data="sklearn:digits"),
    ...     space=cv.Space(learning_rate=cv.log(1e-4, 1.0), units=cv.integer(16, 256, scale="log")),
    ...     rounds=cv.coarse_to_fine(trials=200, epochs=20),
    ... )
    >>> run = study.run()  # doctest: +SKIP
    >>> run.trials, run.curves, run.rounds, run.best  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from caviar.errors import (
    CaviarError,
    ClusterError,
    DamagedError,
    DataError,
    InterruptedStudy,
    InUseError,
    MissingPackageError,
    RefusedError,
    RunError,
    SpaceError,
    StudyError,
)
from caviar.objective import Objective
from caviar.resources import Resources
from caviar.retries import Retries
from caviar.rounds import Confirmation, Halving, Narrowing, Round, Search, coarse_to_fine
from caviar.script_names import check_main
from caviar.space import Space, choice, integer, linear, log, reverse_log, when
from caviar.study import Study
from caviar.trial import Outcome

if TYPE_CHECKING:
    from caviar.analysis.comparison import Comparison, compare
    from caviar.operations.try_one import TriedTrial
    from caviar.records.fetch import fetch
    from caviar.records.frames import Run, load
    from caviar.records.winner import Best
    from caviar.training.classifier import Classifier
    from caviar.training.function.objective import Function
    from caviar.training.function.trial_context import TrialContext
    from caviar.training.module.objective import Module

check_main()
del check_main

__version__ = "0.2.0"

__all__ = [
    "Best",
    "CaviarError",
    "Classifier",
    "ClusterError",
    "Comparison",
    "Confirmation",
    "DamagedError",
    "DataError",
    "Function",
    "Halving",
    "InUseError",
    "InterruptedStudy",
    "MissingPackageError",
    "Module",
    "Narrowing",
    "Objective",
    "Outcome",
    "RefusedError",
    "Resources",
    "Retries",
    "Round",
    "Run",
    "RunError",
    "Search",
    "Space",
    "SpaceError",
    "Study",
    "StudyError",
    "TrialContext",
    "TriedTrial",
    "choice",
    "coarse_to_fine",
    "compare",
    "fetch",
    "integer",
    "linear",
    "load",
    "log",
    "reverse_log",
    "when",
]

_LAZY = {
    "Best": "caviar.records.winner",
    "Classifier": "caviar.training.classifier",
    "Comparison": "caviar.analysis.comparison",
    "Function": "caviar.training.function.objective",
    "Module": "caviar.training.module.objective",
    "Run": "caviar.records.frames",
    "TrialContext": "caviar.training.function.trial_context",
    "TriedTrial": "caviar.operations.try_one",
    "compare": "caviar.analysis.comparison",
    "fetch": "caviar.records.fetch",
    "load": "caviar.records.frames",
}
"""Names and their modules, imported on first use: they load numpy or pandas, which `caviar --help` does not need."""


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
