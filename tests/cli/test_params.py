"""The table of hyperparameters is the same in the code, in the README, in help and in `caviar params`."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import caviar as cv
from caviar.cli.main import main
from caviar.training.recipe import HYPERPARAMETERS, Recipe, hyperparameter_table, recipe_from

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_command_prints_the_table_within_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["params"]) == 0
    output = capsys.readouterr().out
    assert output == hyperparameter_table() + "\n"
    assert max(map(len, output.splitlines())) <= 80


def test_command_loads_no_heavy_library() -> None:
    code = (
        "import sys; from caviar.cli.main import main; main(['params']); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "learning_rate" in done.stdout
    assert not {"torch", "numba", "ray", "optuna", "pandas"} & set(done.stderr.split())


def test_help_of_the_classifier_contains_the_table() -> None:
    lines = (inspect.getdoc(cv.Classifier) or "").splitlines()
    for line in hyperparameter_table().splitlines():
        assert f"    {line}" in lines


def test_readme_contains_the_table() -> None:
    section = README.partition("## Hyperparameters")[2].partition("\n## ")[0]
    cells = [
        [cell.strip().replace("`", "") for cell in line.strip("|").split(" | ")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    assert cells == [
        [row.name, "" if row.default is None else str(row.default), row.values, row.use, row.meaning]
        for row in HYPERPARAMETERS
    ]


def test_defaults_of_the_table_are_those_of_a_recipe() -> None:
    defaults = {row.name: row.default for row in HYPERPARAMETERS if row.default is not None}
    assert recipe_from(defaults) == recipe_from({}) == Recipe()
