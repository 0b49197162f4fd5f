"""`caviar compare`: tables in wide and narrow terminals, and names that hold markup."""

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

import caviar as cv
from caviar.cli.main import main
from caviar.reporting.comparison import show_comparison
from tests.cli.commands import run_failing
from tests.objectives import bowl_study
from tests.runs import run_inline

NAMES = (
    "plain",
    "[red]marked[/red]",
    "ansi\x1b[31m",
    "a-name-that-is-much-longer-than-a-narrow-terminal-is-wide",
)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    run = run_inline(bowl_study(), folder)
    paths = [folder / str(number) / NAMES[number].replace("/", "_") for number in range(len(NAMES))]
    for path in paths:
        shutil.copytree(run.path, path)
    return paths


def test_the_verdict_comes_first(paths: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *map(str, paths[:2])]) == 0
    output = capsys.readouterr().out
    assert "the same score" in output.splitlines()[0]
    for part in ("place", "seeds", "equal budget", "[red]marked[_red]"):
        assert part in output


@pytest.mark.parametrize("width", [60, 120])
def test_no_line_is_wider_than_the_terminal(paths: list[Path], width: int) -> None:
    output = io.StringIO()
    show_comparison(
        cv.compare(*paths), Console(file=output, width=width, force_terminal=True, color_system=None)
    )
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    text = output.getvalue()
    assert "\x1b" not in text.replace("\x1b[0m", "").replace("\x1b[1m", "").replace("\x1b[2m", "")
    for part in ("1 to 4", "probability", "clear", "repeats"):
        assert part in text
    assert "…" not in text


def test_one_run_is_refused(paths: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert "at least two runs" in run_failing(capsys, "compare", paths[0])
