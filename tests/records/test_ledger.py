"""The ledger keeps what it acknowledged, and says clearly what it cannot."""

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from caviar.driver import controller, loop
from caviar.errors import DamagedError, RunError
from caviar.records.frames import Run, load
from caviar.records.ledger import Ledger
from caviar.records.run_files import FORMAT, StudyFile
from caviar.runner import run_study
from caviar.storage import local
from caviar.storage.local import Disk
from caviar.storage.location import Location
from caviar.study import Study
from caviar.trial import Measurement, Outcome, Result, Times, Trial
from tests.objectives import Slow, bowl_study
from tests.runs import assert_same_frames, resume_inline, run_inline

STUDY = bowl_study(rounds=(12, 8))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return run_inline(STUDY, tmp_path / "runs")


def ledger(folder: Path, name: str = "run") -> Ledger:
    return Ledger.create(Disk(folder), name, StudyFile.describe(STUDY, None, None), numbered=False)


def reopened(run: Location) -> Ledger:
    return Ledger.reopen(run, StudyFile.read(run))


def result(number: int) -> Result:
    return Result(
        trial=Trial(number=number, round=1, params={"rate": 0.5, "method": None}, epochs=2, seed=7),
        outcome=Outcome.COMPLETED,
        value=0.25,
        measurements=(
            Measurement(1, {"loss": 0.5, "speed": 0.0}),
            Measurement(2, {"loss": 0.25, "speed": 1.0}),
        ),
        times=Times(queue_s=1.0, train_s=2.0),
    )


def segments(run: Run) -> list[Path]:
    return sorted((run.path / "trials").glob("part-*.parquet"))


def test_what_was_appended_is_in_the_frames(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    book.append([result(1), result(0)])
    book.append([result(2)])
    run = load(tmp_path / "run")
    assert run.trials["trial"].tolist() == [0, 1, 2]
    assert run.trials["params_method"].tolist() == ["null"] * 3
    assert run.trials["params_beta"].isna().all()
    assert run.trials["loss"].tolist() == [0.25] * 3
    assert run.curves[["trial", "epoch"]].to_numpy().tolist() == [[n, e] for n in range(3) for e in (1, 2)]


def test_frames_are_plain_parquet_that_any_reader_understands(run: Run) -> None:
    trials = pd.read_parquet(run.path / "trials").sort_values("trial", ignore_index=True)
    assert trials["value"].tolist() == run.trials["value"].tolist()
    assert len(pd.read_parquet(run.path / "curves")) == len(run.curves)


def test_the_rounds_hold_what_their_decisions_rest_on(run: Run) -> None:
    rounds = run.rounds
    declared = rounds["action"] == "declared"
    assert rounds.loc[declared, "counts"].isna().all()
    decided = rounds[~declared]
    assert len(decided) > 0
    written = json.loads((run.path / "rounds.json").read_text())
    decisions = {(entry["round"], d["parameter"]): d for entry in written for d in entry["decisions"]}
    for row in decided.to_dict(orient="records"):
        assert row["counts"] == decisions[row["round"], row["parameter"]]["counts"]
    method = decided[decided["parameter"] == "method"]
    assert [sum(counts) for counts in method["counts"]] == method["elite"].tolist()


def test_columns_keep_their_types_beside_empty_cells(run: Run) -> None:
    types = run.trials.dtypes.astype(str)
    assert types["trial"] == types["confirms"] == "int64[pyarrow]"
    assert types["value"] == types["params_beta"] == "double[pyarrow]"
    assert types["outcome"] == types["params_method"] == "string[pyarrow]"


def test_the_columns_of_rounds_have_the_types_of_those_of_trials_but_for_what_is_of_several_kinds(
    run: Run, tmp_path: Path
) -> None:
    ledger(tmp_path)
    for rounds in (run.rounds, load(tmp_path / "run").rounds):
        types = rounds.dtypes.astype(str)
        assert set(types[["round", "trials", "epochs", "elite"]]) == {"int64[pyarrow]"}
        assert set(types[["width", "low", "high", "elite_low", "elite_high"]]) == {"double[pyarrow]"}
        assert set(types[["parameter", "action", "before", "after", "reason"]]) == {"string[pyarrow]"}
        assert set(types[["options", "counts", "best"]]) == {"object"}
    declared = run.rounds[run.rounds["action"] == "declared"]
    assert set(declared["elite"]) == set(declared["before"]) == {pd.NA}


@pytest.mark.parametrize("hostile", [[], {}, [[[]]], "3", 1e308, 2**70])
def test_rounds_that_hold_something_else_are_damaged(run: Run, hostile: Any) -> None:
    file = run.path / "rounds.json"
    written = json.loads(file.read_text())
    decision = next(d for entry in written for d in entry["decisions"])
    decision["elite"] = hostile
    file.write_text(json.dumps(written))
    with pytest.raises(DamagedError, match=r"rounds\.json is damaged"):
        load(run.path).rounds  # noqa: B018


def test_the_frames_of_a_run_that_never_began_are_empty_but_have_their_columns(tmp_path: Path) -> None:
    ledger(tmp_path)
    run = load(tmp_path / "run")
    assert len(run.trials) == len(run.curves) == len(run.rounds) == 0
    assert "value" in run.trials.columns
    assert run.best is None


def test_a_second_driver_is_refused_while_the_first_is_at_work(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    with pytest.raises(RunError, match=f"in use by another caviar .process {os.getpid()}"):
        reopened(Disk(tmp_path / "run"))
    book.close()
    reopened(Disk(tmp_path / "run")).close()


def test_the_driver_that_is_at_work_is_known_until_its_end(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    assert book.location.holder() == f"process {os.getpid()} on {socket.gethostname()}"
    book.close()
    assert book.location.holder() is None
    assert Disk(tmp_path / "nothing").holder() is None


def test_the_lock_of_a_killed_driver_is_not_in_the_way(tmp_path: Path) -> None:
    ledger(tmp_path).close()
    code = f"import fcntl, os; fcntl.flock(open({str(tmp_path / 'run' / '.lock')!r}, 'a'), 2); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    reopened(Disk(tmp_path / "run")).close()


def test_names_that_are_taken_are_numbered_or_refused(tmp_path: Path) -> None:
    assert [run_inline(STUDY, tmp_path).path.name for _ in range(3)] == ["bowl", "bowl-2", "bowl-3"]
    with pytest.raises(RunError, match="exists already: choose another --name, or go on with it"):
        ledger(tmp_path, "bowl")


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    book = ledger(tmp_path)
    assert book.location == Disk(tmp_path / "run")
    assert StudyFile.read(book.location).study["name"] == "bowl"
    with pytest.raises(RunError, match="in use by another caviar"):
        reopened(book.location)


def test_what_is_no_run_directory_is_not_said_to_be_resumable(tmp_path: Path) -> None:
    (tmp_path / "run" / "trials").mkdir(parents=True)
    (tmp_path / "file").touch()
    for name in ("run", "file"):
        with pytest.raises(RunError, match="choose another --name, or remove it: it is no run directory"):
            ledger(tmp_path, name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "run"]


def test_runs_in_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(
        RunError, match=r"cannot write to .*runs.*: .* a file .*; or choose another folder with --runs"
    ):
        ledger(tmp_path / "runs")


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP])
def test_a_disk_without_locks_is_not_taken_for_another_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(
        RunError, match=r"cannot be locked against a second driver \(.*\): its disk has no locks"
    ):
        ledger(tmp_path)


def test_a_truncated_segment_is_named_and_its_trials_are_trained_again_on_request(run: Run) -> None:
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
def test_a_flipped_bit_is_noticed_and_its_trials_are_trained_again(run: Run, table: str, place: int) -> None:
    path = sorted((run.path / table).glob("part-*.parquet"))[0]
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=path.name):
        resume_inline(STUDY, run.path)
    resume_inline(STUDY, run.path, repair=True)
    assert load(run.path).trials["trial"].tolist() == list(range(35))


def test_curves_that_a_killed_driver_left_without_rows_do_not_count(run: Run, tmp_path: Path) -> None:
    whole = run_inline(STUDY, tmp_path / "other")
    last = segments(run)[-1]
    last.unlink()
    assert set(load(run.path).curves["trial"]) == set(load(run.path).trials["trial"])
    assert_same_frames(whole, resume_inline(STUDY, run.path))


def test_what_is_no_run_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no such run directory"):
        load(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(RunError, match=r"is not a run directory: it has no study\.json"):
        load(tmp_path)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(DamagedError, match=r"study.json is damaged: it is not JSON"):
        load(tmp_path)


def test_a_run_of_another_version_is_refused(run: Run) -> None:
    path = run.path / "study.json"
    header = json.loads(path.read_text())
    path.write_text(json.dumps({**header, "format": 99}))
    with pytest.raises(RunError, match=f"format 99.*reads format {FORMAT}"):
        load(run.path)
    path.write_text(json.dumps({**header, "versions": {**header["versions"], "torch": "1.0"}}))
    with pytest.raises(RunError, match=r"started with torch 1\.0"):
        resume_inline(STUDY, run.path)


def test_a_run_of_another_study_is_refused_and_says_what_differs(run: Run) -> None:
    with pytest.raises(RunError, match=r"differs in seed: run this one under another name"):
        resume_inline(bowl_study(rounds=(12, 8), seed=5), run.path)


def test_a_full_disk_stops_the_study_and_what_was_recorded_is_safe(small_disk: Path) -> None:
    study = bowl_study(rounds=(400, 400))
    with pytest.raises(
        RunError, match=rf"cannot write .*No space left on device.*caviar resume {small_disk}/bowl`"
    ):
        run_inline(study, small_disk)
    recorded = load(small_disk / "bowl").trials
    assert not list((small_disk / "bowl").rglob(".*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    resumed = resume_inline(study, small_disk / "bowl")
    assert resumed.trials["trial"].tolist() == list(range(815))
    kept = resumed.trials[resumed.trials["trial"].isin(recorded["trial"])]
    assert kept["train_s"].tolist() == recorded["train_s"].tolist()


def test_a_read_only_disk_is_refused_before_any_work(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(
        RunError, match=r"cannot write to .*Read-only file system; make it writable; .*--runs"
    ):
        run_study(STUDY, runs=small_disk / "runs", backend=lambda data: pytest.fail("workers were started"))


def test_room_is_spoken_of_only_where_a_disk_is_full(small_disk: Path) -> None:
    with pytest.raises(RunError, match=r"No space left on device; make room \(\d+ MiB free\)$"):
        (Disk(small_disk) / "file").write(bytes(2**20))
    book = ledger(small_disk)
    book.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for attempt in (lambda: book.location.lock(), lambda: (book.location / "file").write(b"")):
        with pytest.raises(RunError, match=r"Read-only file system; make it writable$"):
            attempt()


def assert_recorded_less_often(study: Study, runs: str | Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a study of one round where recording is slow: most of the time nothing is recorded, but results gather."""
    append = Ledger.append
    appended: list[tuple[float, float]] = []

    def timed_append(book: Ledger, results: Sequence[Result]) -> None:
        began = time.monotonic()
        append(book, results)
        appended.append((began, time.monotonic()))

    with monkeypatch.context() as patch:
        patch.setattr(controller, "MAX_CHUNK", 1)
        patch.setattr(Ledger, "append", timed_append)
        run = run_inline(study, runs)
    stages = run.trials["round"].nunique()  # what is left of a stage is recorded at once
    assert len(appended) > stages
    pauses = [(end - begin, later - end) for (begin, end), (later, _) in pairwise(appended)]
    short = [took_s for took_s, pause_s in pauses if pause_s < min(loop.RECORD_FACTOR * took_s, 5.0)]
    assert len(short) <= stages
    return run


def test_a_slow_disk_is_written_to_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, sync = bowl_study(rounds=(150,), objective=Slow(pause_s=0.01)), local._sync

    def slow_sync(path: Path) -> None:
        time.sleep(0.02)
        sync(path)

    with monkeypatch.context() as patch:
        patch.setattr(local, "_sync", slow_sync)
        run = assert_recorded_less_often(study, tmp_path / "slow", monkeypatch)
    assert_same_frames(run_inline(study, tmp_path / "quick"), run)
