"""The `caviar` command: parses its options, runs the action, turns errors into sentences and exit codes."""

import argparse
import sys
import traceback
from collections.abc import Sequence

import caviar
from caviar.cli import jobs, runs, studies
from caviar.control_chars import printable
from caviar.errors import CaviarError, InterruptedStudy
from caviar.experiment_script import place_in_script


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the `caviar` command.

    Returns:
        The exit code: 0 done, 1 refused or failed, 2 a wrong command line, 130 interrupted; a job's own.
    """
    options = parser().parse_args(arguments)
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


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="caviar", description="Tune neural networks the caviar way: very many trials at once."
    )
    parser.add_argument("--version", action="version", version=f"caviar {caviar.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for group in (studies, runs, jobs):
        for command in group.add_parsers(commands):
            command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser
