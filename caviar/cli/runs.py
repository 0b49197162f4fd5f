"""Commands that read saved runs: show, fetch."""

import argparse
from typing import Any


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the parsers of these commands, and return them."""
    show = commands.add_parser("show", help="how a run went, and its winner")
    show.add_argument("run", metavar="RUN")
    show.add_argument("--rounds", action="store_true", help="what each round narrowed, and why")
    show.set_defaults(action=_show)

    fetch = commands.add_parser("fetch", help="copy a run directory from a store, or another folder, to here")
    fetch.add_argument("run", metavar="RUN")
    fetch.add_argument("to", nargs="?", metavar="DEST", help="the folder that it becomes (runs/NAME)")
    fetch.add_argument("--frames", action="store_true", help="only its frames, not the network")
    fetch.set_defaults(action=_fetch)
    return [show, fetch]


def _show(options: argparse.Namespace) -> None:
    from caviar.records.frames import load
    from caviar.reporting.summary import show

    show(load(options.run), every_round=options.rounds)


def _fetch(options: argparse.Namespace) -> None:
    from caviar.records.fetch import fetch

    run = fetch(options.run, options.to, frames=options.frames)
    print(f"{run.location}: {len(run.trials):,} trials, {'finished' if run.finished else 'unfinished'}")
