"""Small modules and their objectives: convolutions with batch norm, attention, two losses, a regression, harm."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

import caviar as cv

Params = dict[str, Any]
COUNTER: list[int] = []
"""A list that a hostile module changes."""


class Noise(nn.Module):
    """A layer that draws from torch's global generator and counts its calls in a buffer outside the state dict."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        self.calls += 1
        return x + 0.01 * self.calls.sqrt() * torch.randn_like(x)


def convolutions(params: Params) -> nn.Module:
    """Return a convolutional network for images of 8 x 8 pixels in rows of 64."""
    channels = params["channels"]
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, channels, 3, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Dropout2d(params.get("dropped", 0.1)),
        Noise(),
        nn.Flatten(),
        nn.LazyLinear(10),
    )


class Attention(nn.Module):
    """A transformer block over token ids."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, dim_feedforward=params["units"], batch_first=True)
        self.output = nn.Linear(8, 2)

    def forward(self, ids: Tensor) -> Tensor:
        outputs: Tensor = self.output(self.block(self.embedding(ids)).mean(dim=1))
        return outputs


class Autoencoder(nn.Module):
    """A network with two outputs: logits and the reconstructed row."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(13, params["units"]), nn.Tanh())
        self.decoder, self.head = nn.Linear(params["units"], 13), nn.Linear(params["units"], 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encoder(x)
        return self.head(code), (self.decoder(code) - x).square().mean(dim=1)


def class_loss(outputs: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
    return F.cross_entropy(outputs[0], y)


def reconstruction_loss(outputs: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
    del y
    return outputs[1].mean()


def recall(outputs: Any, y: Tensor) -> float:
    """Return the recall of class 0."""
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    return float((logits.argmax(dim=1)[y == 0] == 0).float().mean())


def perceptron(params: Params) -> nn.Module:
    """Return a network for 4 numbers that predicts one."""
    return nn.Sequential(nn.Linear(4, params["units"]), nn.Tanh(), nn.Linear(params["units"], 1))


def tokens() -> tuple[Any, Any]:
    """Return sentences of five tokens, and whether token 3 is in them."""
    ids = np.random.default_rng(0).integers(0, 6, size=(120, 5))
    return ids, np.where((ids == 3).any(axis=1), "yes", "no")


def numbers() -> tuple[Tensor, Tensor]:
    """Return tensors: rows of 4 numbers, and 100 times a function of them."""
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(120, 4)))
    return x, 100 * (x[:, :1] - x[:, 1:2] * x[:, 2:3])


def digits_objective(build: Callable[[Params], nn.Module] = convolutions, **options: Any) -> cv.Module:
    return cv.Module(build, **{"data": "sklearn:digits", "preprocess": "scale", **options})


def tokens_objective(**options: Any) -> cv.Module:
    return cv.Module(Attention, data=tokens(), **options)


def two_losses_objective(**options: Any) -> cv.Module:
    loss = {"class": class_loss, "reconstruction": reconstruction_loss}
    settings: dict[str, Any] = {
        "targets": "classes",
        "metrics": {"recall": recall},
        "preprocess": "standardize",
    }
    return cv.Module(Autoencoder, data="sklearn:wine", loss=loss, **{**settings, **options})


def numbers_objective(**options: Any) -> cv.Module:
    return cv.Module(perceptron, data=numbers(), loss="mse", **options)


def hostile(params: Params) -> nn.Module:
    """Return a network after changing what later trials might see; if `harm` says so, fail."""
    harm = params["harm"]
    COUNTER.append(1)
    if len(COUNTER) > 1:
        raise AssertionError("an earlier trial is seen")
    if harm == "raise":
        raise ArithmeticError("two and two are five")
    if harm == "exit":
        sys.exit(3)
    if harm == "nothing":
        return None  # type: ignore[return-value]
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(2)
    torch.manual_seed(3)
    np.seterr(all="raise")
    module = nn.Linear(13, 4 if harm == "wide" else 3)
    return module.float()
