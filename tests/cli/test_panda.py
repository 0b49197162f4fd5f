"""The command `caviar panda`, in lines and in a real terminal, and what other commands say of its sessions."""

import contextlib
import io
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import caviar as cv
from caviar.cli.main import main
from caviar.panda import opening
from caviar.panda.trainer import LocalTrainer
from tests.cli.commands import ROOT, run_failing, write_script
from tests.panda.sessions import STUDY, run_script

SCRIPT = "at epoch 1: learning_rate /3; note slower\nat end: finish\n"


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in this process: another one takes seconds to start."""
    monkeypatch.setattr(opening, "ProcessTrainer", LocalTrainer)


def run(*words: str | Path) -> int:
    return main(["panda", *map(str, words)])


def test_a_script_runs_to_a_winner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "babysit.txt"
    script.write_text(SCRIPT)
    assert run(write_script(tmp_path), "--script", script, "--runs", tmp_path / "runs", "--epochs", "4") == 0
    output = capsys.readouterr().out
    assert "branch 0  epoch 1/4  train_loss" in output
    assert "branch 1 continues branch 0 from epoch 1: learning_rate" in output
    assert "You handed over branch 1 after epoch 4" in output
    session = cv.load(tmp_path / "runs" / "iris-panda")
    assert session.trials["epochs"].tolist() == [4, 4, 4]
    assert session.best is not None


def test_commands_come_from_standard_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("note all is well\nfly\n"))
    assert run(write_script(tmp_path), "--runs", tmp_path / "runs", "--epochs", "30", "--pace", "0.01") == 0
    output = capsys.readouterr().out
    assert "= noted" in output
    assert "! there is no command" in output
    assert "epoch 30/30" in output
    assert f"caviar panda {tmp_path / 'runs' / 'iris-panda'} goes on" in output


def test_a_session_goes_on_by_its_script_or_its_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("quit\n"))
    experiment, runs = write_script(tmp_path), tmp_path / "runs"
    script = tmp_path / "babysit.txt"
    script.write_text("at epoch 2: quit")
    assert run(experiment, "--script", script, "--runs", runs, "--epochs", "6", "--resume") == 0
    script.write_text("go\nat epoch 4: quit")
    assert run(experiment, "--script", script, "--runs", runs, "--resume") == 0
    script.write_text("go\nat end: finish")
    assert run(runs / "iris-panda", "--script", script) == 0
    assert cv.load(runs / "iris-panda").trials["epochs_trained"].tolist() == [2, 4, 6, 6]
    capsys.readouterr()
    error = run_failing(capsys, "panda", runs / "iris-panda")
    assert "is finished" in error
    for words in (("resume",), ("finish",), ("extend", "--trials", "5")):
        error = run_failing(capsys, *words, runs / "iris-panda")
        assert "caviar panda" in error


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--set", "learning_rate"], "NAME=VALUE"),
        (["--set", "speed=3"], "no such parameter"),
        (["--set", "learning_rate=fast"], "number"),
        (["--from", "nowhere"], "no such run"),
        (["--script", "nowhere.txt"], "no such file"),
        (["--name", "a/b"], "cannot name"),
        (["--study", "wine"], "no study named"),
    ],
)
def test_wrong_words_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], hint: str
) -> None:
    error = run_failing(capsys, "panda", write_script(tmp_path), "--runs", tmp_path / "runs", *words)
    assert hint in error
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a finished session and one that was left."""
    runs = tmp_path_factory.mktemp("sessions")
    run_script("at epoch 3: l2 0.1; note stronger\nat epoch 6: back 2; go\nat end: finish", runs)
    run_script("at epoch 2: quit", runs)
    return runs


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["show", "iris-panda"],
            ["You handed over branch 2 after epoch 12", "l2 0 -> 0.1", "stronger", "test "],
        ),
        (["show", "iris-panda-2"], ["unfinished: 1 branch in", "caviar panda"]),
        (["show", "iris-panda", "--top", "2"], ["dev_accuracy"]),
        (["show", "iris-panda", "--schema"], ["parent_epoch", "interventions", "command"]),
        (["show", "iris-panda", "--json"], ['"state": "finished"']),
        (["show", "iris-panda-2", "--json"], ['"resume": "caviar panda ']),
        (["show", "iris-panda", "--failed"], ["none of"]),
        (["list", "."], ["iris-panda-2  unfinished"]),
        (["watch", "iris-panda"], ["iris is finished"]),
        (["report", "iris-panda"], ["report.html"]),
        (["compare", "iris-panda", "iris-panda-2"], ["iris-panda"]),
    ],
)
def test_other_commands_read_sessions(
    sessions: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    expected: list[str],
) -> None:
    monkeypatch.chdir(sessions)
    assert main(words) == 0
    output = capsys.readouterr().out
    for text in expected:
        assert text in output


def test_figures_and_notebooks_show_sessions(sessions: Path) -> None:
    session = cv.load(sessions / "iris-panda")
    figure = session.plot.curves()
    names = [trace.name for trace in figure.data]
    assert names == ["0", "1: l2 0 -&gt; 0.1", "2", "handed over"]
    assert list(figure.data[1].x) == [3, 4, 5, 6], "a branch begins at the point where it left another one"
    assert session.plot.curves("dev_loss").data
    assert "finished" in session._repr_html_()
    for name in (
        "history",
        "slices",
        "parallel",
        "confirmation",
        "timeline",
        "importance",
        "contours",
        "rounds",
    ):
        getattr(session.plot, name)()
    session.to_optuna()
    assert cv.load(sessions / "iris-panda-2").best_so_far is not None


def test_sessions_are_fetched_with_what_was_said(sessions: Path, tmp_path: Path) -> None:
    for words in ([], ["--frames"]):
        copy = tmp_path / "-".join(["copy", *words])
        assert main(["fetch", str(sessions / "iris-panda"), str(copy), *words]) == 0
        assert len(cv.load(copy).interventions) == len(cv.load(sessions / "iris-panda").interventions)
        assert (cv.load(copy).best is None) == bool(words)
        assert main(["show", str(copy)]) == 0


def test_the_schema_of_any_run_names_the_columns_of_sessions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--schema"]) == 0
    assert "parent_epoch" in capsys.readouterr().out
    assert "parent" not in STUDY.space


# A real terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Yield what runs tmux on a server of this test's own."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")

    def tmux(*words: str) -> str:
        command = ["tmux", "-S", str(tmp_path / "tmux"), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    yield tmux
    subprocess.run(["tmux", "-S", str(tmp_path / "tmux"), "kill-server"], check=False, capture_output=True)


def wait_for(look: Callable[[], str], text: str, seconds: float = 120) -> str:
    """Return what is on the screen as soon as a text is on it."""
    deadline = time.monotonic() + seconds
    while text not in (shown := look()):
        assert time.monotonic() < deadline, shown
        time.sleep(0.2)
    return shown


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "size"), [("xterm-256color", (80, 24)), ("dumb", (80, 24))])
def test_a_session_in_a_real_terminal(
    tmp_path: Path, terminal: Callable[..., str], kind: str, size: tuple[int, int]
) -> None:
    experiment, runs = write_script(tmp_path), tmp_path / "runs"
    words = [sys.executable, "-m", "caviar", "panda", str(experiment), "--runs", str(runs), "--epochs", "400"]
    command = f"cd {shlex.quote(str(ROOT))}; TERM={kind} LC_ALL=C.UTF-8 {shlex.join(words)}; echo ended $?; sleep 60"
    terminal("new-session", "-d", "-s", "panda", "-x", str(size[0]), "-y", str(size[1]), command)

    def look() -> str:
        return terminal("capture-pane", "-p", "-t", "panda")

    shown = wait_for(look, "epoch 3/400")
    if kind != "dumb":
        assert "next epoch" in wait_for(look, "dev_loss")
    terminal("send-keys", "-t", "panda", "back 2; learning_rate /3; go", "Enter")
    shown = wait_for(look, "branch 1  epoch")
    assert "learning_rate" in shown
    terminal("send-keys", "-t", "panda", "finish", "Enter")
    assert "You handed over branch 1" in wait_for(look, "ended 0")
    assert cv.load(runs / "iris-panda").best is not None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["xterm-256color", "dumb"])
def test_a_closed_terminal_ends_the_session(tmp_path: Path, terminal: Callable[..., str], kind: str) -> None:
    experiment, runs = write_script(tmp_path), tmp_path / "runs"
    words = [sys.executable, "-m", "caviar", "panda", str(experiment), "--runs", str(runs), "--epochs", "400"]
    note = f"echo $$ > {shlex.quote(str(tmp_path / 'pid'))}"
    command = f"cd {shlex.quote(str(ROOT))}; {note}; TERM={kind} LC_ALL=C.UTF-8 exec {shlex.join(words)}"
    terminal("new-session", "-d", "-s", "panda", "-x", "80", "-y", "24", command)
    wait_for(lambda: terminal("capture-pane", "-p", "-t", "panda"), "epoch 3/400")
    session = psutil.Process(int((tmp_path / "pid").read_text()))
    terminal("kill-server")
    try:
        session.wait(timeout=60)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            session.kill()
    assert cv.load(runs / "iris-panda").trials["epochs_trained"].max() >= 3
