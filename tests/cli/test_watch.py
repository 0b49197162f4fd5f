"""Tests of caviar/cli/watch.py."""

import os
import time
from pathlib import Path

import pytest

from caviar.cli.main import main
from caviar.records.frames import load
from tests.cli.commands import run_failing
from tests.objectives import bowl_study
from tests.runs import run_inline, run_until_failure

Captured = pytest.CaptureFixture[str]


def test_watch_ends_with_the_state_of_the_run(tmp_path: Path, capsys: Captured) -> None:
    run_until_failure(bowl_study(), tmp_path, script=tmp_path / "bowl.py")
    assert main(["watch", str(tmp_path / "bowl")]) == 1
    assert f"to resume    caviar resume {tmp_path / 'bowl'}" in capsys.readouterr().out
    run_inline(bowl_study(), tmp_path)
    assert main(["watch", str(tmp_path / "bowl-2")]) == 0
    assert "bowl is finished" in capsys.readouterr().out


def test_an_interruption_ends_the_view_alone(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_until_failure(bowl_study(), tmp_path)
    lock = run.location.lock()

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    assert main(["watch", str(run.location)]) == 130
    assert "the study goes on" in capsys.readouterr().err
    assert run.location.holder() == f"process {os.getpid()} on {os.uname().nodename}"
    lock.release()
    assert len(load(run.path).trials) == len(run.trials)


def test_watch_refuses_what_is_no_run(tmp_path: Path, capsys: Captured) -> None:
    assert "there is no such run directory" in run_failing(capsys, "watch", tmp_path / "nothing")


@pytest.mark.parametrize("every", ["0", "-1", "nan", "often", "1e9"])
def test_watch_refuses_invalid_seconds(every: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["watch", "runs/bowl", "--every", every])
    assert ended.value.code == 2
    assert "must be a number of seconds" in capsys.readouterr().err
