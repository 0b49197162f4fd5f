"""Interruptions of scripts that run their own study."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = """
import os, signal, sys
from pathlib import Path
import caviar as cv
from tests.runs import run_inline

interrupted = []

def train(params):
    if not interrupted:
        interrupted.append(True)
        os.kill(os.getpid(), signal.SIGINT)
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


def test_an_interrupted_script_exits_with_code_130(tmp_path: Path) -> None:
    ended = run_script(tmp_path, '    run_inline(study, Path("runs"))\n')
    assert ended.returncode == 130
    assert ended.stderr.splitlines()[-1].startswith("caviar: stopped")
    assert "Traceback" not in ended.stderr


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
    from caviar.runner import run_study
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
