"""Trained networks as files: bytes of a torch state dict, read back without executing anything in them."""

import io
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from caviar.engine import Checkpoint
from caviar.errors import DamagedError
from caviar.training.recipe import recipe_from
from caviar.training.reference import Network as Network
from caviar.training.reference import trained_network


def pack_network(params: Mapping[str, Any], checkpoint: Checkpoint) -> bytes:
    """Return the content of `network.pt` for the network in a checkpoint.

    Args:
        params: the hyperparameters it was trained with, fixed ones included.
        checkpoint: the state at the end of its training.
    """
    content = io.BytesIO()
    torch.save(trained_network(recipe_from(params), checkpoint).state_dict(), content)
    return content.getvalue()


def unpack_network(content: bytes, params: Mapping[str, Any], features: int, classes: int) -> Network:
    """Return the network of a `network.pt`, in evaluation mode.

    Args:
        content: the bytes of the file. They are read as numbers; nothing in them is executed.
        params: the hyperparameters the network was trained with, fixed ones included.
        features: the number of its inputs.
        classes: the number of its outputs.

    Raises:
        DamagedError: the bytes hold something else.
    """
    network = Network(features, classes, recipe_from(params))
    try:
        network.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, TypeError, AttributeError, EOFError) as error:
        raise DamagedError("it does not hold the network that best.json describes") from error
    return network.eval()


def predict_classes(network: Network, x_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return the number of the likeliest class of each row, (N,)."""
    with torch.no_grad():
        classes_N: npt.NDArray[np.int64] = network(torch.from_numpy(x_ND)).argmax(dim=1).numpy()
    return classes_N
