"""Command that trains one network while its user watches and changes it: panda."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caviar.cli.numbers import positive
from caviar.cli.studies import add_results
from caviar.errors import MissingPackageError, StudyError

if TYPE_CHECKING:
    from caviar.panda.driver import Driver
    from caviar.panda.opening import Options

PANDA = """Train one network and change its hyperparameters while it trains.

The terminal draws its learning curve. Commands change the learning rate,
momentum, decay, L2, dropout and others from the next epoch on, step back to an
earlier epoch, compare branches and write notes; `help` lists them. A suggestion
appears when the network diverges, overfits, or learns no more. `finish` hands
over the network on the screen and scores it once on the test split.

A session is a run like any other: each branch is a trial with a parent. It is
recorded epoch by epoch, so `quit`, a crash or kill -9 lose nothing that was
shown; name its run directory to go on.

examples:
  caviar panda experiments/digits.py
  caviar panda experiments/digits.py --set learning_rate=0.1 --epochs 50
  caviar panda experiments/digits.py --from runs/digits
  caviar panda runs/digits-panda
  caviar panda experiments/digits.py --script babysit.txt

Functions (cv.Function) need trial.restore() and trial.save(...), and must
apply params after trial.restore(): a restored optimizer has the old ones.

A script has a command a line, at an epoch or right after the line before it:
  at epoch 10: learning_rate /3
  at epoch 20: back 10
  dropout 0.2
  go
  at end: finish
"""


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the parser of this command, and return it in a list."""
    panda = commands.add_parser("panda", usage="caviar panda EXPERIMENT.py|RUN [OPTIONS]", description=PANDA)
    panda.add_argument(
        "subject", metavar="EXPERIMENT.py|RUN", help="script that declares the study, or a session to resume"
    )
    panda.add_argument(
        "experiment",
        type=Path,
        nargs="?",
        metavar="EXPERIMENT.py",
        help="script of a session that is resumed, if it has moved or is not yours",
    )
    panda.add_argument("--study", metavar="NAME", help="which study (default: the only one in the script)")
    panda.add_argument(
        "--resume", action="store_true", help="continue the session if it exists and start it otherwise"
    )
    panda.add_argument(
        "--script", type=Path, metavar="FILE", help="say the commands of a file, and print lines"
    )
    panda.add_argument("--plain", action="store_true", help="print lines instead of drawing a screen")
    panda.add_argument(
        "--same-function",
        action="store_true",
        help="accept that the function was edited, and note it in the run",
    )
    start = panda.add_argument_group("start")
    start.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a hyperparameter at the start (default: that of the study's first `try_first`, or the middle)",
    )
    start.add_argument("--from", dest="base", metavar="RUN", help="start with the best params of a run")
    start.add_argument(
        "--epochs", type=positive, metavar="N", help="epochs to train (default: those of the longest round)"
    )
    start.add_argument(
        "--pace",
        type=_pace,
        metavar="SECONDS",
        help="shortest time for an epoch; `pace` changes it (default: 0.2, for scripts and pipes 0)",
    )
    results = add_results(panda, "that of the study with -panda")
    results.add_argument(
        "--checkpoints",
        type=positive,
        default=1024,
        metavar="MIB",
        help="room for checkpoints; a state that has none is trained again (default: 1024)",
    )
    panda.set_defaults(action=_panda, verb="panda")
    return [panda]


def _pace(text: str) -> float:
    """Return a number of seconds from 0 to an hour."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 3_600:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds from 0 to 3600")
    return number


def _panda(options: argparse.Namespace) -> None:
    from caviar.panda.opening import Options
    from caviar.panda.plain import Lines, run_plainly
    from caviar.panda.script import Script

    script = None if options.script is None else Script.read(options.script)
    is_drawn = script is None and not options.plain and _can_draw()
    if is_drawn:
        run_on_screen = _load_screen()
    opened = Options(
        runs=options.runs,
        name=options.name,
        chosen=dict(map(_chosen, options.set)),
        base=options.base,
        epochs=options.epochs,
        pace_s=options.pace if options.pace is not None or sys.stdin.isatty() else 0.0,
        script=script,
        checkpoints_mib=options.checkpoints,
        listen=(lambda session: None) if is_drawn else Lines().show,
    )
    with _open(options, opened) as driver:
        if is_drawn:
            run_on_screen(driver)
        else:
            run_plainly(driver, reads=script is None)
        location = driver.location
    _report(driver, location)


def _load_screen() -> "Callable[[Driver], None]":
    """Return what runs a session on the screen.

    Raises:
        MissingPackageError: Textual is not installed.
    """
    from caviar.optional_packages import packages_of

    try:
        with packages_of("panda"):
            from caviar.panda.screen import run_on_screen
    except MissingPackageError as error:
        raise MissingPackageError(f"{error}, or print lines with --plain") from error
    return run_on_screen


def _can_draw() -> bool:
    """Return whether this is a terminal on which a screen can be drawn."""
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty() and sys.stdout.encoding.lower() == "utf-8"
    return is_terminal and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


def _chosen(text: str) -> tuple[str, str]:
    """Return name and value of `--set NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise StudyError(f"--set {text}: write --set NAME=VALUE, such as --set learning_rate=0.1")
    return name.strip(), value.strip()


def _open(options: argparse.Namespace, opened: "Options") -> AbstractContextManager["Driver"]:
    """Begin a session, or resume one."""
    from caviar.cli.studies import find_run
    from caviar.experiment_script import load_study
    from caviar.panda.opening import SUFFIX, begun, resumed

    file = Path(options.subject)
    if file.suffix == ".py":
        options.experiment = file
        study = load_study(file, options.study)
        name = options.name or f"{study.name}{SUFFIX}"
        if options.resume and (run := find_run(options.runs, name)):
            return resumed(study, run, opened, options.same_function)
        return begun(study, opened, file)
    return _resumed(options, opened)


@contextmanager
def _resumed(options: argparse.Namespace, opened: "Options") -> "Iterator[Driver]":
    """Resume the session of a run directory."""
    from caviar.cli.studies import loaded_study
    from caviar.panda.opening import resumed
    from caviar.records.run_files import StudyFile
    from caviar.storage.uri import is_uri, locate

    path = options.subject if is_uri(options.subject) else Path(options.subject).expanduser().resolve()
    location = locate(options.subject)
    started = StudyFile.read(location)
    with (
        loaded_study(options, str(location), started) as study,
        resumed(study, path, opened, options.same_function) as driver,
    ):
        yield driver


def _report(driver: "Driver", location: Any) -> None:
    """Print how the session ended."""
    from caviar.panda.session import End
    from caviar.records.frames import Run
    from caviar.records.run_files import is_run_directory
    from caviar.reporting.summary import show

    if not is_run_directory(location):
        print("nothing was trained, so nothing is left")
    elif driver.session.end is End.FINISH:
        show(Run(location))
    else:
        print(f"the session is in {location}")
        print(f"  caviar panda {location.quoted} goes on")
        print(f"  caviar show {location.quoted} shows it")
