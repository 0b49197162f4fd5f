"""The number of lanes is the knee of the throughput, and is remembered for a machine."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from caviar.data.splits import split
from caviar.storage import user_cache
from caviar.training.fused import lane_count
from caviar.training.fused.engine import FusedEngine

COUNTS = (64, 128, 256, 512)


@given(full=st.integers(1, 2_000))
def test_lanes_are_added_until_the_device_is_full(full: int) -> None:
    found = lane_count.knee(lambda lanes: float(min(lanes, full)), COUNTS)
    assert found == next((c for c in COUNTS if 2 * c >= full and min(2 * c, full) < 1.1 * c), COUNTS[-1])


def test_counts_beyond_the_knee_are_not_tried() -> None:
    tried = []

    def rate(lanes: int) -> float:
        tried.append(lanes)
        return 1_000.0

    assert lane_count.knee(rate, COUNTS) == 64
    assert tried == [64, 128]


def test_memory_limits_the_lanes() -> None:
    def rate(lanes: int) -> float:
        if lanes > 128:
            raise torch.OutOfMemoryError
        return float(lanes)

    assert lane_count.knee(rate, COUNTS) == 128


def test_engine_measures_once_and_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(lane_count.measure, "__defaults__", ((1,),))
    monkeypatch.setattr(lane_count, "_REPEATS", 1)
    rng = np.random.default_rng(0)
    dataset = split("cloud", rng.normal(size=(40, 3)), np.arange(40) % 2)
    first, second = (FusedEngine(dataset, device="cpu", lanes=7) for _ in range(2))
    first.choose_lanes()
    assert first.lanes == 1
    (file,) = (tmp_path / "caviar" / "lanes").glob("*.json")
    file.write_text(json.dumps({"lanes": 31}))
    second.choose_lanes()
    assert second.lanes == 31


@pytest.mark.parametrize("text", ["", "{", '{"lanes": -1}', '{"lanes": "many"}', "[]"])
def test_damaged_memory_is_measured_anew(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert lane_count.remember({"device": "any"}, lambda: 5) == 5
    (file,) = user_cache.private_folder("lanes").glob("*.json")
    file.write_text(text)
    assert lane_count.remember({"device": "any"}, lambda: 6) == 6
    assert lane_count.remember({"device": "any"}, lambda: 7) == 6
