"""The `caviar` command itself: help, exit codes and tracebacks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from caviar.cli.main import create_parser, main

COMMANDS = [
    "params",
    "run",
    "resume",
    "finish",
    "list",
    "show",
    "fetch",
    "export",
    "dashboard",
    "submit",
    "jobs",
    "logs",
    "stop",
]


def test_help_lists_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    output = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n  {command} " in output


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_commands_fits_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"usage: caviar {command}")
    assert max(map(len, lines)) <= 80
    options = [line.split()[0] for line in lines if line.startswith("  --")]
    assert "--debug" in options


def test_wrong_command_line_ends_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run"])
    assert "EXPERIMENT.py" in capsys.readouterr().err


def test_debug_prints_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(tmp_path), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_output_that_nobody_reads_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "caviar", "params"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert ended.stderr == b""


def test_the_program_runs_exit_handlers_and_returns_the_exit_code(tmp_path: Path) -> None:
    """The process ends at once after them, so a lost line or code would not be noticed."""
    code = (
        "import atexit, sys\n"
        "from caviar import __main__ as program\n"
        "main = program.main\n"
        "program.main = lambda: atexit.register(print, 'handled') and main()\n"
        "program.run()"
    )
    for words, status in ((["params"], 0), (["show", str(tmp_path)], 1), (["run"], 2)):
        ended = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
        )
        assert (ended.returncode, ended.stdout.splitlines()[-1]) == (status, "handled"), words
        assert bool(ended.stderr) == bool(status), words


def test_jobs_are_followed_by_default() -> None:
    words = ["submit", "digits.py", "--runs", "/shared/runs"]
    assert create_parser().parse_args(words).wait
    assert not create_parser().parse_args([*words, "--no-wait"]).wait
