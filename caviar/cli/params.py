"""Command that describes the hyperparameters of cv.Classifier: params."""

import argparse
from typing import Any

PARAMS = """Print the hyperparameters of cv.Classifier.

Each has its default value, its possible values, its meaning, and the condition
under which it is used. Search it in cv.Space(...), or fix it in
cv.Classifier(fixed={...}).

examples:
  caviar params
  caviar params | grep -A 2 momentum
"""


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the parser of this command, and return it in a list."""
    params = commands.add_parser("params", usage="caviar params", description=PARAMS)
    params.set_defaults(action=_params)
    return [params]


def _params(_options: argparse.Namespace) -> None:
    from caviar.training.recipe import hyperparameter_table

    print(hyperparameter_table())
