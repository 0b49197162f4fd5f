"""A cluster of our own leaves nothing behind, unless its logs tell of trouble."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from caviar.backends.ray.private_api import offer_of, silenced
from caviar.backends.ray.session import Session, environment

ROOT = Path(__file__).parents[3]


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # where a token of the user's own may lie


@pytest.mark.usefixtures("no_settings")
def test_settings_last_as_long_as_the_cluster() -> None:
    before = dict(os.environ)
    with environment("local"):
        assert os.environ["RAY_AUTH_MODE"] == "token"
        token = os.environ["RAY_AUTH_TOKEN"]
    assert dict(os.environ) == before
    with environment("local"):
        assert os.environ["RAY_AUTH_TOKEN"] != token
    with environment("10.0.0.1:6379"):
        assert os.environ["RAY_AUTH_MODE"] == "disabled"
        assert "RAY_AUTH_TOKEN" not in os.environ


@pytest.mark.usefixtures("no_settings")
def test_what_the_user_has_set_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "theirs")
    monkeypatch.setenv("RAY_ROTATION_MAX_BYTES", "7")
    before = dict(os.environ)
    with environment("10.0.0.1:6379"):
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert os.environ["RAY_AUTH_TOKEN"] == "theirs"
        assert os.environ["RAY_ROTATION_MAX_BYTES"] == "7"
    assert dict(os.environ) == before


def test_the_folder_of_a_session_goes_and_others_stay(tmp_path: Path) -> None:
    ours, other = tmp_path / "session_1", tmp_path / "session_2"
    for folder in (ours, other):
        (folder / "logs").mkdir(parents=True)
    latest = tmp_path / "session_latest"
    latest.symlink_to(ours)
    Session(None, ours).clear()
    assert list(tmp_path.iterdir()) == [other]
    latest.symlink_to(other)
    Session(None).clear()
    Session(None, ours).clear()
    assert latest.readlink() == other


def test_the_logs_of_a_troubled_session_stay_and_it_is_said_where(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Session(None, tmp_path, keep_logs=True).clear()
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
def test_of_trials_that_crash_only_caviar_tells(tmp_path: Path) -> None:
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
    for ray in ("(raylet)", "Lease ID", "\x1b["):
        assert ray not in ended.stderr


def test_ray_says_of_the_users_own_cluster_what_it_did() -> None:
    import ray

    worker: Any = ray._private.worker
    before = worker._worker_logs_enabled
    with silenced(ray):
        assert not worker._worker_logs_enabled
    assert worker._worker_logs_enabled is before is True


def test_what_a_cluster_here_will_have_is_known_before_it_starts() -> None:
    offer = offer_of(num_cpus=3, num_gpus=0, object_store_memory=2**27)
    assert offer is not None
    assert (offer["CPU"], offer.get("GPU", 0)) == (3, 0)


TWICE = """
import os
from pathlib import Path
import ray
from caviar.backends.ray import session
from tests.objectives import Bowl, bowl_study

folders = []
clear = session.Session.clear
session.Session.clear = lambda ended: (folders.append(ended.folder), clear(ended))
for objective in (Bowl("segfault", frozenset({2})), Bowl()):
    run = bowl_study(rounds=(6, 4), objective=objective).run(workers=1, progress=False)
    assert not [name for name in os.environ if name.startswith("RAY_AUTH")]
    ray.init(address="local", num_cpus=1, include_dashboard=False)  # the user's own is not in the way
    ray.shutdown()
    os.environ.pop("RAY_AUTH_MODE", None)  # which Ray has set
    print(run.finished, folders[-1].exists())
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_one_process_runs_one_local_cluster_after_another(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    ended = subprocess.run(
        [sys.executable, "-c", TWICE],
        cwd=tmp_path,
        env={**kept, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},  # where Ray keeps a token of the user
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    first, second = ended.stdout.splitlines()
    assert first == "True True"
    assert "something went wrong in Ray; its logs are in /tmp/ray/session_" in ended.stderr
    assert second == "True False"


def test_a_cluster_that_cannot_be_started_is_a_sentence(tmp_path: Path) -> None:
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


def process_of(driver: int, kind: str) -> int:
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, name, _, parent = status.read_text().split()[:4]
        except (OSError, ValueError):
            continue  # it has just ended, or has a name of several words
        if name == f"({kind})" and int(parent) == driver:
            return int(number)
    raise AssertionError(f"the driver has no {kind}")


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("kind", ["raylet", "gcs_server"])
def test_a_cluster_that_dies_ends_the_driver_with_the_way_to_go_on(tmp_path: Path, kind: str) -> None:
    script = tmp_path / "experiment.py"
    script.write_text(
        "from tests.objectives import Slow, bowl_study\nstudy = bowl_study(rounds=(6000,), objective=Slow())\n"
    )
    driver = subprocess.Popen(
        [sys.executable, "-m", "caviar", "run", script, "--runs", tmp_path / "runs", "--workers", "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,  # where Ray shows its last lines
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list((tmp_path / "runs").glob("bowl/trials/part-*.parquet")):
        assert driver.poll() is None, driver.communicate()[1]
        time.sleep(0.1)
    os.kill(process_of(driver.pid, kind), signal.SIGKILL)
    _, said = driver.communicate(timeout=300)
    assert driver.returncode == 1
    assert f"caviar: the Ray cluster died: its {kind} ended unexpectedly" in said
    assert "`caviar resume` the run" in said
    assert "something went wrong in Ray; its logs are in" in said
    assert "Traceback" not in said
