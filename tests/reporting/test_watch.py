"""Tests of caviar/reporting/watch.py, and of what it shows."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from caviar.errors import ClusterError, RunError
from caviar.operations.run import run_study
from caviar.records.frames import Run, load
from caviar.records.status import RunningTrial, Status
from caviar.reporting.follower import Follower, View
from caviar.reporting.watch import render, watch_run
from caviar.storage.location import this_process
from tests.object_store import ObjectStore, in_memory
from tests.objectives import Bowl, Slow, bowl_study
from tests.runs import Failing, run_inline, run_until_failure

HOSTILE = "[bold]\x1b[2J<b>flux[/m2]"
Captured = pytest.CaptureFixture[str]


def status(running: int = 3, driver: str = "", others: int = 0) -> Status:
    trials = [
        RunningTrial(
            trial=100 + n,
            round=1,
            stage="search",
            worker=HOSTILE,
            others=others,
            since_s=60.0,
            epochs=9,
            epoch=n,
            value=0.5,
        )
        for n in range(running)
    ]
    return Status(
        driver=driver or this_process(),
        workers=running,
        elapsed_s=10.0,
        recalled=4,
        running=running,
        trials=tuple(trials),
    )


def view_of(run: Run, status: Status | None) -> View:
    """Return the view of a run as if its driver had left a status just now."""
    return replace(Follower(run).look(), driver=this_process(), status=status, status_age_s=0.0)


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An unfinished run with trials that fail, and a metric that holds control codes and markup."""
    bowl = Bowl(metric="loss", harm="raise", harmed=frozenset({1, 2}))
    return run_until_failure(bowl_study(objective=bowl), tmp_path_factory.mktemp("runs"))


def shown(view: View, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, force_terminal=False)
    with console.capture() as capture:
        console.print(render(view, width, height))
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.mark.parametrize("width", [40, 60, 160])
def test_a_view_fits_a_terminal_of_any_width(failing: Run, width: int) -> None:
    view = replace(view_of(failing, status(running=50)), metric=HOSTILE)
    lines = shown(view, width, 24)
    assert len(lines) == 24
    assert all(len(line) <= width for line in lines)
    text = "\n".join(lines)
    assert lines[0].startswith("bowl  process")
    assert f"round 1 of 2: {len(failing.trials)}/30 trials" in text
    assert "50 of 50 workers busy" in text
    assert "trial 100  1:00    0/9" in text
    assert "trial 2: ArithmeticError: two and two" in text
    assert "trial 1: ArithmeticError" not in text, "an error is shown once"
    assert "more" in text
    assert "\x1b" not in text


def test_a_view_counts_the_trials_of_this_driver_alone(failing: Run) -> None:
    view = view_of(failing, status())
    assert view.per_s == pytest.approx((len(failing.trials) - 4) / 10)
    assert view.left_s == pytest.approx((50 + 14 + 1 - len(failing.trials)) / view.per_s)
    assert view_of(failing, None).per_s == 0


def test_a_view_says_when_it_is_old(failing: Run) -> None:
    view = replace(view_of(failing, status(others=7)), status_age_s=65.0)
    lines = shown(view, 80, 30)
    assert any("no news from the driver for 1:05" in line for line in lines)
    assert any("trial 100 (+7)  2:05" in line for line in lines)


def test_the_status_of_another_driver_is_ignored(failing: Run) -> None:
    follower, lock = Follower(failing), failing.location.lock()
    try:
        status().write(failing.location)
        assert follower.look().status == status()
        status(driver="process 1 on another machine").write(failing.location)
        assert follower.look().status is None
    finally:
        lock.release()
    status().write(failing.location)
    view = follower.look()
    assert (view.driver, view.status) == (None, None), "a killed driver has left it"


def run_meanwhile(study_run: threading.Thread, folder: Path) -> Run:
    """Start a thread that runs a study, and return its run as soon as a trial is recorded."""
    study_run.start()
    deadline = time.monotonic() + 30
    while not list(folder.glob("bowl/trials/part-*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return load(folder / "bowl")


def test_a_run_is_followed_to_its_end(tmp_path: Path, capsys: Captured) -> None:
    study = bowl_study(objective=Slow(pause_s=0.01, harm="raise", harmed=frozenset({3, 4})))
    thread = threading.Thread(target=run_inline, args=(study, tmp_path))
    run = run_meanwhile(thread, tmp_path)
    assert watch_run(run.location, every_s=0.1)
    thread.join()
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(("round 1 of 2: ", "round 2 of 2: ")) for line in lines)
    assert any("of 1 workers busy" in line and " runs for 0:00" in line for line in lines)
    assert sum("failed: ArithmeticError" in line for line in lines) == 1
    best = load(tmp_path / "bowl").best
    assert best is not None
    assert "bowl is finished" in lines
    assert any(f"winner       trial {best.trial}: loss" in line for line in lines)
    assert any(f"caviar show {tmp_path / 'bowl'}" in line for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_a_dead_run_says_how_to_resume(failing: Run, capsys: Captured) -> None:
    assert not watch_run(failing.location)
    said = capsys.readouterr().out
    assert "bowl is unfinished" in said
    assert f"to resume    study.resume({str(failing.location)!r})" in said
    assert "best so far" in said


def test_a_terminal_shows_one_view_in_place(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    thread = threading.Thread(target=run_inline, args=(bowl_study(objective=Slow(pause_s=0.01)), tmp_path))
    run = run_meanwhile(thread, tmp_path)
    assert watch_run(run.location, every_s=0.1)
    thread.join()
    said = capsys.readouterr().out
    live, after = said.split("\x1b[?1049l")
    assert live.startswith("\x1b[?1049h"), "it has a screen of its own, and gives the old one back"
    assert "\x1b[2J" not in live, "it does not flicker"
    assert "bowl is finished" in after


def test_a_network_failure_does_not_end_the_view(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = threading.Thread(target=run_inline, args=(bowl_study(objective=Slow(pause_s=0.01)), tmp_path))
    run = run_meanwhile(thread, tmp_path)
    look, looks = Follower.look, iter(range(100))

    def fail_twice(follower: Follower) -> View:
        if next(looks) in (1, 2):
            raise RunError("no answer from the store")
        return look(follower)

    monkeypatch.setattr(Follower, "look", fail_twice)
    assert watch_run(run.location, every_s=0.1)
    thread.join()
    assert capsys.readouterr().out.count("no answer from the store; trying again") == 1


def test_a_run_in_a_store_is_followed(store: ObjectStore, capsys: Captured) -> None:
    runs = store.location()
    thread = threading.Thread(target=run_inline, args=(bowl_study(objective=Slow(pause_s=0.02)), runs))
    thread.start()
    while not (runs / "bowl" / "trials").files():
        time.sleep(0.05)
    assert watch_run(runs / "bowl", every_s=0.2)
    thread.join()
    lines = capsys.readouterr().out.splitlines()
    assert "bowl is finished" in lines
    assert len([line for line in lines if " trials" in line]) > 1


def test_a_driver_in_a_store_that_died_is_noticed(capsys: Captured) -> None:
    runs, study = replace(in_memory(), key="runs", lease_s=0.5), bowl_study()
    with pytest.raises(ClusterError):
        run_study(study, runs=runs, progress=False, backend=lambda data: Failing(study.objective, data))
    (runs / "bowl" / ".lock").write(b"token 1\nprocess 1 on elsewhere\n")
    status(driver="process 1 on elsewhere").write(runs / "bowl")
    began = time.monotonic()
    assert not watch_run(runs / "bowl", every_s=0.1)
    assert time.monotonic() - began >= 0.5
    said = capsys.readouterr().out
    assert "3 of 3 workers busy" in said
    assert "bowl is unfinished: its driver died" in said
