"""The columns of the trials and of the curves: fixed when a run begins, so that every segment has them."""

from collections.abc import Sequence

import pyarrow as pa

from caviar.columns import column, column_type, to_column
from caviar.space import Space
from caviar.trial import Result

_ARROW = {"bool": pa.bool_(), "int64": pa.int64(), "float64": pa.float64(), "string": pa.string()}
TIMES = ("queue_s", "dispatch_s", "setup_s", "train_s", "record_s")
CIRCUMSTANCES = ("engine", "device", "worker", "node", "attempt", *TIMES)
"""Where and how fast a trial was trained. All other columns are the same in every run of a study (law 1)."""

_FIRST = [
    ("trial", pa.int64()),
    ("round", pa.int64()),
    ("stage", pa.string()),
    ("outcome", pa.string()),
    ("value", pa.float64()),
]
_LAST = [
    ("test_accuracy", pa.float64()),
    ("test_loss", pa.float64()),
    ("epochs", pa.int64()),
    ("epochs_trained", pa.int64()),
    ("seed", pa.int64()),
    ("confirms", pa.int64()),
    ("failure", pa.string()),
    ("engine", pa.string()),
    ("device", pa.string()),
    ("worker", pa.string()),
    ("node", pa.string()),
    ("attempt", pa.int64()),
    *((time, pa.float64()) for time in TIMES),
]
RESERVED = frozenset({"epoch", *(name for name, _ in (*_FIRST, *_LAST))}) - {"value"}
"""What no metric can be called. (`value` it may be: that ranks.)"""


def trials_schema(space: Space, metrics: Sequence[str]) -> pa.Schema:
    """One row a finished trial; of each metric the last measurement. A metric may be called `value` itself."""
    return pa.schema(
        [
            *_FIRST,
            *((column(name), _ARROW[column_type(p.domain)]) for name, p in space.items()),
            *((metric, pa.float64()) for metric in metrics if metric != "value"),
            *_LAST,
        ]
    )


def curves_schema(metrics: Sequence[str]) -> pa.Schema:
    """One row a trial and epoch."""
    return pa.schema(
        [("trial", pa.int64()), ("epoch", pa.int64()), *((metric, pa.float64()) for metric in metrics)]
    )


def curves_table(results: Sequence[Result], schema: pa.Schema) -> pa.Table:
    """The measurements of some results."""
    metrics = schema.names[2:]
    points = [(result.trial.number, m) for result in results for m in result.measurements]
    columns: dict[str, list[object]] = {
        "trial": [number for number, _ in points],
        "epoch": [m.epoch for _, m in points],
    }
    for metric in metrics:
        columns[metric] = [m.metrics.get(metric) for _, m in points]
    return pa.table(columns, schema=schema)


def trials_table(results: Sequence[Result], space: Space, schema: pa.Schema, record_s: float) -> pa.Table:
    """The rows of some results; each is given `record_s`, its share of the work to record them."""
    rows = [_row(result, space, record_s) for result in results]
    return pa.Table.from_pylist(rows, schema=schema)


def _row(result: Result, space: Space, record_s: float) -> dict[str, object]:
    trial, times = result.trial, result.times
    last = result.measurements[-1] if result.measurements else None
    return {
        "trial": trial.number,
        "round": trial.round,
        "stage": trial.stage.value,
        "outcome": result.outcome.value,
        **(last.metrics if last else {}),
        "value": result.value,
        **{column(name): to_column(space[name].domain, value) for name, value in trial.params.items()},
        "test_accuracy": result.test.get("accuracy"),
        "test_loss": result.test.get("loss"),
        "epochs": trial.epochs,
        "epochs_trained": last.epoch if last else 0,
        "seed": trial.seed,
        "confirms": trial.confirms,
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
        "record_s": record_s,
    }
