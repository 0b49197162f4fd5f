"""The events that TensorBoard reads: curves, hyperparameters and failures of trials."""

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import pandas as pd

from caviar.columns import column_type, param_column, to_cell
from caviar.optional_packages import packages_of
from caviar.space import Choice, Domain, Space
from caviar.trial import Outcome, Stage

with packages_of("tensorboard"):
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.api_pb2 import Experiment, HParamInfo, MetricInfo, MetricName, Status
    from tensorboard.plugins.hparams.plugin_data_pb2 import (
        HParamsPluginData,
        SessionEndInfo,
        SessionStartInfo,
    )
    from tensorboard.plugins.text.metadata import create_summary_metadata as text_metadata
    from tensorboard.summary.writer.record_writer import RecordWriter
    from tensorboard.util.tensor_util import make_tensor_proto

_TYPES: Final = {"bool": "DATA_TYPE_BOOL", "string": "DATA_TYPE_STRING"}
"""Types of hyperparameters, by type of their column; all others are numbers."""
FAILURE: Final = "failure"
"""Tag of the text that says why a trial failed or diverged."""


def study_events(space: Space, metrics: Sequence[str], created: pd.Timestamp) -> list[Event]:
    """Return the events of the whole study: its hyperparameters with their ranges, and its metrics.

    Args:
        space: the space that the study declares.
        metrics: the metrics of the curves; the first column of the table has the first of them.
        created: the time at which the run was begun.
    """
    experiment = Experiment(
        time_created_secs=created.timestamp(),
        hparam_infos=[_hparam_info(name, parameter.domain) for name, parameter in space.items()],
        metric_infos=[MetricInfo(name=MetricName(tag=metric)) for metric in metrics],
    )
    return [_hparams_event(metadata.EXPERIMENT_TAG, created, HParamsPluginData(experiment=experiment))]


def trial_events(
    space: Space, metrics: Sequence[str], row: Mapping[str, Any], curve: pd.DataFrame
) -> Iterator[Event]:
    """Yield the events of one trial.

    The final trial has no hyperparameters: it may learn from the dev split too, so that its values compare to no other.

    Args:
        space: the space that the study declares.
        metrics: the metrics of the curves.
        row: its row of `Run.trials`.
        curve: its rows of `Run.curves`.
    """
    ended = row["ended"] if pd.notna(row["ended"]) else pd.Timestamp(0, tz="UTC")
    started = row["started"] if pd.notna(row["started"]) else ended
    if row["stage"] != Stage.FINAL:
        group = row["trial"] if pd.isna(row["confirms"]) else row["confirms"]
        start = SessionStartInfo(group_name=f"trial {group:.0f}", start_time_secs=started.timestamp())
        for name in space:
            cell = row[param_column(name)]
            if pd.notna(cell):
                _set(start.hparams[name], cell)
        yield _hparams_event(
            metadata.SESSION_START_INFO_TAG, started, HParamsPluginData(session_start_info=start)
        )
    columns = [curve[metric].tolist() for metric in metrics]
    for epoch, *values in zip(curve["epoch"].tolist(), *columns, strict=True):
        points = [
            Summary.Value(tag=metric, simple_value=value)
            for metric, value in zip(metrics, values, strict=True)
            if math.isfinite(value)
        ]
        yield Event(wall_time=ended.timestamp(), step=epoch, summary=Summary(value=points))
    if isinstance(row["failure"], str):
        text = make_tensor_proto([f"    {row['failure']}".encode()])  # indented: Markdown shows it as it is
        value = Summary.Value(tag=FAILURE, metadata=text_metadata(FAILURE, ""), tensor=text)
        yield Event(wall_time=ended.timestamp(), summary=Summary(value=[value]))
    if row["stage"] != Stage.FINAL:
        is_failed = row["outcome"] in (Outcome.FAILED, Outcome.DIVERGED)
        status = Status.Value("STATUS_FAILURE" if is_failed else "STATUS_SUCCESS")
        end = SessionEndInfo(status=status, end_time_secs=ended.timestamp())
        yield _hparams_event(metadata.SESSION_END_INFO_TAG, ended, HParamsPluginData(session_end_info=end))


def event_file(events: Iterable[Event]) -> bytes:
    """Return the content of an event file."""
    stream = io.BytesIO()
    writer = RecordWriter(stream)
    writer.write(Event(file_version="brain.Event:2").SerializeToString())
    for event in events:
        writer.write(event.SerializeToString())
    return stream.getvalue()


def _hparam_info(name: str, domain: Domain) -> HParamInfo:
    kind = column_type(domain)
    info = HParamInfo(name=name, type=_TYPES.get(kind, "DATA_TYPE_FLOAT64"))
    if isinstance(domain, Choice):
        for option in domain.options:
            _set(info.domain_discrete.values.add(), to_cell(domain, option))  # noqa: PD011, it is protobuf
    else:
        info.domain_interval.min_value, info.domain_interval.max_value = domain.low, domain.high
    return info


def _set(value: Any, cell: Any) -> None:
    """Set a protobuf value to a cell of a column."""
    if isinstance(cell, str):
        value.string_value = cell
    elif isinstance(cell, bool):
        value.bool_value = cell
    else:
        value.number_value = cell


def _hparams_event(tag: str, time: pd.Timestamp, data: HParamsPluginData) -> Event:
    value = Summary.Value(
        tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR
    )
    return Event(wall_time=time.timestamp(), summary=Summary(value=[value]))
