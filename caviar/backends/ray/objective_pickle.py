"""Pickled objectives: how an objective travels to the workers, once to each.

Functions and classes of a script, of `__main__` or of a notebook cannot be imported by a worker, so they are pickled by
value. Modules and packages beside the script are imported by the worker, so their folder must exist there too.

Arrays of the objective are kept apart. All workers of a machine share one read-only copy of them, so that no trial can
change what the next trial sees.
"""

import pickle
import sys
from dataclasses import dataclass

import cloudpickle

from caviar.errors import StudyError, one_line
from caviar.fingerprint import SCRIPT_MODULE
from caviar.objective import Objective


@dataclass(frozen=True, slots=True)
class PickledObjective:
    """A pickled objective and its arrays."""

    pickled: bytes
    arrays: tuple[pickle.PickleBuffer, ...]

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.pickled) + sum(memoryview(array).nbytes for array in self.arrays)


def pickle_objective(objective: Objective) -> PickledObjective:
    """Pickle an objective.

    Raises:
        StudyError: the objective, or something that its function refers to, cannot be pickled.
    """
    script = sys.modules.get(SCRIPT_MODULE)
    if script is not None:
        cloudpickle.register_pickle_by_value(script)
    try:
        arrays: list[pickle.PickleBuffer] = []
        pickled = cloudpickle.dumps(objective, protocol=5, buffer_callback=arrays.append)
        return PickledObjective(pickled, tuple(arrays))
    except Exception as error:
        raise StudyError(
            f"{objective} cannot be sent to workers ({one_line(error)}): "
            "open files, locks, connections and generators inside the function, not around it"
        ) from error
    finally:
        if script is not None:
            cloudpickle.unregister_pickle_by_value(script)


def unpickle_objective(packed: PickledObjective, folders: list[str]) -> Objective:
    """Return the objective in a worker.

    Args:
        packed: the result of `pickle_objective`.
        folders: import path of the driver; searched last, so that the worker's own packages come first.
    """
    sys.path.extend(folder for folder in folders if folder not in sys.path)
    objective = pickle.loads(packed.pickled, buffers=packed.arrays)
    assert isinstance(objective, Objective)
    return objective
