"""Pickled objectives: how an objective travels to the workers, once to each.

Functions and classes of a script, of `__main__` or of a notebook cannot be imported by a worker, so they are pickled by
value. Modules and packages beside the script are imported by the worker, so their folder must exist there too.

Arrays of the objective are kept apart. All workers of a machine share one read-only copy of them, so that no trial can
change what the next trial sees. The function of a `Function` is unpickled again for each trial.
"""

import os
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from caviar.errors import StudyError
from caviar.objective import Objective
from caviar.training.function.fresh_function import FreshFunction
from caviar.training.function.objective import Function
from caviar.training.function.own_modules import SharedObjects, set_contents
from caviar.training.function.pickling import NotPicklableError, Place, dumps, loads, support_spawn

_LIBRARY = {str(Path(os.__file__).parent.resolve()), *(p for p in sys.path if p.endswith(".zip"))}
"""The standard library in `sys.path`: its folder, and the archive that may replace it."""


@dataclass(frozen=True, slots=True)
class PickledObjective:
    """A pickled objective and its arrays."""

    pickled: bytes
    arrays: tuple[pickle.PickleBuffer, ...]
    shared: Mapping[Place, bytes] = field(default_factory=dict)
    """Contents of objects that it shares with the user's modules."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.pickled) + sum(memoryview(array).nbytes for array in self.arrays)


def pickle_objective(objective: Objective) -> PickledObjective:
    """Pickle an objective.

    Raises:
        StudyError: the objective, or something that its function refers to, cannot be pickled.
    """
    arrays: list[pickle.PickleBuffer] = []
    shared = SharedObjects(ImportPath.here().own)
    try:
        pickled = dumps(objective, arrays.append, shared.find_place)
    except NotPicklableError as error:
        raise StudyError(
            f"{objective} cannot be sent to workers: {error}; create it inside the function, or in a function under "
            "functools.cache, which each worker runs once"
        ) from error
    return PickledObjective(pickled, tuple(arrays), shared.contents())


@dataclass(frozen=True, slots=True)
class ImportPath:
    """The folders in which the driver finds modules, in its order."""

    own: tuple[str, ...]
    """Folders before the standard library: the script's, and those of PYTHONPATH."""
    installed: tuple[str, ...]
    """The standard library and all folders after it."""

    @classmethod
    def here(cls) -> "ImportPath":
        """Return the import path of this process."""
        folders = [str(Path(folder).resolve()) for folder in sys.path]
        library = next((i for i, folder in enumerate(folders) if folder in _LIBRARY), len(folders))
        return cls(tuple(folders[:library]), tuple(folders[library:]))

    def add(self) -> None:
        """Add the folders to the import path of a worker.

        The driver's own folders come first, so that a module beside the script hides an installed one of the same name
        there as well; what is installed here comes before what is installed on the driver's machine.
        """
        others = [folder for folder in sys.path if folder not in self.own]
        sys.path[:] = [*self.own, *others, *(f for f in self.installed if f not in others)]


def unpickle_objective(packed: PickledObjective, path: ImportPath) -> Objective:
    """Return the objective in a worker, which finds modules where the driver does.

    A function is copied for each trial, so that trials do not see what others changed.
    """
    path.add()
    support_spawn()
    set_contents(packed.shared)

    def load() -> Any:
        return loads(packed.pickled, packed.arrays)

    objective = load()
    assert isinstance(objective, Objective)
    if isinstance(objective, Function):
        return replace(objective, fn=FreshFunction(lambda: load().fn, len(packed.pickled), path.own))
    return objective


def copy_objective(objective: Objective) -> Objective:
    """Return an objective as a worker has it, for trials in this process: they share read-only views of its arrays.

    Raises:
        StudyError: the objective, or something that its function refers to, cannot be pickled.
    """
    packed = pickle_objective(objective)
    views = tuple(pickle.PickleBuffer(memoryview(array).toreadonly()) for array in packed.arrays)
    return unpickle_objective(replace(packed, arrays=views), ImportPath.here())
