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
    gallery.save(finding, tmp_path / "04_right_scale", seconds=130.0, image=False)
    page = gallery.page(tmp_path)
    for part in ("Scales matter.", "By 0.65.", "| linear | 0.9 |", "(2 min)", "results/04_right_scale.png"):
        assert part in page


@pytest.mark.usefixtures("lecture")
def test_pages_are_written_from_the_results() -> None:
    import gallery
    import quiz

    assert (LECTURE / "README.md").read_text() == gallery.page()
    assert (LECTURE / "QUIZ.md").read_text() == quiz.page(gallery.RESULTS)


@pytest.mark.usefixtures("lecture")
def test_answers_of_the_quiz_have_evidence(tmp_path: Path) -> None:
    import quiz

    for number in range(1, 15):
        (tmp_path / f"{number:02}_name.json").write_text(json.dumps({"found": f"What {number} found."}))
    page = quiz.page(tmp_path)
    assert len(quiz.QUESTIONS) == 10
    assert page.count("> What ") == sum(len(question.evidence) for question in quiz.QUESTIONS)


@pytest.mark.usefixtures("lecture")
def test_interval_of_a_mean_is_students() -> None:
    import gallery

    assert gallery.mean_and_half([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2.4841), abs=1e-4)
