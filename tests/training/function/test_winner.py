"""The winner of a function: what its final training saved, and the score of its test function."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import caviar as cv
from caviar.errors import RunError, StudyError
from caviar.trial import Outcome
from tests.runs import run_inline

Params = dict[str, Any]


def study(fn: Callable[..., Any], test: Callable[..., Any] | None = None) -> cv.Study:
    return cv.Study(
        name="winner",
        objective=cv.Function(fn, test=test),
        space=cv.Space(x=cv.linear(0.0, 1.0)),
        rounds=[cv.Round(8, 3), cv.Confirmation(2)],
    )


def descends(params: Params, trial: cv.TrialContext) -> None:
    """Save how far it came, and the stage that it was trained for."""
    for epoch in trial.remaining():
        trial.report(epoch, value=params["x"] + 1 / epoch)
        trial.save({"epoch": epoch, "stage": str(trial.stage), "x": params["x"]})


def best_of(declared: cv.Study, runs: Path) -> cv.Best:
    best = run_inline(declared, runs).best
    assert best is not None
    return best


def test_the_last_save_of_the_final_training_is_handed_over(tmp_path: Path) -> None:
    best = best_of(study(descends), tmp_path)
    with pytest.warns(UserWarning, match=r"saved\.pickle is a pickle") as warned:
        saved = best.restore()
    assert saved == {"epoch": 3, "stage": "final", "x": best.params["x"]}
    assert warned[0].filename == __file__
    assert best.test_value is None


@pytest.mark.parametrize("fn", [lambda params: params["x"], lambda params, trial: params["x"]])
def test_a_function_that_saves_nothing_has_nothing_to_restore(tmp_path: Path, fn: Any) -> None:
    with pytest.raises(RunError, match="saved nothing"):
        best_of(study(fn), tmp_path).restore()


def test_the_test_function_scores_the_winner_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = tmp_path / "calls"

    def score(params: Params, trial: cv.TrialContext) -> float:
        with calls.open("a") as file:
            file.write(f"{trial.stage} {trial.restore()['epoch']}\n")
        return 10 * trial.restore()["x"] + params["x"]  # type: ignore[no-any-return]

    best = best_of(study(descends, score), tmp_path)
    assert best.test_value == 11 * best.params["x"]  # type: ignore[operator]
    assert calls.read_text() == "final 3\n"
    from caviar.reporting.summary import show

    show(cv.load(tmp_path / "winner"))
    assert "by the study's test function" in capsys.readouterr().out


def test_a_test_function_may_take_the_params_alone(tmp_path: Path) -> None:
    best = best_of(study(lambda params: params["x"], lambda params: 2 * params["x"]), tmp_path)
    assert best.test_value == 2 * best.params["x"]  # type: ignore[operator]


def test_a_failed_test_function_keeps_the_winner(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def divides(params: Params, trial: cv.TrialContext) -> float:
        return 1 / 0

    run = run_inline(study(descends, divides), tmp_path)
    final = run.trials.iloc[-1]
    assert final["outcome"] == Outcome.COMPLETED
    assert "ZeroDivisionError: division by zero (test_winner.py, line" in final["failure"]
    assert "the test function failed" in caplog.text
    assert run.best is not None
    assert run.best.test_value is None
    with pytest.warns(UserWarning, match="pickle"):
        assert run.best.restore()["epoch"] == 3


def test_a_test_function_that_exits_keeps_the_winner(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def exits(params: Params) -> float:
        raise SystemExit(3)

    assert best_of(study(descends, exits), tmp_path).test_value is None
    assert "SystemExit: 3" in caplog.text


def test_an_invalid_test_function_is_refused() -> None:
    with pytest.raises(StudyError, match="a, b"):
        study(descends, lambda a, b: 0.0)


def test_a_failed_final_training_hands_over_params(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fails(params: Params, trial: cv.TrialContext) -> float:
        trial.save(threading.Lock())  # it is pickled in the final training alone
        return float(params["x"])

    best = best_of(study(fails), tmp_path)
    assert 0 <= float(best.params["x"]) <= 1  # type: ignore[arg-type]
    assert "its final training: " in caplog.text
    assert "cannot pickle" in caplog.text
