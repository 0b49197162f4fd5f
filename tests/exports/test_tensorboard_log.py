"""Log folders as TensorBoard's own readers see them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, get_experiment, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context

import caviar as cv
from caviar.columns import params_from_row, to_cell
from caviar.exports.tensorboard_log import TensorBoardExport
from caviar.records.frames import Run
from tests.exports.conftest import HOSTILE, STUDY
from tests.objectives import bowl_study
from tests.runs import resume_inline, run_inline, run_until_failure


@pytest.fixture(scope="module")
def log(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensorboard") / "log"
    assert TensorBoardExport(run, folder).update(run) == len(run.trials)
    return folder


@pytest.fixture(scope="module")
def experiment(log: Path) -> Any:
    """The backend of TensorBoard's table of hyperparameters."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(log))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(log))
    return Context(base_plugin.TBContext(logdir=str(log), data_provider=provider))


def session_groups(experiment: Any) -> list[Any]:
    request = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=1_000)
    request.allowed_statuses.extend(api_pb2.Status.values())
    handler = list_session_groups.Handler(RequestContext(), experiment, "", request)
    return list(handler.run().session_groups)


def folder_of(log: Path, row: Any) -> str:
    return f"{log}/{row['stage']}/trial-{row['trial']:06d}"


def test_curves_are_those_of_the_run(run: Run, log: Path) -> None:
    curves = dict(iter(run.curves.groupby("trial")))
    for row in run.trials.to_dict("records"):
        read = EventAccumulator(folder_of(log, row)).Reload()
        curve = curves.get(row["trial"], run.curves.head(0))
        for metric in run.metrics:
            finite = curve[np.isfinite(curve[metric])]
            points = read.Scalars(metric) if metric in read.Tags()["scalars"] else []
            assert [point.step for point in points] == finite["epoch"].tolist()
            assert [point.value for point in points] == finite[metric].astype("float32").tolist()


def test_failures_are_shown_as_text(run: Run, log: Path) -> None:
    row = run.trials[run.trials["outcome"] == "failed"].iloc[0]
    read = EventAccumulator(folder_of(log, row)).Reload()
    (event,) = read.Tensors("failure")
    assert event.tensor_proto.string_val[0].decode() == f"    {row['failure']}"
    assert HOSTILE[:20] in row["failure"]


def test_the_table_has_the_params_of_all_trials(run: Run, experiment: Any) -> None:
    groups = {group.name: group for group in session_groups(experiment)}
    search = run.trials[run.trials["stage"] == "search"]
    assert set(groups) == {f"trial {number}" for number in search["trial"]}
    for row in search.to_dict("records"):
        params = params_from_row(STUDY.space, row)
        shown = groups[f"trial {row['trial']}"].hparams
        assert set(shown) == set(params)
        for name, value in params.items():
            cell = to_cell(STUDY.space[name].domain, value)
            assert cell in (shown[name].number_value, shown[name].string_value, shown[name].bool_value)


def test_a_trial_and_its_confirmations_are_one_row(run: Run, experiment: Any) -> None:
    groups = {group.name: group for group in session_groups(experiment)}
    values = run.trials.set_index("trial")["value"]
    confirmations = run.trials[run.trials["stage"] == "confirmation"]
    for number, rows in confirmations.groupby(confirmations["confirms"].astype(int)):
        group = groups[f"trial {number}"]
        assert len(group.sessions) == len(rows) + 1
        shown = {metric.name.tag: metric.value for metric in group.metric_values}
        assert shown["score"] == pytest.approx(values[[number, *rows["trial"]]].mean(), rel=1e-5)


def test_failed_trials_have_the_status_of_failures(run: Run, experiment: Any) -> None:
    statuses = {
        session.name: session.status for group in session_groups(experiment) for session in group.sessions
    }
    rows = run.trials[run.trials["stage"] == "search"]
    for row in rows.to_dict("records"):
        is_failed = row["outcome"] in ("failed", "diverged")
        expected = api_pb2.STATUS_FAILURE if is_failed else api_pb2.STATUS_SUCCESS
        assert statuses[f"search/trial-{row['trial']:06d}"] == expected


def test_the_table_knows_the_ranges(experiment: Any) -> None:
    request = api_pb2.GetExperimentRequest()
    found = get_experiment.Handler(RequestContext(), experiment, "", request).run()
    infos = {info.name: info for info in found.hparam_infos}
    assert set(infos) == set(STUDY.space)
    assert infos["momentum"].domain_interval.max_value == 0.9999
    assert infos["rate"].type == api_pb2.DATA_TYPE_FLOAT64
    assert infos["flag"].type == api_pb2.DATA_TYPE_BOOL
    assert found.metric_infos[0].name.tag == "score"


def test_an_unfinished_run_is_exported_in_parts(tmp_path: Path) -> None:
    study = bowl_study(rounds=(12, 8))
    unfinished = run_until_failure(study, tmp_path)
    begun = TensorBoardExport(unfinished, tmp_path / "log").update(unfinished)
    assert 0 < begun < 20
    finished = resume_inline(study, unfinished.path)
    export = TensorBoardExport(finished, tmp_path / "log")
    assert begun + export.update(finished) == len(finished.trials)
    assert export.update(finished) == 0


def test_a_trial_without_times_or_curve_is_exported(run: Run, tmp_path: Path) -> None:
    lost = Run(run.location)
    lost.trials.loc[:, ["started", "ended"]] = pd.NaT
    assert TensorBoardExport(lost, tmp_path).update(lost) == len(lost.trials)


def test_other_folders_are_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "file").write_text("")
    other = run_inline(bowl_study(), tmp_path / "runs")
    TensorBoardExport(other, tmp_path / "log")
    for folder in (tmp_path, tmp_path / "file", tmp_path / "log"):
        with pytest.raises(cv.RunError):
            TensorBoardExport(run, folder)


@pytest.mark.slow
def test_neither_torch_nor_tensorflow_is_loaded() -> None:
    code = "import sys, caviar.exports.tensorboard_log; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "tensorflow", "ray", "optuna"} & set(loaded.stdout.split())
