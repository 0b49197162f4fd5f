"""Output of the commands for jobs."""

import pytest

from caviar.submission.commands import describe_end, notify, print_jobs
from caviar.submission.job import JobInfo

RUN = "/shared/[/bold]runs[red]/" + "a-very-long-folder/" * 8 + "digits"


def job(status: str, **fields: object) -> JobInfo:
    return JobInfo(id="digits-5afe", status=status, run=RUN, script="digits.py", **fields)  # type: ignore[arg-type]


def test_names_with_brackets_are_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    print_jobs([job("running", started_s=0.0), job("failed", driver_exit_code=1), job("failed")])
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["job", "status"]
    assert [line.count(RUN) for line in lines] == [1, 1, 1]
    assert "failed (exit code 1)" in lines[1]
    assert "exit code" not in lines[2]


def test_control_characters_of_a_cluster_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    notify("failed: \x1b[2J")
    assert capsys.readouterr().err == "caviar: failed: \\x1b[2J\n"


@pytest.mark.parametrize("has_begun", [True, False])
@pytest.mark.parametrize(
    ("status", "driver_exit_code"), [("stopped", None), ("failed", None), ("failed", 1), ("failed", -9)]
)
def test_only_a_job_that_began_has_saved_trials(
    status: str, driver_exit_code: int | None, has_begun: bool
) -> None:
    text = describe_end(job(status, driver_exit_code=driver_exit_code, has_begun=has_begun))
    assert ("finished trials are saved" in text) == has_begun
    assert ("recorded nothing" in text) != has_begun
