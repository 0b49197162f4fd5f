"""The journal of a session: exact, in files of a bounded size, and checked as it is read."""

import math
from pathlib import Path

import pytest

from caviar.errors import DamagedError
from caviar.records import journal
from caviar.records.journal import JOURNAL, Journal, read_journal
from caviar.storage.uri import locate


def events(count: int) -> list[dict[str, object]]:
    return [
        {"event": "trained", "time": float(n), "metrics": {"loss": math.inf if n % 3 else 0.1 * n}}
        for n in range(count)
    ]


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PART", 3)


@pytest.mark.parametrize("first", [0, 2, 3, 4, 8])
def test_what_is_written_in_two_goes_is_read(tmp_path: Path, first: int) -> None:
    run, all_events = locate(tmp_path), events(8)
    writing = Journal(run)
    for event in all_events[:first]:
        writing.write(event)
    assert read_journal(run) == all_events[:first]
    writing = Journal(run, read_journal(run))
    for event in all_events[first:]:
        writing.write(event)
    assert read_journal(run) == all_events
    assert max(len(file.read_text()) for file in (tmp_path / JOURNAL).iterdir()) < 1_000


@pytest.mark.parametrize("lost", [0, 1])
def test_lost_and_damaged_files_are_noticed(tmp_path: Path, lost: int) -> None:
    writing = Journal(locate(tmp_path))
    for event in events(8):
        writing.write(event)
    file = tmp_path / JOURNAL / f"part-{lost:05d}.json"
    file.write_text(
        file.read_text().replace('"time": 1.0', '"time": 2.0').replace('"time": 4.0', '"time": 5.0')
    )
    with pytest.raises(DamagedError, match="checksum"):
        read_journal(locate(tmp_path))
    file.unlink()
    with pytest.raises(DamagedError, match="missing"):
        read_journal(locate(tmp_path))
