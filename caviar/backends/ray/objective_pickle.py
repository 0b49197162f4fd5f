"""How an objective travels to workers: once each, whatever it is made of.

Functions and classes of a script, of `__main__` or of a notebook cannot be imported by a worker: they are pickled
by value. What a package or a module beside the script defines is imported there, so its folder must be there too.

Arrays that it holds or refers to are kept apart, so that all workers of a machine share one copy of them, which
none can write to: what a trial changed there, the next would see.
"""

import pickle
import sys
from dataclasses import dataclass

import cloudpickle

from caviar.errors import StudyError
from caviar.fingerprint import SCRIPT_MODULE
from caviar.objective import Objective


@dataclass(frozen=True, slots=True)
class PickledObjective:
    """An objective, ready to be sent."""

    pickled: bytes
    arrays: tuple[pickle.PickleBuffer, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.pickled) + sum(memoryview(array).nbytes for array in self.arrays)


def pickle_objective(objective: Objective) -> PickledObjective:
    """Pickle an objective.

    Raises:
        StudyError: it, or something that its function refers to, cannot be pickled.
    """
    script = sys.modules.get(SCRIPT_MODULE)
    if script is not None:
        cloudpickle.register_pickle_by_value(script)
    try:
        arrays: list[pickle.PickleBuffer] = []
        pickled = cloudpickle.dumps(objective, protocol=5, buffer_callback=arrays.append)
        return PickledObjective(pickled, tuple(arrays))
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise StudyError(
            f"{objective} cannot be sent to workers ({type(error).__name__}: {reason}): "
            "open files, locks, connections and generators inside the function, not around it"
        ) from error
    finally:
        if script is not None:
            cloudpickle.unregister_pickle_by_value(script)


def unpickle_objective(packed: PickledObjective, folders: list[str]) -> Objective:
    """The objective, in a worker.

    Args:
        packed: as `pickle_objective` made it.
        folders: where the driver finds modules; searched last, so that a worker's own packages come first.
    """
    sys.path.extend(folder for folder in folders if folder not in sys.path)
    objective = pickle.loads(packed.pickled, buffers=packed.arrays)
    assert isinstance(objective, Objective)
    return objective
