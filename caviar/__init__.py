"""Tune neural networks the caviar way: very many trials at once, from coarse to fine.

import caviar as cv

study = cv.Study(
name="digits",
objective=cv.Classifier(data="sklearn:digits"),
space=cv.Space(learning_rate=cv.log(1e-4, 1.0), units=cv.integer(16, 256, scale="log")),
rounds=cv.coarse_to_fine(trials=200, epochs=20),
)
run = study.run()
run.trials, run.curves, run.rounds, run.best
"""

from typing import TYPE_CHECKING

from caviar.errors import CaviarError as CaviarError
from caviar.errors import ClusterError as ClusterError
from caviar.errors import DamagedError as DamagedError
from caviar.errors import DataError as DataError
from caviar.errors import InterruptedStudy as InterruptedStudy
from caviar.errors import RunError as RunError
from caviar.errors import SpaceError as SpaceError
from caviar.errors import StudyError as StudyError
from caviar.resources import Resources as Resources
from caviar.retries import Retries as Retries
from caviar.rounds import Confirmation as Confirmation
from caviar.rounds import Halving as Halving
from caviar.rounds import Narrowing as Narrowing
from caviar.rounds import Round as Round
from caviar.rounds import coarse_to_fine as coarse_to_fine
from caviar.space import Space as Space
from caviar.space import choice as choice
from caviar.space import integer as integer
from caviar.space import linear as linear
from caviar.space import log as log
from caviar.space import reverse_log as reverse_log
from caviar.space import when as when
from caviar.study import Study as Study

if TYPE_CHECKING:
    from caviar.records.fetch import fetch as fetch
    from caviar.records.frames import Run as Run
    from caviar.records.frames import load as load
    from caviar.training.classifier import Classifier as Classifier
    from caviar.training.function.objective import Function as Function
    from caviar.training.function.trial_context import TrialContext as TrialContext

__version__ = "0.1.0"

_LAZY = {
    "Classifier": "caviar.training.classifier",
    "Function": "caviar.training.function.objective",
    "TrialContext": "caviar.training.function.trial_context",
    "Run": "caviar.records.frames",
    "fetch": "caviar.records.fetch",
    "load": "caviar.records.frames",
}
"""Names whose modules load numpy or pandas: found when first asked for, so that `caviar --help` is quick."""


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
