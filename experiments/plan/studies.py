"""Studies of different kinds, whose durations are predicted and then measured.

caviar plan experiments/plan/studies.py --study classifier
caviar run experiments/plan/studies.py --study classifier

The environment variable SEED is the seed of the studies (default: 0).
"""

import functools
import math
import os
import time
from typing import Any

import torch
from torch import nn

import caviar as cv

NETWORKS = {
    "learning_rate": cv.log(1e-4, 1.0),
    "momentum": cv.reverse_log(0.9, 0.999),
    "batch_size": cv.choice(32, 64, 128, 256),
    "layers": cv.integer(1, 4),
    "units": cv.integer(16, 256, scale="log"),
}
WIDE = {"learning_rate": cv.log(1e-4, 0.1), "layers": cv.integer(2, 3), "units": cv.integer(256, 1024)}
SMALL = {"learning_rate": cv.log(1e-3, 1.0), "units": cv.integer(4, 32, scale="log")}


def study(name: str, objective: Any, space: dict[str, Any], rounds: Any, **more: Any) -> cv.Study:
    """Return a study."""
    seed = int(os.environ.get("SEED", "0"))
    return cv.Study(name=name, objective=objective, space=cv.Space(**space), rounds=rounds, seed=seed, **more)


def bowl(params: dict[str, float]) -> float:
    """Return a value at once."""
    return (params["x"] - 0.3) ** 2 + (params["y"] - 0.6) ** 2


def slow(params: dict[str, float]) -> float:
    """Return a value after half a second."""
    time.sleep(0.5)
    return bowl(params)


def variable(params: dict[str, float]) -> float:
    """Return a value after a time that grows by a factor of 20 with x; the best trials are long."""
    time.sleep(0.05 * 20 ** params["x"])
    return (params["x"] - 0.9) ** 2 + (params["y"] - 0.6) ** 2


def loads_first(params: dict[str, float]) -> float:
    """Return a value after work on data that each worker loads once."""
    return _load() + bowl(params) + _work(0.15)


@functools.cache
def _load() -> float:
    time.sleep(4.0)
    return 0.0


def _work(seconds: float) -> float:
    """Compute for some seconds of a core's time."""
    until = time.process_time() + seconds
    total = 0.0
    while time.process_time() < until:
        total += sum(math.sqrt(number) for number in range(1_000))
    return 0.0 * total


def epochs(params: dict[str, float], trial: cv.TrialContext) -> None:
    """Report after each epoch, whose length depends on x."""
    time.sleep(0.1)
    for epoch in trial.remaining():
        time.sleep(0.02 + 0.06 * params["x"])
        trial.report(epoch, value=bowl(params) + 1.0 / epoch)
        trial.save(epoch)


def computes(params: dict[str, float]) -> float:
    """Return a value after a core's work of a length that depends on both params."""
    _work(0.05 + 0.3 * params["x"] * params["y"])
    return bowl(params)


def convolution(params: dict[str, Any]) -> nn.Module:
    """Return a small convolutional network."""
    channels = params["channels"]
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, channels, 3),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Flatten(),
        nn.LazyLinear(10),
    )


torch.manual_seed(0)
PLANE = {"x": cv.linear(0.0, 1.0), "y": cv.linear(0.0, 1.0)}
digits = cv.Classifier(data="sklearn:digits")

tiny = study("tiny", cv.Classifier(data="sklearn:wine"), SMALL, cv.coarse_to_fine(trials=800, epochs=10))
classifier = study("classifier", digits, NETWORKS, cv.coarse_to_fine(trials=150, epochs=20))
wide = study("wide", digits, WIDE, cv.coarse_to_fine(trials=30, epochs=4))
halved = study("halved", digits, NETWORKS, cv.coarse_to_fine(trials=200, epochs=27, halving=cv.Halving()))
rounds = study("rounds", digits, NETWORKS, [cv.Round(80, 5), cv.Round(40, 15), cv.Round(20, 15)])
reference = study(
    "reference",
    cv.Classifier(data="sklearn:breast_cancer", engine="reference"),
    SMALL,
    cv.coarse_to_fine(trials=40, epochs=20),
)
cheap = study("cheap", cv.Function(bowl), PLANE, cv.coarse_to_fine(trials=1000, epochs=1))
sleeping = study("sleeping", cv.Function(slow), PLANE, cv.coarse_to_fine(trials=80, epochs=1))
growing = study("growing", cv.Function(variable), PLANE, cv.coarse_to_fine(trials=90, epochs=1))
loading = study("loading", cv.Function(loads_first), PLANE, cv.coarse_to_fine(trials=100, epochs=1))
reporting = study(
    "reporting", cv.Function(epochs), PLANE, cv.coarse_to_fine(trials=100, epochs=18, halving=cv.Halving())
)
computing = study(
    "computing", cv.Function(computes), PLANE, cv.coarse_to_fine(trials=100, epochs=1), sampler="qmc"
)
module = study(
    "module",
    cv.Module(convolution, data="sklearn:digits", preprocess="scale"),
    {
        "learning_rate": cv.log(1e-4, 0.1),
        "batch_size": cv.choice(32, 64, 128),
        "channels": cv.integer(4, 24, scale="log"),
    },
    cv.coarse_to_fine(trials=25, epochs=5),
)
