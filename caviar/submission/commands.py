"""`caviar submit`, `jobs`, `logs` and `stop`: the steps of each, and the words between them."""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import caviar
from caviar.backends.ray.auth import token
from caviar.errors import ClusterError, SubmissionError
from caviar.submission.client import Cluster
from caviar.submission.job import STOP_S, STOPPED, Job, KnownJob, checked_packages, choose_id
from caviar.submission.log_follower import follow, write
from caviar.submission.requirements import to_install
from caviar.submission.upload import MIB, Parcel, copy_caviar, pack
from caviar.submission.upload import write as write_archive

LOOK_S = 0.5
"""Between two looks at a job that is being stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the user asks for; see `Job` and `pack`."""

    script: Path
    folder: Path | None
    runs: str
    name: str | None
    resume: bool
    study: str | None
    workers: int | None
    gpus: int | None
    pip: tuple[str, ...]
    requirements: Path | None
    install: bool


def parcel_of(order: Order) -> Parcel:
    """What is to be sent.

    Raises:
        SubmissionError: it cannot be.
    """
    if not order.script.is_file():
        raise SubmissionError(f"{order.script}: there is no such file")
    return pack(order.script, order.folder, token())


def job_of(order: Order, parcel: Parcel, name: str | None) -> Job:
    """What the cluster is to do.

    Raises:
        SubmissionError: what it could not.
    """
    if name is None:
        raise SubmissionError("--no-check leaves the script unread: name its run directory with --name")
    listed: list[str] = []
    if order.requirements is not None:
        try:
            listed = order.requirements.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise SubmissionError(f"{order.requirements}: cannot be read: {error.strerror}") from error
    return Job(
        script=parcel.script,
        runs=order.runs,
        name=name,
        resume=order.resume,
        study=order.study,
        workers=order.workers,
        gpus=order.gpus,
        packages=checked_packages([*(to_install() if order.install else ()), *listed, *order.pip]),
    )


def describe(job: Job, parcel: Parcel) -> str:
    """What would be sent, what would not and why, and what would be run."""
    lines = [f"from {parcel.folder}:"]
    lines += [
        f"  {name}  ({path.stat().st_size / 1024:,.1f} KiB)" for name, path in sorted(parcel.files.items())
    ]
    if parcel.left_out:
        lines += ["left out:"]
        lines += [f"  {name}  ({reason})" for name, reason in sorted(parcel.left_out.items())]
    lines += [f"{_amount(parcel)}, and the source of caviar {caviar.__version__}"]
    lines += [f"pip installs: {', '.join(job.packages)}"] if job.packages else []
    lines += [f"the head runs: {job.entrypoint}", f"its run: {job.run}"]
    return "\n".join(lines)


def send(cluster: Cluster, job: Job, parcel: Parcel) -> str:
    """Start the job; its id is returned.

    Raises:
        SubmissionError: another job works on the same run.
        ClusterError: the cluster refuses.
    """
    job_id = choose_id(job, cluster.jobs())
    if parcel.secrets:
        say(f"not sent, for it looks secret: {', '.join(parcel.secrets)}")
    say(f"sending {_amount(parcel)}, and caviar, to {cluster.url}")
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "experiment.zip"
        write_archive(parcel, archive)
        cluster.submit(job, job_id, archive, copy_caviar(Path(folder)))
    place = (
        "" if "://" in job.run else " on the cluster's head (lost with it, unless the disk is a shared one)"
    )
    say(f"job {job_id}: its run is {job.run}{place}")
    if job.packages:
        say("pip installs packages on every machine first, which may take minutes")
    say(how_to_go_on(job_id))
    return job_id


def follow_to_its_end(cluster: Cluster, job_id: str) -> int:
    """Show what a job prints until it ends; Ctrl-C leaves it alone. Its exit code is returned."""
    try:
        job = follow(cluster, job_id, write, say)
    except KeyboardInterrupt:
        say(f"no longer followed; the job goes on. {how_to_go_on(job_id)}")
        return STOPPED
    say(how_it_ended(job))
    return job.result


def stop(cluster: Cluster, job_id: str) -> None:
    """Stop a job and wait until it has.

    Raises:
        ClusterError: no such job, or it does not stop.
    """
    job = cluster.job(job_id)
    if not job.is_over:
        cluster.stop(job_id)
        say(f"stopping {job_id} after what is under way, in a minute at most ...")
    deadline = time.monotonic() + 2 * STOP_S
    while not (job := cluster.job(job_id)).is_over:
        if time.monotonic() > deadline:
            raise ClusterError(f"{job_id} does not stop ({job.status}): look at `caviar logs {job_id}`")
        time.sleep(LOOK_S)
    say(how_it_ended(job))


def show_jobs(jobs: Sequence[KnownJob]) -> None:
    """A table of jobs."""
    from rich.console import Console
    from rich.table import Table

    if not jobs:
        say("the cluster knows no job of caviar's")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("job", "status", "run", "started", "took"):
        table.add_column(column, overflow="fold")
    for job in jobs:
        table.add_row(
            job.id, status(job), job.run, _moment(job.started_s), _duration(job.took_s(time.time()))
        )
    Console(soft_wrap=not sys.stdout.isatty()).print(table)


def status(job: KnownJob) -> str:
    """In a word or two."""
    return f"{job.status} ({job.result})" if job.status == "failed" else job.status


def how_to_go_on(job_id: str) -> str:
    """What can be done with a job that is under way."""
    return f"`caviar logs -f {job_id}` follows it, `caviar stop {job_id}` stops it"


def how_it_ended(job: KnownJob) -> str:
    """A sentence or two."""
    took = _duration(job.took_s(time.time()))
    if job.status == "succeeded":
        return f"{job.id} has finished after {took}; its run is {job.run}"
    way_on = (
        f"what was recorded is safe in {job.run}: submit {job.script} again with --resume, "
        "and with the same --runs and --name, to go on"
    )
    if job.result == STOPPED:
        return f"{job.id} was stopped after {took}; {way_on}"
    if job.exit_code is None:
        return f"{job.id} failed: {_essence(job.message)}; {way_on}"
    if job.result == 127:
        return f"{job.id} failed: the head has no `python` to run; start Ray there where its own Python is on the PATH"
    if job.result > 128:
        return f"{job.id} was killed after {took} (signal {job.result - 128}); {way_on}"
    return f"{job.id} failed after {took} (exit code {job.result}); {way_on}"


def say(sentence: str) -> None:
    """Beside the job's own words."""
    sys.stderr.write(f"caviar: {sentence}\n")
    sys.stderr.flush()


def _amount(parcel: Parcel) -> str:
    files = "1 file" if len(parcel.files) == 1 else f"{len(parcel.files):,} files"
    return f"{files} ({parcel.size / MIB:,.1f} MiB)"


def _essence(message: str) -> str:
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "the cluster does not say why"


def _moment(time_s: float | None) -> str:
    return "" if time_s is None else f"{datetime.fromtimestamp(time_s):%Y-%m-%d %H:%M}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
