"""Interruptions of scripts that run their own study."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from caviar.backends.inline import InlineBackend
from caviar.data.splits import Dataset
from caviar.driver.backend import Backend, BackendEvent
from caviar.errors import ClusterError, InterruptedStudy
from caviar.operations.run import declaring_script, run_study
from caviar.records.frames import load
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, resume_inline, run_inline

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, signal, sys
from pathlib import Path
import caviar as cv
from tests.runs import run_inline

interrupted = []
number = signal.SIGINT

def train(params):
    if not interrupted:
        interrupted.append(True)
        os.kill(os.getpid(), number)
    return params["x"]

study = cv.Study(
    name="mine", objective=cv.Function(train), space=cv.Space(x=cv.linear(0, 1)), rounds=[cv.Round(4, 1)]
)
if __name__ == "__main__":
"""


def run_script(folder: Path, main: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "mine.py").write_text(SCRIPT + main)
    return subprocess.run(
        [sys.executable, *options, "mine.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_script_exits_with_code_130(tmp_path: Path, number: str) -> None:
    main = f"    number = signal.{number}\n    signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # under nohup, too
    main += '    run_inline(study, Path("runs"))\n'
    ended = run_script(tmp_path, main)
    assert ended.returncode == 130
    assert ended.stderr.splitlines()[-1].startswith("caviar: stopped")
    assert "Traceback" not in ended.stderr


def test_a_closed_terminal_does_not_stop_nohup(tmp_path: Path) -> None:
    main = "    signal.signal(signal.SIGHUP, signal.SIG_IGN)\n    number = signal.SIGHUP\n"
    ended = run_script(tmp_path, main + '    print(run_inline(study, Path("runs")).finished)\n')
    assert ended.stdout == "True\n", ended.stderr


def test_a_script_can_catch_its_interruption(tmp_path: Path) -> None:
    main = """
    try:
        run_inline(study, Path("runs"))
    except cv.CaviarError:
        print("caught")
    1 / 0
"""
    ended = run_script(tmp_path, main)
    assert (ended.stdout, ended.returncode) == ("caught\n", 1)
    assert "Traceback" in ended.stderr
    assert "ZeroDivisionError" in ended.stderr


def test_an_interrupted_prompt_stays_open(tmp_path: Path) -> None:
    ended = run_script(tmp_path, '    run_inline(study, Path("runs"))\n', "-i")
    assert ended.returncode == 0
    assert "InterruptedStudy: stopped" in ended.stderr


CLOSING = """
    from caviar.operations.run import run_study
    from {module} import {backend} as Backend

    class Closing(Backend):
        def close(self):
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)
            super().close()
            print("closed", os.getpid())

    def backend(dataset):
        workers = Closing({arguments})
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # as Ray does
        return workers
"""


def test_signals_while_workers_close_are_ignored(tmp_path: Path) -> None:
    names = {"module": "caviar.backends.inline", "backend": "InlineBackend"}
    main = CLOSING.format(arguments="study.objective, dataset", **names)
    main += '    run_study(study, runs="runs", progress=False, backend=backend)\n'
    ended = run_script(tmp_path, main)
    assert ended.returncode == 130
    assert ended.stdout.startswith("closed")
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_signals_while_a_cluster_ends_leave_no_session(tmp_path: Path) -> None:
    names = {"module": "caviar.backends.ray.backend", "backend": "RayBackend"}
    main = CLOSING.format(arguments="study.objective, dataset, workers=1", **names)
    main += """
    import threading, time
    from tests.objectives import Slow, bowl_study

    def interrupt():
        while not list(Path("runs").glob("bowl/trials/part-*.parquet")):
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    study = bowl_study(rounds=(6000,), objective=Slow())
    run_study(study, runs="runs", progress=False, backend=backend)
"""
    ended = run_script(tmp_path, main)
    assert ended.returncode == 130, ended.stderr
    closed, pid = ended.stdout.split()[-2:]
    assert closed == "closed"
    assert not list(Path("/tmp/ray").glob(f"session_*_{pid}"))
    assert "Traceback" not in ended.stderr


class Ending(InlineBackend):
    """A backend that raises an error at a poll."""

    error: type[BaseException] = KeyboardInterrupt
    polls_left = 1

    def poll(self, timeout_s: float) -> list[BackendEvent]:
        self.polls_left -= 1
        if self.polls_left == 0:
            raise self.error("the end")
        return super().poll(timeout_s)


def end_at(poll: int, error: type[BaseException], runs: Path) -> str:
    """Run a study that ends with an error at a poll; return its message."""
    study = bowl_study()

    def make(dataset: Dataset | None) -> Backend:
        backend = Ending(study.objective, dataset)
        backend.error, backend.polls_left = error, poll
        return backend

    expected = InterruptedStudy if error is KeyboardInterrupt else error
    with pytest.raises(expected) as caught:
        run_study(study, runs=runs, progress=False, backend=make, script=Path("mine.py"))
    return str(caught.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ClusterError, ZeroDivisionError])
def test_a_run_without_trials_leaves_no_directory(tmp_path: Path, error: type[BaseException]) -> None:
    message = end_at(1, error, tmp_path)
    assert "continue" not in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ClusterError])
def test_a_run_with_trials_says_how_to_continue(tmp_path: Path, error: type[BaseException]) -> None:
    message = end_at(6, error, tmp_path)
    assert f"continue with `caviar resume {tmp_path / 'bowl'}`" in message
    assert 0 < len(load(tmp_path / "bowl").trials) < 57
    resume_inline(bowl_study(), tmp_path / "bowl")
    assert_same_frames(run_inline(bowl_study(), tmp_path / "whole"), load(tmp_path / "bowl"))


def test_scripts_are_known_only_if_they_declare_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    study, main = bowl_study(), ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert declaring_script(study) is None, "a notebook"
    main.__file__ = "/usr/bin/server.py"
    assert declaring_script(study) is None, "a program that imports the study"
    vars(main)["study"] = study
    assert declaring_script(study) == Path("/usr/bin/server.py")


class Swallowing:
    """An object that is interrupted while it is deleted, where Python ignores exceptions."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_an_interruption_that_python_ignores_stops_the_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = bowl_study()

    def make(dataset: Dataset | None) -> Backend:
        Swallowing()
        return InlineBackend(study.objective, dataset)

    with pytest.raises(InterruptedStudy):
        run_study(study, runs=tmp_path, progress=False, backend=make)
    assert "Traceback" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
