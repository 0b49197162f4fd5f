"""Tests of caviar/reporting/html_forms.py and digest.py."""

from dataclasses import replace
from pathlib import Path

from caviar.records.frames import load
from caviar.records.run_files import write_recorded
from caviar.records.winner import Baseline, Best
from caviar.reporting.digest import digest_best, digest_run
from tests.objectives import Bowl, bowl_study
from tests.reporting.test_notebook import HOSTILE, text_of
from tests.runs import run_inline, run_until_failure

BEST = Best(
    trial=7,
    params={"method": HOSTILE, "rate": 0.123456789},
    recipe={},
    epochs=3,
    seed=0,
    value=0.9,
    interval=(0.85, 1.05),
    seeds=4,
    test_accuracy=0.8,
    test_interval=(0.7, 0.9),
    test_rows=60,
    baseline=Baseline(label="a", dev_accuracy=0.7, test_accuracy=0.75),
)


def test_a_winner_shows_its_scores_and_a_warning() -> None:
    on_one_line = HOSTILE.replace("\n", "\\n")
    assert dict(digest_best(BEST, "dev_accuracy")) == {
        "trial": "7: dev_accuracy 0.9000, 95% interval 0.8500 .. 1.0000",
        "params": f"method={on_one_line}, rate=0.123457",
        "test": "accuracy 0.8000, 95% interval 0.7000 .. 0.9000",
        "warning": "the test rows do not show that it is better than a constant answer",
    }
    assert dict(digest_best(replace(BEST, test_accuracy=None, test_value=12.5), "cost"))["test"] == "12.500"


def test_markup_in_a_winner_is_text() -> None:
    text, elements = text_of(BEST._repr_html_())
    assert "method=<script>alert('&')</script> \\x1b[2J [bold]" in text
    assert elements == {"div", "b", "table", "tr", "th", "td"}


def test_a_finished_run_shows_its_winner_and_outcomes(tmp_path: Path) -> None:
    run = run_inline(bowl_study(objective=Bowl(harm="raise", harmed=frozenset({3}))), tmp_path)
    rows = dict(digest_run(run, None).rows)
    assert run.best is not None
    assert rows["winner"].startswith(f"trial {run.best.trial}: loss")
    assert rows["trials"] == f"{len(run.trials) - 1} completed, 1 failed"
    assert rows["more"] == f"caviar show {tmp_path / 'bowl'}"
    assert "bowl is finished" in text_of(run._repr_html_())[0]


def test_an_unfinished_run_says_what_can_be_done(tmp_path: Path) -> None:
    run = run_until_failure(bowl_study(), tmp_path, script=tmp_path / "bowl.py")
    rows = dict(digest_run(run, None).rows)
    assert rows["to resume"] == f"caviar resume {run.location}"
    assert rows["to end it"] == f"caviar finish {run.location}"
    assert digest_run(run, "process 1").title == "bowl is running (process 1)"
    assert dict(digest_run(run, "process 1").rows)["follow"] == f"caviar watch {run.location}"


def test_a_run_without_trials_has_a_form(tmp_path: Path) -> None:
    run = run_until_failure(bowl_study(), tmp_path)
    for path in [*run.path.glob("trials/*"), *run.path.glob("curves/*")]:
        path.unlink()
    write_recorded(run.location, 0)
    assert "none recorded" in text_of(run._repr_html_())[0]
    (run.path / "ledger.json").unlink()
    damaged = load(run.path)
    assert "ledger.json is missing" in text_of(damaged._repr_html_())[0]
    assert repr(damaged) == f"Run({str(run.path)!r}, damaged)"
