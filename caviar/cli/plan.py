"""Command that says what a study will take: plan."""

import argparse
import json
import time
from datetime import datetime
from typing import Any

from caviar.cli.numbers import duration
from caviar.cli.studies import add_address, add_experiment, add_worker_options
from caviar.experiment_script import load_study

PLAN = """Say what a study will take, or what a time budget buys.

Some trials are trained on this machine, for about 15 seconds, or one trial if
it takes longer. From their cost the course of the study is forecast: its end,
memory and disk, and whether many trials (caviar) or one model that you adjust
(panda) fits better. Nothing is recorded, and nothing starts on the cluster of
--address.

examples:
  caviar plan experiments/digits.py
  caviar plan experiments/digits.py --time 10m
  caviar plan experiments/digits.py --time 8h --address 10.0.0.5:6379 --json
"""


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the parser of this command, and return it in a list."""
    plan = commands.add_parser("plan", usage="caviar plan EXPERIMENT.py [OPTIONS]", description=PLAN)
    add_experiment(plan)
    plan.add_argument(
        "--time",
        type=duration,
        metavar="DURATION",
        help="time budget, such as 90s, 10m, 1h30m or 2d (default: the study's own number of trials)",
    )
    plan.add_argument("--json", action="store_true", help="print JSON")
    add_address(add_worker_options(plan))
    plan.set_defaults(action=_plan)
    return [plan]


def _plan(options: argparse.Namespace) -> None:
    from caviar.operations.plan import plan_study
    from caviar.planning.measuring import MEASURE_S
    from caviar.reporting.progress import announce

    imported_s = time.process_time()  # the start of Python and its imports compute all the time
    began_s = time.perf_counter()
    study = load_study(options.experiment, options.study)
    loaded_s = imported_s + time.perf_counter() - began_s
    announce(f"measuring trials of {study.name}, for about {MEASURE_S:.0f} s or one trial ...")
    plan = plan_study(
        study,
        time_s=options.time,
        workers=options.workers,
        gpus=options.gpus,
        address=options.address,
        loaded_s=loaded_s,
    )
    if options.json:
        print(json.dumps(plan.to_json(), indent=2))
        return
    from caviar.reporting.plan import plan_parts
    from caviar.reporting.terminal import open_console, print_parts

    print_parts(plan_parts(plan, datetime.now()), open_console())
