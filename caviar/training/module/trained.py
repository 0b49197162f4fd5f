"""The trained module of a winner, built again from the user's function and its state dict."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from caviar.errors import RunError
from caviar.training.module.training import build_module, evaluate
from caviar.trial import Value

TorchModule = nn.Module


def trained_module(
    build: Callable[..., Any], params: Mapping[str, Value], state: bytes, x: npt.NDArray[Any]
) -> nn.Module:
    """Return a module with its trained weights, in evaluation mode, on the CPU.

    The file of the state dict is read as tensors; nothing in it is executed.

    Args:
        build: the user's function.
        params: all hyperparameters of the winner.
        state: the content of the file that holds the state dict.
        x: a few rows (B, ...), as the module takes them, which give lazy layers their shapes.

    Raises:
        RunError: the function builds another module.
    """
    with torch.random.fork_rng(devices=[]):
        module = build_module(build, params, torch.tensor(x))
    try:
        module.load_state_dict(torch.load(io.BytesIO(state), map_location="cpu", weights_only=True))
    except RuntimeError as error:  # of another architecture
        raise RunError(
            f"build makes another module than the one that was trained; give the study's own: {error}"
        ) from error
    return module.eval()


def predict_numbers(module: nn.Module, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the outputs of a module for rows (N, ...), or the first of several outputs.

    Raises:
        TypeError: the module returns no tensor.
    """
    outputs = evaluate(module, torch.tensor(x))
    first = outputs[0] if isinstance(outputs, tuple | list) else outputs
    if not isinstance(first, Tensor):
        raise TypeError(f"the module returns a {type(first).__name__}: call best.network(build) yourself")
    return np.asarray(first.cpu().numpy())
