"""The `caviar` command: parses the command line, runs the command, prints errors and returns the exit code."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

import caviar
from caviar.cli import (
    compare,
    explain,
    exports,
    extend,
    jobs,
    panda,
    params,
    plan,
    report,
    retune,
    runs,
    show,
    space,
    studies,
    watch,
)
from caviar.control_chars import escaped_output, replace_control_chars
from caviar.errors import CaviarError, InterruptedStudy
from caviar.experiment_script import locate_error

SECTIONS = {
    "write a study:": (params, space, explain, plan),
    "run a study from this machine:": (studies, extend, retune, panda),
    "look at the results:": (show, report, watch, runs, compare, exports),
    "run a study as a Ray job; you can disconnect while it runs:": (jobs,),
}
"""Titles of the help's sections, and the files with their commands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the `caviar` command.

    Args:
        arguments: words of the command line after `caviar`; those of this process by default.

    Returns:
        The exit code: 0 for success, 1 for an error, 2 for a wrong command line, 130 if interrupted, or that of the
        job that was followed.
    """
    options = create_parser().parse_args(arguments)
    try:
        with escaped_output(sys.stdout):
            status = options.action(options) or 0
            sys.stdout.flush()
            return status
    except BrokenPipeError:  # the reader of the output has ended, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except InterruptedStudy as error:
        _print_line(str(error))
        return 130
    except KeyboardInterrupt:
        _print_line("interrupted")
        return 130
    except CaviarError as error:
        return _print_error(options, error, str(error))
    except Exception as error:
        return _print_error(options, error, f"{type(error).__name__}: {error} (--debug prints the traceback)")


def _print_error(options: argparse.Namespace, error: Exception, message: str) -> int:
    if options.debug:
        traceback.print_exception(error)
    place = locate_error(error, getattr(options, "experiment", None))
    _print_line(f"{place}{message}")
    return 1


def _print_line(message: str) -> None:
    with suppress(OSError):  # the terminal is closed
        print(replace_control_chars(f"caviar: {message}"), file=sys.stderr)


def create_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; its help lists them by group."""
    parser = argparse.ArgumentParser(
        prog="caviar",
        usage="caviar COMMAND ...",
        description="Tune neural networks: train very many trials in parallel and keep the best.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"caviar {caviar.__version__}",
        help="print the version and exit",
    )
    commands = parser.add_subparsers(prog="caviar", required=True, metavar="COMMAND", help=argparse.SUPPRESS)
    sections = []
    for title, groups in SECTIONS.items():
        sections.append(title)
        for command in (command for group in groups for command in group.add_parsers(commands)):
            command.add_argument("--debug", action="store_true", help="print the traceback of an error")
            command.formatter_class = argparse.RawDescriptionHelpFormatter
            name, summary = command.prog.split()[-1], (command.description or "").partition("\n")[0]
            sections[-1] += f"\n  {name:11}{summary}"
    parser.epilog = "\n\n".join([*sections, "caviar COMMAND --help describes a command and its options."])
    return parser
