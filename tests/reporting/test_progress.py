"""Live progress says where the study is, how fast it goes, the best so far and the time left."""

import logging
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from caviar.engine import Progress
from caviar.errors import ClusterError
from caviar.records.frames import load
from caviar.reporting import progress
from caviar.reporting.progress import Display
from caviar.runner import resume_study, run_study
from caviar.search.narrowing import Decision
from caviar.search.region import Region
from caviar.search.stages import StagePlan
from caviar.space import Space, choice
from caviar.study import coarse_to_fine
from caviar.trial import Measurement, Outcome, Result, Stage, Trial
from tests.objectives import Bowl, bowl_study
from tests.runs import Failing, inline, run_inline

PLAN = StagePlan(stage=Stage.SEARCH, round=1, count=30, epochs=3, trials=iter(()))


def result(number: int, value: float) -> Result:
    trial = Trial(number=number, round=1, params={}, epochs=3, seed=0)
    return Result(trial=trial, outcome=Outcome.COMPLETED, value=value)


def test_progress_shows_round_trials_speed_best_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(bowl_study()) as display:
        display.opened(PLAN, 0)
        assert "round 1 of 2  0/30  no worker is ready yet" in capsys.readouterr().err
        display.waited(2)
        time.sleep(0.05)
        display.recorded([result(n, 1.0 - 0.01 * n) for n in range(30)])
    said = capsys.readouterr().err
    assert "no worker" not in said
    assert "round 1 of 2  30/30" in said
    assert "trials/s" in said
    assert "best loss 0.7100 (trial 29)" in said
    assert "left" in said


def test_progress_counts_trials_as_they_were_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(replace(bowl_study(), rounds=coarse_to_fine(trials=150, epochs=2))):
        pass
    assert "bowl: 150 trials to train, then the winner once more" in capsys.readouterr().err


def test_progress_shows_where_a_long_trial_is_until_it_is_recorded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    with Display(bowl_study()) as display:
        display.opened(PLAN, 0)
        display.waited(2)
        display.measured([Progress(4, Measurement(n, {"loss": 1 / n, "speed": 0.0})) for n in (1, 2)])
        assert "trial 4 is at 0.5000 after epoch 2" in capsys.readouterr().err
        display.recorded([result(4, 0.5)])
        display.waited(2)
        assert "after epoch" not in capsys.readouterr().err


def test_progress_says_near_what_a_round_draws(capsys: pytest.CaptureFixture[str]) -> None:
    study = bowl_study()
    region = Region(whole=study.space, elite=({"method": "heavy"},) * 6, near={"method": ("heavy",) * 6})
    decision = Decision(
        parameter="method",
        action="weighted",
        before="plain 33%, heavy 33%, None 33%",
        after="plain 7%, heavy 87%, None 7%",
        elite=6,
        reason="of the best 6 took plain: 0, heavy: 6, None: 0",
    )
    with Display(study) as display:
        display.opened(replace(PLAN, round=2, region=region, decisions=(decision,)), 0)
    assert "near the best 6: method plain 7%, heavy 87%, None 7%" in capsys.readouterr().err


def test_progress_of_a_resumed_study_counts_and_compares_what_is_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = bowl_study()
    recorded = run_inline(study, tmp_path).trials[:30]
    best = recorded["value"].min()
    with Display(study) as display:
        display.recalled(recorded)
        display.opened(replace(PLAN, round=2, count=20), 0)
        display.waited(2)
        time.sleep(0.05)
        display.recorded([result(30 + n, best + 1) for n in range(20)])
        assert display._ahead == 65 - 30 - 20
    said = capsys.readouterr().err
    assert "30 of them are recorded already" in said
    assert f"best loss {best:.4f} (trial {recorded['value'].idxmin()})" in said


def test_a_resumed_study_shows_the_best_that_it_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = bowl_study()
    with pytest.raises(ClusterError):
        run_study(study, runs=tmp_path, progress=False, backend=lambda data: Failing(study.objective, None))
    run = load(tmp_path / "bowl")
    best = run.trials["value"].min()
    capsys.readouterr()
    resume_study(study, run.path, backend=inline(study))
    said = capsys.readouterr().err
    assert re.search(r"\d+ of them are recorded already", said)
    assert f"best loss {best:.4f}" in said


@pytest.mark.parametrize("terminal", [False, True])
def test_what_looks_like_markup_is_shown_as_it_stands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "200")
    space = Space(colour=choice("[red]", "[/]"))
    study = replace(bowl_study(objective=Bowl(metric="[bold]loss")), space=space)
    decision = Decision(
        parameter="colour",
        action="weighted",
        before="[red] 50%, [/] 50%",
        after="[red] 90%, [/] 10%",
        elite=6,
        reason="",
    )
    region = Region(whole=space, elite=({"colour": "[red]"},) * 6, near={"colour": ("[red]",) * 6})
    with Display(study) as display:
        display.opened(replace(PLAN, round=2, region=region, decisions=(decision,)), 0)
        display.recorded([result(n, 0.5) for n in range(30)])
    said = capsys.readouterr().err
    assert "near the best 6: colour [red] 90%, [/] 10%" in said
    assert "best [bold]loss 0.5000" in said


def test_warnings_stand_among_the_lines_of_progress(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("caviar.scheduling.somewhere")
    with Display(bowl_study()):
        log.warning("waiting for %d [workers]", 3)
    log.warning("not shown any more")
    said = capsys.readouterr().err
    assert "  waiting for 3 [workers]\n" in said


def test_progress_names_the_heats_of_the_confirmation(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(bowl_study()) as display:
        display.opened(replace(PLAN, stage=Stage.CONFIRMATION, round=4, count=8), 0)
    assert "confirmation, heat 2 of 2  0/8" in capsys.readouterr().err


def test_that_a_round_is_too_small_for_all_workers_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(bowl_study(rounds=(30, 20))) as display:
        display.opened(PLAN, 0)
        display.waited(20)
        assert "busy" not in capsys.readouterr().err
        display.waited(21)
        display.waited(22)
    assert capsys.readouterr().err.count("a round of 20 trials keeps no more than 20 workers busy") == 1
