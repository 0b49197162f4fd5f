"""Law 3 for the fused engine, with its kernels interpreted: curves as in the reference engine, whatever runs beside."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from caviar.engine import Part, PartDone
from caviar.training.fused.engine import FusedEngine
from caviar.training.fused.pack import Pack, Tiles
from caviar.training.native.engine import NativeEngine
from caviar.training.recipe import DECAYS
from caviar.training.reference import ReferenceEngine
from caviar.trial import Measurement, Outcome
from tests.training.networks import (
    blobs,
    checkpoint_difference,
    curve_difference,
    run_parts,
    same_checkpoint,
    trial,
    with_arrays,
)

SMALL = blobs(rows=50)  # 30 rows to learn from
SMALL_TILES = Tiles(rows=16, units=16, inputs=16)
RECIPES: list[dict[str, Any]] = [
    {"layers": 0, "optimizer": "sgd", "learning_rate": 0.05},
    {"layers": 1, "units": 40, "optimizer": "adam", "learning_rate": 0.01, "batch_size": 30},
    {"layers": 2, "units": 9, "batch_size": 8, "dropout": 0.3},
    {"layers": 3, "units_1": 20, "units_2": 3, "units_3": 17, "activation": "tanh", "batch_size": 20},
    {
        "layers": 1,
        "units": 12,
        "batch_norm": False,
        "l2": 0.02,
        "optimizer": "rmsprop",
        "learning_rate": 0.001,
    },
    {"layers": 2, "units": 5, "batch_norm": False, "activation": "tanh", "dropout": 0.6, "batch_size": 29},
    {"layers": 4, "units": 18, "l2": 0.1, "optimizer": "adam", "learning_rate": 0.005, "batch_size": 17},
    {"layers": 1, "units": 33, "batch_norm_momentum": 0.5, "batch_norm_epsilon": 0.1, "batch_size": 29},
    {"layers": 2, "units": 6, "optimizer": "sgd", "batch_size": 15, "dropout": 0.1, "activation": "tanh"},
    {"layers": 1, "units": 8, "optimizer": "rmsprop", "beta2": 0.9, "epsilon": 1e-3, "learning_rate": 0.01},
]
"""Between them every optimizer, activation and option, a last mini-batch that is smaller, and one of a single row."""

Trained = dict[int, tuple[list[Measurement], PartDone]]


def parts(*numbers: int, epochs: int = 2, **part: Any) -> list[Part]:
    """Return parts of trials of these recipes, each with a schedule of its own."""
    found = []
    for number in numbers:
        params = RECIPES[number] | {"decay": DECAYS[number % len(DECAYS)], "decay_epochs": 1}
        what = trial(number, epochs=epochs, seed=100 + number, **params)
        found.append(Part(trial=what, keep_checkpoint=True, **part))
    return found


def fused(lanes: int = 16, dtype: torch.dtype = torch.float32, tiles: Tiles = SMALL_TILES) -> FusedEngine:
    return FusedEngine(SMALL, device="cpu", dtype=dtype, lanes=lanes, tiles=tiles)


def metrics(curve: list[Measurement]) -> list[dict[str, float]]:
    return [dict(measurement.metrics) for measurement in curve]


def assert_same_bits(ours: Trained, theirs: Trained) -> None:
    for number in ours.keys() & theirs.keys():
        assert metrics(ours[number][0]) == metrics(theirs[number][0])
        assert same_checkpoint(ours[number][1].checkpoint, theirs[number][1].checkpoint)


@pytest.fixture(scope="module")
def together() -> Trained:
    """All recipes, trained side by side in float32."""
    return run_parts(fused(), *parts(*range(len(RECIPES))))


@pytest.mark.parametrize("numbers", [(2, 3), pytest.param(range(len(RECIPES)), marks=pytest.mark.slow)])
def test_every_option_agrees_in_double_precision(numbers: Sequence[int]) -> None:
    ours = run_parts(fused(dtype=torch.float64), *parts(*numbers))
    theirs = run_parts(ReferenceEngine(SMALL, dtype=torch.float64), *parts(*numbers))
    for number, (curve, end) in theirs.items():
        assert end.outcome is ours[number][1].outcome is Outcome.COMPLETED
        assert curve_difference(metrics(ours[number][0]), metrics(curve)) < 1e-9, RECIPES[number]
        assert checkpoint_difference(ours[number][1].checkpoint, end.checkpoint) < 1e-9, RECIPES[number]


@pytest.mark.slow
def test_single_precision_agrees_with_the_native_engine(together: Trained) -> None:
    theirs = run_parts(NativeEngine(SMALL), *parts(*range(len(RECIPES))))
    for number, (curve, _) in theirs.items():
        assert curve_difference(metrics(together[number][0]), metrics(curve)) < 1e-4, RECIPES[number]


@pytest.mark.slow
def test_a_lane_alone_has_the_same_bits(together: Trained) -> None:
    for number in (1, 2, 3, 5):
        assert_same_bits(run_parts(fused(), *parts(number)), together)


@pytest.mark.slow
def test_a_lane_that_starts_late_has_the_same_bits(together: Trained) -> None:
    order = (3, 0, 4, 2, 9, 7, 1)
    assert_same_bits(run_parts(fused(lanes=2), *parts(*order)), together)


@pytest.mark.slow
def test_a_diverging_lane_leaves_the_others_alone(together: Trained) -> None:
    bad = dataclasses.replace(trial(99, batch_norm=False, learning_rate=1e6, batch_size=8), seed=5)
    with np.errstate(all="ignore"):  # Triton interprets the kernels with NumPy
        found = run_parts(fused(lanes=3), Part(trial=bad), *parts(2, 5, 8))
    assert found[99][1].outcome is Outcome.DIVERGED
    assert not math.isfinite(found[99][0][-1].metrics["dev_loss"])
    assert_same_bits({number: found[number] for number in (2, 5, 8)}, together)


@pytest.mark.slow
def test_a_lane_that_cannot_start_fails_alone(together: Trained) -> None:
    bad = Part(trial=trial(99, batch_size=1))
    found = run_parts(fused(lanes=2), *parts(2), bad, *parts(5))
    assert found[99][1].outcome is Outcome.FAILED
    assert "batch_size" in str(found[99][1].failure)
    assert_same_bits({number: found[number] for number in (2, 5)}, together)


@pytest.mark.parametrize("number", [1, *(pytest.param(number, marks=pytest.mark.slow) for number in (2, 9))])
def test_a_paused_lane_continues_to_the_bit(number: int) -> None:
    whole = run_parts(fused(), *parts(number, epochs=3))
    (_, paused) = run_parts(fused(), *parts(number, epochs=3, until=1))[number]
    assert paused.checkpoint is not None
    rest = run_parts(fused(), *parts(number, epochs=3, checkpoint=paused.checkpoint), *parts(0))
    assert metrics(rest[number][0]) == metrics(whole[number][0])[1:]
    assert same_checkpoint(rest[number][1].checkpoint, whole[number][1].checkpoint)


@pytest.mark.slow
def test_checkpoints_go_from_engine_to_engine() -> None:
    native = NativeEngine(SMALL, dtype=np.float64)
    (_, paused) = run_parts(native, *parts(6, epochs=3, until=2))[6]
    rest = parts(6, epochs=3, checkpoint=paused.checkpoint)
    ours, theirs = run_parts(fused(dtype=torch.float64), *rest)[6], run_parts(native, *rest)[6]
    assert curve_difference(metrics(ours[0]), metrics(theirs[0])) < 1e-9
    assert checkpoint_difference(ours[1].checkpoint, theirs[1].checkpoint) < 1e-9


def test_a_part_that_is_trained_already_ends_at_once() -> None:
    (_, paused) = run_parts(fused(), *parts(1, epochs=3, until=1))[1]
    found = run_parts(fused(), *parts(1, epochs=3, until=1, checkpoint=paused.checkpoint))
    assert found[1][0] == []
    assert found[1][1].outcome is Outcome.COMPLETED
    assert same_checkpoint(found[1][1].checkpoint, paused.checkpoint)


def test_a_damaged_checkpoint_fails_its_lane() -> None:
    (_, paused) = run_parts(fused(), *parts(1, epochs=3, until=1))[1]
    assert paused.checkpoint is not None
    damaged = with_arrays(paused.checkpoint, output_weight=np.zeros((2, 2)))
    found = run_parts(fused(), *parts(1, epochs=3, checkpoint=damaged), *parts(0))
    assert found[1][1].outcome is Outcome.FAILED
    assert found[0][1].outcome is Outcome.COMPLETED


@pytest.mark.slow
def test_lanes_without_memory_start_when_others_have_ended(
    monkeypatch: pytest.MonkeyPatch, together: Trained
) -> None:
    create = Pack._create

    def with_room_for_two(pack: Pack, *arguments: Any) -> Any:
        if len(pack.lanes) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return create(pack, *arguments)

    monkeypatch.setattr(Pack, "_create", with_room_for_two)
    found = run_parts(fused(), *parts(4, 0, 9, 3))
    assert_same_bits(found, together)
    assert all(end.outcome is Outcome.COMPLETED for _, end in found.values())


def test_large_tiles_agree() -> None:
    few = parts(2, 3)
    ours = run_parts(fused(dtype=torch.float64, tiles=Tiles()), *few)
    theirs = run_parts(ReferenceEngine(SMALL, dtype=torch.float64), *few)
    for number, (curve, _) in theirs.items():
        assert curve_difference(metrics(ours[number][0]), metrics(curve)) < 1e-9
