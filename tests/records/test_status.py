"""Tests of caviar/records/status.py."""

import json
from pathlib import Path

import pytest

from caviar.records.status import STATUS, RunningTrial, Status
from caviar.storage.local import Disk

RUNNING = RunningTrial(
    trial=7, round=1, stage="search", worker="cpu-0", others=0, since_s=1.5, epochs=9, epoch=3, value=0.5
)
STATE = Status(driver="process 1", workers=2, elapsed_s=4.0, recalled=0, running=1, trials=(RUNNING,))


def test_a_status_is_read_back(tmp_path: Path) -> None:
    STATE.write(Disk(tmp_path))
    assert Status.read(Disk(tmp_path)) == STATE
    assert [path.name for path in tmp_path.iterdir()] == [STATUS]


@pytest.mark.parametrize("change", [{"format": 2}, {"workers": "two"}, {"trials": [{"trial": 7}]}])
def test_a_status_of_another_version_is_ignored(tmp_path: Path, change: dict[str, object]) -> None:
    STATE.write(Disk(tmp_path))
    content = json.loads((tmp_path / STATUS).read_text())
    (tmp_path / STATUS).write_text(json.dumps(content | {"added": True}))
    assert Status.read(Disk(tmp_path)) == STATE, "a later version may add keys"
    (tmp_path / STATUS).write_text(json.dumps(content | change))
    assert Status.read(Disk(tmp_path)) is None


@pytest.mark.parametrize("content", [b"", b"\0" * 512, b"[1", b"[]"])
def test_a_damaged_status_is_ignored(tmp_path: Path, content: bytes) -> None:
    assert Status.read(Disk(tmp_path)) is None
    (tmp_path / STATUS).write_bytes(content)
    assert Status.read(Disk(tmp_path)) is None
