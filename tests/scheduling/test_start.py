"""A script that runs its study by itself ends as `caviar run` does."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
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


def run(folder: Path, main: str, *options: str) -> subprocess.CompletedProcess[str]:
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


def test_a_script_that_is_interrupted_ends_with_a_sentence_and_130(tmp_path: Path) -> None:
    ended = run(tmp_path, '    run_inline(study, Path("runs"))\n')
    assert ended.returncode == 130
    assert ended.stderr.splitlines()[-1].startswith(
        "caviar: stopped; what was trained is recorded: go on with"
    )
    assert "Traceback" not in ended.stderr


def test_a_script_can_catch_its_interruption(tmp_path: Path) -> None:
    main = """
    try:
        run_inline(study, Path("runs"))
    except cv.CaviarError:
        print("caught")
    1 / 0
"""
    ended = run(tmp_path, main)
    assert (ended.stdout, ended.returncode) == ("caught\n", 1)
    assert "Traceback" in ended.stderr
    assert "ZeroDivisionError" in ended.stderr


def test_an_interactive_prompt_lives_on(tmp_path: Path) -> None:
    ended = run(tmp_path, '    run_inline(study, Path("runs"))\n', "-i")
    assert ended.returncode == 0
    assert "InterruptedStudy: stopped" in ended.stderr
