"""Command that goes on with a finished study: extend."""

import argparse
from pathlib import Path
from typing import Any

from caviar.cli import studies
from caviar.cli.numbers import positive

EXTEND = """Go on with a finished run: more search trials, and another confirmation.

The new trials learn from all before, whose rows stay as they are. The winner
so far is among the contenders. If it wins again, its network and its test
score stay. Otherwise the new winner is trained and scored: then the test
split has been used once more, and `caviar show` says how often.

`caviar resume` continues an extension that was interrupted, and `caviar
finish` ends its search early.

examples:
  caviar extend runs/digits --trials 100
  caviar extend runs/digits experiments/digits.py --trials 100
"""


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the parser of this command, and return it in a list."""
    usage = "caviar extend RUN [EXPERIMENT.py] --trials N [OPTIONS]"
    extend = commands.add_parser("extend", usage=usage, description=EXTEND)
    studies.add_run(extend)
    extend.add_argument(
        "--trials",
        type=positive,
        required=True,
        metavar="N",
        help="number of search trials, before the confirmation",
    )
    studies.add_same_function(extend)
    studies.add_report_option(extend)
    studies.add_address(studies.add_worker_options(extend))
    extend.set_defaults(action=_extend, verb="extend")
    return [extend]


def _extend(options: argparse.Namespace) -> None:
    from caviar.operations.resume import extend_study
    from caviar.records.run_files import StudyFile
    from caviar.storage.uri import is_uri, locate

    studies.require_report_packages(options)
    path = options.run if is_uri(options.run) else Path(options.run).expanduser().resolve()
    location = locate(options.run)
    started = StudyFile.read(location)
    with studies.loaded_study(options, str(location), started) as study:
        extended = extend_study(
            study,
            path,
            options.trials,
            workers=options.workers,
            gpus=options.gpus,
            address=options.address,
            same_function=options.same_function,
        )
        studies.report(options, extended)
