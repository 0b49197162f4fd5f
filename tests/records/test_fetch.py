"""A run is fetched to here whole, or not at all."""

from pathlib import Path

import pandas as pd
import pytest

import caviar as cv
from caviar.cli.main import main
from caviar.errors import DamagedError, RunError
from caviar.records import fetch, ledger
from caviar.records.frames import Run, load
from caviar.records.segments import Segments
from tests.object_store import ObjectStore
from tests.objectives import bowl_study
from tests.records.test_ledger import ledger as new_ledger
from tests.records.test_ledger import result
from tests.runs import assert_same_frames, resume_inline, run_inline

STUDY = bowl_study(rounds=(12, 8))


@pytest.fixture(params=["disk", "store"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    if request.param == "disk":
        return run_inline(STUDY, tmp_path / "there")
    store: ObjectStore = request.getfixturevalue("store")
    return run_inline(STUDY, f"s3://{store.new_bucket()}/there")


def test_a_fetched_run_is_the_same_and_can_be_resumed(run: Run, tmp_path: Path) -> None:
    fetched = cv.fetch(str(run.location), tmp_path / "here" / "digits")
    assert fetched.path == tmp_path / "here" / "digits"
    assert_same_frames(run, fetched)
    assert_same_frames(run, resume_inline(STUDY, fetched.path))
    assert [entry.name for entry in fetched.path.parent.iterdir()] == ["digits"]


def test_a_network_is_fetched_with_its_run(tmp_path: Path) -> None:
    study = cv.Study(
        name="iris",
        objective=cv.Classifier(data="sklearn:iris"),
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
        ".lock", "curves", "rounds.json", "study.json", "trials",
    ]  # fmt: skip


def test_the_command_line_fetches_to_the_folder_of_runs(
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


def test_what_cannot_be_fetched_leaves_nothing_here(tmp_path: Path) -> None:
    there = run_inline(STUDY, tmp_path / "there")
    segment = next((there.path / "curves").glob("part-*"))
    segment.write_bytes(segment.read_bytes()[:-9])
    here = tmp_path / "here"
    with pytest.raises(DamagedError, match=rf"{segment} is damaged"):
        cv.fetch(there.path, here / "bowl")
    with pytest.raises(RunError, match="there is no such run directory"):
        cv.fetch(tmp_path / "nowhere", here / "bowl")
    with pytest.raises(RunError, match=r"a run is fetched to a folder of this machine"):
        cv.fetch(there.path, "s3://bucket/bowl?endpoint=http://127.0.0.1:1")
    assert not here.exists() or not list(here.iterdir())


@pytest.mark.parametrize("name", ["../../escaped.txt", "best/../../escaped.txt", "./x", "/x", ".."])
def test_a_name_in_a_store_that_leads_out_of_the_run_is_refused(
    store: ObjectStore, tmp_path: Path, name: str
) -> None:
    bucket = store.new_bucket()
    run = run_inline(STUDY, f"s3://{bucket}/runs")
    store.put_as_named(f"{bucket}/runs/bowl/{name}", b"hostile")
    here = tmp_path / "one" / "two" / "here"
    with pytest.raises(
        RunError, match=rf"s3://{bucket}/runs/bowl.*: .* cannot be that of a file; remove that"
    ):
        cv.fetch(str(run.location), here)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not here.exists()


def test_on_a_full_disk_it_is_said_how_to_fetch_it_elsewhere(small_disk: Path, tmp_path: Path) -> None:
    there = run_inline(bowl_study(rounds=(400, 400)), tmp_path / "the runs")
    with pytest.raises(
        RunError,
        match=rf"No space left on device; make room .*; or name another folder, `caviar fetch '{there.path}' DEST`$",
    ):
        cv.fetch(there.path, small_disk / "bowl")
    assert not list(small_disk.iterdir())


def test_a_run_is_fetched_while_it_grows_and_is_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MERGE_AT", 4)
    book = new_ledger(tmp_path, "growing")
    numbers = iter(range(1_000))
    listed, copied = Segments.list, fetch._copy_files

    def record(times: int) -> None:
        for _ in range(times):
            book.append([result(next(numbers))])

    def list_and_go_on(segments: Segments) -> list[object]:
        found = listed(segments)
        monkeypatch.setattr(Segments, "list", listed)
        record(5)  # rows come between those of the trials and those of the curves
        return found  # type: ignore[return-value]

    def go_on_and_copy(*arguments: object) -> None:
        monkeypatch.setattr(fetch, "_copy_files", copied)
        record(5)  # and what was listed is merged before it is copied
        copied(*arguments)  # type: ignore[arg-type]

    record(3)
    monkeypatch.setattr(Segments, "list", list_and_go_on)
    monkeypatch.setattr(fetch, "_copy_files", go_on_and_copy)
    fetched = fetch.fetch(tmp_path / "growing", tmp_path / "here")
    assert len(fetched.trials) >= 8
    assert len(fetched.curves) == 2 * len(fetched.trials)
    raw = pd.read_parquet(fetched.path / "curves")
    assert set(raw["trial"]) == set(fetched.trials["trial"]), "no rows that would be recorded again"
    assert len(load(tmp_path / "growing").trials) == 13
    book.close()
