"""Run directories on a disk: what is recorded in them, and what is refused."""

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from caviar.errors import DamagedError, RunError
from caviar.operations.run import run_study
from caviar.records.frames import Run, load, reproducible
from caviar.records.json_files import write_checked
from caviar.records.run_files import FORMAT, StudyFile, read_recorded, write_recorded
from caviar.storage import local
from caviar.storage.local import Disk
from caviar.trial import Measurement, Outcome
from tests.objectives import Slow, bowl_study
from tests.records.ledgers import STUDY, assert_recorded_less_often, new_ledger, record, reopen, result
from tests.runs import assert_same_frames, resume_inline, run_inline


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return run_inline(STUDY, tmp_path / "runs")


def segments(run: Run) -> list[Path]:
    return sorted((run.path / "trials").glob("part-*.parquet"))


def test_appended_results_are_in_the_frames(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    record(ledger, [1, 0])
    record(ledger, [2])
    run = load(tmp_path / "bowl")
    assert run.trials["trial"].tolist() == [0, 1, 2]
    assert run.trials["params_method"].tolist() == ["null"] * 3
    assert run.trials["params_beta"].isna().all()
    assert run.trials["loss"].tolist() == [0.25] * 3
    assert run.curves[["trial", "epoch"]].to_numpy().tolist() == [[n, e] for n in range(3) for e in (1, 2)]


def test_a_ledger_knows_what_it_and_earlier_ones_recorded(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    for numbers in ((4, 2), (3,), (1, 0), (5,), (7, 6, 8)):
        record(ledger, numbers)
        expected = reproducible(load(tmp_path / "bowl").trials)
        pd.testing.assert_frame_equal(ledger.trials(), expected)
    ledger.close()
    reopened = reopen(Disk(tmp_path / "bowl"))
    pd.testing.assert_frame_equal(reopened.trials(), expected)
    record(reopened, [9])
    assert reopened.trials()["trial"].tolist() == list(range(10))


@pytest.mark.parametrize("measured", ["fast", 1j, [1.0]])
def test_results_that_cannot_be_recorded_fail_alone(tmp_path: Path, measured: Any) -> None:
    strange = replace(result(1), measurements=(Measurement(1, {"loss": 0.5, "speed": measured}),))
    ledger = new_ledger(tmp_path)
    ledger.add([result(0), strange, result(2)])
    recorded = ledger.write()
    assert [r.outcome for r in recorded] == [Outcome.COMPLETED, Outcome.FAILED, Outcome.COMPLETED]
    run = load(tmp_path / "bowl")
    assert run.trials["outcome"].tolist() == [r.outcome for r in recorded]
    assert "cannot be recorded" in str(run.trials.loc[1, "failure"])
    assert run.curves["trial"].tolist() == [0, 0, 2, 2]


def test_scripts_of_any_file_name_are_recorded(tmp_path: Path) -> None:
    script = tmp_path / "caf\udce9.py"
    StudyFile.describe(STUDY, None, script).write(Disk(tmp_path))
    assert StudyFile.read(Disk(tmp_path)).script == str(script)


def test_frames_are_plain_parquet(run: Run) -> None:
    trials = pd.read_parquet(run.path / "trials").sort_values("trial", ignore_index=True)
    assert trials["value"].tolist() == run.trials["value"].tolist()
    assert len(pd.read_parquet(run.path / "curves")) == len(run.curves)


def test_rounds_hold_the_counts_of_their_decisions(run: Run) -> None:
    rounds = run.rounds
    declared = rounds["action"] == "declared"
    assert rounds.loc[declared, "counts"].isna().all()
    decided = rounds[~declared]
    assert len(decided) > 0
    written = json.loads((run.path / "rounds.json").read_text())["rounds"]
    decisions = {(entry["round"], d["parameter"]): d for entry in written for d in entry["decisions"]}
    for row in decided.to_dict(orient="records"):
        assert row["counts"] == decisions[row["round"], row["parameter"]]["counts"]
    method = decided[decided["parameter"] == "method"]
    assert [sum(counts) for counts in method["counts"]] == method["elite"].tolist()


def test_rounds_and_counts_that_follow_quickly_are_written_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caviar.records.ledger.NOTES_S", 3_600.0)
    ledger = new_ledger(tmp_path)
    file = tmp_path / "bowl" / "rounds.json"
    for count in (1, 2, 3):
        ledger.write_rounds([{"round": number} for number in range(count)])
        record(ledger, [count])
        assert len(json.loads(file.read_text())["rounds"]) == 1
        assert read_recorded(ledger.location) == 0
    ledger.close()
    assert len(json.loads(file.read_text())["rounds"]) == 3
    assert read_recorded(ledger.location) == 3


def test_added_results_count_before_they_are_written(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    ledger.add([result(1)])
    ledger.add([result(0)])
    assert ledger.trials()["trial"].tolist() == [0, 1]
    assert load(tmp_path / "bowl").trials.empty
    ledger.write()
    pd.testing.assert_frame_equal(ledger.trials(), reproducible(load(tmp_path / "bowl").trials))
    assert (ledger.has_unwritten, ledger.write()) == (False, [])


@pytest.mark.parametrize("hostile", [[], {}, [[[]]], "3", 1e308])
def test_rounds_of_another_shape_are_damaged(run: Run, hostile: Any) -> None:
    file = run.path / "rounds.json"
    written = json.loads(file.read_text())
    decision = next(d for entry in written["rounds"] for d in entry["decisions"])
    decision["elite"] = hostile
    write_checked(Disk(file), written)
    with pytest.raises(DamagedError, match=r"rounds\.json is damaged"):
        load(run.path).rounds  # noqa: B018


def test_empty_runs_have_frames_with_columns(tmp_path: Path) -> None:
    new_ledger(tmp_path)
    run = load(tmp_path / "bowl")
    assert len(run.trials) == len(run.curves) == len(run.rounds) == 0
    assert "value" in run.trials.columns
    assert run.best is None


def test_a_second_driver_is_refused(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    with pytest.raises(RunError, match=f"in use by another caviar .process {os.getpid()}"):
        reopen(Disk(tmp_path / "bowl"))
    ledger.close()
    reopen(Disk(tmp_path / "bowl")).close()


def test_the_holder_of_a_lock_is_known(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    assert ledger.location.holder() == f"process {os.getpid()} on {socket.gethostname()}"
    ledger.close()
    assert ledger.location.holder() is None
    assert Disk(tmp_path / "nothing").holder() is None


def test_the_lock_of_a_killed_driver_is_free(tmp_path: Path) -> None:
    new_ledger(tmp_path).close()
    code = f"import fcntl, os; fcntl.flock(open({str(tmp_path / 'bowl' / '.lock')!r}, 'a'), 2); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    reopen(Disk(tmp_path / "bowl")).close()


def test_taken_names_are_numbered_or_refused(tmp_path: Path) -> None:
    assert [run_inline(STUDY, tmp_path).path.name for _ in range(3)] == ["bowl", "bowl-2", "bowl-3"]
    with pytest.raises(RunError, match="exists already: choose another --name, or continue it with"):
        new_ledger(tmp_path)


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    (tmp_path / "bowl").mkdir()
    ledger = new_ledger(tmp_path)
    assert ledger.location == Disk(tmp_path / "bowl")
    assert StudyFile.read(ledger.location).study["name"] == "bowl"
    with pytest.raises(RunError, match="in use by another caviar"):
        reopen(ledger.location)


def test_other_folders_are_not_called_resumable(tmp_path: Path) -> None:
    (tmp_path / "bowl" / "trials").mkdir(parents=True)
    (tmp_path / "file").touch()
    for name in ("bowl", "file"):
        with pytest.raises(RunError, match="choose another --name, or remove it: it is not a run directory"):
            new_ledger(tmp_path, name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bowl", "file"]


def test_files_as_run_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(
        RunError, match=r"cannot write to .*runs.*: .* a file .*; or choose another folder with --runs"
    ):
        new_ledger(tmp_path / "runs")


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP])
def test_disks_without_locks_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(
        RunError, match=r"cannot be locked against a second driver \(.*\): its disk does not support locks"
    ):
        new_ledger(tmp_path)


def test_repair_trains_the_trials_of_truncated_segments_again(run: Run) -> None:
    whole = load(run.path)
    assert len(whole.trials) > 0
    assert len(whole.curves) > 0
    path = segments(run)[0]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedError, match=rf"{path.name} is damaged.*`caviar resume {run.path} --repair`"):
        load(run.path).trials  # noqa: B018
    with pytest.raises(DamagedError, match=path.name):
        resume_inline(STUDY, run.path)
    repaired = resume_inline(STUDY, run.path, repair=True)
    assert (run.path / "damaged" / "trials" / path.name).is_file()
    pd.testing.assert_frame_equal(repaired.trials[["trial", "value"]], whole.trials[["trial", "value"]])
    pd.testing.assert_frame_equal(repaired.curves, whole.curves)


@pytest.mark.parametrize("place", [60, -60])
@pytest.mark.parametrize("table", ["trials", "curves"])
def test_repair_trains_the_trials_of_flipped_bits_again(run: Run, table: str, place: int) -> None:
    trials = load(run.path).trials["trial"].tolist()
    path = sorted((run.path / table).glob("part-*.parquet"))[0]
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=path.name):
        resume_inline(STUDY, run.path)
    resume_inline(STUDY, run.path, repair=True)
    assert load(run.path).trials["trial"].tolist() == trials


def test_curves_without_trial_rows_are_ignored(run: Run, tmp_path: Path) -> None:
    whole = run_inline(STUDY, tmp_path / "other")
    segments(run)[-1].unlink()
    # As if the driver had been killed after it wrote the curves
    write_recorded(run.location, len(segments(run)))
    assert set(load(run.path).curves["trial"]) == set(load(run.path).trials["trial"])
    assert_same_frames(whole, resume_inline(STUDY, run.path))


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no such run directory"):
        load(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(RunError, match=r"is not a run directory: it has no study\.json"):
        load(tmp_path)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(DamagedError, match=r"study.json is damaged: it is not JSON"):
        load(tmp_path)


def test_runs_of_other_versions_are_refused(run: Run) -> None:
    path = run.path / "study.json"
    header = json.loads(path.read_text())
    path.write_text(json.dumps({**header, "format": 99}))
    with pytest.raises(RunError, match=f"format 99.*reads format {FORMAT}"):
        load(run.path)
    path.write_text(json.dumps({**header, "versions": {**header["versions"], "torch": "1.0"}}))
    with pytest.raises(RunError, match=r"started with torch 1\.0"):
        resume_inline(STUDY, run.path)


def test_runs_of_other_studies_are_refused(run: Run) -> None:
    with pytest.raises(RunError, match=r"differs in seed \(0 then, 5 now\): run this one under another name"):
        resume_inline(bowl_study(rounds=(12, 8), seed=5), run.path)


def test_a_full_disk_loses_no_recorded_trials(small_disk: Path) -> None:
    study = bowl_study(rounds=(400, 400))
    with pytest.raises(
        RunError, match=rf"cannot write .*No space left on device.*study.resume..{small_disk}/bowl"
    ):
        run_inline(study, small_disk)
    recorded = load(small_disk / "bowl").trials
    assert not list((small_disk / "bowl").rglob(".*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    resumed = resume_inline(study, small_disk / "bowl")
    assert len(resumed.trials) == 815
    assert resumed.trials["trial"].is_unique
    kept = resumed.trials[resumed.trials["trial"].isin(recorded["trial"])]
    assert kept["train_s"].tolist() == recorded["train_s"].tolist()


def test_read_only_disks_are_refused_before_workers_start(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(
        RunError, match=r"cannot write to .*Read-only file system; make it writable; .*--runs"
    ):
        run_study(STUDY, runs=small_disk / "runs", backend=lambda data: pytest.fail("workers were started"))


def test_free_space_is_named_only_on_full_disks(small_disk: Path) -> None:
    with pytest.raises(RunError, match=r"No space left on device; make room \(\d+ MiB free\)$"):
        (Disk(small_disk) / "file").write(bytes(2**20))
    ledger = new_ledger(small_disk)
    ledger.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for attempt in (lambda: ledger.location.lock(), lambda: (ledger.location / "file").write(b"")):
        with pytest.raises(RunError, match=r"Read-only file system; make it writable$"):
            attempt()


def test_a_slow_disk_is_written_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, sync = bowl_study(rounds=(60,), objective=Slow(pause_s=0.005)), local._sync

    def slow_sync(path: Path) -> None:
        time.sleep(0.01)
        sync(path)

    with monkeypatch.context() as patch:
        patch.setattr(local, "_sync", slow_sync)
        run = assert_recorded_less_often(study, tmp_path / "slow", monkeypatch)
    assert_same_frames(run_inline(study, tmp_path / "quick"), run)
