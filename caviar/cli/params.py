"""Command that describes the hyperparameters of cv.Classifier: params."""

import argparse
from typing import Any

PARAMS = """Print the hyperparameters of cv.Classifier.

Each has its default value, its possible values, its meaning, and the condition
under which it is used. Search it in cv.Space(...), or fix it in
cv.Classifier(fixed={...}). For a module of your own (cv.Module) those of
training count: optimizer, learning_rate, momentum, beta1, beta2, epsilon,
decay and its three, l2, batch_size.

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
