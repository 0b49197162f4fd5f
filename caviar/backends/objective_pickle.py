"""Pickled objectives: how an objective travels to the workers, once to each.

Functions and classes of a script, of `__main__` or of a notebook cannot be imported by a worker, so they are pickled by
value. Modules and packages beside the script are imported by the worker, so their folder must exist there too.

Arrays of the objective are kept apart. All workers of a machine share one read-only copy of them, so that no trial can
change what the next trial sees. The function of a `Function`, and the functions of a `Module`, are unpickled again for
each trial.
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from caviar.errors import StudyError
from caviar.objective import Objective
from caviar.training.function.fresh_function import FreshCopies, FreshFunction
from caviar.training.function.import_path import ImportPath
from caviar.training.function.objective import Function
from caviar.training.function.own_modules import SharedObjects, set_contents
from caviar.training.function.pickling import NotPicklableError, Place, dumps, loads, support_spawn
from caviar.training.module.objective import Module


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
        pickled = dumps(objective.for_workers(), arrays.append, shared.find_place)
    except NotPicklableError as error:
        raise StudyError(
            f"{objective} cannot be sent to workers: {error}; create it inside the function, or in a function under "
            "functools.cache, which each worker runs once"
        ) from error
    return PickledObjective(pickled, tuple(arrays), shared.contents())


def unpickle_objective(packed: PickledObjective, path: ImportPath) -> Objective:
    """Return the objective in a worker, which finds modules where the driver does.

    Functions of the user's are copied for each trial, so that trials do not see what others changed.
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
    if isinstance(objective, Module):
        return objective.with_copies(FreshCopies(load, len(packed.pickled), path.own))
    return objective


def copy_objective(objective: Objective) -> Objective:
    """Return an objective as a worker has it, for trials in this process: they share read-only views of its arrays.

    Raises:
        StudyError: the objective, or something that its function refers to, cannot be pickled.
    """
    packed = pickle_objective(objective)
    views = tuple(pickle.PickleBuffer(memoryview(array).toreadonly()) for array in packed.arrays)
    return unpickle_objective(replace(packed, arrays=views), ImportPath.here())
