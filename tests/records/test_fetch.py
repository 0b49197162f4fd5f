"""Copies of run directories are complete, or there is none."""

from pathlib import Path

import pandas as pd
import pytest

import caviar as cv
from caviar.cli.main import main
from caviar.errors import DamagedError, RunError
from caviar.records import fetch
from caviar.records import ledger as ledger_module
from caviar.records.frames import Run, load
from caviar.records.segments import Segments
from caviar.records.status import STATUS
from tests.object_store import ObjectStore
from tests.objectives import bowl_study
from tests.records.ledgers import new_ledger, record
from tests.runs import assert_same_frames, resume_inline, run_inline

STUDY = bowl_study(rounds=(12, 8))


@pytest.fixture(params=["disk", "store"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    if request.param == "disk":
        return run_inline(STUDY, tmp_path / "there")
    store: ObjectStore = request.getfixturevalue("store")
    return run_inline(STUDY, f"s3://{store.new_bucket()}/there")


def test_fetched_runs_equal_their_source_and_can_be_resumed(run: Run, tmp_path: Path) -> None:
    (run.location / STATUS).write(b"left by a driver that was killed")
    fetched = cv.fetch(str(run.location), tmp_path / "here" / "digits")
    assert not (fetched.path / STATUS).exists()
    assert fetched.path == tmp_path / "here" / "digits"
    assert_same_frames(run, fetched)
    assert_same_frames(run, resume_inline(STUDY, fetched.path))
    assert [entry.name for entry in fetched.path.parent.iterdir()] == ["digits"]


def test_networks_are_fetched(tmp_path: Path) -> None:
    study = cv.Study(
        name="iris",
        objective=cv.Classifier(data="sklearn:iris", engine="reference"),
        space=cv.Space(learning_rate=cv.log(1e-3, 1.0)),
        rounds=[cv.Round(3, 1), cv.Confirmation(2, 2)],
    )
    there = run_inline(study, tmp_path / "there")
    whole = cv.fetch(there.path, tmp_path / "whole")
    frames = cv.fetch(there.path, tmp_path / "frames", frames=True)
    assert whole.best is not None
    assert whole.best.predict([[5.0, 3.0, 1.4, 0.2]]).shape == (1,)  # type: ignore[arg-type]
    assert frames.finished
    assert frames.best is None
    pd.testing.assert_frame_equal(frames.trials, there.trials)
    assert sorted(entry.name for entry in frames.path.iterdir()) == [
        ".lock", "curves", "ledger.json", "rounds.json", "study.json", "trials",
    ]  # fmt: skip


def test_the_command_line_fetches_to_the_runs_folder(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fetch", str(run.location)]) == 0
    assert "35 trials, to runs/bowl\n" in capsys.readouterr().out
    assert main(["fetch", str(run.location)]) == 1
    assert "runs/bowl exists already: remove it, or name another folder" in capsys.readouterr().err
    assert main(["fetch", str(run.location), "frames", "--frames"]) == 0
    assert not (tmp_path / "frames" / "best").exists()
    assert main(["show", "frames"]) == 0


def test_failed_fetches_leave_nothing(tmp_path: Path) -> None:
    there = run_inline(STUDY, tmp_path / "there")
    segment = next((there.path / "curves").glob("part-*"))
    segment.write_bytes(segment.read_bytes()[:-9])
    here = tmp_path / "here"
    with pytest.raises(DamagedError, match=rf"{segment} is damaged"):
        cv.fetch(there.path, here / "bowl")
    with pytest.raises(RunError, match="there is no such run directory"):
        cv.fetch(tmp_path / "nowhere", here / "bowl")
    with pytest.raises(RunError, match=r"runs are fetched to a folder of this machine"):
        cv.fetch(there.path, "s3://bucket/bowl?endpoint=http://127.0.0.1:1")
    assert not here.exists() or not list(here.iterdir())


@pytest.mark.parametrize("name", ["../../escaped.txt", "best/../../escaped.txt", "./x", "/x", ".."])
def test_object_names_that_leave_the_run_are_refused(store: ObjectStore, tmp_path: Path, name: str) -> None:
    bucket = store.new_bucket()
    ledger = new_ledger(f"s3://{bucket}/runs")
    record(ledger, [0])
    ledger.close()
    store.put_as_named(f"{bucket}/runs/bowl/{name}", b"x")
    here = tmp_path / "one" / "two" / "here"
    with pytest.raises(RunError, match=rf"s3://{bucket}/runs/bowl.*: .* cannot be a file's; remove that"):
        cv.fetch(str(ledger.location), here)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not here.exists()


def test_fetching_to_a_full_disk_names_the_command_for_another(small_disk: Path, tmp_path: Path) -> None:
    there = run_inline(bowl_study(rounds=(400, 400)), tmp_path / "the runs")
    with pytest.raises(
        RunError,
        match=rf"No space left on device; .*; or name another folder with `caviar fetch '{there.path}' DEST`$",
    ):
        cv.fetch(there.path, small_disk / "bowl")
    assert not list(small_disk.iterdir())


def test_runs_are_fetched_while_they_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MERGE_AT", 4)
    grown = new_ledger(tmp_path, "growing")
    numbers = iter(range(1_000))
    listed, copied = Segments.current, fetch._copy_files

    def grow(times: int) -> None:
        for _ in range(times):
            record(grown, [next(numbers)])

    def list_then_record(segments: Segments) -> list[object]:
        found = listed(segments)
        monkeypatch.setattr(Segments, "current", listed)
        grow(5)  # between listing the trials and listing the curves
        return found  # type: ignore[return-value]

    def record_then_copy(*arguments: object) -> None:
        monkeypatch.setattr(fetch, "_copy_files", copied)
        grow(5)  # the listed segments are merged before they are copied
        copied(*arguments)  # type: ignore[arg-type]

    grow(3)
    monkeypatch.setattr(Segments, "current", list_then_record)
    monkeypatch.setattr(fetch, "_copy_files", record_then_copy)
    fetched = fetch.fetch(tmp_path / "growing", tmp_path / "here")
    assert len(fetched.trials) >= 8
    assert len(fetched.curves) == 2 * len(fetched.trials)
    raw = pd.read_parquet(fetched.path / "curves")
    assert set(raw["trial"]) == set(fetched.trials["trial"]), "curves of trials without a row were copied"
    assert len(load(tmp_path / "growing").trials) == 13
    grown.close()
