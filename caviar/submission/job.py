"""A job, and what is known of those that a cluster has: plain values, and what follows from them."""

import hashlib
import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import caviar
from caviar.errors import RunError, SubmissionError
from caviar.storage.uri import checked_uri, is_uri, within
from caviar.study import check_name

STOP_S = 60
"""How long a driver that is asked to stop may take: it waits for the trials that are under way."""
STOPPED = 130
"""The exit code of whatever was stopped; a shell's for Ctrl-C."""
_URL_PASSWORD = re.compile(r"://[^/\s]*@")
_LOCAL = ("-r", "-c", "-e", "--requirement", "--constraint", "--editable", ".", "/", "~")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a cluster is asked to do.

    Args:
        script: the experiment, within the parcel.
        runs: the folder of run directories, as the head of the cluster sees it; or an object store's URL.
        name: of the run directory.
        resume: go on with it, if it was begun already.
        study: which one, where the script declares several.
        workers: CPU workers.
        gpus: GPU workers.
        packages: that pip installs on every machine first.

    Raises:
        StudyError: a name that cannot be.
        SubmissionError: a folder that only this machine knows, or a URI that is no place for runs or holds credentials.

    Example:
        >>> job = Job(script=PurePosixPath("digits.py"), runs="/shared/runs", name="digits")
        >>> job.run
        '/shared/runs/digits'
    """

    script: PurePosixPath
    runs: str
    name: str
    resume: bool = False
    study: str | None = None
    workers: int | None = None
    gpus: int | None = None
    packages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name)
        _check_runs(self.runs)
        for option, count in (("--workers", self.workers), ("--gpus", self.gpus)):
            if count is not None and count < 0:
                raise SubmissionError(f"{option} {count}: must be a whole number from 0")

    @property
    def run(self) -> str:
        """The run directory."""
        return within(self.runs, self.name)

    @property
    def stem(self) -> str:
        """What the ids of all jobs on this run begin with."""
        return f"{self.name}-{hashlib.sha256(self.run.encode()).hexdigest()[:6]}"

    @property
    def entrypoint(self) -> str:
        """What the head's shell runs: caviar becomes the process, so that its exit code is the job's."""
        words = ["run", str(self.script), "--runs", self.runs, "--name", self.name]
        words += ["--resume"] if self.resume else []
        words += ["--study", self.study] if self.study else []
        words += ["--address", "auto"]
        for option, count in (("--workers", self.workers), ("--gpus", self.gpus)):
            words += [option, str(count)] if count is not None else []
        return f"python -m caviar.submission.requirements && exec python -m caviar {shlex.join(words)}"

    @property
    def metadata(self) -> dict[str, str]:
        """What the cluster keeps beside the job, from which `caviar jobs` knows its own."""
        return {"caviar": caviar.__version__, "caviar_run": self.run, "caviar_script": str(self.script)}

    def runtime_env(self, archive: Path, package: Path) -> dict[str, Any]:
        """What Ray prepares before the job runs.

        Args:
            archive: of the folder in which it runs.
            package: the source of caviar.
        """
        prepared: dict[str, Any] = {
            "working_dir": str(archive),
            "py_modules": [str(package)],
            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S), "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"},
        }
        if self.packages:
            prepared["pip"] = {"packages": list(self.packages), "pip_check": False}
        return prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownJob:
    """A job that a cluster knows of."""

    id: str
    status: str
    """Ray's word in small letters: pending, running, succeeded, failed or stopped."""
    run: str
    """Its run directory."""
    script: str
    message: str = ""
    """Why it waits, or failed."""
    exit_code: int | None = None
    """Of the driver, once it has ended by itself."""
    started_s: float | None = None
    """Since 1970, as are all times."""
    ended_s: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.status in ("succeeded", "failed", "stopped")

    @property
    def result(self) -> int:
        """The exit code of whoever waits for it: the driver's own, 130 if it was stopped."""
        if self.status == "stopped":
            return STOPPED
        if self.exit_code is None:
            return 0 if self.status == "succeeded" else 1
        return self.exit_code if self.exit_code >= 0 else 128 - self.exit_code  # killed, as a shell counts it

    def took_s(self, now_s: float) -> float | None:
        """How long it ran, or has run by now."""
        return None if self.started_s is None else max(0.0, (self.ended_s or now_s) - self.started_s)


def choose_id(job: Job, known: Sequence[KnownJob]) -> str:
    """The id of a new job on a run: the next number, so that of two that are submitted at once, one is refused.

    Args:
        job: to be submitted.
        known: the cluster's jobs.

    Raises:
        SubmissionError: one that is not over works on the same run.
    """
    same = [other for other in known if other.run == job.run]
    for other in same:
        if not other.is_over:
            raise SubmissionError(
                f"the job {other.id} is at work on {job.run}: follow it by `caviar logs -f {other.id}`, "
                f"stop it by `caviar stop {other.id}`, or give this one another --name"
            )
    numbers = [int(other.id[len(job.stem) + 1 :] or 1) for other in same if _is_numbered(other.id, job.stem)]
    number = 1 + max(numbers, default=0)
    return job.stem if number == 1 else f"{job.stem}-{number}"


def _check_runs(runs: str) -> None:
    if not is_uri(runs):
        if not posixpath.isabs(runs):
            raise SubmissionError(
                f"--runs {runs}: the job runs elsewhere, in a folder that does not last: name an absolute path "
                "that the head of the cluster can write to and that outlives it, or an object store such as s3://..."
            )
        return
    try:
        uri = checked_uri(runs)
    except RunError as error:
        raise SubmissionError(f"--runs {error}") from None
    if "@" in uri.netloc:
        raise SubmissionError(
            "--runs holds credentials, and the command of a job can be read by all who reach the cluster: "
            "set them in the environment of its head"
        )


def _is_numbered(name: str, stem: str) -> bool:
    return re.fullmatch(re.escape(stem) + r"(-\d+)?", name) is not None


def checked_packages(lines: Sequence[str]) -> tuple[str, ...]:
    """What pip shall install, without comments.

    Raises:
        SubmissionError: something that is only on this machine, or a password, which the cluster would keep.
    """
    packages = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    for package in packages:
        if package.startswith(_LOCAL):
            raise SubmissionError(
                f"{package!r} names a file of this machine: name packages, such as einops==0.8.1"
            )
        if _URL_PASSWORD.search(package):
            raise SubmissionError(
                "a package's address holds a name or password, which the cluster would keep and show: "
                "let the cluster's own pip configuration hold it"
            )
    return tuple(packages)


def known_job(details: Mapping[str, Any]) -> KnownJob | None:
    """What Ray says of a job, if it is one of caviar's."""
    metadata = details.get("metadata") or {}
    if details.get("submission_id") is None or "caviar_run" not in metadata:
        return None
    return KnownJob(
        id=details["submission_id"],
        status=str(getattr(details["status"], "value", details["status"])).lower(),
        run=metadata["caviar_run"],
        script=metadata.get("caviar_script", ""),
        message=details.get("message") or "",
        exit_code=details.get("driver_exit_code"),
        started_s=_seconds(details.get("start_time")),
        ended_s=_seconds(details.get("end_time")),
    )


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
