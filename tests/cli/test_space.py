"""`caviar space`: what a study would draw, in a terminal, as JSON and as a page."""

import json
from pathlib import Path

import pytest

from caviar.cli.main import main

SCRIPT = """
import caviar as cv

study = cv.Study(
    name="seen",
    objective=cv.Classifier(data="sklearn:iris"),
    space=cv.Space(
        learning_rate=cv.linear(1e-4, 1.0),
        optimizer=cv.choice("sgd", "adam"),
        beta2=cv.reverse_log(0.9, 0.999),
        where=lambda p: p["optimizer"] == "adam" or p["learning_rate"] > {least},
    ),
    rounds=cv.coarse_to_fine(trials=20, epochs=1),
    try_first=[{{"learning_rate": 0.9}}],
)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "experiment.py"
    file.write_text(SCRIPT.format(least=0.5))
    return file


def test_shares_conditions_and_hints_are_printed(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["space", str(script)]) == 0
    printed = capsys.readouterr().out
    for words in (
        "at random",
        "1 trial",
        "constraints refuse",
        "0.99 .. 0.999",
        "of draws",
        "Hint",
        "cv.log(",
    ):
        assert words in printed


def test_json_has_the_same_numbers(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["space", str(script), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    parameters = {parameter["name"]: parameter for parameter in found["parameters"]}
    assert set(parameters) == {"learning_rate", "optimizer", "beta2"}
    assert 0.5 < parameters["beta2"]["applies"] < 0.8
    assert parameters["learning_rate"]["hint"]


def test_a_page_shows_a_panel_for_each_parameter(script: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "space.html"
    assert main(["space", str(script), "--plot", str(page)]) == 0
    assert all(name in page.read_text() for name in ("learning rate", "beta2"))
    with pytest.raises(SystemExit):
        main(["space", str(script), "--plot", "space.png"])


def test_a_nearly_empty_space_is_refused_with_its_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "experiment.py"
    file.write_text(SCRIPT.format(least=0.5).replace('== "adam" or', '== "none" and'))
    assert main(["space", str(file)]) == 1
    assert "0 of 1,000 draws" in capsys.readouterr().err
