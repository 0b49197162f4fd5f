"""Studies whose run directories are in an object store give the frames that they give on a disk."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import caviar as cv
from caviar.backends.ray.backend import RayBackend
from caviar.cli.main import main
from caviar.driver import loop
from caviar.driver.backend import Backend
from caviar.driver.watcher import Watcher
from caviar.errors import DamagedError, InUseError, RunError
from caviar.operations.run import run_study
from caviar.records import ledger as ledger_module
from caviar.records.frames import Run, load
from caviar.records.ledger import Ledger
from caviar.records.run_files import StudyFile
from caviar.rounds import Halving
from caviar.storage import lease
from caviar.storage.location import Location
from caviar.storage.object_store import Store
from caviar.storage.uri import locate
from caviar.study import Study
from tests.object_store import ROOT, ObjectStore
from tests.objectives import Slow, bowl_study
from tests.records.ledgers import assert_recorded_less_often, new_ledger, record, reopen
from tests.runs import assert_same_frames, inline, resume_inline, run_inline

OTHER_LEASE = b"x 1\nprocess 7 on elsewhere\n"
STUDY = bowl_study(rounds=(12, 8), epochs=9, halving=Halving(cohort=3))
SMALL_STUDY = bowl_study(rounds=(6,))


@pytest.fixture
def runs(store: ObjectStore) -> str:
    return f"s3://{store.new_bucket()}/my/runs"


def with_leases_of(seconds: float, runs: str) -> Location:
    location = locate(runs)
    assert isinstance(location, Store)
    return replace(location, lease_s=seconds)


def key(where: str, name: str = "") -> str:
    """Return the name of an object for the store's own client."""
    return where.removeprefix("s3://") + name


def test_frames_equal_those_on_a_disk(store: ObjectStore, runs: str, whole: Run) -> None:
    run = run_inline(STUDY, runs)
    assert str(run.location) == f"{runs}/bowl"
    assert_same_frames(whole, run)
    assert key(runs, "/bowl/.lock") not in store.listed(key(runs)), "it is given back"
    with pytest.raises(RunError, match=rf"is not a local folder; copy it with `caviar fetch {runs}/bowl`"):
        run.path  # noqa: B018


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_frames_from_ray_equal_those_on_a_disk(runs: str, whole: Run) -> None:
    run = run_study(
        STUDY, runs=runs, progress=False, backend=lambda data: RayBackend(STUDY.objective, data, workers=2)
    )
    assert_same_frames(whole, run)


def test_any_parquet_reader_reads_frames_in_a_store(store: ObjectStore, runs: str) -> None:
    run = run_inline(STUDY, runs)
    trials = pd.read_parquet(key(runs, "/bowl/trials"), filesystem=store.files)
    assert trials.sort_values("trial")["value"].tolist() == run.trials["value"].tolist()


def test_networks_are_saved_to_a_store(runs: str) -> None:
    study = Study(
        name="iris",
        objective=cv.Classifier(data="sklearn:iris", engine="reference"),
        space=cv.Space(learning_rate=cv.log(1e-3, 1.0)),
        rounds=[cv.Round(6, 2), cv.Confirmation(2, 2)],
    )
    best = load(str(run_inline(study, runs).location)).best
    assert best is not None
    dataset = study.objective.load()
    assert dataset is not None
    assert dataset.test is not None
    right = best.predict(dataset.test.x * dataset.preprocessing.scale + dataset.preprocessing.shift)
    assert len(right) == best.test_rows


def test_the_command_line_repeats_no_secret(
    store: ObjectStore, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = store.new_bucket()
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden/key")
    query = f"?endpoint={store.endpoint}"
    run = f"s3://{bucket}/runs/bowl{query}"
    run_inline(STUDY, f"s3://{bucket}/runs{query}")
    script = tmp_path / "experiment.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.storage.test_object_store import STUDY\nstudy = STUDY\n"
    )
    assert main(["show", run]) == 0
    assert f"caviar.load('{run}')" in capsys.readouterr().out.replace("\n", "")
    assert main(["resume", run, str(script)]) == 0
    for path in store.listed(f"{bucket}/runs/bowl/trials"):
        store.put(path, b"damaged")
    assert main(["show", run]) == 1
    assert main(["resume", run]) == 1
    assert main(["show", run.replace("runs/bowl", "nowhere")]) == 1
    assert main(["fetch", run, str(tmp_path / "x")]) == 1
    written = capsys.readouterr()
    everything = written.out + written.err + str([store.get(path) for path in store.listed(bucket)])
    assert "hidden" not in everything


def test_taken_names_are_numbered_or_refused(runs: str) -> None:
    ledgers = [new_ledger(runs, numbered=True) for _ in range(3)]
    assert [ledger.location.name for ledger in ledgers] == ["bowl", "bowl-2", "bowl-3"]
    for ledger in ledgers:
        ledger.close()
    with pytest.raises(
        RunError, match=rf"exists already: .*, or continue it with `caviar resume {runs}/bowl`"
    ):
        new_ledger(runs)


def test_drivers_that_start_together_get_runs_of_their_own(runs: str) -> None:
    begun: list[Ledger] = []
    threads = [
        threading.Thread(target=lambda: begun.append(new_ledger(runs, numbered=True))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({str(ledger.location) for ledger in begun}) == 4
    for number, ledger in enumerate(begun):
        record(ledger, [number])
        ledger.close()


def test_a_second_driver_is_refused(runs: str, caplog: pytest.LogCaptureFixture) -> None:
    ledger = new_ledger(with_leases_of(6.0, runs))
    with pytest.raises(InUseError, match=rf"in use by another caviar \(process {os.getpid()} on "):
        reopen(ledger.location)
    record(ledger, [0])
    ledger.close()
    caplog.clear()
    reopen(locate(f"{runs}/bowl")).close()
    assert not caplog.records, "a released lease is not waited for"


def test_a_driver_that_lost_its_lease_writes_nothing(
    store: ObjectStore, runs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEWED_WITHIN_S", 0.0)
    first = new_ledger(runs)
    record(first, [0])
    store.put(key(runs, "/bowl/.lock"), OTHER_LEASE)
    written = store.listed(key(runs))
    attempts: list[Callable[[], object]] = [
        lambda: record(first, [1]),
        first.merge,
        lambda: first.write_rounds([]),
    ]
    for attempt in attempts:
        with pytest.raises(RunError, match=r"was taken over by another caviar \(process 7 on elsewhere\)"):
            attempt()
    with pytest.raises(RunError, match=r"was taken over"):
        first.check_lock()
    first.close()
    assert store.listed(key(runs)) == written


def test_a_driver_stops_when_it_loses_its_lease(store: ObjectStore, runs: str) -> None:
    def overwrite_lease() -> bool:
        if store.listed(key(runs, "/bowl/trials")):
            store.put(key(runs, "/bowl/.lock"), OTHER_LEASE)
        return False

    study = bowl_study(rounds=(200,), objective=Slow(pause_s=0.01))
    ledger = Ledger.create(
        with_leases_of(1.0, runs), "bowl", StudyFile.describe(study, None, None), numbered=False
    )
    backend = inline(study)(None)
    watcher = loop.Loop(study, None, ledger, backend, Watcher(), overwrite_lease)
    with pytest.raises(RunError, match=r"was taken over by another caviar \(process 7 on elsewhere\)"):
        watcher.run()
    ledger.close()


EXPERIMENT = """
import sys
from dataclasses import replace
from caviar.storage.uri import locate
from tests.objectives import Slow, bowl_study
from tests.runs import run_inline

runs = replace(locate(sys.argv[1]), lease_s=6.0)
run_inline(bowl_study(rounds=(120, 40), objective=Slow(pause_s=0.2)), runs)
"""


@pytest.mark.slow
def test_a_killed_driver_is_resumed_after_its_lease(store: ObjectStore, runs: str, tmp_path: Path) -> None:
    study = bowl_study(rounds=(120, 40), objective=Slow(pause_s=0.0))
    driver = subprocess.Popen(
        [sys.executable, "-c", EXPERIMENT, runs], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    while len(store.listed(key(runs, "/bowl/trials"))) < 2:
        assert driver.poll() is None, "the driver ended by itself"
        time.sleep(0.05)
    with pytest.raises(RunError, match=rf"in use by another caviar \(process {driver.pid} on "):
        resume_inline(study, with_leases_of(6.0, f"{runs}/bowl"))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    recorded = load(f"{runs}/bowl").trials
    resumed = resume_inline(study, with_leases_of(6.0, f"{runs}/bowl"))
    kept = resumed.trials[resumed.trials["trial"].isin(recorded["trial"])]
    assert 0 < len(recorded) < len(resumed.trials)
    assert kept["train_s"].tolist() == recorded["train_s"].tolist(), "a recorded trial was trained again"
    assert_same_frames(run_inline(study, tmp_path), resumed)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of STUDY on a disk."""
    return run_inline(STUDY, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("table", ["trials", "curves"])
@pytest.mark.parametrize("harm", ["truncated", "flipped"])
def test_repair_trains_the_trials_of_damaged_objects_again(
    store: ObjectStore, runs: str, table: str, harm: str, tmp_path: Path
) -> None:
    run_inline(SMALL_STUDY, runs)
    path = store.listed(key(runs, f"/bowl/{table}"))[0]
    content = bytearray(store.get(path))
    content[60] ^= 1
    store.put(path, bytes(content) if harm == "flipped" else bytes(content[:-100]))
    with pytest.raises(DamagedError, match=rf"s3://{path} is damaged.*`caviar resume .*/bowl.* --repair`"):
        resume_inline(SMALL_STUDY, f"{runs}/bowl")
    repaired = resume_inline(SMALL_STUDY, f"{runs}/bowl", repair=True)
    name = path.rpartition("/")[2]
    assert key(runs, f"/bowl/damaged/{table}/{name}") in store.listed(key(runs))
    whole = run_inline(SMALL_STUDY, tmp_path)
    pd.testing.assert_frame_equal(repaired.trials[["trial", "value"]], whole.trials[["trial", "value"]])
    pd.testing.assert_frame_equal(repaired.curves, whole.curves)


def test_frames_are_read_while_a_driver_merges(runs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MERGE_AT", 3)
    ledger = new_ledger(runs)
    seen, over = [0], threading.Event()

    def read() -> None:
        while not over.is_set():
            run = load(f"{runs}/bowl")
            assert run.trials["trial"].tolist() == list(range(len(run.trials)))
            assert len(run.curves) == 2 * len(run.trials)
            seen.append(len(run.trials))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(12):
        record(ledger, [number])
    over.set()
    reader.join()
    ledger.close()
    assert seen == sorted(seen)
    assert len(set(seen)) > 2, "the run was never read while it grew"
    assert len(load(f"{runs}/bowl").trials) == 12


def test_losing_the_store_loses_no_recorded_trials(store: ObjectStore, runs: str, tmp_path: Path) -> None:
    study = bowl_study(rounds=(40, 20), objective=Slow(pause_s=0.0))
    slowly = replace(study, objective=Slow(pause_s=0.02))
    gone = threading.Event()

    def go_away() -> None:
        while not store.listed(key(runs, "/bowl/trials")):
            time.sleep(0.02)
        store.tell("stop")
        gone.set()

    thread = threading.Thread(target=go_away)
    thread.start()
    try:
        with pytest.raises(
            RunError, match=r"cannot .* s3://.*: no answer from the store of s3://bucket-\d+; check"
        ):
            run_inline(slowly, runs)
        thread.join()
        assert gone.is_set()
    finally:
        store.tell("start")  # for the tests that follow
    recorded = load(f"{runs}/bowl").trials
    resumed = resume_inline(study, with_leases_of(0.5, f"{runs}/bowl"))
    kept = resumed.trials[resumed.trials["trial"].isin(recorded["trial"])]
    assert 0 < len(recorded) < len(resumed.trials)
    assert kept["train_s"].tolist() == recorded["train_s"].tolist()
    assert_same_frames(run_inline(study, tmp_path), resumed)


@pytest.mark.slow
def test_a_slow_store_is_written_less_often(
    store: ObjectStore, runs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = bowl_study(rounds=(300,), objective=Slow(pause_s=0.05))
    with store.told("delay 0.05", "delay 0"):
        run = assert_recorded_less_often(study, runs, monkeypatch)
    assert_same_frames(run_inline(study, tmp_path), run)


@pytest.mark.parametrize(
    ("runs", "sentence"),
    [
        ("s3://no-such-bucket/runs", "there is no bucket s3://no-such-bucket; create it"),
        ("s3://b/runs?endpoint=http://127.0.0.1:1", "no answer from the store of s3://b"),
        ("nowhere://b/runs", "is not supported"),
    ],
)
@pytest.mark.usefixtures("store")
def test_invalid_places_are_refused_before_workers_start(runs: str, sentence: str) -> None:
    def no_workers(dataset: object) -> Backend:
        raise AssertionError("it is too late to refuse")

    with pytest.raises(RunError, match=sentence):
        run_study(STUDY, runs=runs, progress=False, backend=no_workers)
    with pytest.raises(RunError, match=sentence):
        load(runs)
