"""The README is true: its example runs, and the commands and files that it names exist."""

import re
import runpy
from pathlib import Path

import pytest

from caviar.backends.inline import InlineBackend
from caviar.records.frames import load

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BUDGET = "trials=200, epochs=20"


def code(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_example_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only its budget is smaller, and its workers are in this process."""
    example = code("python")[0]
    assert len([line for line in example.splitlines() if line.strip()]) <= 24
    assert BUDGET in example
    script = tmp_path / "my_digits.py"
    script.write_text(example.replace(BUDGET, "trials=32, epochs=5"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("caviar.backends.ray.backend.RayBackend", lambda *given: InlineBackend(*given[:2]))
    runpy.run_path(str(script), run_name="__main__")
    best = load(tmp_path / "runs" / "digits").best
    assert best is not None
    assert best.test_accuracy is not None
    assert best.test_accuracy > 0.9
    assert f"'learning_rate': {best.params['learning_rate']}" in capsys.readouterr().out


def test_files_and_pictures_exist() -> None:
    names = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(
        r"`((?:experiments|caviar|tests)/[\w/.]+)`", README
    )
    local = [name for name in names if not name.startswith("http")]
    assert local
    for name in local:
        assert (ROOT / name).exists(), name


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([\w-]+)", " ".join(code("") + re.findall(r"`(make [\w-]+)`", README))):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
