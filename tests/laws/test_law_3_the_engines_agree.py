"""Law 3: all engines give the same curves for the same trial, whatever is trained beside it.

The comparison of all settings is in test_agrees_with_reference.py of tests/training/native and tests/training/fused,
and that of modules which train together in tests/training/module/test_side_by_side.py.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from caviar.data.splits import Dataset
from caviar.engine import Engine, Part, Progress
from caviar.training.classifier import Classifier
from caviar.training.fused.engine import FusedEngine
from caviar.training.fused.pack import Tiles
from caviar.training.layer_statistics import LayerStatistics, Observe, statistic_names
from caviar.training.native.engine import NativeEngine
from caviar.training.reference import ReferenceEngine
from caviar.trial import Trial, Value
from tests.training.networks import blobs

RECIPES: list[dict[str, Value]] = [
    {"layers": 0, "optimizer": "sgd"},
    {
        "layers": 2,
        "units": 20,
        "optimizer": "adam",
        "learning_rate": 0.003,
        "dropout": 0.3,
        "decay": "cosine",
    },
    {
        "layers": 3,
        "units": 12,
        "batch_norm": False,
        "activation": "tanh",
        "l2": 1e-3,
        "optimizer": "momentum",
    },
    {"layers": 1, "units": 40, "batch_size": 100, "optimizer": "rmsprop", "learning_rate": 0.001},
]


@pytest.fixture(scope="module")
def wine() -> Dataset:
    return Classifier(data="sklearn:wine").load()


def curves(engine: Engine, trials: list[Trial]) -> dict[int, list[dict[str, float]]]:
    found: dict[int, list[dict[str, float]]] = {trial.number: [] for trial in trials}
    for event in engine.train([Part(trial=trial) for trial in trials]):
        if isinstance(event, Progress):
            found[event.trial].append(dict(event.measurement.metrics))
    return found


def trials(recipes: list[dict[str, Value]], epochs: int = 10) -> list[Trial]:
    return [
        Trial(number=n, round=1, params=params, epochs=epochs, seed=100 + n)
        for n, params in enumerate(recipes)
    ]


def test_native_and_reference_curves_agree_in_double_precision(wine: Dataset) -> None:
    ours = curves(NativeEngine(wine, dtype=np.float64), trials(RECIPES))
    oracle = curves(ReferenceEngine(wine, dtype=torch.float64), trials(RECIPES))
    for number, curve in oracle.items():
        for epoch, metrics in enumerate(curve):
            assert ours[number][epoch] == pytest.approx(metrics, rel=1e-9)


@pytest.mark.parametrize("make", [NativeEngine, ReferenceEngine])
def test_a_trial_among_others_gives_the_same_numbers(
    wine: Dataset, make: type[NativeEngine] | type[ReferenceEngine]
) -> None:
    together = curves(make(wine), trials(RECIPES))
    backwards = curves(make(wine), trials(RECIPES)[::-1])
    for trial in trials(RECIPES):
        alone = curves(make(wine), [trial])
        assert alone[trial.number] == together[trial.number] == backwards[trial.number]


def test_fused_and_reference_curves_agree_whatever_trains_beside() -> None:
    small = blobs(rows=50)
    recipes = [RECIPES[0], {**RECIPES[1], "units": 9, "batch_size": 16}, {**RECIPES[2], "units": 5}]
    several = trials(recipes, epochs=1)
    tiles = Tiles(rows=16, units=16, inputs=16)

    def fused() -> FusedEngine:
        return FusedEngine(small, device="cpu", dtype=torch.float64, lanes=3, tiles=tiles)

    together = curves(fused(), several)
    assert curves(fused(), several[1:2])[1] == together[1]
    for number, curve in curves(ReferenceEngine(small, dtype=torch.float64), several).items():
        for ours, theirs in zip(together[number], curve, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-9)


def test_layer_statistics_agree_and_change_no_other_number() -> None:
    small = blobs(rows=50)
    several = trials(
        [RECIPES[0], {**RECIPES[1], "units": 9, "batch_size": 16}, {**RECIPES[2], "units": 5}], 2
    )
    statistics = LayerStatistics(small, {}, layers=2)
    tiles = Tiles(rows=16, units=16, inputs=16)
    makers: list[Callable[[Observe | None], Engine]] = [
        lambda observe: ReferenceEngine(small, dtype=torch.float64, observe=observe),
        lambda observe: NativeEngine(small, dtype=np.float64, observe=observe),
        lambda observe: FusedEngine(
            small, device="cpu", dtype=torch.float64, lanes=3, tiles=tiles, observe=observe
        ),
    ]
    found = [curves(make(statistics), several) for make in makers]
    for make, ours in zip(makers, found, strict=True):
        without = curves(make(None), several)
        for number, curve in without.items():
            assert len(curve) == len(found[0][number]) == 2
            for metrics, more, expected in zip(curve, ours[number], found[0][number], strict=True):
                assert more == {**more, **metrics}
                assert more == pytest.approx(expected, rel=1e-9)
                layers = min(2, int(several[number].params["layers"] or 0))
                assert set(more) - set(metrics) == set(statistic_names(layers))
