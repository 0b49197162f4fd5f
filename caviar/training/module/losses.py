"""Losses of a module: named terms, whose sum is minimised.

Shape legend: B rows, C classes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from caviar.training.module.user_code import Loss, during


def loss_terms(loss: Loss, outputs: Any, y: Tensor, classes: int) -> dict[str, Tensor]:
    """Return each term of a loss: one named "loss", or those of a dict of functions.

    Args:
        loss: the loss of a `Module`.
        outputs: what the module returned.
        y: targets of the same rows.
        classes: number of classes; 0 for numbers.

    Raises:
        ValueError: the outputs or what a function returned have the wrong shape.
        TypeError: a function returned something else than a tensor.
    """
    if loss == "cross_entropy":
        return {"loss": F.cross_entropy(logits_BC(outputs, y, classes), y)}
    if loss == "mse":
        return {"loss": F.mse_loss(_predicted(outputs, y), y.to(outputs.dtype))}
    assert not isinstance(loss, str)
    functions = loss if isinstance(loss, Mapping) else {"loss": loss}
    return {name: _call(name, function, outputs, y) for name, function in functions.items()}


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of the terms, which is minimised.

    Raises:
        ValueError: it has no gradient.
    """
    found: Tensor = sum(terms.values())  # type: ignore[assignment]
    if torch.is_grad_enabled() and not found.requires_grad:
        raise ValueError(
            "the loss has no gradient: compute it from the module's outputs by functions of torch, without detach(), "
            "item() or argmax()"
        )
    return found


def logits_BC(outputs: Any, y: Tensor, classes: int) -> Tensor:  # noqa: N802
    """Return the logits (B, C): the outputs, or the first of several.

    Raises:
        ValueError: there are none.
    """
    logits = outputs[0] if isinstance(outputs, tuple | list) and outputs else outputs
    if isinstance(logits, Tensor) and logits.shape == (len(y), classes):
        return logits
    raise ValueError(
        f"the module's output for {len(y)} rows is {_described(logits)}, and must be a tensor ({len(y)}, {classes}): "
        "one number for each class, before the softmax"
    )


def _predicted(outputs: Any, y: Tensor) -> Tensor:
    """Return predicted numbers of the shape of y: a single column counts as none."""
    if isinstance(outputs, Tensor) and outputs.shape == y.shape:
        return outputs
    if isinstance(outputs, Tensor) and outputs.shape == (*y.shape, 1):
        return outputs.squeeze(-1)
    raise ValueError(
        f"the module's output for {len(y)} rows is {_described(outputs)}, and must be a tensor of the shape of y, "
        f"{tuple(y.shape)}"
    )


def _call(name: str, function: Callable[..., Any], outputs: Any, y: Tensor) -> Tensor:
    with during(f"in the loss function {getattr(function, '__name__', name)}"):
        value = function(outputs, y)
    if isinstance(value, Mapping):
        raise TypeError(
            "the loss function returned a dict: give its terms as loss={'name': function, ...}, one function a term"
        )
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise TypeError(
            f"a loss function must return the mean over the rows, a tensor with one number, not {_described(value)}"
        )
    return value.reshape(())


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"
