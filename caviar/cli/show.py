"""Command that prints the results of a run: show."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caviar.cli.numbers import positive

if TYPE_CHECKING:
    from caviar.records.frames import Run
    from caviar.reporting.details import View

SHOW = """Print how a run went, and its winner.

The study may still be running; then it is the results so far.

--json prints JSON for other programs; the help of the Python module
caviar.reporting.run_json describes its keys. --csv writes a table for a
spreadsheet: text that it would run as a formula has an apostrophe before it.
For exact values, read the Parquet files of the run directory.

examples:
  caviar show runs/digits
  caviar show s3://bucket/runs/digits --rounds
  caviar show runs/digits --top 10
  caviar show runs/digits --failed --json
  caviar show runs/digits --csv curves.csv --curves
  caviar show --schema
"""


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the parser of this command, and return it in a list."""
    show = commands.add_parser("show", usage="caviar show RUN [OPTIONS]", description=SHOW)
    show.add_argument("run", nargs="?", metavar="RUN", help="run directory: a path or URI")
    one = show.add_mutually_exclusive_group()
    one.add_argument("--rounds", action="store_true", help="print every round, and how it narrowed the space")
    one.add_argument("--top", type=positive, metavar="N", help="print the best N trials")
    one.add_argument(
        "--failed", action="store_true", help="print why trials failed or diverged, with examples"
    )
    one.add_argument("--round", type=positive, metavar="N", help="print one round, or step of the search")
    one.add_argument(
        "--schema", action="store_true", help="print the columns of all frames (without RUN, too)"
    )
    one.add_argument("--csv", type=Path, metavar="FILE", help="write all trials to a CSV file")
    show.add_argument("--curves", action="store_true", help="with --csv: write the learning curves instead")
    show.add_argument("--json", action="store_true", help="print JSON")
    show.set_defaults(action=partial(_show, show))
    return [show]


def _show(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.run is None and not options.schema:
        parser.error("give the run directory: caviar show RUN (`caviar list` lists runs)")
    if options.curves and options.csv is None:
        parser.error("--curves goes with --csv FILE; in Python, cv.load(RUN).curves has them")
    if options.json and options.csv is not None:
        parser.error("choose between --json and --csv")
    from caviar.records.frames import load

    run = None if options.run is None else load(options.run)
    if options.csv is not None and run is not None:
        _write_csv(run, options)
        return
    view = _view(run, options)
    if options.json:
        from caviar.reporting.run_json import json_text

        print(json_text(view.data()))
        return
    from caviar.reporting.terminal import open_console, print_parts

    console = open_console()
    print_parts(view.parts(console.width), console)


def _view(run: "Run | None", options: argparse.Namespace) -> "View":
    """Return the view that the options ask for."""
    from caviar.reporting import details

    if run is None or options.schema:
        return details.schema(run)
    if options.top is not None:
        return details.top(run, options.top)
    if options.failed:
        return details.failed(run)
    if options.round is not None:
        from caviar.reporting.round_details import one_round

        return one_round(run, options.round)
    return details.overview(run, every_round=options.rounds)


def _write_csv(run: "Run", options: argparse.Namespace) -> None:
    from caviar.exports.csv_files import write_csv

    frame, what = (run.curves, "measurements") if options.curves else (run.trials, "trials")
    write_csv(frame, options.csv)
    print(f"wrote {len(frame):,} {what} of {run.location} to {options.csv}")
