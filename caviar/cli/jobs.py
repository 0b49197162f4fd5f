"""Commands for Ray jobs: submit, jobs, logs and stop."""

import argparse
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caviar.cli.studies import add_study_options, add_worker_options
from caviar.errors import SubmissionError

if TYPE_CHECKING:
    from caviar.submission.client import JobClient
    from caviar.submission.upload import Upload

SUBMIT = """Run the study of an experiment script as a Ray job.

The folder of the script and the source of caviar are uploaded to the cluster.
The command prints the output of the job and returns its exit code. The job
keeps running if you press Ctrl-C or lose the connection.

examples:
  caviar submit digits.py --runs s3://bucket/runs
  caviar submit digits.py --runs /shared/runs --workers 128 --no-wait
  caviar submit digits.py --runs /shared/runs --dry-run
"""
JOBS = """List the jobs that caviar submitted to a cluster."""
LOGS = """Print the output of a job."""
STOP = """Stop a job.

Its running trials may finish first. To continue the run, submit the script
again with --resume and the same --runs and --name.
"""


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the parsers of these commands, and return them."""
    submit = commands.add_parser(
        "submit", usage="caviar submit EXPERIMENT.py --runs DIR|URI [OPTIONS]", description=SUBMIT
    )
    _add_submit_options(submit)
    jobs = commands.add_parser("jobs", usage="caviar jobs [OPTIONS]", description=JOBS)
    logs = commands.add_parser("logs", usage="caviar logs JOB_ID [OPTIONS]", description=LOGS)
    logs.add_argument("-f", "--follow", action="store_true", help="wait for more output until the job ends")
    stop = commands.add_parser("stop", usage="caviar stop JOB_ID [OPTIONS]", description=STOP)
    for command in (logs, stop):
        command.add_argument("job", metavar="JOB_ID", help="id of the job; `caviar jobs` lists them")
    for command, action in ((submit, _submit), (jobs, _jobs), (logs, _logs), (stop, _stop)):
        command.add_argument(
            "--address",
            metavar="URL",
            help="dashboard of the cluster (default: $RAY_API_SERVER_ADDRESS, or http://127.0.0.1:8265)",
        )
        command.set_defaults(action=action)
    return [submit, jobs, logs, stop]


def _add_submit_options(submit: argparse.ArgumentParser) -> None:
    add_study_options(submit)
    submit.add_argument(
        "--no-wait", dest="wait", action="store_false", help="return as soon as the job is submitted"
    )
    results = submit.add_argument_group("results")
    results.add_argument(
        "--runs",
        required=True,
        metavar="DIR|URI",
        help="folder for run directories: an absolute path on the head, s3://... or gs://... (required)",
    )
    results.add_argument("--name", help="name of the run directory (default: that of the study)")
    add_worker_options(submit)
    upload = submit.add_argument_group("upload")
    upload.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="folder to upload, in which the job runs (default: that of the script)",
    )
    upload.add_argument(
        "--dry-run", action="store_true", help="show what would be uploaded and run, and stop"
    )
    upload.add_argument(
        "--no-check",
        action="store_true",
        help="do not load the script on this machine first, if only the cluster can; needs --name",
    )
    packages = submit.add_argument_group("packages for pip to install on all machines before the job starts")
    packages.add_argument(
        "--install",
        action="store_true",
        help="the packages that caviar requires and the cluster does not have",
    )
    packages.add_argument(
        "--pip",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="a package, such as einops==0.8.1; repeatable",
    )
    packages.add_argument(
        "--requirements", type=Path, metavar="FILE", help="the packages in a requirements file"
    )


def _submit(options: argparse.Namespace) -> int:
    from caviar.backends.ray.auth import read_token
    from caviar.submission import commands
    from caviar.submission.job import JobSpec
    from caviar.submission.upload import select_files

    upload = select_files(options.experiment, options.folder, read_token())
    spec = JobSpec(
        script=upload.script,
        runs=options.runs,
        name=_choose_name(upload, options),
        resume=options.resume,
        time_s=options.time,
        study=options.study,
        workers=options.workers,
        gpus=options.gpus,
        packages=commands.list_packages(options.pip, options.requirements, options.install, options.report),
        report=options.report,
    )
    if options.dry_run:
        print(commands.describe_submission(spec, upload))
        return 0
    with _client(options) as client:
        job_id = commands.submit_job(client, spec, upload)
        return commands.follow_to_end(client, job_id) if options.wait else 0


def _choose_name(upload: "Upload", options: argparse.Namespace) -> str:
    """Return the name of the run directory, after a check: an error appears here, not on the cluster."""
    if options.no_check:
        if options.name is None:
            raise SubmissionError(
                "--no-check needs --name, because the script that names the study is not loaded"
            )
        return str(options.name)
    from caviar.submission.local_check import load_as_sent

    study = load_as_sent(upload, options.study)
    return options.name or study.name


def _jobs(options: argparse.Namespace) -> None:
    from caviar.submission import commands

    with _client(options) as client:
        commands.print_jobs(client.list_jobs())


def _logs(options: argparse.Namespace) -> int:
    from caviar.submission import commands

    with _client(options) as client:
        if options.follow:
            return commands.follow_to_end(client, options.job)
        print(client.get_logs(client.get_job(options.job).id), end="")
        return 0


def _stop(options: argparse.Namespace) -> None:
    from caviar.submission import commands

    with _client(options) as client:
        commands.stop_job(client, options.job)


def _client(options: argparse.Namespace) -> AbstractContextManager["JobClient"]:
    from caviar.submission import client, commands

    return client.open_job_client(options.address, commands.notify)
