"""Steps and messages of `caviar submit`, `jobs`, `logs` and `stop`."""

import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import caviar
from caviar.control_chars import replace_control_chars
from caviar.errors import ClusterError, SubmissionError
from caviar.plurals import counted
from caviar.reporting.formatting import UNFOLDED_WIDTH, duration_text
from caviar.submission.client import JobClient
from caviar.submission.job import (
    STOP_TIMEOUT_S,
    STOPPED_EXIT_CODE,
    JobInfo,
    JobSpec,
    choose_job_id,
    parse_packages,
)
from caviar.submission.log_follower import follow_job
from caviar.submission.requirements import list_installable
from caviar.submission.upload import MIB, Upload, copy_caviar, write_archive

POLL_S = 0.5
"""Seconds between checks whether a job has stopped."""


def list_packages(
    pip: Sequence[str], requirements: Path | None, install: bool, report: bool = False
) -> tuple[str, ...]:
    """Return the requirements that pip installs on the cluster before the job starts.

    Args:
        pip: requirements of --pip.
        requirements: requirements file of --requirements.
        install: True to add what caviar requires, for --install.
        report: True if the job writes a report, which requires more.

    Raises:
        SubmissionError: the file cannot be read, or a requirement cannot be used on a cluster.
    """
    lines: list[str] = list_installable("report" if report else "") if install else []
    if requirements is not None:
        try:
            lines += requirements.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise SubmissionError(
                f"--requirements {requirements} cannot be read: {error.strerror}"
            ) from error
    return parse_packages([*lines, *pip])


def describe_submission(spec: JobSpec, upload: Upload) -> str:
    """Return a description of a job and its upload, for --dry-run."""
    lines = [f"files to upload from {upload.folder}:"]
    lines += [
        f"  {name}  ({path.stat().st_size / 1024:,.1f} KiB)" for name, path in sorted(upload.files.items())
    ]
    if upload.excluded:
        lines += ["not uploaded:"]
        lines += [f"  {name}  ({reason})" for name, reason in sorted(upload.excluded.items())]
    lines += [f"total: {_size_text(upload)}, and the source of caviar {caviar.__version__}"]
    lines += [f"pip installs: {', '.join(spec.packages)}"] if spec.packages else []
    lines += [f"command on the head: {spec.entrypoint}", f"run directory: {spec.run}"]
    return "\n".join(lines)


def submit_job(client: JobClient, spec: JobSpec, upload: Upload) -> str:
    """Upload the files of a job, start it and return its id.

    Args:
        client: client of the cluster.
        spec: job to start.
        upload: files that the job needs.

    Raises:
        SubmissionError: another job writes the same run directory.
        ClusterError: the cluster refuses the job.
    """
    job_id = choose_job_id(spec, client.list_jobs())
    if upload.secrets:
        notify(f"not uploaded, because they look secret: {', '.join(upload.secrets)}")
    notify(f"uploading {_size_text(upload)} and caviar to {client.url}")
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "experiment.zip"
        write_archive(upload, archive)
        client.submit_job(spec, job_id, archive, copy_caviar(Path(folder)))
    notify(f"submitted job {job_id}; run directory: {spec.run}")
    if "://" not in spec.run:
        notify(
            "the run directory is on the head: unless on a shared disk, it is lost when the head is removed"
        )
    if spec.packages:
        notify("pip installs packages on every machine first; this can take minutes")
    notify(_next_commands(job_id))
    return job_id


def follow_to_end(client: JobClient, job_id: str) -> int:
    """Print the output of a job until it ends, and return its exit code. Ctrl-C leaves the job running."""
    try:
        job = follow_job(client, job_id, _write, notify)
    except KeyboardInterrupt:
        notify(f"stopped following; the job keeps running. {_next_commands(job_id)}")
        return STOPPED_EXIT_CODE
    notify(describe_end(job))
    return job.exit_code


def stop_job(client: JobClient, job_id: str) -> None:
    """Stop a job and wait until it has ended.

    Raises:
        ClusterError: the cluster has no such job, or the job does not stop.
    """
    job = client.get_job(job_id)
    if not job.has_ended:
        client.stop_job(job_id)
        notify(f"stopping {job_id}: waiting up to {STOP_TIMEOUT_S} s for running trials to finish ...")
    deadline = time.monotonic() + 2 * STOP_TIMEOUT_S
    while not (job := client.get_job(job_id)).has_ended:
        if time.monotonic() > deadline:
            raise ClusterError(
                f"job {job_id} has not stopped after {2 * STOP_TIMEOUT_S} s (status: {job.status}): "
                f"see `caviar logs {job_id}`"
            )
        time.sleep(POLL_S)
    notify(describe_end(job))


def print_jobs(jobs: Sequence[JobInfo]) -> None:
    """Print a table of jobs."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not jobs:
        notify("the cluster has no jobs that caviar submitted")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("job", "status", "run directory", "started", "duration"):
        table.add_column(column, overflow="fold")
    for job in jobs:
        has_exit_code = job.status == "failed" and job.driver_exit_code is not None
        status = f"failed (exit code {job.exit_code})" if has_exit_code else job.status
        started = "" if job.started_s is None else f"{datetime.fromtimestamp(job.started_s):%Y-%m-%d %H:%M}"
        cells = job.id, status, job.run, started, _duration(job)
        table.add_row(*(Text(replace_control_chars(cell)) for cell in cells))
    Console(width=None if sys.stdout.isatty() else UNFOLDED_WIDTH).print(table)


def describe_end(job: JobInfo) -> str:
    """Return how a job ended, and how to continue its run."""
    if job.status == "succeeded":
        return f"{job.id} succeeded after {_duration(job)}; run directory: {job.run}"
    continuation = (
        f"finished trials are saved in {job.run}: "
        f"to continue, submit {job.script} again with --resume and the same --runs and --name"
        if job.has_begun
        else "it ended before its first trial and recorded nothing"
    )
    if job.exit_code == STOPPED_EXIT_CODE:
        return f"{job.id} was stopped after {_duration(job)}; {continuation}"
    if job.driver_exit_code is None:
        lines = job.message.strip().splitlines() or ["the cluster gives no reason"]
        return f"{job.id} failed: {lines[-1].strip()}; {continuation}"
    if job.exit_code == 127:
        return f"{job.id} failed: the head has no `python` on its PATH; start Ray there with its Python on the PATH"
    if job.exit_code > 128:
        return f"{job.id} was killed by signal {job.exit_code - 128} after {_duration(job)}; {continuation}"
    return f"{job.id} failed after {_duration(job)} (exit code {job.exit_code}); {continuation}"


def notify(message: str) -> None:
    """Print a message of caviar on standard error, apart from the output of the job."""
    sys.stderr.write(f"caviar: {replace_control_chars(message)}\n")
    sys.stderr.flush()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _next_commands(job_id: str) -> str:
    return f"`caviar logs -f {job_id}` follows it, `caviar stop {job_id}` stops it"


def _size_text(upload: Upload) -> str:
    files = counted(len(upload.files), "file")
    return f"{files} ({upload.size / MIB:,.1f} MiB)"


def _duration(job: JobInfo) -> str:
    return duration_text(job.duration_s(time.time()) or 0.0)
