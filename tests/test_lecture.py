"""The experiments of the lecture run, and the gallery shows what they found."""

import json
import runpy
import sys
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest

LECTURE = Path(__file__).parents[1] / "experiments" / "lecture"
EXPERIMENTS = sorted(path.stem for path in LECTURE.glob("[0-9]*.py"))


@pytest.fixture
def lecture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let scripts import their neighbours, as `python` does."""
    monkeypatch.syspath_prepend(str(LECTURE))


@pytest.mark.usefixtures("lecture")
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a study that says nothing else leaves its run in runs/
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--quick", "--out", str(tmp_path / "found")])
    runpy.run_path(str(LECTURE / f"{name}.py"), run_name="__main__")
    facts = json.loads((tmp_path / "found" / f"{name}.json").read_text())
    assert facts["verdict"] in ("holds", "holds weakly", "does not hold here")
    assert not pd.read_csv(tmp_path / "found" / f"{name}.csv").empty
    assert (tmp_path / "found" / f"{name}.html").stat().st_size > 1_000


@pytest.mark.usefixtures("lecture")
def test_gallery_shows_what_was_found(tmp_path: Path) -> None:
    import gallery

    table = pd.DataFrame({"scale": ["log", "linear"], "share": ["0.25", "0.9"]})
    finding = gallery.Finding(
        claim="Scales matter.", verdict="holds", found="By 0.65.", table=table, figure=go.Figure()
    )
    gallery.save(finding, tmp_path / "04_scales", seconds=130.0, image=False)
    page = gallery.page(tmp_path)
    for part in (
        "Scales matter.",
        "By 0.65.",
        "| linear | 0.9 |",
        "(2 min of CPU time)",
        "## 04 Scales",
        "results/04_scales.png",
    ):
        assert part in page


@pytest.mark.usefixtures("lecture")
def test_pages_are_written_from_the_results() -> None:
    import gallery
    import quiz

    assert (LECTURE / "README.md").read_text() == gallery.page()
    assert (LECTURE / "QUIZ.md").read_text() == quiz.page(gallery.RESULTS)


@pytest.mark.usefixtures("lecture")
def test_answers_of_the_quiz_have_evidence() -> None:
    import gallery
    import quiz

    page = quiz.page(gallery.RESULTS)
    assert len(quiz.QUESTIONS) == 10
    assert page.count("\n> ") == sum(len(question.evidence) for question in quiz.QUESTIONS) >= 10


@pytest.mark.usefixtures("lecture")
def test_quiz_quotes_sentences_with_the_words() -> None:
    import quiz

    found = "Epsilon is 1e-5. The loss is 0.94 (0.89 .. 1.00) times as high. Rates differ."
    assert quiz.quote(found, "loss") == "The loss is 0.94 (0.89 .. 1.00) times as high."
    assert quiz.quote(found, "") == found
    with pytest.raises(ValueError, match="no sentence"):
        quiz.quote(found, "momentum")


@pytest.mark.usefixtures("lecture")
def test_interval_of_a_mean_is_students() -> None:
    import gallery

    assert gallery.mean_and_half([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2.4841), abs=1e-4)
