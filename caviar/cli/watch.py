"""Command that follows a run: watch."""

import argparse
import sys
from typing import Any

from caviar.cli.numbers import seconds
from caviar.control_chars import replace_control_chars

WATCH = """Follow a run from another terminal or machine.

It reads the run directory alone, and ends when the study ends: with exit code 0
if the study is finished, and with 1 if its driver was stopped or has died.
Ctrl-C ends the view, not the study.

examples:
  caviar watch runs/digits
  caviar watch s3://bucket/runs/digits --every 10
  caviar watch runs/digits --every 60 > digits.log
"""


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the parser of this command, and return it in a list."""
    watch = commands.add_parser("watch", usage="caviar watch RUN [OPTIONS]", description=WATCH)
    watch.add_argument("run", metavar="RUN", help="run directory: a path or URI")
    watch.add_argument(
        "--every",
        type=seconds,
        metavar="SECONDS",
        help="seconds between two views (default: 2 in a terminal, 10 elsewhere)",
    )
    watch.set_defaults(action=_watch)
    return [watch]


def _watch(options: argparse.Namespace) -> int:
    from caviar.reporting.watch import watch_run
    from caviar.storage.uri import locate

    location = locate(options.run)
    try:
        return 0 if watch_run(location, options.every) else 1
    except KeyboardInterrupt:
        again = f"caviar watch {location.quoted}"
        print(
            replace_control_chars(f"stopped watching; the study goes on. To watch it again: {again}"),
            file=sys.stderr,
        )
        return 130
