"""The command line: it does what it says, and refuses in one clear sentence what cannot be done."""

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

from caviar.cli.main import main, parser
from caviar.experiment_script import load_study
from caviar.records.frames import load
from caviar.records.ledger import Ledger
from caviar.runner import run_study
from caviar.storage.uri import locate, within
from tests.object_store import ObjectStore
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, inline, run_inline

ROOT = Path(__file__).parents[1]
HEAD = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport caviar as cv\n"
STUDY = """
study = cv.Study(
    name="iris",
    objective=cv.Classifier(data="sklearn:iris"{objective}),
    space=cv.Space({space}),
    rounds={rounds},
)
"""


def script(
    folder: Path,
    objective: str = "",
    space: str = "learning_rate=cv.log(1e-3, 1.0)",
    rounds: str = "[cv.Round(6, 2), cv.Confirmation(2, 2)]",
) -> Path:
    path = folder / "experiment.py"
    path.write_text(HEAD + STUDY.format(objective=objective, space=space, rounds=rounds))
    return path


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The sentence with which a command is refused: one line, exit code 1, no traceback."""
    assert main([str(argument) for argument in arguments]) == 1
    output = capsys.readouterr().err
    lines = [line for line in output.splitlines() if line.startswith("caviar: ")]
    assert len(lines) == 1, output
    assert "Traceback" not in output
    return lines[0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"space": "learning_rat=cv.log(1e-3, 1.0)"},
            r"learning_rat is not a hyperparameter.*mean learning_rate\?",
        ),
        ({"space": "learning_rate=cv.log(0, 1.0)"}, r"line 7: log\(0, 1.0\): a log scale has no zero"),
        (
            {"space": "learning_rate=cv.log(1.0, 1e-3)"},
            r"the range is reversed; write the smaller bound first",
        ),
        ({"space": "learning_rate=cv.log(1.0, 1.0)"}, r"the range is empty"),
        ({"space": "momentum=cv.reverse_log(0.9, 1.0)"}, r"a reverse_log scale lies in 0 <= x < 1"),
        ({"space": "units=cv.integer(16, 10**9)"}, r"units=1000000000: must be between 1 and 65536"),
        (
            {"space": "beta1=cv.reverse_log(0.9, 0.99)"},
            r"beta1 would change nothing.*only when optimizer is 'adam'",
        ),
        ({"space": ""}, r"Space\(\): there must be at least one parameter"),
        (
            {"rounds": "cv.coarse_to_fine(trials=0, epochs=5)"},
            r"line 8: coarse_to_fine\(trials=0\): must be between 1",
        ),
        ({"rounds": "[cv.Round(6, 0)]"}, r"Round\(epochs=0\): must be between 1"),
        ({"rounds": "[]"}, r"rounds is empty; try rounds=cv.coarse_to_fine"),
        ({"objective": ", fixed={'layers': -1}"}, r"layers=-1: must be between 0 and 20"),
        ({"objective": ", metric='f1'"}, r"metric='f1'.*use \"dev_accuracy\" or \"dev_loss\""),
        ({"objective": ", split=(0.9, 0.2, 0.2)"}, r"three shares above 0 that sum to 1"),
        ({"objective": ", preprocess='pca'"}, r"preprocess='pca' is unknown"),
    ],
)
def test_a_study_that_cannot_be_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, str], sentence: str
) -> None:
    assert re.search(
        sentence, refusal(capsys, "run", script(tmp_path, **change), "--runs", tmp_path / "runs")
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "declares no study: it needs a line such as study = cv.Study"),
        (
            "import no_such_module",
            r"line 3: the script fails: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("def f(:", r"the script fails: SyntaxError"),
        ("raise SystemExit(4)", r"ended by itself \(exit 4\)"),
        ("1 / 0", r"line 3: the script fails: ZeroDivisionError"),
    ],
)
def test_a_script_without_a_study_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, sentence: str
) -> None:
    path = tmp_path / "experiment.py"
    path.write_text(HEAD + content)
    assert re.search(sentence, refusal(capsys, "run", path))


def test_a_script_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no such file" in refusal(capsys, "run", tmp_path / "nothing.py")
    (tmp_path / "notes.txt").write_text("hello")
    assert "must end in .py" in refusal(capsys, "run", tmp_path / "notes.txt")


def test_of_several_studies_one_is_chosen_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "experiment.py"
    path.write_text(
        HEAD + "from tests.objectives import bowl_study\none = bowl_study()\nimport dataclasses\n"
        "two = dataclasses.replace(one, name='two')\n"
    )
    assert "several studies (bowl, two): choose one with --study" in refusal(capsys, "run", path)
    assert "declares no study named three" in refusal(capsys, "run", path, "--study", "three")
    assert load_study(path, "two").name == "two"


def test_the_main_block_of_a_script_is_not_run(tmp_path: Path) -> None:
    path = script(tmp_path)
    path.write_text(path.read_text() + "\nif __name__ == '__main__':\n    raise SystemExit('ran')\n")
    assert load_study(path).name == "iris"


def test_a_script_that_runs_its_study_while_it_is_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = script(tmp_path)
    path.write_text(path.read_text() + "\nstudy.run()\n")
    assert 'put it under if __name__ == "__main__":' in refusal(
        capsys, "run", path, "--runs", tmp_path / "runs"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "", ".hidden", "x" * 101])
def test_a_name_that_could_leave_the_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    sentence = refusal(capsys, "run", script(tmp_path), "--runs", tmp_path / "runs", "--name", name)
    assert "cannot name a run directory" in sentence


def test_more_workers_than_cores_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = refusal(capsys, "run", script(tmp_path), "--runs", tmp_path / "runs", "--workers", "4000")
    assert re.search(r"4000 workers asked for, but .* has \d+ cores: use --workers \d+", sentence)


def test_a_negative_number_of_workers_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--workers -1: must be a whole number from 0" in refusal(
        capsys, "run", script(tmp_path), "--workers", "-1"
    )


@pytest.fixture
def no_ray_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this process had not connected to Ray."""
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.fixture
def no_ray_ever(no_ray_yet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray must not be asked, for it takes long to refuse."""
    import ray

    monkeypatch.setattr(ray, "init", lambda **asked: pytest.fail("Ray is started or joined"))


@pytest.mark.usefixtures("no_ray_ever")
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--workers", "0"), "caviar: --workers 0: no workers"),
        (("--workers", "0", "--gpus", "0"), "caviar: --workers 0 --gpus 0: no workers"),
        (("--gpus", "1"), "1 GPU workers asked for, but the cluster has 0 GPUs"),
    ],
)
def test_workers_that_this_machine_cannot_have_are_refused_before_ray_starts(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    sentence: str,
) -> None:
    for name in ("CUDA", "HIP"):
        monkeypatch.setenv(f"{name}_VISIBLE_DEVICES", "")  # as on a machine without GPUs
    assert sentence in refusal(capsys, "run", script(tmp_path), "--runs", tmp_path / "runs", *words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("no_ray_ever")
@pytest.mark.parametrize("runs", ["my.csv", "my.csv/runs"])
def test_runs_in_a_file_are_refused_before_ray_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, runs: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.csv").write_text("1,2\n")
    sentence = refusal(capsys, "run", script(tmp_path), "--runs", runs)
    assert "my.csv is a file, not a folder: choose another folder with --runs" in sentence


@pytest.mark.usefixtures("no_ray_yet")
def test_an_address_where_nothing_answers_is_refused_before_ray_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setattr(ray, "init", lambda **asked: pytest.fail("Ray tries for half a minute"))
    sentence = refusal(capsys, "run", script(tmp_path), "--runs", tmp_path / "runs", "--address", address)
    assert f"no Ray cluster answers at {address}" in sentence


class Foreign(socketserver.BaseRequestHandler):
    """Speaks, but not as Ray does."""

    def handle(self) -> None:
        self.request.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")


@pytest.fixture(params=["another program", "another service of Ray's kind"])
def no_head(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of what is not the head of a Ray cluster."""
    if request.param == "another program":
        with socketserver.TCPServer(("127.0.0.1", 0), Foreign) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"127.0.0.1:{server.server_address[1]}"
            server.shutdown()
    else:
        service = grpc.server(ThreadPoolExecutor(1))
        port = service.add_insecure_port("127.0.0.1:0")
        service.start()
        yield f"127.0.0.1:{port}"
        service.stop(None).wait()


@pytest.mark.usefixtures("no_ray_ever")
def test_what_is_no_head_of_a_cluster_is_refused_before_ray_is_asked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], no_head: str
) -> None:
    words = ["run", str(script(tmp_path)), "--runs", str(tmp_path / "runs"), "--address", no_head]
    assert main(words) == 1
    said = capfd.readouterr().err
    assert f"caviar: what answers at {no_head} is not the head of a Ray cluster (UN" in said
    assert "gcs" not in said


@pytest.mark.usefixtures("no_ray_yet")
@pytest.mark.parametrize("address", ["somewhere", "host:port", ":"])
def test_an_address_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    sentence = refusal(capsys, "run", script(tmp_path), "--runs", tmp_path / "runs", "--address", address)
    assert "use local, auto or HOST:PORT" in sentence


def test_without_ray_the_way_to_get_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # what Python does for a module that cannot be imported
    sentence = refusal(capsys, "run", script(tmp_path), "--runs", tmp_path / "runs")
    assert "Ray cannot be imported" in sentence
    assert "pip install ray" in sentence


def test_a_data_file_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = script(tmp_path)
    path.write_text(path.read_text().replace("sklearn:iris", "flowers.csv"))
    assert "there is no such file" in refusal(capsys, "run", path, "--runs", tmp_path / "runs")


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(tmp_path), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_wrong_command_line_ends_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run"])
    assert "EXPERIMENT.py" in capsys.readouterr().err


def test_show_tells_rounds_reasons_times_and_winner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_inline(bowl_study(), tmp_path).path
    assert main(["show", str(path)]) == 0
    output = capsys.readouterr().out
    for part in (
        "declared -> round 2",
        "the best",
        "Worker time",
        "training",
        "The winner is trial",
        "Frames",
    ):
        assert part in output
    assert main(["show", str(path), "--rounds"]) == 0
    assert "Round 2 draws near the best trials" in capsys.readouterr().out


def test_a_run_begun_in_python_is_resumed_with_its_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_inline(bowl_study(), tmp_path).path
    assert "name the script that declares its study" in refusal(capsys, "resume", path)


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was begun beside its script and data, seen from elsewhere."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(project)
    iris = load_iris(as_frame=True)
    iris.frame.to_csv("flowers.csv", index=False)
    path = script(Path())
    path.write_text(path.read_text().replace("sklearn:iris", "flowers.csv"))
    study = load_study(path)
    run = run_study(study, runs=Path("runs"), progress=False, backend=inline(study), script=path)
    for table in ("trials", "curves"):
        sorted((project / run.path / table).iterdir())[-1].unlink()
    monkeypatch.chdir(elsewhere)
    return project / run.path


def test_a_run_whose_driver_is_at_work_is_shown_as_running(
    begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = load(begun)
    with closing(Ledger.reopen(run.location, run.study_file)):
        assert main(["show", str(begun)]) == 0
    output = capsys.readouterr().out
    assert f"is running (process {os.getpid()}): 6 of 6 search trials" in output
    assert "caviar resume" not in output
    assert main(["show", str(begun)]) == 0
    output = capsys.readouterr().out
    assert "is unfinished: 6 of 6 search trials" in output
    assert f"caviar resume {begun}" in output


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_is_resumed_from_any_folder(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not load(begun).finished
    here = Path.cwd()
    assert main(["resume", os.path.relpath(begun), "--workers", "1"]) == 0
    assert load(begun).finished
    assert Path.cwd() == here
    assert f"{begun}/trials, {begun}/curves" in capsys.readouterr().out


def test_where_data_or_script_have_moved_it_is_said(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = begun.parents[1]
    (project / "flowers.csv").rename("flowers.csv")
    assert f"'flowers.csv': there is no such file (looked in {project})" in refusal(capsys, "resume", begun)
    (project / "experiment.py").rename("experiment.py")
    sentence = refusal(capsys, "resume", begun)
    assert f"{project / 'experiment.py'}, which declares the study of {begun}, is no longer there" in sentence
    assert f"`caviar resume {begun} EXPERIMENT.py`" in sentence


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_script_that_is_named_is_looked_at_from_here(begun: Path) -> None:
    for name in ("flowers.csv", "experiment.py"):
        (begun.parents[1] / name).rename(name)
    assert main(["resume", str(begun), "experiment.py", "--workers", "1"]) == 0
    assert load(begun).finished


@pytest.fixture(params=["disk", "store"])
def runs(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder of run directories."""
    if request.param == "disk":
        return str(tmp_path / "runs")
    store: ObjectStore = request.getfixturevalue("store")
    return f"s3://{store.new_bucket()}/runs"


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_one_line_begins_a_study_and_goes_on_with_it(
    tmp_path: Path, runs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = script(tmp_path)
    line = ["run", str(path), "--runs", runs, "--resume", "--workers", "1"]
    assert main(line) == 0
    whole = load(within(runs, "iris"))
    assert whole.finished
    _forget_the_end(runs)
    assert not load(within(runs, "iris")).finished
    capsys.readouterr()
    assert main(line) == 0
    assert "of them are recorded already" in capsys.readouterr().err
    assert_same_frames(run_inline(load_study(path), tmp_path / "here"), load(within(runs, "iris")))
    assert locate(runs).folders() == ["iris"]
    assert main(line) == 0  # it is finished: there is nothing to do

    path.write_text(path.read_text().replace("cv.Round(6, 2)", "cv.Round(7, 2)"))
    assert "belongs to another study, which differs in rounds" in refusal(capsys, *line)


def _forget_the_end(runs: str) -> None:
    """As if the driver had been killed before it recorded the last trials."""
    for table in ("trials", "curves"):
        folder = locate(within(runs, "iris")) / table
        folder.remove([folder.files()[-1]])


def test_what_is_in_the_way_is_not_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs" / "iris").mkdir(parents=True)
    (tmp_path / "runs" / "iris" / "notes.txt").touch()
    words = ("run", script(tmp_path), "--runs", tmp_path / "runs", "--resume", "--workers", "1")
    assert "it is no run directory, for it has no study.json" in refusal(capsys, *words)
    assert "cannot name a run directory" in refusal(capsys, *words, "--name", "../iris")


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token", "COLUMNS": "120"}


@pytest.mark.ray
def test_run_interrupt_resume_and_show_on_a_local_cluster(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    path, hurry = tmp_path / "experiment.py", tmp_path / "hurry"
    path.write_text(
        HEAD
        + "from tests.objectives import Slow, bowl_study\n"
        + f"study = bowl_study(rounds=(60, 40), objective=Slow(pause_s=0.5, hurry={str(hurry)!r}))\n"
    )
    runs = tmp_path / "runs"
    command = [sys.executable, "-m", "caviar"]
    driver = subprocess.Popen(
        [*command, "run", str(path), "--runs", str(runs), "--workers", "2"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list((runs / "bowl" / "trials").glob("part-*.parquet")):
        assert driver.poll() is None, driver.communicate()[1]
        time.sleep(0.02)
    driver.send_signal(signal.SIGINT)
    _, said = driver.communicate(timeout=200)
    assert driver.returncode == 130, said
    assert f"caviar resume {runs / 'bowl'}" in said
    assert "Traceback" not in said
    assert 0 < len(load(runs / "bowl").trials) < 107

    shown = subprocess.run(
        [*command, "show", str(runs / "bowl")], env=environment, capture_output=True, text=True
    )
    assert "unfinished" in shown.stdout
    hurry.touch()
    resumed = subprocess.run(
        [*command, "resume", str(runs / "bowl"), "--workers", "1"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "The winner is trial" in resumed.stdout
    token = environment.get("RAY_AUTH_TOKEN", "")
    assert not token or token not in resumed.stdout + resumed.stderr
    assert_same_frames(run_inline(load_study(path), tmp_path / "inline"), load(runs / "bowl"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_cluster_that_asks_for_a_token_is_joined_with_it_and_says_so_without(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    secret = "c0ffee" * 10
    short = tempfile.mkdtemp(prefix="ray-")  # a socket's path has at most 107 characters
    head = subprocess.Popen(
        [Path(sys.executable).parent / "ray", "start", "--head", "--block", f"--port={port}", "--num-cpus=2",
         "--include-dashboard=false", f"--temp-dir={short}"],
        env={**environment, "RAY_AUTH_TOKEN": secret},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        time.sleep(5)
        command = [
            sys.executable,
            "-m",
            "caviar",
            "run",
            str(script(tmp_path)),
            "--runs",
            str(tmp_path / "runs"),
        ]
        command += ["--address", f"127.0.0.1:{port}"]
        without = {k: v for k, v in environment.items() if not k.startswith("RAY_")}
        refused = subprocess.run(command, env=without, capture_output=True, text=True, timeout=120)
        assert refused.returncode == 1
        assert "asks for a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" in refused.stderr
        assert "Traceback" not in refused.stderr
        wrong = {**environment, "RAY_AUTH_TOKEN": "wrong" * 10}
        refused = subprocess.run(command, env=wrong, capture_output=True, text=True, timeout=120)
        assert "does not accept our token: set RAY_AUTH_MODE=token" in refused.stderr
        assert not (tmp_path / "runs").exists()
        joined = subprocess.run(
            command,
            env={**environment, "RAY_AUTH_TOKEN": secret},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert joined.returncode == 0, joined.stderr
        assert secret not in joined.stdout + joined.stderr
        assert not [
            p for p in (tmp_path / "runs").rglob("*") if p.is_file() and secret.encode() in p.read_bytes()
        ]
    finally:
        head.send_signal(signal.SIGTERM)
        head.wait(timeout=60)


def submission(path: Path, *words: str) -> list[str]:
    return ["submit", str(path), "--runs", "/shared/runs", "--address", "127.0.0.1:1", *words]


def test_what_would_be_sent_is_shown_and_nothing_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = script(tmp_path)
    (tmp_path / ".env").write_text("PASSWORD=swordfish")
    assert main(submission(path, "--dry-run", "--pip", "einops==0.8.1")) == 0
    output = capsys.readouterr().out
    for part in (
        "  experiment.py  (",
        "1 file (0.0 MiB), and the source of caviar",
        "left out:\n  .env  (secret, by its name)\n",
        "pip installs: einops==0.8.1",
        "python -m caviar run experiment.py --runs /shared/runs --name iris --address auto",
        "its run: /shared/runs/iris",
    ):
        assert part in output
    assert "swordfish" not in output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "no Ray dashboard answers at http://127.0.0.1:1"),
        (("--runs", "runs"), "--runs runs: the job runs elsewhere"),
        (("--study", "wine"), "declares no study named wine; there is iris"),
        (("--no-check",), "name its run directory with --name"),
        (("--requirements", "nothing.txt"), "nothing.txt: cannot be read: No such file"),
        (("--workers", "-1"), "--workers -1: must be a whole number from 0"),
    ],
)
def test_a_job_that_cannot_be_is_refused_before_it_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    assert sentence in refusal(capsys, *submission(script(tmp_path), *words))


@pytest.mark.parametrize(("words", "waits"), [((), True), (("--wait",), True), (("--no-wait",), False)])
def test_a_job_is_followed_unless_it_is_not_wanted(
    tmp_path: Path, words: tuple[str, ...], waits: bool
) -> None:
    assert parser().parse_args(submission(script(tmp_path), *words)).wait is waits


def test_a_script_that_fails_is_refused_before_it_is_sent_unless_only_the_cluster_can_read_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "experiment.py"
    path.write_text(HEAD + "import no_such_module")
    sentence = refusal(capsys, *submission(path))
    assert "line 3: the script fails: ModuleNotFoundError" in sentence
    assert "if only the cluster has it, use --no-check" in sentence
    assert main(submission(path, "--no-check", "--name", "mine", "--dry-run")) == 0


def test_jobs_of_no_cluster_cannot_be_looked_after(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (("jobs",), ("logs", "a"), ("logs", "-f", "a"), ("stop", "a")):
        assert "no Ray dashboard answers" in refusal(capsys, *command, "--address", "127.0.0.1:1")
