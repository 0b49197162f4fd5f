"""Exports of a run to a study of Optuna, in memory, in a journal file or in a database."""

from functools import partial
from pathlib import Path
from typing import Any, Final

import optuna

from caviar.errors import RunError
from caviar.exports.export_lock import export_lock
from caviar.exports.optuna_storage import add_trials, open_storage, read_attribute, storage_errors
from caviar.exports.optuna_trials import NUMBER, optuna_trials
from caviar.exports.same_run import identity
from caviar.records.frames import Run
from caviar.storage.uri import without_password
from caviar.trial import Stage

optuna.logging.set_verbosity(optuna.logging.ERROR)  # it would log a line for each study
OptunaStudy = optuna.Study
"""Type of what an export to Optuna returns, for annotations in files that do not load Optuna."""
_RUN: Final = "caviar_run"
"""User attribute of a study that tells of which run it is an export."""
_BATCH: Final = 5_000
"""Number of trials that are converted and written together. It limits the memory of an export."""


class OptunaExport:
    """A study of Optuna to which the search trials of a run are added.

    Args:
        run: the run.
        storage: path of a journal file; URL of a database, such as "sqlite:///digits.db"; or None for a study in
            memory.
        name: name of the study; by default that of the run directory.

    Raises:
        RunError: the storage cannot be used, or its study of this name is not an export of this run.
    """

    def __init__(self, run: Run, storage: str | Path | None = None, name: str | None = None) -> None:
        self.place = without_password(storage)
        """Path or URL of the storage, without a password."""
        self.name = name or run.location.name
        """Name of the study."""
        self._lock = partial(export_lock, storage)
        with storage_errors(storage), self._lock():
            self._storage = open_storage(storage)
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=self.name,
                direction="maximize" if run.study_file.maximize else "minimize",
                load_if_exists=True,
            )
            owner = self._study.user_attrs.get(_RUN)
            is_fresh = owner is None and not self._study.get_trials(deepcopy=False)
        if not is_fresh and owner != identity(run):
            raise RunError(
                f"{self.place} already has a study {self.name}, which is not an export of {run.location}: "
                "choose another name for the study"
            )

    def update(self, run: Run) -> int:
        """Add the trials that the study lacks, and return their number."""
        with storage_errors(self.place), self._lock():
            known = read_attribute(self._storage, self._study, NUMBER)
            new = run.trials[(run.trials["stage"] == Stage.SEARCH) & ~run.trials["trial"].isin(known)]
            self._describe(run)
            for start in range(0, len(new), _BATCH):
                part = new.iloc[start : start + _BATCH]
                others = [metric for metric in run.metrics if metric != run.metric]
                curves = run.read_curves(part["trial"], run.metric)
                trials = optuna_trials(run.space, part, curves, metric=run.metric, others=others)
                add_trials(self._storage, self._study, trials)
        return len(new)

    def study(self) -> optuna.Study:
        """Return the study."""
        with storage_errors(self.place):
            return optuna.load_study(study_name=self.name, storage=self._storage)

    def _describe(self, run: Run) -> None:
        """Set the attributes of the study that have changed."""
        known = self._study.user_attrs
        if _RUN not in known:
            self._study.set_metric_names([run.metric])  # axes and tables show it
        for key, value in _study_attributes(run).items():
            if known.get(key) != value:
                self._study.set_user_attr(key, value)


def _study_attributes(run: Run) -> dict[str, Any]:
    """Return the user attributes of the study.

    Finished trials cannot be changed, so the confirmed values of the best trials, which are known later, stand here.
    """
    attributes: dict[str, Any] = {_RUN: identity(run)}
    confirmed = run.confirmed.dropna(subset="value")
    if not confirmed.empty:
        values = zip(confirmed["trial"], confirmed["value"], strict=True)
        attributes["confirmed"] = {str(trial): value for trial, value in values}
    if (best := run.best) is not None:
        attributes["winner"] = {
            "trial": best.trial,
            "value": best.value,
            "interval": None if best.interval is None else list(best.interval),
            "test_accuracy": best.test_accuracy,
        }
    return attributes
