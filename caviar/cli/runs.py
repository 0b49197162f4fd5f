"""Commands for whole run directories: list and fetch."""

import argparse
from typing import Any

LIST = """List the runs in a folder: state, trials, best, age, size.

examples:
  caviar list
  caviar list s3://bucket/runs
"""
FETCH = """Copy a run directory to this machine.

The study may still be running; the copy then has the trials recorded so far.

examples:
  caviar fetch s3://bucket/runs/digits
  caviar fetch s3://bucket/runs/digits results/digits --frames
"""


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the parsers of these commands, and return them."""
    listing = commands.add_parser("list", usage="caviar list [RUNS] [OPTIONS]", description=LIST)
    listing.add_argument(
        "runs",
        nargs="?",
        default="runs",
        metavar="RUNS",
        help="folder of runs: a path or URI (default: runs)",
    )
    listing.set_defaults(action=_list)

    fetch = commands.add_parser("fetch", usage="caviar fetch RUN [DEST] [OPTIONS]", description=FETCH)
    fetch.add_argument("run", metavar="RUN", help="run directory: a path or URI")
    fetch.add_argument("to", nargs="?", metavar="DEST", help="folder of the copy (default: runs/NAME)")
    fetch.add_argument("--frames", action="store_true", help="copy the frames only, not the network")
    fetch.set_defaults(action=_fetch)
    return [listing, fetch]


def _list(options: argparse.Namespace) -> None:
    from caviar.reporting.run_list import list_runs
    from caviar.storage.uri import locate

    print(list_runs(locate(options.runs)))


def _fetch(options: argparse.Namespace) -> None:
    from caviar.records.fetch import fetch

    run = fetch(options.run, options.to, frames=options.frames)
    state = "finished" if run.finished else "unfinished"
    print(f"copied the {state} run, with {len(run.trials):,} trials, to {run.location}")
