"""How params stand in frames: one column a parameter, one type a column.

    numbers, integers       float64, int64
    choices of one kind     bool, int64, float64 (numbers of both kinds) or string
    mixed choices           string: each option as JSON, so that None and 1 and "1" stay apart

An empty cell means that the parameter did not apply to the trial.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd

from caviar.space import Choice, Domain, Space
from caviar.trial import Value

ColumnType = Literal["bool", "int64", "float64", "string"]

TIMES = ("queue_s", "dispatch_s", "setup_s", "train_s", "record_s")
"""Where the seconds of a trial went."""
CIRCUMSTANCES = ("engine", "device", "worker", "node", "attempt", *TIMES)
"""Where and how fast a trial was trained. All other columns are the same in every run of a study (law 1)."""
BEFORE_PARAMS: Mapping[str, ColumnType] = {
    "trial": "int64",
    "round": "int64",
    "stage": "string",
    "outcome": "string",
    "value": "float64",
}
"""The first columns of the trials; those of params and metrics follow."""
AFTER_METRICS: Mapping[str, ColumnType] = {
    "test_accuracy": "float64",
    "test_loss": "float64",
    "epochs": "int64",
    "epochs_trained": "int64",
    "seed": "int64",
    "confirms": "int64",
    "failure": "string",
    "engine": "string",
    "device": "string",
    "worker": "string",
    "node": "string",
    "attempt": "int64",
    **dict.fromkeys(TIMES, "float64"),
}
"""The last columns of the trials."""
RESERVED = frozenset({"epoch", *BEFORE_PARAMS, *AFTER_METRICS}) - {"value"}
"""Names that no metric can have. A metric may be called `value`: it is the number that ranks."""
_PREFIX = "params_"


def column(name: str) -> str:
    """The column of a parameter."""
    return f"{_PREFIX}{name}"


def is_param(column: str) -> bool:
    """Whether a column is a parameter's."""
    return column.startswith(_PREFIX)


def column_type(domain: Domain) -> ColumnType:
    """The type of a parameter's column."""
    if not isinstance(domain, Choice):
        return "int64" if domain.integer else "float64"
    kinds = {type(option) for option in domain.options}
    if kinds == {bool}:
        return "bool"
    if kinds == {int}:
        return "int64"
    return "float64" if kinds <= {int, float} else "string"


def to_column(domain: Domain, value: Value) -> Value:
    """A value as it stands in its column."""
    if column_type(domain) == "float64" and value is not None:
        return float(value)
    return json.dumps(value) if _is_mixed(domain) else value


def from_column(domain: Domain, stored: Any) -> Value:
    """The value that stands in a cell: the very option of a choice."""
    if isinstance(domain, Choice):
        return next(option for option in domain.options if to_column(domain, option) == stored)
    return int(stored) if domain.integer else float(stored)


def params_from_row(space: Space, row: Mapping[Any, Any]) -> dict[str, Value]:
    """The params of a trial from its row; empty cells are absent."""
    cells = {name: row[column(name)] for name in space}
    return {name: from_column(space[name].domain, cell) for name, cell in cells.items() if not pd.isna(cell)}


def _is_mixed(domain: Domain) -> bool:
    """Whether its options are of several kinds that no column type holds."""
    if not isinstance(domain, Choice) or column_type(domain) != "string":
        return False
    return any(not isinstance(option, str) for option in domain.options)
