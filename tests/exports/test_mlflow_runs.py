"""Experiments as MLflow's own client reads them: of a local file store, and of a real server."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.utils.validation import _validate_metric_name, _validate_param_name

import caviar as cv
from caviar.columns import param_column
from caviar.exports.mlflow_runs import MlflowExport, mlflow_keys
from caviar.records.frames import Run
from tests.exports.conftest import HOSTILE
from tests.objectives import bowl_study
from tests.ports import free_port
from tests.runs import resume_inline, run_inline, run_until_failure

STATUSES = {"completed": "FINISHED", "stopped": "KILLED", "diverged": "FAILED", "failed": "FAILED"}


@pytest.fixture(scope="module", autouse=True)
def file_store() -> Iterator[None]:
    """Let MLflow write to folders, which it does only if asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        yield


@pytest.fixture(scope="module")
def folder(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mlflow")
    assert MlflowExport(run, folder).update(run) == len(run.trials)
    return folder


def read(tracking: str, name: str) -> dict[int, MlflowRun]:
    """Return the runs of an experiment by number of trial."""
    client = MlflowClient(tracking_uri=tracking)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1_000)
    found = {int(run.data.tags["caviar.trial"]): run for run in runs}
    assert len(found) == len(runs)
    return found


def assert_equal(run: Run, tracking: str) -> None:
    """Assert that an experiment has the trials of a run."""
    client, found, keys = (
        MlflowClient(tracking_uri=tracking),
        read(tracking, "exported"),
        mlflow_keys(run.space),
    )
    assert set(found) == set(run.trials["trial"])
    for row in run.trials.to_dict("records"):
        there = found[row["trial"]]
        assert there.info.status == STATUSES[row["outcome"]]
        cells = {name: row[param_column(name)] for name in run.space}
        assert there.data.params == {keys[name]: str(c) for name, c in cells.items() if pd.notna(c)}
        assert there.data.tags["caviar.stage"] == row["stage"]
        assert there.data.tags["caviar.seed"] == str(row["seed"])
        assert there.data.tags.get("caviar.failure") == (row["failure"] if pd.notna(row["failure"]) else None)
        assert there.info.start_time == int(row["started"].timestamp() * 1_000)
    for number in run.trials["trial"].iloc[:5]:
        curve = run.curves[(run.curves["trial"] == number) & np.isfinite(run.curves["score"])]
        points = client.get_metric_history(found[number].info.run_id, "score")
        assert {(p.step, p.value) for p in points} == set(zip(curve["epoch"], curve["score"], strict=True))


def test_a_file_store_has_all_trials(run: Run, folder: Path) -> None:
    assert_equal(run, folder.as_uri())


def test_names_that_mlflow_refuses_are_replaced(run: Run, folder: Path) -> None:
    experiment = MlflowClient(tracking_uri=folder.as_uri()).get_experiment_by_name("exported")
    assert experiment is not None
    names = json.loads(experiment.tags["caviar.names"])
    assert {HOSTILE, "%loss </script>"} == set(names.values())
    odd = [HOSTILE, "..", ".", "/", "a//b", "a_/b", "ü" * 200, "x" * 200, "x" * 199, " ", "%", "&"]
    keys = mlflow_keys(odd)
    assert len(set(keys.values())) == len(odd)
    for key in keys.values():
        _validate_param_name(key)  # type: ignore[no-untyped-call]
        _validate_metric_name(key)  # type: ignore[no-untyped-call]


def test_an_export_repeated_adds_no_trial_twice(run: Run, folder: Path) -> None:
    assert MlflowExport(run, folder).update(run) == 0


def test_a_trial_that_was_left_unfinished_is_added_again(run: Run, folder: Path) -> None:
    client, before = MlflowClient(tracking_uri=folder.as_uri()), read(folder.as_uri(), "exported")
    client.delete_run(before[3].info.run_id)
    assert MlflowExport(run, folder).update(run) == 0  # the user deleted it
    client.restore_run(before[3].info.run_id)
    client.update_run(before[3].info.run_id, status="RUNNING")
    assert MlflowExport(run, folder).update(run) == 1
    assert set(read(folder.as_uri(), "exported")) == set(before)


@pytest.mark.slow
def test_an_unfinished_run_is_exported_in_parts(tmp_path: Path) -> None:
    study = bowl_study(rounds=(12, 8))
    unfinished = run_until_failure(study, tmp_path)
    begun = MlflowExport(unfinished, tmp_path / "mlflow").update(unfinished)
    assert 0 < begun < 20
    finished = resume_inline(study, unfinished.path)
    assert begun + MlflowExport(finished, tmp_path / "mlflow").update(finished) == len(finished.trials)


def test_experiments_of_others_are_refused(run: Run, folder: Path, tmp_path: Path) -> None:
    other = run_inline(bowl_study(), tmp_path)
    with pytest.raises(cv.RunError, match="not an export"):
        MlflowExport(other, folder, "exported")
    assert MlflowExport(other, folder).update(other) == len(other.trials)


def test_what_mlflow_refuses_is_one_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    with pytest.raises(cv.RunError, match="MLFLOW_ALLOW_FILE_STORE"):
        MlflowExport(run, tmp_path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real tracking server, on the loopback interface."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    url = f"http://127.0.0.1:{port}"
    command = f"server --backend-store-uri sqlite:///{folder}/mlflow.db --port {port} --workers 1"
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *command.split(), "--artifacts-destination", folder],
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        cwd=folder,
        stdout=(folder / "log").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{url}/health").close()
                break
            except urllib.error.URLError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.5)
        yield url
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


@pytest.mark.slow
def test_a_server_has_all_trials(run: Run, server: str) -> None:
    assert MlflowExport(run, server).update(run) == len(run.trials)
    assert MlflowExport(run, server).update(run) == 0
    assert_equal(run, server)


@pytest.mark.slow
def test_a_server_that_is_down_is_named_soon(run: Run) -> None:
    with pytest.raises(cv.RunError, match=r"127\.0\.0\.1:1"):
        MlflowExport(run, "http://me:secret@127.0.0.1:1")
