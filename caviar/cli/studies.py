"""Commands that train: run, resume and finish."""

import argparse
import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, chdir, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caviar.cli.numbers import duration
from caviar.errors import RunError
from caviar.experiment_script import load_study
from caviar.optional_packages import packages_of

if TYPE_CHECKING:
    from caviar.records.frames import Run
    from caviar.records.run_files import StudyFile
    from caviar.study import Study

RUN = """Run the study of an experiment script.

Ctrl-C stops the study when the running trials have finished; `caviar resume`
continues it.

examples:
  caviar run experiments/digits.py
  caviar run experiments/digits.py --workers 4 --runs s3://bucket/runs
  caviar run experiments/digits.py --time 10m
  caviar run experiments/digits.py --address 127.0.0.1:6379
  caviar run experiments/digits.py --address here
"""
RESUME = """Continue an interrupted run.

The result is the same as without the interruption. The script that you began
the run with is executed in the folder where you began it. If somebody else
began the run, name the script.

examples:
  caviar resume runs/digits
  caviar resume s3://bucket/runs/digits experiments/digits.py
"""
FINISH = """End the search of an interrupted run, and confirm its best trials.

The best trials are trained again with fresh seeds, and the winner is handed
over, as at the end of a whole search.

examples:
  caviar finish runs/digits
  caviar finish runs/digits experiments/digits.py
"""

_METHODS = ("resume", "finish", "extend")
"""Verbs that are methods of a study as well."""


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the parsers of these commands, and return them."""
    run = commands.add_parser("run", usage="caviar run EXPERIMENT.py [OPTIONS]", description=RUN)
    add_study_options(run)
    add_results(run, "that of the study")
    add_address(add_worker_options(run))
    run.set_defaults(action=_run)

    continuing = []
    for verb, description in (("resume", RESUME), ("finish", FINISH)):
        usage = f"caviar {verb} RUN [EXPERIMENT.py] [OPTIONS]"
        command = commands.add_parser(verb, usage=usage, description=description)
        add_run(command)
        add_same_function(command)
        add_report_option(command)
        command.add_argument(
            "--repair", action="store_true", help="set damaged files aside and train their trials again"
        )
        add_address(add_worker_options(command))
        command.set_defaults(action=_resume, finish=verb == "finish", verb=verb)
        continuing.append(command)
    return [run, *continuing]


def add_same_function(command: argparse.ArgumentParser) -> None:
    """Add the option of a command that goes on with a run whose function was edited."""
    command.add_argument(
        "--same-function",
        action="store_true",
        help="accept that the function was edited, and note it in the run",
    )


def add_experiment(command: argparse.ArgumentParser) -> None:
    """Add the arguments that name a study."""
    command.add_argument(
        "experiment", type=Path, metavar="EXPERIMENT.py", help="Python script that declares the study"
    )
    command.add_argument("--study", metavar="NAME", help="which study (default: the only one in the script)")


def add_results(command: argparse.ArgumentParser, name: str) -> argparse._ArgumentGroup:
    """Add the options that say where the run directory is made, and return their group.

    Args:
        command: the parser of a command that begins a run.
        name: description of the run directory's default name.
    """
    results = command.add_argument_group("results")
    results.add_argument(
        "--runs",
        default="runs",
        metavar="DIR|URI",
        help="folder for run directories: a path, s3://... or gs://... (default: runs)",
    )
    results.add_argument(
        "--name", help=f"name of the run directory (default: {name}, with a number if it exists)"
    )
    return results


def add_run(command: argparse.ArgumentParser) -> None:
    """Add the arguments that name a run, and the script of its study."""
    command.add_argument("run", metavar="RUN", help="run directory: a path or URI")
    command.add_argument(
        "experiment",
        type=Path,
        nargs="?",
        metavar="EXPERIMENT.py",
        help="script that declares the study, if it has moved or is not yours",
    )


def add_study_options(command: argparse.ArgumentParser) -> None:
    """Add the options that say which study to run, for a command that starts one."""
    add_experiment(command)
    command.add_argument(
        "--resume", action="store_true", help="continue the run if it exists and start it otherwise"
    )
    command.add_argument(
        "--time",
        type=duration,
        metavar="DURATION",
        help="train as many trials as fit into a time such as 90s, 10m, 1h30m or 2d: some are measured first, then the "
        "number is fixed and recorded (default: as many as the study declares)",
    )
    add_report_option(command)


def add_report_option(command: argparse.ArgumentParser) -> None:
    """Add the option that leaves a report."""
    command.add_argument(
        "--report", action="store_true", help="write report.html into the run directory at the end"
    )


def add_worker_options(command: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options that say how many workers to start, and return their group."""
    workers = command.add_argument_group("workers")
    workers.add_argument(
        "--workers", type=int, metavar="N", help="number of CPU workers (default: one per core)"
    )
    workers.add_argument("--gpus", type=int, metavar="N", help="number of GPU workers (default: one per GPU)")
    return workers


def add_address(workers: argparse._ArgumentGroup) -> None:
    """Add the option that says where the workers are."""
    workers.add_argument(
        "--address",
        default="local",
        metavar="local|auto|HOST:PORT|here",
        help="Ray cluster: `local` starts one for this command, `auto` joins the one that runs on this machine, "
        "HOST:PORT joins another; `here` trains in this process, without Ray and with one worker (default: local)",
    )


def _run(options: argparse.Namespace) -> None:
    from caviar.operations.resume import resume_study
    from caviar.operations.run import run_study

    require_report_packages(options)
    study = load_study(options.experiment, options.study)
    machines = {"workers": options.workers, "gpus": options.gpus, "address": options.address}
    name = options.name or study.name if options.resume else options.name
    if options.resume and (run := find_run(options.runs, name)):
        finished = resume_study(study, run, **machines)
    else:
        finished = run_study(
            study, **machines, runs=options.runs, name=name, time_s=options.time, script=options.experiment
        )
    report(options, finished)


def find_run(runs: str, name: str) -> str | None:
    """Return the run directory of a name; None if it does not exist.

    Raises:
        StudyError: the name cannot name a run directory.
        RunError: the disk or object store cannot be reached.
    """
    from caviar.records.run_files import is_run_directory
    from caviar.storage.uri import join, locate
    from caviar.study import check_name

    run = join(runs, check_name(name))
    return run if is_run_directory(locate(run)) else None


def _resume(options: argparse.Namespace) -> None:
    from caviar.operations.resume import resume_study
    from caviar.records.run_files import StudyFile
    from caviar.storage.uri import is_uri, locate

    require_report_packages(options)
    path = options.run if is_uri(options.run) else Path(options.run).expanduser().resolve()
    location = locate(options.run)
    started = StudyFile.read(location)
    with loaded_study(options, str(location), started) as study:
        finished = resume_study(
            study,
            path,
            workers=options.workers,
            gpus=options.gpus,
            address=options.address,
            repair=options.repair,
            finish=options.finish,
            same_function=options.same_function,
        )
        report(options, finished)


def require_report_packages(options: argparse.Namespace) -> None:
    """Refuse to start a study whose report could not be written at its end.

    Raises:
        MissingPackageError: plotly or jinja2 is not installed.
    """
    if options.report:
        with packages_of("report"):
            for package in ("jinja2", "plotly"):
                import_module(package)


def report(options: argparse.Namespace, run: "Run") -> None:
    """Write the report of a finished run, if it was asked for."""
    if options.report:
        from caviar.reporting.report.page import write_report

        print(f"the report is {write_report(run)}")


@contextmanager
def loaded_study(options: argparse.Namespace, run: str, started: "StudyFile") -> Iterator["Study"]:
    """Load the study of a run from its script, in the folder in which the run was started.

    Args:
        options: the options, with the script in `experiment`, or None for the one that the run names.
        run: the run directory, in words.
        started: its study file.

    Raises:
        RunError: the script is not known, not trusted or does not exist.
        CaviarError: the script declares no such study.
    """
    with _original_folder(options, run, started):
        yield load_study(options.experiment, started.study["name"])


def _command(options: argparse.Namespace, run: str) -> str:
    """Return the command that names the script of a run."""
    more = f" --trials {options.trials}" if options.verb == "extend" else ""
    more = f" --data {shlex.quote(options.data)}" if options.verb == "retune" else more
    return f"caviar {options.verb} {shlex.quote(run)} EXPERIMENT.py{more}"


def _original_folder(
    options: argparse.Namespace, run: str, started: "StudyFile"
) -> AbstractContextManager[None]:
    """Return a context that changes to the folder in which a run was started, and set `options.experiment`.

    If the user names the script, it has moved, and the working directory stays as it is.
    """
    if options.experiment is not None:
        return nullcontext()
    if started.command is not None:
        raise RunError(
            f"{run} is a run of another command: continue it with `{started.command} --resume {shlex.quote(run)}`, or "
            f"name a script that declares its study: `{_command(options, run)}`"
        )
    if started.script is None:
        trials = f", trials={options.trials}" if options.verb == "extend" else ""
        call = f"call study.{options.verb}({run!r}{trials}), or " if options.verb in _METHODS else ""
        raise RunError(
            f"{run} was started from Python, so its script is not known: {call}run `{_command(options, run)}`"
        )
    options.experiment = Path(started.script)
    if not started.is_script_trusted:
        raise RunError(
            f"{run} names the script {options.experiment}, and it is not certain that you began the run with it, so it "
            f"is not executed: if you trust it, name it with `{_command(options, run)}`"
        )
    if not options.experiment.is_file():
        raise RunError(
            f"the script of {run}, {options.experiment}, does not exist any more: "
            f"run `{_command(options, run)}` with its present path"
        )
    folder = Path(started.folder)
    return chdir(folder) if folder.is_dir() else nullcontext()
