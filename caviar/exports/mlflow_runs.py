"""Exports to MLflow: an experiment for the run, and in it a run for each trial.

    params        parameters; options of a mixed choice as JSON, so that 2 and "2" differ
    curves        metrics by epoch, where they are finite
    outcome       FINISHED if completed, KILLED if stopped, FAILED if diverged or failed
    test scores   metrics test_accuracy and test_loss of the final trial
    the rest      tags caviar.trial, caviar.stage, caviar.failure and others

MLflow takes trials one by one, in three requests each: thousands take minutes.

MLflow allows few characters in the names of parameters and metrics; all others become "_". The tag caviar.names of the
experiment has the names before.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any, Final

import pandas as pd

from caviar.columns import param_column
from caviar.errors import CaviarError, RunError
from caviar.exports.export_lock import export_lock
from caviar.exports.same_run import identity
from caviar.optional_packages import packages_of
from caviar.records.frames import Run
from caviar.space import Space
from caviar.storage.uri import is_uri, without_password
from caviar.trial import Outcome

for _name, _setting in (
    ("MLFLOW_DISABLE_TELEMETRY", "true"),
    ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),  # two lines for each trial
    ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3"),  # of minutes of waiting for a server that is down
):
    os.environ.setdefault(_name, _setting)
with packages_of("mlflow"):
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, ViewType

_RUN: Final = "caviar.run"
"""Tag of the experiment that tells of which run it is an export."""
_NAMES: Final = "caviar.names"
"""Tag of the experiment with the names that MLflow does not allow, by those that stand for them."""
_TRIAL: Final = "caviar.trial"
"""Tag with the number of the trial."""
_TAGS: Final = (
    "trial",
    "round",
    "stage",
    "outcome",
    "seed",
    "epochs_trained",
    "confirms",
    "worker",
    "failure",
)
"""Columns that become tags."""
_TEST_SCORES: Final = ("test_accuracy", "test_loss")
_STATUS: Final = {
    Outcome.COMPLETED: "FINISHED",
    Outcome.STOPPED: "KILLED",
    Outcome.DIVERGED: "FAILED",
    Outcome.FAILED: "FAILED",
}
_MAX_KEY_CHARS: Final = 60
_MAX_TEXT_CHARS: Final = 6_000
"""Length at which MLflow refuses or cuts a parameter's value."""
_BATCH: Final = 1_000
"""Number of trials whose curves are read together. It limits the memory of an export."""
_MAX_MESSAGE_CHARS: Final = 700
_REQUESTS: Final = 8
"""Number of trials that are sent to a server at the same time."""


class MlflowExport:
    """An experiment of MLflow to which the trials of a run are added.

    Args:
        run: the run.
        tracking: URL of a tracking server or of a database, or path of a folder; by default what the environment
            variable MLFLOW_TRACKING_URI says, as for MLflow itself.
        name: name of the experiment; by default that of the run directory.

    Raises:
        RunError: MLflow refuses, or its experiment of this name is not an export of this run.
        MissingPackageError: MLflow is not installed.
    """

    def __init__(self, run: Run, tracking: str | Path | None = None, name: str | None = None) -> None:
        uri = None if tracking is None else str(tracking)
        if uri is not None and not is_uri(uri):
            uri = Path(uri).expanduser().resolve().as_uri()
        self.name = name or run.location.name
        """Name of the experiment."""
        self._keys = mlflow_keys([*run.space, *run.metrics])
        self._lock = partial(export_lock, uri or os.environ.get("MLFLOW_TRACKING_URI", "mlflow"))
        with _errors_as_run_errors(without_password(uri or "its default place")), self._lock():
            self._client = MlflowClient(tracking_uri=uri)
            self.place = without_password(self._client.tracking_uri)
            """URL of the tracking server, without a password."""
            self.experiment_id = self._open(run)
            """ID of the experiment."""
        self._trials: int | None = None

    def update(self, run: Run) -> int:
        """Add the trials that the experiment lacks, and return their number."""
        if len(run.trials) == self._trials:  # else all that is there is looked up
            return 0
        requests = _REQUESTS if self.place.startswith("http") else 1  # files and SQLite have one writer
        with (
            _errors_as_run_errors(self.place),
            self._lock(),
            ThreadPoolExecutor(requests) as pool,
        ):
            new = run.trials[~run.trials["trial"].isin(self._find_trials())]
            for start in range(0, len(new), _BATCH):
                rows = new.iloc[start : start + _BATCH]
                curves = run.read_curves(rows["trial"])
                of_trial, none = dict(iter(curves.groupby("trial"))), curves.head(0)
                trials = [(row, of_trial.get(row["trial"], none)) for row in rows.to_dict("records")]
                for _ in pool.map(lambda trial: self._add(run, *trial), trials):
                    pass
        self._trials = len(run.trials)
        return len(new)

    def _open(self, run: Run) -> str:
        """Return the ID of the experiment, which is created if there is none."""
        tag = json.dumps(identity(run))
        found = self._client.get_experiment_by_name(self.name)
        if found is None:
            names = {key: name for name, key in self._keys.items() if key != name}
            tags = {_RUN: tag, _NAMES: json.dumps(names)[:_MAX_TEXT_CHARS]}
            return self._client.create_experiment(self.name, tags=tags)
        if found.tags.get(_RUN) != tag:
            raise RunError(
                f"{self.place} already has an experiment {self.name}, which is not an export of {run.location}: "
                "choose another name for the experiment"
            )
        return found.experiment_id

    def _find_trials(self) -> set[int]:
        """Return the numbers of the trials that are there, and delete the one that a killed export left unfinished."""
        known, token = set(), None
        while True:
            page = self._client.search_runs(
                [self.experiment_id], run_view_type=ViewType.ALL, max_results=1_000, page_token=token
            )
            for found in page:
                if found.info.status != "RUNNING":
                    known.add(int(found.data.tags.get(_TRIAL, -1)))
                elif _TRIAL in found.data.tags and found.info.lifecycle_stage == "active":
                    self._client.delete_run(found.info.run_id)
            token = page.token
            if not token:
                return known

    def _add(self, run: Run, row: Mapping[Any, Any], curve: pd.DataFrame) -> None:
        """Add a trial."""
        ended = row["ended"] if pd.notna(row["ended"]) else pd.Timestamp(run.study_file.created)
        started = row["started"] if pd.notna(row["started"]) else ended
        ended_ms, started_ms = (int(time.timestamp() * 1_000) for time in (ended, started))
        added = self._client.create_run(
            self.experiment_id, started_ms, _tags(row), f"{row['stage']} trial {row['trial']}"
        )
        self._client.log_batch(
            added.info.run_id,
            params=[Param(self._keys[name], text) for name, text in _params(run.space, row)],
            metrics=[
                Metric(self._keys.get(name, name), value, ended_ms, step)
                for name, value, step in _metrics(run.metrics, row, curve)
            ],
        )
        self._client.set_terminated(added.info.run_id, _STATUS[row["outcome"]], ended_ms)


def mlflow_keys(names: Iterable[str]) -> dict[str, str]:
    """Return the keys in MLflow of parameters and metrics: different ones, of letters, digits and `_`, `-`, `.`, space.

    Example:
        >>> mlflow_keys(["rate", "a/b", "a:b"])
        {'rate': 'rate', 'a/b': 'a_b', 'a:b': 'a_b 2'}
    """
    keys: dict[str, str] = {}
    for name in names:
        if name not in keys:
            plain = re.sub(r"[^\w.\- ]|^\.+$", "_", name)[:_MAX_KEY_CHARS]
            copies = (f"{plain} {number}" for number in count(2))
            keys[name] = next(key for key in chain([plain], copies) if key not in keys.values())
    return keys


def _params(space: Space, row: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and value of each parameter that applies."""
    for name in space:
        cell = row[param_column(name)]
        if pd.notna(cell):
            yield name, str(cell)[:_MAX_TEXT_CHARS]


def _metrics(
    metrics: Iterable[str], row: Mapping[Any, Any], curve: pd.DataFrame
) -> Iterator[tuple[str, float, int]]:
    """Yield the name, value and epoch of each finite measurement, and the test scores."""
    epochs = curve["epoch"].tolist()
    for name in metrics:
        for epoch, value in zip(epochs, curve[name].tolist(), strict=True):
            if math.isfinite(value):
                yield name, value, epoch
    for name in _TEST_SCORES:
        if math.isfinite(row[name]):
            yield name, row[name], row["epochs_trained"]


def _tags(row: Mapping[Any, Any]) -> dict[str, str]:
    """Return what else the row says, without empty cells."""
    cells = {name: row[name] for name in _TAGS if pd.notna(row[name])}
    return {
        f"caviar.{name}": f"{cell:.0f}" if isinstance(cell, float) else str(cell)
        for name, cell in cells.items()
    }


@contextmanager
def _errors_as_run_errors(place: str) -> Iterator[None]:
    """Raise `RunError` where MLflow or its server refuses."""
    try:
        yield
    except CaviarError:
        raise
    except Exception as error:  # those of its stores have no common base
        message = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(f"MLflow at {place}: {message[:_MAX_MESSAGE_CHARS]}") from error
