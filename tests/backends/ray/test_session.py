"""Sessions: their environment, what they leave on the disk, and clear errors when a local cluster fails."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from caviar.backends.ray import session
from caviar.backends.ray.placement import WorkerRequest
from caviar.backends.ray.private_api import hold_signals, mute_ray, predict_resources
from caviar.backends.ray.session import Session, ray_environment
from caviar.backends.ray.session_cleanup import remove_stale_sessions
from caviar.errors import ClusterError
from tests.objectives import bowl_study
from tests.runs import run_on_ray

ROOT = Path(__file__).parents[3]


@pytest.fixture
def no_ray_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # it may hold the user's token


@pytest.mark.usefixtures("no_ray_variables")
def test_variables_are_removed_after_the_session() -> None:
    before = dict(os.environ)
    with ray_environment("local"):
        assert os.environ["RAY_AUTH_MODE"] == "token"
        token = os.environ["RAY_AUTH_TOKEN"]
    assert dict(os.environ) == before
    with ray_environment("local"):
        assert os.environ["RAY_AUTH_TOKEN"] != token
    with ray_environment("10.0.0.1:6379"):
        assert os.environ["RAY_AUTH_MODE"] == "disabled"
        assert "RAY_AUTH_TOKEN" not in os.environ


@pytest.mark.usefixtures("no_ray_variables")
def test_the_users_variables_keep_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "theirs")
    monkeypatch.setenv("RAY_ROTATION_MAX_BYTES", "7")
    before = dict(os.environ)
    with ray_environment("10.0.0.1:6379"):
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert os.environ["RAY_AUTH_TOKEN"] == "theirs"
        assert os.environ["RAY_ROTATION_MAX_BYTES"] == "7"
    assert dict(os.environ) == before


def test_cleaning_up_removes_only_its_own_folder(tmp_path: Path) -> None:
    ours, other = tmp_path / "session_1", tmp_path / "session_2"
    for folder in (ours, other):
        (folder / "logs").mkdir(parents=True)
    latest = tmp_path / "session_latest"
    latest.symlink_to(ours)
    Session(None, ours).clean_up()
    assert list(tmp_path.iterdir()) == [other]
    latest.symlink_to(other)
    Session(None).clean_up()
    Session(None, ours).clean_up()
    assert latest.readlink() == other


def test_logs_of_a_failed_session_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Session(None, tmp_path, keep_logs=True).clean_up()
    assert tmp_path.exists()
    assert caplog.messages == [f"something went wrong in Ray; its logs are in {tmp_path / 'logs'}"]


CRASHING = """
import os
import caviar as cv

def train(params):
    os._exit(3)

study = cv.Study(
    name="mine", objective=cv.Function(train), space=cv.Space(x=cv.linear(0, 1)), rounds=[cv.Round(3, 1)]
)
"""


@pytest.mark.slow
def test_ray_prints_nothing_about_trials_that_crash(tmp_path: Path) -> None:
    (tmp_path / "crashing.py").write_text(CRASHING)
    ended = subprocess.run(
        [sys.executable, "-m", "caviar", "run", "crashing.py", "--workers", "2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "its worker died 2 times" in ended.stderr
    for phrase in ("(raylet)", "Lease ID", "\x1b["):
        assert phrase not in ended.stderr


def test_ray_is_muted_only_inside() -> None:
    import ray

    worker: Any = ray._private.worker
    before = worker._worker_logs_enabled
    with mute_ray():
        assert not worker._worker_logs_enabled
    assert worker._worker_logs_enabled is before is True


def test_an_attribute_that_ray_has_moved_is_not_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    worker: Any = ray._private.worker
    monkeypatch.delattr(worker, "_worker_logs_enabled")
    with mute_ray():
        assert not hasattr(worker, "_worker_logs_enabled")


def test_resources_of_a_local_cluster_are_known_before_it_starts() -> None:
    resources = predict_resources(num_cpus=3, num_gpus=0, object_store_memory=2**27)
    assert resources is not None
    assert (resources["CPU"], resources.get("GPU", 0)) == (3, 0)


TWICE = """
import os
from pathlib import Path
import ray
from caviar.backends.ray import session
from tests.objectives import Bowl, bowl_study

folders = []
clean_up = session.Session.clean_up
session.Session.clean_up = lambda ended: (folders.append(ended.folder), clean_up(ended))
for objective in (Bowl("segfault", frozenset({2})), Bowl()):
    run = bowl_study(rounds=(6, 4), objective=objective).run(workers=1, progress=False)
    assert not [name for name in os.environ if name.startswith("RAY_AUTH")]
    ray.init(address="local", num_cpus=1, include_dashboard=False)  # the user's own cluster comes between
    ray.shutdown()
    os.environ.pop("RAY_AUTH_MODE", None)  # Ray has set it
    print(run.finished, folders[-1].exists())
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_one_process_runs_one_local_cluster_after_another(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    ended = subprocess.run(
        [sys.executable, "-c", TWICE],
        cwd=tmp_path,
        env={**kept, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},  # Ray keeps the user's token there
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    first, second = ended.stdout.splitlines()
    assert first == "True True"
    assert "something went wrong in Ray; its logs are in /tmp/ray/session_" in ended.stderr
    assert second == "True False"


def test_a_cluster_that_cannot_start_is_reported_in_a_sentence(tmp_path: Path) -> None:
    script = tmp_path / "experiment.py"
    script.write_text("from tests.objectives import bowl_study\nstudy = bowl_study()\n")
    folder = tmp_path / ("a_path_too_long_for_sockets" * 5)
    folder.mkdir()
    ended = subprocess.run(
        [sys.executable, "-m", "caviar", "run", script, "--runs", tmp_path / "runs", "--workers", "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "caviar: cannot start a Ray cluster on this machine: " in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("kind", ["raylet", "gcs_server"])
def test_a_dead_cluster_ends_the_driver_with_advice(tmp_path: Path, kind: str) -> None:
    script = tmp_path / "experiment.py"
    script.write_text(
        "from tests.objectives import Slow, bowl_study\nstudy = bowl_study(rounds=(6000,), objective=Slow())\n"
    )
    driver = subprocess.Popen(
        [sys.executable, "-m", "caviar", "run", script, "--runs", tmp_path / "runs", "--workers", "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,  # Ray prints its last lines there
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list((tmp_path / "runs").glob("bowl/trials/part-*.parquet")):
        assert driver.poll() is None, driver.communicate()[1]
        time.sleep(0.1)
    (victim,) = (p for p in psutil.Process(driver.pid).children() if p.name() == kind)
    victim.kill()
    _, said = driver.communicate(timeout=300)
    assert driver.returncode == 1
    assert f"caviar: the Ray cluster died: its {kind} ended unexpectedly" in said
    assert "caviar resume" in said
    assert "something went wrong in Ray; its logs are in" in said
    assert "Traceback" not in said


THREADS = """
import threading
import caviar as cv
from tests.objectives import bowl_study

def go(name):
    try:
        print(name, bowl_study(rounds=(6,)).run(name=name, workers=1, progress=False).finished, flush=True)
    except cv.ClusterError as error:
        print(name, "refused", flush=True)

for names in (["first", "second"], ["third"]):
    threads = [threading.Thread(target=go, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_of_two_threads_one_runs_its_study(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", THREADS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    *both, third = ended.stdout.splitlines()
    assert sorted(line.split()[1] for line in both) == ["True", "refused"]
    assert third == "third True"


@pytest.mark.ray
def test_threads_share_the_users_connection(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        one, two = pool.map(lambda seed: run_on_ray(bowl_study(seed=seed), tmp_path / f"{seed}", 1), (1, 2))
    assert one.finished
    assert two.finished


def test_a_process_has_one_connection_of_its_own() -> None:
    request = WorkerRequest(None, 1, 0)
    with session._connected, pytest.raises(ClusterError, match="another study"):
        session.connect("local", request, 0).__enter__()


def test_a_signal_is_handled_when_ray_has_started() -> None:
    happened: list[str] = []

    def stop(number: int, frame: object) -> None:
        happened.append("handled")
        raise KeyboardInterrupt

    def start() -> None:
        with hold_signals():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            happened.append("started")

    before = signal.signal(signal.SIGINT, stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            start()
        assert happened == ["started", "handled"]
        assert signal.getsignal(signal.SIGINT) is stop
    finally:
        signal.signal(signal.SIGINT, before)


STARTING = """
import sys
from caviar.backends.ray import session
from caviar.cli.main import main

claim = session.Session.claim

def claim_and_print(started, folder):
    claim(started, folder)
    print(folder, flush=True)

session.Session.claim = claim_and_print
sys.exit(main(["run", "experiment.py", "--workers", "1"]))
"""


def start_driver(folder: Path) -> tuple["subprocess.Popen[str]", Path]:
    """Start a driver; return it with its session's folder as soon as Ray begins to start there."""
    (folder / "experiment.py").write_text("from tests.objectives import bowl_study\nstudy = bowl_study()\n")
    driver = subprocess.Popen(
        [sys.executable, "-c", STARTING],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    return driver, Path(driver.stdout.readline().strip())


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("delay_s", [0.0, 0.2, 0.5])
def test_a_driver_killed_while_ray_starts_leaves_nothing_for_long(tmp_path: Path, delay_s: float) -> None:
    driver, folder = start_driver(tmp_path)
    time.sleep(delay_s)
    driver.kill()
    driver.communicate()
    assert folder.exists()
    deadline = time.monotonic() + 60
    while folder.exists() and time.monotonic() < deadline:  # its raylet ends a moment after it
        remove_stale_sessions(folder.parent)
        time.sleep(0.2)
    assert not folder.exists()
    assert not processes_of(folder)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("delay_s", [0.0, 0.2, 0.5])
@pytest.mark.parametrize(
    "signals",
    [[signal.SIGINT], [signal.SIGINT, signal.SIGINT], [signal.SIGTERM], [signal.SIGHUP]],
    ids=["interrupted", "interrupted twice", "terminated", "terminal closed"],
)
def test_a_driver_stopped_while_ray_starts_leaves_nothing(
    tmp_path: Path, delay_s: float, signals: list[signal.Signals]
) -> None:
    driver, folder = start_driver(tmp_path)
    time.sleep(delay_s)
    for number in signals:
        driver.send_signal(number)
        time.sleep(0.1)
    _, said = driver.communicate(timeout=120)
    assert driver.returncode in (130, -signal.SIGINT), said  # the second signal may come after the end
    assert "caviar resume" not in said
    assert "Traceback" not in said
    assert not folder.exists()
    assert not processes_of(folder)
    assert not list((tmp_path / "runs").glob("*"))


def processes_of(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(folder.name in argument for argument in process.cmdline()):
                found.append(process)
    return found
