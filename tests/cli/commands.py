"""Running commands in tests, and the scripts that they run."""

from pathlib import Path

import pytest

from caviar.cli.main import main

ROOT = Path(__file__).parents[2]
HEADER = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport caviar as cv\n"
STUDY = """
study = cv.Study(
    name="iris",
    objective=cv.Classifier(data="sklearn:iris"{objective}),
    space=cv.Space({space}),
    rounds={rounds},
)
"""


def write_script(
    folder: Path,
    objective: str = "",
    space: str = "learning_rate=cv.log(1e-3, 1.0)",
    rounds: str = "[cv.Round(6, 2), cv.Confirmation(2, 2)]",
) -> Path:
    path = folder / "experiment.py"
    path.write_text(HEADER + STUDY.format(objective=objective, space=space, rounds=rounds))
    return path


def run_failing(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command that fails, and return its error: one line without a traceback, with exit code 1."""
    assert main([str(argument) for argument in arguments]) == 1
    output = capsys.readouterr().err
    lines = [line for line in output.splitlines() if line.startswith("caviar: ")]
    assert len(lines) == 1, output
    assert "Traceback" not in output
    return lines[0]
