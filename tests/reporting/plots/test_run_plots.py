"""Tests of all figures: they are drawn from any run, small, and show text as text."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import caviar as cv
from caviar.errors import RunError
from caviar.records.frames import Run
from caviar.reporting.plots.run_plots import RunPlots
from tests.reporting.plots.runs import parts_of
from tests.runs import run_inline

FIGURES = sorted(name for name in vars(RunPlots) if not name.startswith("_"))
OF_CLASSIFIERS = {"calibration", "confusion"}
RAW = ("<a ", "<i>", "<b>loss", "<script", "%{x} $", "$x$")
"""Parts of the hostile names, not escaped."""


def texts(node: Any) -> Iterator[str]:
    """Yield every string of a figure that plotly reads as HTML: all but the ticks of parallel coordinates."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        is_parallel = "tickvals" in node and "values" in node
        for key, value in node.items():
            if not (is_parallel and key == "ticktext"):
                yield from texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_and_small(run: Run, name: str) -> None:
    figure = getattr(run.plot, name)()
    assert (len(figure.data) > 0) == (name not in OF_CLASSIFIERS)
    assert figure.layout.title.text
    assert len(figure.to_json()) < 150_000


def test_rounds_without_an_elite_are_drawn(tmp_path: Path) -> None:
    study = cv.Study(
        name="few",
        objective=cv.Function(lambda params: params["x"]),
        space=cv.Space(x=cv.linear(0, 1), kind=cv.choice("a", "b")),
        rounds=cv.coarse_to_fine(12, 1),
    )
    run = run_inline(study, tmp_path)
    assert (run.rounds["elite"] == 0).any()
    assert len(run.plot.rounds().data)


@pytest.mark.parametrize(
    ("name", "options"),
    [("history", {"against": "epoch"}), ("parallel", {"best": 0}), ("curves", {"metric": "x"})],
)
def test_wrong_options_are_refused(run: Run, name: str, options: dict[str, Any]) -> None:
    with pytest.raises(RunError, match=next(iter(options))):
        getattr(run.plot, name)(**options)


@pytest.mark.parametrize("name", FIGURES)
def test_little_data_gives_a_figure_too(run: Run, name: str) -> None:
    for kind, part in parts_of(run).items():
        figure = getattr(part.plot, name)()
        has_sentence = any(annotation.text for annotation in figure.layout.annotations)
        assert len(figure.data) > 0 or has_sentence, kind


@pytest.mark.parametrize("name", FIGURES)
def test_hostile_text_is_escaped(hostile: Run, name: str) -> None:
    content = json.loads(getattr(hostile.plot, name)().to_json())
    del content["layout"]["template"]
    assert not [text for text in texts(content) if any(raw in text for raw in RAW)]


def test_figures_load_no_training_library(run: Run) -> None:
    code = (
        f"import sys, caviar; caviar.load({str(run.location)!r}).plot.history(); "
        "print(*{'torch', 'ray', 'numba', 'optuna'} & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == ""
