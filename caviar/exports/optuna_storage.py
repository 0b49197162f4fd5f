"""Storages of Optuna, and adding thousands of trials to one at once.

Optuna adds trials one by one, which costs 2.4 ms a trial in a journal file and 20 ms in SQLite. Here they are written
together: in one append to the journal, or one transaction of the database.
"""

import json
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import optuna
from optuna.distributions import distribution_to_json
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from caviar.errors import CaviarError, RunError, one_line
from caviar.storage.uri import is_uri, without_password

_SQLITE: Final = b"SQLite format 3\x00"
"""First bytes of a file of SQLite."""


def open_storage(storage: str | Path | None) -> BaseStorage:
    """Open a storage, and create it if it does not exist.

    Args:
        storage: path of a journal file; URL of a database, such as "sqlite:///digits.db"; or None for one in memory.

    Raises:
        RunError: it cannot be opened.
    """
    if storage is None:
        return InMemoryStorage()
    if is_uri(storage):
        if (
            urlsplit(str(storage)).netloc.count("@") > 1
        ):  # the driver's message would show a part of the password
            raise RunError(f"{without_password(storage)}: write @ in a password as %40")
        return RDBStorage(str(storage))
    file = Path(storage).expanduser()
    if file.is_dir():
        raise RunError(f"{file} is a folder; name a file in it, such as {file / 'optuna.journal'}")
    if not file.parent.is_dir():
        raise RunError(f"{file}: the folder {file.parent} does not exist; create it first")
    if file.is_file() and file.open("rb").read(len(_SQLITE)) == _SQLITE:
        raise RunError(f"{file} is a database of SQLite; write it as sqlite:///{file}")
    return JournalStorage(_Journal(str(file)))


def add_trials(storage: BaseStorage, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
    """Add finished trials to a study; where its file or database fails, none of them.

    Args:
        storage: the study's storage, opened with `open_storage`.
        study: the study.
        trials: valid trials, whose own numbers are ignored.
    """
    if isinstance(storage, RDBStorage):
        _insert(storage, study._study_id, trials)
    elif isinstance(storage, JournalStorage):
        assert isinstance(storage._backend, _Journal)
        with storage._backend.gathered():
            study.add_trials(trials)
    else:
        study.add_trials(trials)


def read_attribute(storage: BaseStorage, study: optuna.Study, key: str) -> set[Any]:
    """Return the values of a user attribute over all trials of a study that have it."""
    if not isinstance(storage, RDBStorage):
        trials = study.get_trials(deepcopy=False)
        return {trial.user_attrs[key] for trial in trials if key in trial.user_attrs}
    from optuna.storages._rdb import models

    # Optuna would build each trial from five tables, which takes 30 times as long
    trials, attributes = models.TrialModel.__table__, models.TrialUserAttributeModel.__table__
    of_study = attributes.join(trials).select().where(trials.c.study_id == study._study_id)
    with storage.engine.connect() as connection:
        rows = connection.execute(of_study.where(attributes.c.key == key))
        return {json.loads(row.value_json) for row in rows}


@contextmanager
def storage_errors(place: str | Path | None) -> Iterator[None]:
    """Raise `RunError` where a storage fails: the errors of Optuna and of database drivers have no common base."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    except CaviarError:
        raise
    except Exception as error:
        raise RunError(
            f"{without_password(place)} cannot be used as a storage of Optuna: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    driver = error.__cause__
    if isinstance(error, ImportError) and isinstance(driver, ModuleNotFoundError) and driver.name:
        package = "'caviar[postgresql]'" if driver.name.startswith("psycopg") else driver.name
        return f"the package {driver.name} is not installed; install it with: pip install {package}"
    return one_line(error)


class _Journal(JournalFileBackend):
    """A journal file to which many entries can be appended at once."""

    _gathered: list[dict[str, Any]] | None = None
    _read = 0

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Append the entries that are written inside this at its end."""
        self._gathered, self._read = [], 0
        try:
            yield
            super().append_logs(self._gathered)
        finally:
            self._gathered = None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if self._gathered is None:
            super().append_logs(logs)
        else:
            self._gathered += logs

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        if self._gathered is None:
            yield from super().read_logs(log_number_from)
        else:
            read, self._read = self._read, len(self._gathered)
            yield from self._gathered[read:]


def _insert(storage: RDBStorage, study_id: int, trials: Sequence[FrozenTrial]) -> None:
    """Insert trials into the tables of a database in one transaction, as `RDBStorage` does with each."""
    from optuna.storages._rdb import models

    studies, table = models.StudyModel.__table__, models.TrialModel.__table__
    with storage.engine.begin() as connection:
        # The lock keeps other processes from giving the same numbers
        connection.execute(studies.select().where(studies.c.study_id == study_id).with_for_update())
        of_study = table.select().where(table.c.study_id == study_id)
        last = connection.execute(of_study.order_by(table.c.number.desc()).limit(1)).first()
        first = 0 if last is None else last.number + 1
        rows = [
            {
                "number": number,
                "study_id": study_id,
                "state": trial.state,
                "datetime_start": _utc(trial.datetime_start),
                "datetime_complete": _utc(trial.datetime_complete),
            }
            for number, trial in enumerate(trials, first)
        ]
        connection.execute(table.insert(), rows)
        inserted = connection.execute(of_study.where(table.c.number >= first).order_by(table.c.number))
        for model, rows in _rows(models, trials, [row.trial_id for row in inserted]):
            if rows:
                connection.execute(model.__table__.insert(), rows)


def _rows(
    models: Any, trials: Sequence[FrozenTrial], ids: Sequence[int]
) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """Yield each table that describes trials, and the rows of these trials in it."""
    numbered = list(zip(ids, trials, strict=True))
    texts = {id(d): distribution_to_json(d) for trial in trials for d in trial.distributions.values()}
    finite = models.TrialValueModel.TrialValueType.FINITE
    yield (
        models.TrialValueModel,
        [
            {"trial_id": trial_id, "objective": 0, "value": trial.value, "value_type": finite}
            for trial_id, trial in numbered
            if trial.value is not None
        ],
    )
    yield (
        models.TrialParamModel,
        [
            {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": trial.distributions[name].to_internal_repr(value),
                "distribution_json": texts[id(trial.distributions[name])],
            }
            for trial_id, trial in numbered
            for name, value in trial.params.items()
        ],
    )
    yield (
        models.TrialUserAttributeModel,
        [
            {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
            for trial_id, trial in numbered
            for key, value in trial.user_attrs.items()
        ],
    )
    finite = models.TrialIntermediateValueModel.TrialIntermediateValueType.FINITE
    yield (
        models.TrialIntermediateValueModel,
        [
            {
                "trial_id": trial_id,
                "step": step,
                "intermediate_value": value,
                "intermediate_value_type": finite,
            }
            for trial_id, trial in numbered
            for step, value in trial.intermediate_values.items()
        ],
    )


def _utc(local: datetime | None) -> datetime | None:
    """Return a local time in UTC without a zone, as the tables hold it."""
    return None if local is None else local.astimezone(UTC).replace(tzinfo=None)
