"""Params come back from their columns as they were."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.columns import (
    column_type,
    from_cell,
    param_column,
    params_from_row,
    params_from_rows,
    to_cell,
)
from caviar.space import Choice, Domain, Interval, Space, choice, integer, linear, log, reverse_log, when
from caviar.trial import Value
from tests import strategies

_CELLS = {"bool": bool, "int64": int, "float64": float, "string": str}


@given(strategies.choices)
def test_option_comes_back_from_its_cell(domain: Choice) -> None:
    for option in domain.options:
        back = from_cell(domain, to_cell(domain, option))
        assert back == option
        assert type(back) is type(option)


@given(strategies.choices)
def test_options_have_different_cells_of_the_columns_type(domain: Choice) -> None:
    cells = [to_cell(domain, option) for option in domain.options]
    assert len(set(cells)) == len(cells)
    assert {type(cell) for cell in cells} == {_CELLS[column_type(domain)]}


@given(strategies.places())
def test_number_comes_back_from_its_cell(place: tuple[Interval, float]) -> None:
    domain, r = place
    x = domain.value(r)
    back = from_cell(domain, to_cell(domain, x))
    assert back == x
    assert type(back) is (int if domain.integer else float)


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        (linear(0, 1), "float64"),
        (reverse_log(0.9, 0.99), "float64"),
        (integer(1, 4), "int64"),
        (integer(1, 64, scale="log"), "int64"),
        (choice(True, False), "bool"),
        (choice(32, 64), "int64"),
        (choice(0.5, 2.5), "float64"),
        (choice(1, 2.5), "float64"),
        (choice("sgd", "adam"), "string"),
        (choice(None, "adam"), "string"),
        (choice(None, 1), "string"),
        (choice(True, 2), "string"),
        (choice(None), "string"),
    ],
)
def test_column_has_the_plainest_type_for_its_values(domain: Domain, expected: str) -> None:
    assert column_type(domain) == expected


def test_mixed_options_are_stored_as_json() -> None:
    mixed = choice(None, 1, "1", 0.5, False)
    assert [to_cell(mixed, option) for option in mixed.options] == ["null", "1", '"1"', "0.5", "false"]
    assert to_cell(choice("relu", "tanh"), "relu") == "relu"


def test_control_characters_survive_csv_files(tmp_path: Path) -> None:
    domain = choice("one\rtwo", "\x00", "plain", "\x1b[2J")
    cells = [to_cell(domain, option) for option in domain.options]
    pd.DataFrame({"params_x": cells}).to_csv(tmp_path / "trials.csv")
    back = pd.read_csv(tmp_path / "trials.csv")["params_x"]
    assert [from_cell(domain, cell) for cell in back] == list(domain.options)


@pytest.mark.parametrize(
    ("domain", "cell", "expected"),
    [
        (choice(True, False), np.bool_(False), False),
        (choice(32, 64), np.int64(64), 64),
        (choice(32, 64), np.float64(64.0), 64),  # pandas: integers beside empty cells
        (choice(1, 2.5), np.float64(1.0), 1),
        (integer(1, 4), np.float64(3.0), 3),
        (linear(0, 1), np.float64(0.25), 0.25),
    ],
)
def test_numpy_cells_become_python_values(domain: Domain, cell: Any, expected: Value) -> None:
    """A NumPy boolean is equal to an option, but of another type."""
    back = from_cell(domain, cell)
    assert back == expected
    assert type(back) is type(expected)


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_params_come_back_from_a_frame(shown: list[bool], data: st.DataObject) -> None:
    space = Space(
        learning_rate=log(1e-4, 1.0),
        batch_norm=choice(True, False),
        units=when(integer(16, 256), batch_norm=True),
        limit=choice(None, 1, "1"),
        batch_size=choice(32, 64),
    )
    limits = data.draw(st.lists(st.sampled_from([None, 1, "1"]), min_size=len(shown), max_size=len(shown)))
    given_params: list[dict[str, Value]] = [
        space.active(
            {"learning_rate": 0.01, "batch_norm": on, "units": 20 + n, "limit": limits[n], "batch_size": 64}
        )
        for n, on in enumerate(shown)
    ]
    frame = pd.DataFrame(
        [
            {param_column(name): to_cell(space[name].domain, value) for name, value in p.items()}
            for p in given_params
        ],
        columns=[param_column(name) for name in space],
    )
    for back in (
        [params_from_row(space, row) for row in frame.to_dict(orient="records")],
        [params_from_row(space, row.to_dict()) for _, row in frame.iterrows()],
        params_from_rows(space, frame, np.arange(len(frame))),
    ):
        assert back == given_params
        assert json.dumps(back) == json.dumps(given_params)  # True is not 1, 64 is not 64.0
