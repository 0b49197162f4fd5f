"""Tests of caviar/records/followed_trials.py."""

from pathlib import Path

import pandas as pd
import pytest

from caviar.errors import DamagedError
from caviar.records.followed_trials import FollowedTrials
from caviar.records.frames import load
from caviar.records.segments import Segment, Segments
from tests.objectives import bowl_study
from tests.runs import resume_inline, run_until_failure

COLUMNS = ["trial", "value", "failure"]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the segments that have been read, which is filled as they are."""
    names: list[str] = []
    read_segment = Segments.read_segment

    def note(self: Segments, segment: Segment) -> object:
        names.append(segment.name)
        return read_segment(self, segment)

    monkeypatch.setattr(Segments, "read_segment", note)
    return names


def test_only_new_segments_are_read(tmp_path: Path, read: list[str]) -> None:
    study = bowl_study(rounds=[2] * 20)
    run = run_until_failure(study, tmp_path)
    followed = FollowedTrials(run, COLUMNS)
    before = followed.read()
    assert len(before) == len(run.trials)
    first = list(read)
    followed.read()
    assert read == first
    resume_inline(study, run.path)
    read.clear()
    after = followed.read()
    assert not set(read) & set(first)
    whole = load(run.path).trials[COLUMNS]
    pd.testing.assert_frame_equal(after.sort_values("trial", ignore_index=True), whole)


def test_trials_that_are_not_recorded_yet_are_an_empty_frame(tmp_path: Path) -> None:
    run = run_until_failure(bowl_study(), tmp_path)
    for path in (run.path / "trials").iterdir():
        path.unlink()
    assert FollowedTrials(run, COLUMNS).read().empty


def test_a_damaged_segment_is_reported(tmp_path: Path) -> None:
    run = run_until_failure(bowl_study(), tmp_path)
    next((run.path / "trials").iterdir()).write_bytes(b"")
    with pytest.raises(DamagedError):
        FollowedTrials(run, COLUMNS).read()
