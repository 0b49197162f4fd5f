"""A Ray job that runs a study: its specification, and its state as the cluster reports it."""

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
from caviar.storage.uri import is_uri, join, parse_uri
from caviar.study import check_name
from caviar.validation import whole_number

STOP_TIMEOUT_S = 60
"""Seconds that a stopped driver has to finish the trials that are running."""
STOPPED_EXIT_CODE = 130
"""Exit code of a stopped job; a shell's for Ctrl-C."""
_URL_PASSWORD = re.compile(r"://[^/\s]*@")
_LOCAL_PREFIXES = ("-r", "-c", "-e", "--requirement", "--constraint", "--editable", ".", "/", "~")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """Specification of a job: the script, where its run is saved, and its workers.

    Args:
        script: path of the experiment script within the upload.
        runs: folder of run directories as the head of the cluster sees it, or the URI of one in an object store.
        name: name of the run directory.
        resume: continue the run if it exists.
        time_s: seconds of a time budget; None for the number of trials that the study declares.
        study: name of the study, for a script that declares several.
        workers: number of CPU workers; None for one per core.
        gpus: number of GPU workers; None for all GPUs of the cluster.
        packages: requirements that pip installs on every machine before the job starts.
        report: leave a report in the run directory.

    Raises:
        StudyError: `name` cannot name a run directory.
        SubmissionError: `runs` is a relative path, an unsupported URI or contains credentials, or `workers` or `gpus`
            is negative.

    Example:
        >>> spec = JobSpec(script=PurePosixPath("digits.py"), runs="/shared/runs", name="digits")
        >>> spec.run
        '/shared/runs/digits'
    """

    script: PurePosixPath
    runs: str
    name: str
    resume: bool = False
    time_s: float | None = None
    study: str | None = None
    workers: int | None = None
    gpus: int | None = None
    packages: tuple[str, ...] = ()
    report: bool = False

    def __post_init__(self) -> None:
        check_name(self.name)
        _check_runs(self.runs)
        for option, count in (("--workers", self.workers), ("--gpus", self.gpus)):
            if count is not None:
                whole_number(option, count, error=SubmissionError)

    @property
    def run(self) -> str:
        """Run directory of the job."""
        return join(self.runs, self.name)

    @property
    def id_prefix(self) -> str:
        """Prefix of the ids of all jobs that write this run directory."""
        return f"{self.name}-{hashlib.sha256(self.run.encode()).hexdigest()[:6]}"

    @property
    def entrypoint(self) -> str:
        """Shell command that the head runs.

        `exec` makes caviar the job's process, so that caviar's exit code is the job's.
        """
        words = ["run", str(self.script), "--runs", self.runs, "--name", self.name]
        words += ["--resume"] if self.resume else []
        words += ["--time", f"{max(1, round(self.time_s))}s"] if self.time_s is not None else []
        words += ["--study", self.study] if self.study else []
        words += ["--report"] if self.report else []
        words += ["--address", "auto"]
        for option, count in (("--workers", self.workers), ("--gpus", self.gpus)):
            words += [option, str(count)] if count is not None else []
        check = "python -m caviar.submission.requirements" + (" report" if self.report else "")
        return f"{check} && exec python -m caviar {shlex.join(words)}"

    @property
    def metadata(self) -> dict[str, str]:
        """Values that the cluster keeps with the job; `parse_job` reads them back."""
        return {"caviar": caviar.__version__, "caviar_run": self.run, "caviar_script": str(self.script)}

    def runtime_env(self, archive: Path, package: Path) -> dict[str, Any]:
        """Return the environment that Ray prepares before the job starts.

        Args:
            archive: zip file of the job's working directory.
            package: folder with the source of caviar.
        """
        environment: dict[str, Any] = {
            "working_dir": str(archive),
            "py_modules": [str(package)],
            "env_vars": {
                "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_TIMEOUT_S),
                "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            },
        }
        if self.packages:
            environment["pip"] = {"packages": list(self.packages), "pip_check": False}
        return environment


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """State of a job, as the cluster reports it."""

    id: str
    status: str
    """Ray's status in lower case: pending, running, succeeded, failed or stopped."""
    run: str
    """Run directory of the job."""
    script: str
    """Path of the experiment script within the upload."""
    message: str = ""
    """Ray's reason why the job waits or failed."""
    driver_exit_code: int | None = None
    """Exit code of the driver; None while it runs, and if it never started."""
    started_s: float | None = None
    """Start, in seconds since 1970."""
    ended_s: float | None = None
    """End, in seconds since 1970."""
    has_begun: bool = True
    """False if its driver never connected to the cluster, so that no trial was trained."""

    @property
    def has_ended(self) -> bool:
        """True if no process of the job runs any more."""
        return self.status in ("succeeded", "failed", "stopped")

    @property
    def exit_code(self) -> int:
        """Exit code for the command that follows the job: the driver's, or 130 if the job was stopped."""
        if self.status == "stopped":
            return STOPPED_EXIT_CODE
        if self.driver_exit_code is None:
            return 0 if self.status == "succeeded" else 1
        # Shells report death by signal N as 128 + N; Ray reports it as -N.
        return self.driver_exit_code if self.driver_exit_code >= 0 else 128 - self.driver_exit_code

    def duration_s(self, now_s: float) -> float | None:
        """Return the seconds that the job has run; None before it starts."""
        return None if self.started_s is None else max(0.0, (self.ended_s or now_s) - self.started_s)


def choose_job_id(spec: JobSpec, jobs: Sequence[JobInfo]) -> str:
    """Return the id of a new job: the run's prefix and the next free number.

    The cluster refuses an id that it knows. So if two users submit the same run at once, one of them is refused.

    Args:
        spec: job to be submitted.
        jobs: jobs that the cluster knows.

    Raises:
        SubmissionError: a job that has not ended writes the same run directory.
    """
    same_run = [job for job in jobs if job.run == spec.run]
    for job in same_run:
        if not job.has_ended:
            raise SubmissionError(
                f"job {job.id} is already writing {spec.run}: follow it with `caviar logs -f {job.id}`, "
                f"stop it with `caviar stop {job.id}`, or choose another --name"
            )
    ids = re.compile(re.escape(spec.id_prefix) + r"(?:-(\d+))?")
    numbers = [int(found[1] or 1) for job in same_run if (found := ids.fullmatch(job.id))]
    number = 1 + max(numbers, default=0)
    return spec.id_prefix if number == 1 else f"{spec.id_prefix}-{number}"


def parse_packages(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the requirements in the lines of a requirements file, without comments and empty lines.

    Raises:
        SubmissionError: a line names a file of this machine, or contains a password, which the cluster would store.
    """
    packages = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    for package in packages:
        if package.startswith(_LOCAL_PREFIXES):
            raise SubmissionError(
                f"requirement {package!r} names a file of this machine: "
                "name packages of an index, such as einops==0.8.1"
            )
        if _URL_PASSWORD.search(package):
            raise SubmissionError(
                "the URL of a requirement contains a name or password, which the cluster would store and show: "
                "put it into the pip configuration of the cluster"
            )
    return tuple(packages)


def parse_job(details: Mapping[str, Any]) -> JobInfo | None:
    """Return the state of a job from Ray's details; None if caviar did not submit the job."""
    metadata = details.get("metadata") or {}
    if details.get("submission_id") is None or "caviar_run" not in metadata:
        return None
    return JobInfo(
        id=details["submission_id"],
        status=str(getattr(details["status"], "value", details["status"])).lower(),
        run=metadata["caviar_run"],
        script=metadata.get("caviar_script", ""),
        message=details.get("message") or "",
        driver_exit_code=details.get("driver_exit_code"),
        started_s=_seconds(details.get("start_time")),
        ended_s=_seconds(details.get("end_time")),
        has_begun=details.get("driver_info") is not None,
    )


def _check_runs(runs: str) -> None:
    if not is_uri(runs):
        if not posixpath.isabs(runs):
            raise SubmissionError(
                f"--runs {runs}: the job runs on the cluster in a temporary folder, so a relative path is lost: use "
                "an absolute path that the head can write to, or an object store such as s3://BUCKET/runs"
            )
        return
    try:
        parse_uri(runs)
    except RunError as error:
        raise SubmissionError(f"--runs {error}") from None


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
