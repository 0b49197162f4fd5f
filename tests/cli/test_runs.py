"""Commands that read saved runs; tests/records/test_fetch.py has `fetch`."""

import io
from pathlib import Path

import pytest

import caviar as cv
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


def test_show_prints_any_name_on_an_ascii_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = cv.Study(
        name="names",
        objective=cv.Function(lambda params: params["größe"], metric="μ"),
        space=cv.Space(größe=cv.linear(0, 1)),
        rounds=[cv.Round(4, 1)],
    )
    path = run_inline(study, tmp_path / "caf\udce9").path
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stdout)
    assert main(["show", str(path)]) == 0
    stdout.seek(0)
    output = stdout.read()
    assert r"gr\xf6\xdfe=" in output
    assert r"caf\udce9/names" in output
