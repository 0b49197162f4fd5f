"""Commands that train: run, resume."""

import argparse
import shlex
from contextlib import AbstractContextManager, chdir, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caviar.errors import RunError
from caviar.experiment_script import load_study

if TYPE_CHECKING:
    from caviar.records.run_files import StudyFile

RESUME = "go on with the run of that name, if it was begun already"
"""So that one line begins a study, and goes on with it as often as it is stopped."""


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the parsers of these commands, and return them."""
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
    return [run, resume]


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
    from caviar.records.run_files import is_run_directory
    from caviar.storage.uri import locate, within
    from caviar.study import check_name

    run = within(runs, check_name(name))
    return run if is_run_directory(locate(run)) else None


def _resume(options: argparse.Namespace) -> None:
    from caviar.records.run_files import StudyFile
    from caviar.runner import resume_study
    from caviar.storage.uri import is_uri, locate

    path = options.run if is_uri(options.run) else Path(options.run).resolve()
    location = locate(options.run)
    begun = StudyFile.read(location)
    with _where_it_began(options, str(location), begun):
        study = load_study(options.experiment, begun.study["name"])
        resume_study(
            study,
            path,
            workers=options.workers,
            gpus=options.gpus,
            address=options.address,
            repair=options.repair,
        )


def _where_it_began(
    options: argparse.Namespace, run: str, begun: "StudyFile"
) -> AbstractContextManager[None]:
    """The working directory of a run, in which relative paths of its script mean what they did.

    A script that is named is one that has moved: then everything is looked for from here.
    """
    if options.experiment is not None:
        return nullcontext()
    if begun.script is None:
        raise RunError(
            f"{run} was begun from Python, not by `caviar run`: "
            f"go on with study.resume({run!r}), or name the script that declares its study"
        )
    options.experiment = Path(begun.script)
    if not options.experiment.is_file():
        raise RunError(
            f"{options.experiment}, which declares the study of {run}, is no longer there: "
            f"name it where it is now, `caviar resume {shlex.quote(run)} EXPERIMENT.py`"
        )
    folder = Path(begun.folder)
    return chdir(folder) if folder.is_dir() else nullcontext()
