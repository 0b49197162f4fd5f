"""The commands `run` and `resume`: invalid input is refused in one line, and runs can be continued."""

import os
import re
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from sklearn.datasets import load_iris

from caviar.cli.main import main
from caviar.experiment_script import load_study
from caviar.operations.run import run_study
from caviar.records.frames import Run, load
from caviar.records.ledger import Ledger
from caviar.records.run_files import StudyFile, read_recorded, write_recorded
from caviar.storage.uri import join, locate
from tests.cli.commands import HEADER, ROOT, run_failing, write_script
from tests.object_store import ObjectStore
from tests.objectives import bowl_study
from tests.ports import free_port
from tests.runs import assert_same_frames, inline, run_inline

# Scripts and studies


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"space": "learning_rat=cv.log(1e-3, 1.0)"}, r"learning_rat .*learning_rate\?"),
        ({"space": "learning_rate=cv.log(0, 1.0)"}, r"line 7: log\(0, 1.0\)"),
        ({"space": "learning_rate=cv.log(1.0, 1e-3)"}, r"line 7: log\(1.0, 0.001\)"),
        ({"space": "learning_rate=cv.log(1.0, 1.0)"}, r"line 7: log\(1.0, 1.0\)"),
        ({"space": "momentum=cv.reverse_log(0.9, 1.0)"}, r"line 7: reverse_log\(0.9, 1.0\)"),
        ({"space": "units=cv.integer(16, 10**9)"}, r"units must be a whole number between 1 and 65,536"),
        ({"space": "beta1=cv.reverse_log(0.9, 0.99)"}, r"beta1 .*optimizer is 'adam'"),
        ({"space": ""}, r"line 7: Space\(\)"),
        ({"rounds": "cv.coarse_to_fine(trials=0, epochs=5)"}, r"line 8: coarse_to_fine"),
        ({"rounds": "[cv.Round(6, 0)]"}, r"line 8: Round.*epochs"),
        ({"rounds": "[]"}, r"rounds"),
        ({"objective": ", fixed={'layers': -1}"}, r"layers must be a whole number between 0 and 20"),
        ({"objective": ", metric='f1'"}, r"metric must be one of dev_accuracy, dev_loss, not 'f1'"),
        ({"objective": ", split=(0.9, 0.2, 0.2)"}, r"sum to 1"),
        ({"objective": ", preprocess='pca'"}, r"preprocess='pca'"),
    ],
)
def test_invalid_studies_are_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, str], error: str
) -> None:
    script = write_script(tmp_path, **change)
    assert re.search(error, run_failing(capsys, "run", script, "--runs", tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("", "declares no study"),
        ("import no_such_module", r"line 3: .*ModuleNotFoundError: No module named 'no_such_module'"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(4)", "exited with code 4"),
        ("1 / 0", "line 3: .*ZeroDivisionError"),
    ],
)
def test_scripts_without_a_study_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, error: str
) -> None:
    script = tmp_path / "experiment.py"
    script.write_text(HEADER + content)
    assert re.search(error, run_failing(capsys, "run", script))


def test_missing_scripts_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no such file" in run_failing(capsys, "run", tmp_path / "nothing.py")
    (tmp_path / "notes.txt").write_text("hello")
    assert "must end in .py" in run_failing(capsys, "run", tmp_path / "notes.txt")


@pytest.mark.parametrize("name", ["ray.py", "pandas.py"])
def test_scripts_that_hide_a_package_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    script = write_script(tmp_path)
    (tmp_path / name).write_text(script.read_text())
    hides = f"{name} hides the package {name[:-3]}, which caviar imports"
    assert hides in run_failing(capsys, "run", tmp_path / name)
    assert hides in run_failing(capsys, "run", script)
    ended = subprocess.run(
        [sys.executable, name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert hides in ended.stderr


def test_scripts_in_a_package_import_from_it(tmp_path: Path) -> None:
    inner = tmp_path / "parcel" / "inner"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent):
        (folder / "__init__.py").write_text("")
    (inner / "sizes.py").write_text("LARGEST = 1\n")
    script = write_script(inner)
    script.write_text("from .sizes import LARGEST\nfrom ..inner import sizes\n" + script.read_text())
    assert load_study(script).name == "iris"


def test_one_of_several_studies_is_chosen_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "experiment.py"
    script.write_text(
        HEADER + "from tests.objectives import bowl_study\none = bowl_study()\nimport dataclasses\n"
        "two = dataclasses.replace(one, name='two')\n"
    )
    assert "several studies (bowl, two)" in run_failing(capsys, "run", script)
    assert "no study named three" in run_failing(capsys, "run", script, "--study", "three")
    assert load_study(script, "two").name == "two"


def test_main_block_of_a_script_is_not_run(tmp_path: Path) -> None:
    script = write_script(tmp_path)
    script.write_text(script.read_text() + "\nif __name__ == '__main__':\n    raise SystemExit('ran')\n")
    assert load_study(script).name == "iris"


def test_scripts_that_run_their_study_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = write_script(tmp_path)
    script.write_text(script.read_text() + "\nstudy.run()\n")
    error = run_failing(capsys, "run", script, "--runs", tmp_path / "runs")
    assert 'if __name__ == "__main__":' in error
    assert not (tmp_path / "runs").exists()


def test_missing_data_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = write_script(tmp_path)
    script.write_text(script.read_text().replace("sklearn:iris", "flowers.csv"))
    assert "flowers.csv" in run_failing(capsys, "run", script, "--runs", tmp_path / "runs")


# Run directories, workers and clusters


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "", ".hidden", "x" * 101])
def test_names_that_leave_the_folder_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    script = write_script(tmp_path)
    error = run_failing(capsys, "run", script, "--runs", tmp_path / "runs", "--name", name)
    assert "cannot name a run directory" in error


@pytest.fixture
def not_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let caviar find this process not connected to Ray, and fail the test if Ray is started or joined."""
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray is started or joined"))


@pytest.mark.usefixtures("not_connected")
@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--workers", "4000"), r"4000 workers .* cores: use --workers \d+"),
        (("--workers", "-1"), "--workers"),
        (("--workers", "0"), "--workers 0: no workers"),
        (("--workers", "0", "--gpus", "0"), "no workers"),
        (("--gpus", "1"), "1 GPU workers .*0 GPUs"),
    ],
)
def test_impossible_workers_are_refused_before_ray_starts(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    error: str,
) -> None:
    for name in ("CUDA", "HIP"):
        monkeypatch.setenv(f"{name}_VISIBLE_DEVICES", "")  # as on a machine without GPUs
    script = write_script(tmp_path)
    assert re.search(error, run_failing(capsys, "run", script, "--runs", tmp_path / "runs", *words))
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("not_connected")
@pytest.mark.parametrize("runs", ["my.csv", "my.csv/runs"])
def test_files_as_run_folders_are_refused_before_ray_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, runs: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.csv").write_text("1,2\n")
    assert "my.csv: Not a directory" in run_failing(capsys, "run", write_script(tmp_path), "--runs", runs)


@pytest.mark.usefixtures("not_connected")
def test_closed_port_is_not_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    error = run_failing(
        capsys, "run", write_script(tmp_path), "--runs", tmp_path / "runs", "--address", address
    )
    assert f"no Ray cluster answers at {address}" in error


class SshServer(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")


@pytest.fixture(params=["ssh", "grpc"])
def other_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """Start a server that is not the head of a Ray cluster, and return its address."""
    if request.param == "ssh":
        with socketserver.TCPServer(("127.0.0.1", 0), SshServer) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            yield f"127.0.0.1:{server.server_address[1]}"
            server.shutdown()
    else:
        service = grpc.server(ThreadPoolExecutor(1))
        port = service.add_insecure_port("127.0.0.1:0")
        service.start()
        yield f"127.0.0.1:{port}"
        service.stop(None).wait()


@pytest.mark.usefixtures("not_connected")
def test_other_servers_are_not_clusters(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], other_server: str
) -> None:
    words = ["run", str(write_script(tmp_path)), "--runs", str(tmp_path / "runs"), "--address", other_server]
    assert main(words) == 1
    error = capfd.readouterr().err
    assert f"{other_server} is not the head of a Ray cluster (UN" in error
    assert "gcs" not in error


@pytest.mark.usefixtures("not_connected")
@pytest.mark.parametrize("address", ["somewhere", "host:port", ":"])
def test_invalid_addresses_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    error = run_failing(
        capsys, "run", write_script(tmp_path), "--runs", tmp_path / "runs", "--address", address
    )
    assert "local, auto or HOST:PORT" in error


def test_missing_ray_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # Python raises ImportError for it
    assert "pip install ray" in run_failing(
        capsys, "run", write_script(tmp_path), "--runs", tmp_path / "runs"
    )


# Continuing a run


def test_runs_started_in_python_need_their_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_inline(bowl_study(), tmp_path).path
    assert f"caviar resume {path} EXPERIMENT.py" in run_failing(capsys, "resume", path)


@pytest.fixture
def unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leave an unfinished run beside its script and data, and change to another folder."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(project)
    load_iris(as_frame=True).frame.to_csv("flowers.csv", index=False)
    script = write_script(Path())
    script.write_text(script.read_text().replace("sklearn:iris", "flowers.csv"))
    study = load_study(script)
    run = run_study(study, runs=Path("runs"), progress=False, backend=inline(study), script=script)
    remove_last_segments(str(run.path))
    monkeypatch.chdir(elsewhere)
    return project / run.path


def remove_last_segments(run: str) -> None:
    """Leave a run as if its driver had been killed before it recorded the last trials."""
    for table in ("trials", "curves"):
        folder = locate(run) / table
        folder.remove([[*folder.files()][-1]])
    write_recorded(locate(run), read_recorded(locate(run)) - 1)


def test_show_tells_running_from_unfinished(unfinished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    location = load(unfinished).location
    with closing(Ledger.reopen(location, StudyFile.read(location))):
        assert main(["show", str(unfinished)]) == 0
    output = capsys.readouterr().out
    assert f"running (process {os.getpid()} on " in output
    assert "caviar resume" not in output
    assert main(["show", str(unfinished)]) == 0
    output = capsys.readouterr().out
    assert "unfinished" in output
    assert f"caviar resume {unfinished}" in output


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_runs_can_be_resumed_from_any_folder(unfinished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not load(unfinished).finished
    here = Path.cwd()
    assert main(["resume", os.path.relpath(unfinished), "--workers", "1"]) == 0
    assert load(unfinished).finished
    assert Path.cwd() == here
    assert str(unfinished) in capsys.readouterr().out


def test_resume_reports_moved_data_and_scripts(unfinished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = unfinished.parents[1]
    (project / "flowers.csv").rename("flowers.csv")
    assert f"(looked in {project})" in run_failing(capsys, "resume", unfinished)
    (project / "experiment.py").rename("experiment.py")
    error = run_failing(capsys, "resume", unfinished)
    assert str(project / "experiment.py") in error
    assert f"`caviar resume {unfinished} EXPERIMENT.py`" in error


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_resume_accepts_a_moved_script(unfinished: Path) -> None:
    for name in ("flowers.csv", "experiment.py"):
        (unfinished.parents[1] / name).rename(name)
    assert main(["resume", str(unfinished), "experiment.py", "--workers", "1"]) == 0
    assert load(unfinished).finished


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_resume_option_starts_and_continues_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script, runs = write_script(tmp_path), str(tmp_path / "runs")
    words = ["run", str(script), "--runs", runs, "--resume", "--workers", "1"]
    assert main(words) == 0
    assert_finished(script, runs)
    remove_last_segments(join(runs, "iris"))
    assert main(words) == 0
    assert_finished(script, runs)
    assert main(words) == 0, "a finished run is shown"

    script.write_text(script.read_text().replace("cv.Round(6, 2)", "cv.Round(7, 2)"))
    capsys.readouterr()
    assert "differs in rounds" in run_failing(capsys, *words)


def test_resume_option_finds_a_run_in_a_store(
    tmp_path: Path, store: ObjectStore, capsys: pytest.CaptureFixture[str]
) -> None:
    script, runs = write_script(tmp_path), f"s3://{store.new_bucket()}/runs"
    run_inline(load_study(script), runs)
    assert main(["run", str(script), "--runs", runs, "--resume"]) == 0, "a finished run is shown"
    assert f"{runs}/iris" in capsys.readouterr().out
    assert locate(runs).folders() == ["iris"]


def assert_finished(script: Path, runs: str) -> None:
    assert locate(runs).folders() == ["iris"]
    run = load(join(runs, "iris"))
    assert run.finished
    with tempfile.TemporaryDirectory() as folder:
        assert_same_frames(run_inline(load_study(script), folder), run)


@pytest.mark.usefixtures("not_connected")
def test_resume_option_refuses_other_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs" / "iris").mkdir(parents=True)
    (tmp_path / "runs" / "iris" / "notes.txt").touch()
    words = ("run", write_script(tmp_path), "--runs", tmp_path / "runs", "--resume", "--workers", "1")
    assert "study.json" in run_failing(capsys, *words)
    assert "cannot name a run directory" in run_failing(capsys, *words, "--name", "../iris")


# In processes of their own


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **variables}


def interrupt_run(folder: Path, *words: str, env: dict[str, str]) -> Run:
    """Run a study until trials are recorded, press Ctrl-C, and return its run; `hurry` speeds up what remains."""
    script, hurry = folder / "experiment.py", folder / "hurry"
    script.write_text(
        HEADER
        + "from tests.objectives import Slow, bowl_study\n"
        + f"study = bowl_study(rounds=(60, 40), objective=Slow(pause_s=0.5, hurry={str(hurry)!r}))\n"
    )
    runs = folder / "runs"
    driver = subprocess.Popen(
        [sys.executable, "-m", "caviar", "run", script, "--runs", runs, *words],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list((runs / "bowl" / "trials").glob("part-*.parquet")):
        assert driver.poll() is None, driver.communicate()[1]
        time.sleep(0.02)
    driver.send_signal(signal.SIGINT)
    _, messages = driver.communicate(timeout=200)
    assert driver.returncode == 130, messages
    assert f"caviar resume {runs / 'bowl'}" in messages
    assert "Traceback" not in messages
    hurry.touch()
    run = load(runs / "bowl")
    assert 0 < len(run.trials) < 107
    return run


@pytest.mark.ray
def test_ctrl_c_stops_a_run_that_can_be_resumed(tmp_path: Path, ray_cluster: None) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    run = interrupt_run(tmp_path, "--workers", "2", "--address", address, env=environment())
    assert main(["resume", str(run.path), "--workers", "1"]) == 0
    study = load_study(tmp_path / "experiment.py")
    assert_same_frames(run_inline(study, tmp_path / "inline"), run)


@pytest.mark.slow
def test_ctrl_c_stops_a_run_and_its_local_cluster(tmp_path: Path) -> None:
    env = environment(RAY_AUTH_MODE="token")
    run = interrupt_run(tmp_path, "--workers", "2", env=env)
    resumed = subprocess.run(
        [sys.executable, "-m", "caviar", "resume", run.path, "--workers", "1"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stderr
    study = load_study(tmp_path / "experiment.py")
    assert_same_frames(run_inline(study, tmp_path / "inline"), run)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_clusters_with_a_token_are_joined_with_it_only(tmp_path: Path) -> None:
    port, token, runs = free_port(), "c0ffee" * 10, tmp_path / "runs"
    folder = tempfile.mkdtemp(prefix="ray-")  # the path of a socket has at most 107 characters
    head = subprocess.Popen(
        [Path(sys.executable).parent / "ray", "start", "--head", "--block", f"--port={port}", "--num-cpus=2",
         "--include-dashboard=false", f"--temp-dir={folder}"],
        env=environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "caviar",
        "run",
        write_script(tmp_path),
        "--runs",
        runs,
    ]
    command += ["--address", f"127.0.0.1:{port}"]

    def run_with(env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)

    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        time.sleep(5)
        without = {k: v for k, v in environment(HOME=str(tmp_path)).items() if not k.startswith("RAY_")}
        refused = run_with(without)  # the user's own folder may hold a token
        assert (refused.returncode, "asks for a token" in refused.stderr) == (1, True), refused.stderr
        assert "Traceback" not in refused.stderr
        refused = run_with(environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="wrong" * 10))
        assert (refused.returncode, "does not accept this token" in refused.stderr) == (1, True), (
            refused.stderr
        )
        assert not runs.exists()
        joined = run_with(environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token))
        assert joined.returncode == 0, joined.stderr
        assert token not in joined.stdout + joined.stderr
        assert not any(token.encode() in p.read_bytes() for p in runs.rglob("*") if p.is_file())
    finally:
        head.send_signal(signal.SIGTERM)
        head.wait(timeout=60)
