"""Schemas of the trials and the curves, fixed when a run begins, so that all segments have the same columns.

A frame has the ordinary dtypes of pandas, which follow from the schema alone, not from the values:

    integers        int64; float64 where a cell may be empty, which is exact up to 2**53
    numbers         float64
    booleans        bool; boolean where a cell may be empty
    text            str
    times           datetime64[us, UTC]
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa

from caviar.columns import ColumnType, param_column, to_cell
from caviar.errors import one_line
from caviar.frame_columns import Column, FrameColumns
from caviar.space import Space
from caviar.trial import Cause, Outcome, Result

_ARROW: dict[ColumnType, pa.DataType] = {
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "time": pa.timestamp("us", tz="UTC"),
}


def trials_schema(
    space: Space,
    metrics: Sequence[str],
    has_given: bool = False,
    panda: bool = False,
    has_origin: bool = False,
) -> pa.Schema:
    """Return the schema of trials: one row a finished trial, with the last measurement of each metric.

    Args:
        space: the study's space.
        metrics: the metrics of its curves.
        has_given: True if the study gives the params of some trials.
        panda: True for a session of `caviar panda`, whose trials have parents.
        has_origin: True if the study starts from another run.
    """
    return _schema(
        FrameColumns(space, metrics, has_given=has_given, panda=panda, has_origin=has_origin).trials
    )


def curves_schema(metrics: Sequence[str]) -> pa.Schema:
    """Return the schema of curves: one row a trial and epoch."""
    return _schema(FrameColumns(metrics=metrics).curves)


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Return a DataFrame of ordinary dtypes; see above."""
    columns = [
        column.cast(pa.float64(), safe=False) if field.nullable and field.type == pa.int64() else column
        for field, column in zip(table.schema, table.columns, strict=True)
    ]
    kinds = {pa.bool_(): pd.BooleanDtype()}
    frame: pd.DataFrame = pa.table(columns, table.column_names).to_pandas(types_mapper=kinds.get)
    always = [field.name for field in table.schema if not field.nullable and field.type == pa.bool_()]
    return frame.astype(dict.fromkeys(always, "bool")) if always else frame


def recordable(results: Sequence[Result], space: Space, trials: pa.Schema, curves: pa.Schema) -> list[Result]:
    """Return results that tables can hold. In place of one that they cannot hold is a failed one that says why.

    Args:
        results: the results, of trials whose params tables can hold.
        space: the study's space.
        trials: the schema of trials.
        curves: the schema of curves.
    """
    safe = []
    for result in results:
        try:
            trials_table([result], space, trials), curves_table([result], curves)
        except Exception as error:  # an engine may measure anything
            why = f"its result cannot be recorded: {one_line(error)}"
            result = Result(trial=result.trial, outcome=Outcome.FAILED, failure=why, cause=Cause.ERROR)
        safe.append(result)
    return safe


def curves_table(results: Sequence[Result], schema: pa.Schema) -> pa.Table:
    """Return the rows of the curves for the measurements of results."""
    metrics = schema.names[2:]
    points = [(result.trial.number, m) for result in results for m in result.measurements]
    columns: dict[str, list[object]] = {
        "trial": [number for number, _ in points],
        "epoch": [m.epoch for _, m in points],
    }
    for metric in metrics:
        columns[metric] = [m.metrics.get(metric) for _, m in points]
    return pa.table(columns, schema=schema)


def trials_table(results: Sequence[Result], space: Space, schema: pa.Schema) -> pa.Table:
    """Return the rows of the trials for results; see `with_record_s` for the last column."""
    return pa.Table.from_pylist([_row(result, space) for result in results], schema=schema)


def with_record_s(trials: pa.Table, seconds: float) -> pa.Table:
    """Return rows of trials with the seconds of recording in them, for each trial its share of all these seconds."""
    column = trials.schema.get_field_index("record_s")
    return trials.set_column(column, trials.schema.field(column), [[seconds / len(trials)] * len(trials)])


def _row(result: Result, space: Space) -> dict[str, object]:
    trial, times = result.trial, result.times
    last = result.measurements[-1] if result.measurements else None
    return {
        "trial": trial.number,
        "round": trial.round,
        "stage": trial.stage.value,
        "outcome": result.outcome.value,
        **(last.metrics if last else {}),
        "value": result.value,
        "given": trial.given,
        "origin": trial.origin,
        **{param_column(name): to_cell(space[name].domain, value) for name, value in trial.params.items()},
        "test_accuracy": result.test.get("accuracy"),
        "test_loss": result.test.get("loss"),
        "epochs": trial.epochs,
        "epochs_trained": last.epoch if last else 0,
        "seed": trial.seed,
        "learned_from": trial.learned_from,
        "confirms": trial.confirms,
        "parent": trial.parent,
        "parent_epoch": trial.parent_epoch,
        "failure": result.failure,
        "engine": result.engine,
        "device": result.device,
        "worker": result.worker,
        "node": result.node,
        "attempt": result.attempt,
        "queue_s": times.queue_s,
        "dispatch_s": times.dispatch_s,
        "setup_s": times.setup_s,
        "train_s": times.train_s,
        "record_s": times.record_s,
        "started": _utc(result.started),
        "ended": _utc(result.ended),
    }


def _schema(columns: Sequence[Column]) -> pa.Schema:
    return pa.schema([pa.field(c.name, _ARROW[c.type], nullable=c.optional) for c in columns])


def _utc(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
