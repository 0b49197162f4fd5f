"""`caviar plan`: what a study will take, from trials that are really measured."""

import json
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from caviar.cli.main import main
from caviar.experiment_script import load_study
from caviar.operations.plan import plan_study
from caviar.reporting.plan import plan_parts
from caviar.reporting.terminal import print_parts
from caviar.resources import Resources
from caviar.rounds import coarse_to_fine
from caviar.space import Space, linear
from caviar.study import Study
from caviar.training.function.objective import Function


def sleep(params: dict[str, float]) -> float:
    time.sleep(0.02)
    return params["x"]


def planned(fn: Any = sleep, **options: Any) -> Study:
    return Study(
        name="planned",
        objective=Function(fn, **options),
        space=Space(x=linear(0.0, 1.0)),
        rounds=coarse_to_fine(trials=60, epochs=1),
    )


def printed(plan: Any, width: int, capsys: pytest.CaptureFixture[str]) -> str:
    from rich.console import Console

    print_parts(plan_parts(plan, datetime(2026, 1, 2, 3, 4)), Console(width=width))
    return capsys.readouterr().out


@pytest.mark.ray
def test_a_plan_says_what_a_study_takes(capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_study(planned(), measure_s=0.6)
    assert plan.trials == 60
    assert plan.places.workers == {"cpu": 2}
    assert plan.cost is not None
    assert 0.02 < plan.cost.forecast.mean_s < 0.2
    low, high = plan.cost.interval_s
    assert low < plan.cost.duration_s < high
    assert plan.cost.duration_s > plan.cost.before_s + 60 * 0.02 / 2
    assert json.loads(json.dumps(plan.to_json()))["way"] == "caviar"
    for width in (80, 120):
        text = printed(plan, width, capsys)
        assert max(map(len, text.splitlines())) <= width or "caviar way" in text
        for title in ("a trial", "search", "duration", "end", "memory", "disk"):
            assert re.search(rf"^  {title} ", text, re.MULTILINE), text


@pytest.mark.slow
@pytest.mark.ray
def test_a_time_that_holds_few_trials_suggests_the_panda() -> None:
    def slow(params: dict[str, float]) -> float:
        time.sleep(0.5)
        return params["x"]

    plan = plan_study(planned(slow), time_s=4.0, measure_s=0.1)
    assert plan.advice is not None
    assert plan.advice.way == "panda"


@pytest.mark.slow
@pytest.mark.ray
def test_modules_and_the_process_itself_are_planned(capsys: pytest.CaptureFixture[str]) -> None:
    module = load_study(Path(__file__).parents[2] / "experiments" / "plan" / "studies.py", "module")
    plan = plan_study(module, address="here", measure_s=2.0)
    assert plan.places.workers == {"cpu": 1}
    assert plan.cost is not None
    assert plan.cost.costs.timed > 1
    text = printed(plan, 120, capsys)
    assert "1 CPU worker of this machine" in text


@pytest.mark.ray
def test_a_gpu_that_the_cluster_lacks_is_refused() -> None:
    with pytest.raises(Exception, match="needs 1 CPU, 1 GPU"):
        plan_study(planned(resources=Resources(gpus=1)), measure_s=0.1)


@pytest.mark.slow
@pytest.mark.ray
def test_a_function_that_fails_is_planned_in_trials(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(params: dict[str, float]) -> float:
        raise KeyError("no such column")

    plan = plan_study(planned(broken), time_s=600.0, measure_s=5.0)
    assert plan.cost is None
    assert plan.in_trials is not None
    assert 61 / 2 <= plan.in_trials < 61
    text = printed(plan, 120, capsys)
    assert "no such column" in text
    assert "times as long as a trial" in text
    assert "in 10 min" not in text, "nothing is known of the time"
    assert re.search(r"all 2\d trials that were tried failed", text), "it does not try for long"
    assert "study.try_one()" in text


def test_a_wrong_time_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "script.py"
    for command in ("plan", "run"):
        with pytest.raises(SystemExit):
            main([command, str(script), "--time", "soon"])
        assert "10m" in capsys.readouterr().err
