"""Commands for jobs on a Ray cluster: submit, jobs, logs, stop."""

import argparse
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caviar.cli.studies import RESUME
from caviar.errors import StudyError
from caviar.experiment_script import load_study

if TYPE_CHECKING:
    from caviar.submission.upload import Parcel


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the parsers of these commands, and return them."""
    submit = commands.add_parser("submit", help="run a study as a job of a cluster, and follow it")
    submit.add_argument("experiment", type=Path, metavar="EXPERIMENT.py")
    submit.add_argument(
        "--runs",
        required=True,
        metavar="DIR|URL",
        help="folder of run directories, as the cluster's head sees it",
    )
    submit.add_argument("--name", help="name of the run directory (the study's)")
    submit.add_argument("--resume", action="store_true", help=RESUME)
    submit.add_argument("--study", metavar="NAME", help="which study, where the script declares several")
    submit.add_argument("--workers", type=int, metavar="N", help="CPU workers (one a core of the cluster)")
    submit.add_argument("--gpus", type=int, metavar="N", help="GPU workers (all that the cluster has)")
    submit.add_argument(
        "--folder", type=Path, metavar="DIR", help="what is sent, and where it runs (the script's)"
    )
    submit.add_argument(
        "--pip", action="append", default=[], metavar="PACKAGE", help="installed first; repeatable"
    )
    submit.add_argument("--requirements", type=Path, metavar="FILE", help="packages that are installed first")
    submit.add_argument(
        "--install", action="store_true", help="install first what caviar needs and the cluster lacks"
    )
    submit.add_argument("--dry-run", action="store_true", help="show what would be sent, and send nothing")
    submit.add_argument(
        "--no-check", action="store_true", help="do not load the script here first; needs --name"
    )
    submit.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="follow the job to its end, and end as it does (it goes on by itself in any case)",
    )
    submit.set_defaults(action=_submit)

    jobs = commands.add_parser("jobs", help="the jobs of a cluster")
    jobs.set_defaults(action=_jobs)
    logs = commands.add_parser("logs", help="what a job has printed")
    logs.add_argument("-f", "--follow", action="store_true", help="and what it will print, until it ends")
    logs.set_defaults(action=_logs)
    stop = commands.add_parser("stop", help="stop a job, so that its run can be resumed")
    stop.set_defaults(action=_stop)
    for command in (logs, stop):
        command.add_argument("job", metavar="ID")
    for command in (submit, jobs, logs, stop):
        command.add_argument(
            "--address", metavar="URL", help="of the cluster's dashboard (http://127.0.0.1:8265)"
        )
    return [submit, jobs, logs, stop]


def _submit(options: argparse.Namespace) -> int:
    from caviar.submission import commands
    from caviar.submission.client import reached

    order = commands.Order(
        script=options.experiment,
        folder=options.folder,
        runs=options.runs,
        name=options.name,
        resume=options.resume,
        study=options.study,
        workers=options.workers,
        gpus=options.gpus,
        pip=tuple(options.pip),
        requirements=options.requirements,
        install=options.install,
    )
    parcel = commands.parcel_of(order)
    job = commands.job_of(order, parcel, options.name if options.no_check else _name_in(parcel, options))
    if options.dry_run:
        print(commands.describe(job, parcel))
        return 0
    with reached(options.address, commands.say) as cluster:
        job_id = commands.send(cluster, job, parcel)
        return commands.follow_to_its_end(cluster, job_id) if options.wait else 0


def _name_in(parcel: "Parcel", options: argparse.Namespace) -> str:
    """The name of the run directory, of a study that is one: what the job would refuse is refused here."""
    try:
        with chdir(parcel.folder):
            study = load_study(Path(parcel.script), options.study)
    except StudyError as error:
        if isinstance(error.__cause__, ImportError):
            raise StudyError(f"{error}; if only the cluster has it, use --no-check") from error.__cause__
        raise
    return options.name or study.name


def _jobs(options: argparse.Namespace) -> None:
    from caviar.submission import commands
    from caviar.submission.client import reached

    with reached(options.address, commands.say) as cluster:
        commands.show_jobs(cluster.jobs())


def _logs(options: argparse.Namespace) -> int:
    from caviar.submission import commands
    from caviar.submission.client import reached

    with reached(options.address, commands.say) as cluster:
        if options.follow:
            return commands.follow_to_its_end(cluster, options.job)
        print(cluster.output(cluster.job(options.job).id), end="")
        return 0


def _stop(options: argparse.Namespace) -> None:
    from caviar.submission import commands
    from caviar.submission.client import reached

    with reached(options.address, commands.say) as cluster:
        commands.stop(cluster, options.job)
