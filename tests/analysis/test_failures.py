"""Failures are counted by cause, and each counts once."""

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from caviar.analysis.failures import failures


def frame(rows: list[tuple[str, str | None]]) -> pd.DataFrame:
    outcomes, texts = zip(*rows, strict=True) if rows else ((), ())
    columns = {"outcome": pd.Series(outcomes, dtype="str"), "failure": pd.Series(texts, dtype="str")}
    return pd.DataFrame({"trial": range(len(rows)), **columns})


def test_messages_that_differ_in_numbers_have_one_cause() -> None:
    counted = failures(
        frame(
            [
                ("diverged", "loss exploded (train 1e+09)"),
                ("completed", None),
                ("failed", "KeyError: 'x7' (train.py, line 3)"),
                ("failed", "KeyError: 'y' (train.py, line 3)"),
                ("failed", "KeyError: 'y' (train.py, line 4)"),
                ("diverged", "loss exploded (train 2.5)"),
                ("diverged", "loss exploded (train nan)"),
            ]
        )
    )
    assert counted[["outcome", "trials", "example"]].to_numpy().tolist() == [
        ["diverged", 3, 0],
        ["failed", 2, 2],
        ["failed", 1, 4],
    ]
    assert counted["failure"].iloc[0] == "loss exploded (train 1e+09)"


@given(st.lists(st.tuples(st.sampled_from(["failed", "diverged"]), st.none() | st.text(max_size=20))))
def test_each_failure_counts_once(rows: list[tuple[str, str | None]]) -> None:
    counted = failures(frame(rows))
    assert counted["trials"].sum() == sum(text is not None for _, text in rows)
    assert counted["trials"].is_monotonic_decreasing


def test_a_run_without_failures_has_no_causes() -> None:
    assert failures(frame([("completed", None)])).empty
