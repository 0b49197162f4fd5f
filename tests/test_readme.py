"""The README is true: its example runs, its commands and files exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from caviar.records.frames import load

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def code(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.ray
def test_the_example_runs_as_it_stands(tmp_path: Path) -> None:
    example = code("python")[0]
    assert len([line for line in example.splitlines() if line.strip()]) <= 24
    (tmp_path / "my_digits.py").write_text(example)
    ended = subprocess.run(
        [sys.executable, "my_digits.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    best = load(tmp_path / "runs" / "digits").best
    assert best is not None
    assert best.test_accuracy is not None
    assert best.test_accuracy > 0.95
    assert f"'learning_rate': {best.params['learning_rate']}" in ended.stdout


def test_files_and_pictures_that_it_names_exist() -> None:
    names = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(
        r"`((?:experiments|caviar|tests)/[\w/.]+)`", README
    )
    local = [name for name in names if not name.startswith("http")]
    assert local
    for name in local:
        assert (ROOT / name).exists(), name


def test_make_targets_that_it_names_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([\w-]+)", " ".join(code("") + re.findall(r"`(make [\w-]+)`", README))):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
