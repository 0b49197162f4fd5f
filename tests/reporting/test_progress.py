"""Tests of caviar/reporting/progress.py."""

import errno
import io
import logging
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from IPython.utils.capture import capture_output

from caviar.driver.messages import Chunk
from caviar.engine import Progress
from caviar.errors import ClusterError
from caviar.operations.resume import resume_study
from caviar.operations.run import run_study
from caviar.reporting import screens
from caviar.reporting.errors_shown import MAX_ERRORS
from caviar.reporting.progress import Display
from caviar.rounds import coarse_to_fine
from caviar.search.region import Region
from caviar.search.schedule import plan_phases
from caviar.search.stages import StagePlan
from caviar.trial import Measurement, Outcome, Result, Stage, Trial
from tests.objectives import Bowl, bowl_study
from tests.reporting.test_html_forms import BEST
from tests.runs import inline, run_inline, run_until_failure

PLAN = StagePlan(stage=Stage.SEARCH, round=1, count=30, epochs=3, trials=iter(()))
Captured = pytest.CaptureFixture[str]


def result(number: int, value: float, round_number: int = 1) -> Result:
    trial = Trial(number=number, round=round_number, params={}, epochs=3, seed=0)
    return Result(trial=trial, outcome=Outcome.COMPLETED, value=value)


def workers(count: int) -> dict[str, tuple[Chunk, ...]]:
    """Return so many workers that have nothing to do."""
    return {f"cpu-{number}": () for number in range(count)}


@pytest.fixture
def every_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print a line for each update."""
    monkeypatch.setattr(screens, "LINE_EVERY_S", 0.0)


@pytest.mark.usefixtures("every_update")
def test_progress_shows_round_trials_speed_best_and_time(capsys: Captured) -> None:
    with Display(bowl_study()) as display:
        display.opened(PLAN, 0)
        assert "round 1 of 2: 0/30 trials, waiting for the first worker" in capsys.readouterr().err
        display.waited(workers(2))
        time.sleep(0.05)
        display.recorded([result(n, 1.0 - 0.01 * n) for n in range(30)])
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(
        r"round 1 of 2: 30/30 trials, [\d.,]+ trials/s, best loss 0\.7100 \(trial 29\), 0:0\d left", line
    )


def test_progress_counts_search_and_confirmation_trials(capsys: Captured) -> None:
    with Display(replace(bowl_study(), rounds=coarse_to_fine(trials=150, epochs=2))):
        pass
    assert "bowl: 150 trials, then the winner trains once more" in capsys.readouterr().err


@pytest.mark.usefixtures("every_update")
def test_progress_shows_a_long_trial_until_it_finishes(capsys: Captured) -> None:
    with Display(bowl_study()) as display:
        display.opened(PLAN, 0)
        display.waited(workers(2))
        display.measured([Progress(4, Measurement(n, {"loss": 1 / n, "speed": 0.0})) for n in (1, 2)])
        assert "trial 4 has loss 0.5000 after epoch 2" in capsys.readouterr().err
        display.recorded([result(4, 0.5)])
        display.waited(workers(2))
        assert "after epoch" not in capsys.readouterr().err


@pytest.mark.usefixtures("every_update")
def test_progress_says_that_all_workers_are_gone(capsys: Captured) -> None:
    with Display(bowl_study()) as display:
        display.opened(PLAN, 0)
        display.waited(workers(1))
        display.waited(workers(0))
    assert "0/30 trials, waiting for a worker" in capsys.readouterr().err


def test_each_stage_begins_with_a_line(capsys: Captured) -> None:
    study = bowl_study()
    region = Region(declared=study.space, elite=({"method": "heavy"},) * 6)
    confirmation = replace(PLAN, stage=Stage.CONFIRMATION, round=3, count=6)
    with Display(study) as display:
        display.opened(PLAN, 0)
        display.opened(replace(PLAN, round=2, count=20, region=region), 0)
        display.opened(confirmation, 0)
        display.opened(replace(confirmation, round=4), 0)
        display.opened(replace(PLAN, round=4, count=12, region=region), 0)
        display.opened(replace(PLAN, stage=Stage.FINAL, round=5, count=1), 0)
    assert capsys.readouterr().err.splitlines()[1:] == [
        "round 1 of 2: 30 trials from the whole space",
        "round 2 of 2: 20 trials near the best 6 so far",
        "confirmation: the best 3 train again with fresh seeds, in 2 steps",
        "training shows no noise: the other trials of the confirmation go to extra rounds",
        "extra round 1 of 1: 12 trials near the best 6 so far",
        "final training: the winner trains once more",
    ]


@pytest.mark.usefixtures("every_update")
def test_confirmation_begins_on_the_screen_when_the_search_is_over(capsys: Captured) -> None:
    early = [result(n, 0.5, round_number=3) for n in (50, 51)]
    early = [replace(e, trial=replace(e.trial, stage=Stage.CONFIRMATION)) for e in early]
    with Display(bowl_study()) as display:
        display.opened(PLAN, 0)
        display.recorded([result(0, 0.5), *early])
        assert "round 1 of 2: 1/30 trials" in capsys.readouterr().err
        display.recorded([*(result(n, 0.5) for n in range(1, 30)), early[0]])
        said = capsys.readouterr().err
        assert said.count("round 1 of 2: 30/30 trials") == 1
        assert "confirmation: 3/14 trials" in said
        display.opened(replace(PLAN, stage=Stage.CONFIRMATION, round=3, count=6), 3)
        assert not capsys.readouterr().err


def test_each_error_is_shown_once(capsys: Captured) -> None:
    with Display(bowl_study()) as display:
        for number in range(20):
            display.failed(result(number, 0).trial, f"KeyError: 'x{number}' (train.py, line 3)")
        display.failed(result(20, 0).trial, "KeyError: 'x' (train.py, line 4)")
        display.failed(result(21, 0).trial, "its worker died 2 times: its process ended")
    lines = capsys.readouterr().err.splitlines()[1:]
    assert [line.strip().split(":")[0] for line in lines] == [
        "trial 0 failed",
        "study.try_one({}) shows the traceback of an error in your function",
        "trial 20 failed",
        "trial 21 failed",
    ]


def test_a_flood_of_different_errors_is_cut_off(capsys: Captured) -> None:
    trial = Trial(number=0, round=1, params={f"parameter_{n}": 0.5 for n in range(100)}, epochs=1, seed=0)
    with Display(bowl_study()) as display:
        for number in range(100):
            display.failed(trial, f"ValueError: no (train.py, line {number})")
    said = capsys.readouterr().err
    assert said.count("failed:") == MAX_ERRORS
    assert "study.try_one(params)" in said


def test_resumed_progress_counts_and_compares_recorded_trials(tmp_path: Path, capsys: Captured) -> None:
    study = bowl_study()
    recorded = run_inline(study, tmp_path).trials[:30]
    best = recorded["value"].min()
    with Display(study) as display:
        display.recalled(recorded)
        display.opened(replace(PLAN, round=1, count=30), 30)
        display.opened(replace(PLAN, round=2, count=20), 0)
        display.waited(workers(2))
        time.sleep(0.05)
        display.recorded([result(30 + n, best + 1, round_number=2) for n in range(20)])
        assert display._standing.ahead == 65 - 30 - 20
    said = capsys.readouterr().err
    assert "30 of them are recorded already" in said
    assert "round 1" not in said
    assert f"best loss {best:.4f} (trial {recorded['value'].idxmin()})" in said


def test_resumed_study_shows_its_earlier_best(tmp_path: Path, capsys: Captured) -> None:
    study = bowl_study()
    run = run_until_failure(study, tmp_path)
    best = run.trials["value"].min()
    capsys.readouterr()
    resume_study(study, run.path, backend=inline(study))
    said = capsys.readouterr().err
    assert re.search(r"\d+ of them are recorded already", said)
    assert f"best loss {best:.4f}" in said


@pytest.mark.parametrize("terminal", [False, True])
def test_markup_and_control_characters_are_printed_as_text(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "200")
    study = bowl_study(objective=Bowl(metric="[bold]\x1b[2Jflux[/m2]"))
    with Display(study) as display:
        display.opened(PLAN, 0)
        display.recorded([result(n, 0.5) for n in range(30)])
        logging.getLogger("caviar").warning("waiting for %d [/workers] \x1b[2J", 3)
    said = capsys.readouterr().err
    assert "best [bold]\\x1b[2Jflux[/m2] 0.5000" in said
    assert "waiting for 3 [/workers] \\x1b[2J" in said


def test_warnings_appear_among_the_lines(capsys: Captured) -> None:
    log = logging.getLogger("caviar.backends.somewhere")
    with Display(bowl_study()):
        log.warning("waiting for %d workers", 3)
    log.warning("not shown any more")
    assert "\n  waiting for 3 workers\n" in capsys.readouterr().err


def test_rounds_too_small_for_all_workers_are_reported_once(capsys: Captured) -> None:
    with Display(bowl_study(rounds=(30, 20))) as display:
        display.opened(PLAN, 0)
        display.waited(workers(20))
        assert "busy" not in capsys.readouterr().err
        display.waited(workers(21))
        display.waited(workers(22))
    assert capsys.readouterr().err.count("a round of 20 trials cannot keep 21 workers busy") == 1


class ClosedTerminal(io.StringIO):
    """A stream whose terminal is gone."""

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")

    def flush(self) -> None:
        raise OSError(errno.EIO, "Input/output error")


def test_a_closed_terminal_stops_no_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", ClosedTerminal())
    study = bowl_study()
    with Display(study) as display:
        assert isinstance(display._screen, screens.Terminal)
        assert display._screen.console.is_terminal is False
    run = run_study(study, runs=tmp_path, backend=inline(study))
    assert run.finished


def test_time_left_counts_no_trials_of_an_ended_search(tmp_path: Path) -> None:
    study = bowl_study()
    recorded = run_inline(study, tmp_path).trials[:30]
    with Display(study, plan_phases([study.rounds], [True])) as display:
        display.recalled(recorded)
        assert display._standing.ahead == study.confirmation.trials + 1


@pytest.mark.usefixtures("shell")
def test_a_study_in_a_notebook_ends_with_what_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caviar.reporting.progress.is_notebook", lambda: True)
    with capture_output() as captured:
        with pytest.raises(ClusterError), Display(bowl_study()):
            raise ClusterError("no Ray")
        with Display(bowl_study()) as display:
            display.opened(PLAN, 0)
            display.recorded([result(n, 0.5) for n in range(7)])
            display.stopping()
        with Display(bowl_study()) as display:
            display.opened(PLAN, 0)
            display.handed_over(BEST)
    shown: dict[str, str] = {o.transient["display_id"]: o.data["text/plain"] for o in captured.outputs}
    refused, stopped, finished = [text.splitlines()[-1] for text in shown.values()]
    assert refused == "stopped at the start"
    assert stopped == "stopped: round 1 of 2, 7/30 trials"
    assert finished == (
        "finished in 0:00. The winner is trial 7: loss 0.9000, 95% interval 0.8500 .. 1.0500, "
        "test accuracy 0.8000, 95% interval 0.7000 .. 0.9000"
    )
