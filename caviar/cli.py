"""The command line: parses, calls, prints."""

import argparse
import shlex
import sys
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager, chdir, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import caviar
from caviar.control_chars import printable
from caviar.errors import CaviarError, InterruptedStudy, RunError, StudyError
from caviar.experiment_script import load_study, place_in_script

if TYPE_CHECKING:
    from caviar.submission.upload import Parcel

RESUME = "go on with the run of that name, if it was begun already"
"""So that one line begins a study, and goes on with it as often as it is stopped."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the `caviar` command.

    Returns:
        The exit code: 0 done, 1 refused or failed, 2 a wrong command line, 130 interrupted; a job's own.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.action(options) or 0
    except InterruptedStudy as error:
        print(f"caviar: {error}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("caviar: stopped at once; what was recorded is safe: `caviar resume` the run", file=sys.stderr)
        return 130
    except CaviarError as error:
        return _refuse(options, error, str(error))
    except Exception as error:
        return _refuse(options, error, f"{type(error).__name__}: {error} (--debug shows where)")


def _refuse(options: argparse.Namespace, error: Exception, sentence: str) -> int:
    if options.debug:
        traceback.print_exception(error)
    where = place_in_script(error, getattr(options, "experiment", None))
    print(printable(f"caviar: {where}{sentence}"), file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="caviar", description="Tune neural networks the caviar way: very many trials at once."
    )
    parser.add_argument("--version", action="version", version=f"caviar {caviar.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the study of an experiment script")
    run.add_argument("experiment", type=Path, metavar="EXPERIMENT.py")
    _add_machines(run)
    run.add_argument(
        "--runs",
        default="runs",
        metavar="DIR",
        help="folder of run directories (runs), or file:///, s3:// or gs://",
    )
    run.add_argument("--name", help="name of the run directory (the study's, numbered where it is taken)")
    run.add_argument("--resume", action="store_true", help=RESUME)
    run.add_argument("--study", metavar="NAME", help="which study, where the script declares several")
    run.set_defaults(action=_run)

    resume = commands.add_parser("resume", help="go on with an interrupted run")
    resume.add_argument(
        "run", metavar="RUN", help="its run directory, such as runs/digits or s3://bucket/runs/digits"
    )
    resume.add_argument(
        "experiment",
        type=Path,
        nargs="?",
        metavar="EXPERIMENT.py",
        help="the script, if it is no longer where it was",
    )
    resume.add_argument(
        "--repair", action="store_true", help="set damaged segments aside, train their trials again"
    )
    _add_machines(resume)
    resume.set_defaults(action=_resume)

    show = commands.add_parser("show", help="how a run went, and its winner")
    show.add_argument("run", metavar="RUN")
    show.add_argument("--rounds", action="store_true", help="what each round narrowed, and why")
    show.set_defaults(action=_show)

    fetch = commands.add_parser("fetch", help="copy a run directory from a store, or another folder, to here")
    fetch.add_argument("run", metavar="RUN")
    fetch.add_argument("to", nargs="?", metavar="DEST", help="the folder that it becomes (runs/NAME)")
    fetch.add_argument("--frames", action="store_true", help="only its frames, not the network")
    fetch.set_defaults(action=_fetch)

    for command in (run, resume, show, fetch, *_add_jobs(commands)):
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _add_jobs(commands: Any) -> list[argparse.ArgumentParser]:
    """The commands for jobs on a cluster."""
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


def _add_machines(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workers", type=int, metavar="N", help="CPU workers (one a core)")
    command.add_argument("--gpus", type=int, metavar="N", help="GPU workers (all that the cluster has)")
    command.add_argument(
        "--address",
        default="local",
        metavar="local|auto|HOST:PORT",
        help="the Ray cluster (local: starts its own)",
    )


def _run(options: argparse.Namespace) -> None:
    from caviar.runner import resume_study, run_study

    study = load_study(options.experiment, options.study)
    machines = {"workers": options.workers, "gpus": options.gpus, "address": options.address}
    name = options.name or study.name if options.resume else options.name
    if options.resume and (begun := _begun(options.runs, name)):
        resume_study(study, begun, **machines)
    else:
        run_study(study, **machines, runs=options.runs, name=name, script=options.experiment)


def _begun(runs: str, name: str) -> str | None:
    """The run directory of that name, if there is one.

    Raises:
        StudyError: the name cannot be that of one.
        RunError: the disk or store of the runs cannot be reached.
    """
    from caviar.storage.uri import locate, within
    from caviar.study import check_name

    run = within(runs, check_name(name))
    return run if (locate(run) / "study.json").is_file() else None


def _resume(options: argparse.Namespace) -> None:
    from caviar.records.ledger import read_header
    from caviar.runner import resume_study
    from caviar.storage.uri import is_uri, locate

    path = options.run if is_uri(options.run) else Path(options.run).resolve()
    location = locate(options.run)
    header = read_header(location)
    with _where_it_began(options, str(location), header):
        study = load_study(options.experiment, header["study"]["name"])
        resume_study(
            study,
            path,
            workers=options.workers,
            gpus=options.gpus,
            address=options.address,
            repair=options.repair,
        )


def _where_it_began(
    options: argparse.Namespace, run: str, header: dict[str, Any]
) -> AbstractContextManager[None]:
    """The working directory of a run, in which relative paths of its script mean what they did.

    A script that is named is one that has moved: then everything is looked for from here.
    """
    if options.experiment is not None:
        return nullcontext()
    if header["script"] is None:
        raise RunError(
            f"{run} was begun from Python, not by `caviar run`: "
            f"go on with study.resume({run!r}), or name the script that declares its study"
        )
    options.experiment = Path(header["script"])
    if not options.experiment.is_file():
        raise RunError(
            f"{options.experiment}, which declares the study of {run}, is no longer there: "
            f"name it where it is now, `caviar resume {shlex.quote(run)} EXPERIMENT.py`"
        )
    folder = Path(header.get("folder", "."))
    return chdir(folder) if folder.is_dir() else nullcontext()


def _show(options: argparse.Namespace) -> None:
    from caviar.records.frames import load
    from caviar.reporting.summary import show

    show(load(options.run), every_round=options.rounds)


def _fetch(options: argparse.Namespace) -> None:
    from caviar.records.fetch import fetch

    run = fetch(options.run, options.to, frames=options.frames)
    print(f"{run.location}: {len(run.trials):,} trials, {'finished' if run.finished else 'unfinished'}")


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


if __name__ == "__main__":
    sys.exit(main())
