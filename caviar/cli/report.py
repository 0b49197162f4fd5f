"""Command that writes the report of a run: report."""

import argparse
import time
from typing import Any

REPORT = """Write the report of a run: one page of HTML for any browser.

The page holds all that it needs, and asks nothing from the network. Of a study
that runs, it shows what is recorded so far.

examples:
  caviar report runs/digits
  caviar report runs/digits --watch
  caviar report s3://bucket/runs/digits --out digits.html
"""
WATCH_S = 30.0
"""Seconds from one report of a running study to the next."""


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the parser of this command, and return it."""
    report = commands.add_parser("report", usage="caviar report RUN [OPTIONS]", description=REPORT)
    report.add_argument("run", metavar="RUN", help="run directory: a path or URI")
    report.add_argument(
        "--out", metavar="FILE", help="the page: a path or URI (default: report.html in the run directory)"
    )
    report.add_argument(
        "--watch", action="store_true", help="write the page again while the study runs, until it is finished"
    )
    report.set_defaults(action=_report)
    return [report]


def _report(options: argparse.Namespace) -> None:
    from caviar.plurals import counted
    from caviar.records.frames import load
    from caviar.reporting.report.page import write_report
    from caviar.storage.uri import locate

    holder = locate(options.run).follow_holder()
    while True:
        is_at_work = options.watch and holder() is not None
        run = load(options.run)
        file = write_report(run, options.out, reload_s=WATCH_S if is_at_work else None)
        if not is_at_work:
            print(f"the report is {file}")
            return
        print(f"{counted(len(run.trials), 'trial')}: the report is {file}", flush=True)
        time.sleep(WATCH_S)
