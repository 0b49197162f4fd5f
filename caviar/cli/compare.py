"""The command that compares saved runs."""

import argparse
from typing import Any

COMPARE = """Compare runs on the same data: which is better, and how surely.

Runs are ranked by their confirmed scores: means of fresh trainings on the dev split. The searches are compared at equal
budget too.

examples:
  caviar compare runs/digits runs/digits-2
  caviar compare runs/sgd runs/adam s3://bucket/runs/all
"""


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the parser of this command, and return it."""
    compare = commands.add_parser(
        "compare", usage="caviar compare RUN RUN ... [OPTIONS]", description=COMPARE
    )
    compare.add_argument("runs", nargs="+", metavar="RUN", help="run directories: paths or URIs")
    compare.add_argument(
        "--by",
        choices=("confirmed", "test"),
        default="confirmed",
        help="scores that rank the runs. Ranked by test, the best test score is too good (default: confirmed)",
    )
    compare.set_defaults(action=_compare)
    return [compare]


def _compare(options: argparse.Namespace) -> None:
    from caviar.analysis.comparison import compare
    from caviar.reporting.comparison import show_comparison

    show_comparison(compare(*options.runs, by=options.by))
