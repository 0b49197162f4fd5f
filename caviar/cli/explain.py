"""Command that says how the trials of a study would be trained: explain."""

import argparse
from typing import Any

from caviar.cli.studies import add_experiment
from caviar.experiment_script import load_study

EXPLAIN = """Say how trials would be trained on CPUs and on GPUs, and why.

Nothing is trained. The data are read and points of the space are drawn. For a
module of your own (cv.Module) some are built, to see which of them can train
together on a GPU.

examples:
  caviar explain experiments/digits.py
"""


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the parser of this command, and return it in a list."""
    explain = commands.add_parser("explain", usage="caviar explain EXPERIMENT.py", description=EXPLAIN)
    add_experiment(explain)
    explain.set_defaults(action=_explain)
    return [explain]


def _explain(options: argparse.Namespace) -> None:
    from caviar.operations.explain import explain

    study = load_study(options.experiment, options.study)
    found = explain(study)
    print(f"on a CPU worker: {found.on_cpu}")
    print(f"on a GPU worker: {found.on_gpu}")
