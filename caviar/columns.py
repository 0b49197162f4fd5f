"""Columns of params: their names and types, and how the values of params are stored in them.

Each parameter has one column, and each column has one type:

    numbers, integers       float64, int64
    choices of one kind     bool, int64, float64 (if ints and floats are mixed) or string
    mixed choices           string: each option as JSON, so that None, 1 and "1" differ
    control characters      string: each option as JSON, because CSV files cannot hold a carriage return or NUL

An empty cell means that the parameter does not apply to the trial.
"""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from caviar.control_chars import replace_control_chars
from caviar.space import Choice, Domain, Space
from caviar.trial import Value

if TYPE_CHECKING:  # the driver alone reads trials back, and workers start sooner without pandas
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

ColumnType = Literal["bool", "int64", "float64", "string", "time", "list"]

_PREFIX = "params_"


def param_column(name: str) -> str:
    """Return the name of a parameter's column."""
    return f"{_PREFIX}{name}"


def is_param(column: str) -> bool:
    """Return True if a column is a parameter's."""
    return column.startswith(_PREFIX)


def column_type(domain: Domain) -> ColumnType:
    """Return the type of a parameter's column."""
    if not isinstance(domain, Choice):
        return "int64" if domain.integer else "float64"
    kinds = {type(option) for option in domain.options}
    if kinds == {bool}:
        return "bool"
    if kinds == {int}:
        return "int64"
    return "float64" if kinds <= {int, float} else "string"


def to_cell(domain: Domain, value: Value) -> Value:
    """Convert a parameter's value to what its column stores."""
    if column_type(domain) == "float64" and value is not None:
        return float(value)
    return json.dumps(value) if _is_json(domain) else value


def from_cell(domain: Domain, stored: Any) -> Value:
    """Convert what a column stores to the parameter's value, of the same type as the option of a choice."""
    return from_cells(domain, [stored])[0]


def from_cells(domain: Domain, stored: Iterable[Any]) -> list[Value]:
    """Convert several cells of a column, none of them empty; see `from_cell`."""
    if isinstance(domain, Choice):
        options = {to_cell(domain, option): option for option in domain.options}
        return [options[cell] for cell in stored]
    return [int(cell) for cell in stored] if domain.integer else [float(cell) for cell in stored]


def params_from_rows(
    space: Space, trials: "pd.DataFrame", rows: "npt.NDArray[np.intp]"
) -> list[dict[str, Value]]:
    """Return the params of several trials, at a small part of what `params_from_row` costs for each.

    Args:
        space: the study's space.
        trials: the frame of all trials.
        rows: the positions of some of its rows.
    """
    params: list[dict[str, Value]] = [{} for _ in rows]
    for name, parameter in space.items():
        cells = trials[param_column(name)].array[rows]
        present = (~cells.isna()).nonzero()[0]
        for place, value in zip(present, from_cells(parameter.domain, cells[present]), strict=True):
            params[place][name] = value
    return params


def params_from_row(space: Space, row: Mapping[Any, Any]) -> dict[str, Value]:
    """Return the params of a trial from its row, without those that do not apply."""
    import pandas as pd  # see above

    cells = {name: row[param_column(name)] for name in space}
    return {name: from_cell(space[name].domain, cell) for name, cell in cells.items() if not pd.isna(cell)}


def _is_json(domain: Domain) -> bool:
    """Return True if a choice has options that its column can only store as JSON."""
    if not isinstance(domain, Choice) or column_type(domain) != "string":
        return False
    return any(not isinstance(o, str) or replace_control_chars(o) != o for o in domain.options)
