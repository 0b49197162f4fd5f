"""Commands that read saved runs; tests/records/test_fetch.py has `fetch`."""

from pathlib import Path

import pytest

from caviar.cli.main import main
from tests.objectives import bowl_study
from tests.runs import run_inline


def test_show_prints_rounds_times_and_winner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_inline(bowl_study(), tmp_path).path
    assert main(["show", str(path)]) == 0
    output = capsys.readouterr().out
    for part in ("Worker time", "training", "winner is trial", str(path)):
        assert part in output
    assert main(["show", str(path), "--rounds"]) == 0
    assert "Round 2" in capsys.readouterr().out
