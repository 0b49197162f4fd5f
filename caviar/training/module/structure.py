"""Structure of a module: what it must have in common with others to train together with them."""

import io
from typing import Any

from torch import Tensor

from caviar.errors import one_line
from caviar.training.function.pickling import ValuePickler
from caviar.training.module.dropout import DROPPED_TOGETHER
from caviar.training.module.stack import NotStackableError
from caviar.training.module.training import ModuleTraining


def structure(training: ModuleTraining) -> bytes:
    """Return what modules must have in common to train as one: code, attributes, shapes, optimizer and batch size.

    Raises:
        NotStackableError: this module trains alone, whatever the others are.
    """
    if training.has_own_optimizer:
        raise NotStackableError("its optimizer or schedule is a function")
    if training.loss_takes_params:
        raise NotStackableError("its loss depends on params")
    file = io.BytesIO()
    try:
        _Skeleton(file).dump((training.module, training.recipe.optimizer, training.recipe.batch_size))
    except Exception as error:
        raise NotStackableError(f"its attributes cannot be compared ({one_line(error)})") from error
    return file.getvalue()


class _Skeleton(ValuePickler):
    """A pickler of a module without the numbers of its tensors, and without its dropout layers' probabilities."""

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, Tensor):
            return type(obj).__name__, tuple(obj.shape), str(obj.dtype), obj.requires_grad
        if type(obj) in DROPPED_TOGETHER:
            return type(obj).__name__
        return None
