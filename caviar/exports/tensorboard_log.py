"""Exports to a log folder of TensorBoard.

    events.out.tfevents.caviar                          the hyperparameters and metrics of the study
    search/trial-000012/events.out.tfevents.caviar      params, curves and outcome of trial 12
    confirmation/trial-000510/...                       likewise of a confirmation trial
    final/trial-000540/...                              curves of the winner's last training
    caviar.json                                         the run that this is a copy of

In the table of hyperparameters, a trial and those that confirm it are one row, with the mean of their values.
"""

import json
import os
from pathlib import Path
from typing import Final

import pandas as pd

from caviar.errors import RunError
from caviar.exports.export_lock import export_lock
from caviar.exports.same_run import identity
from caviar.exports.tensorboard_events import event_file, study_events, trial_events
from caviar.records.frames import Run

_EVENTS: Final = "events.out.tfevents.caviar"
_OWNER: Final = "caviar.json"
_BATCH: Final = 5_000
"""Number of trials whose curves are read together. It limits the memory of an export."""


class TensorBoardExport:
    """A log folder of TensorBoard to which the trials of a run are added.

    Args:
        run: the run.
        folder: path of the folder; it is created.

    Raises:
        RunError: the folder cannot be used, or holds something else than an export of this run.
        MissingPackageError: TensorBoard is not installed.
    """

    def __init__(self, run: Run, folder: str | Path) -> None:
        self._folder = Path(folder).expanduser()
        self.place = str(folder)
        """Path of the folder."""
        owner = self._folder / _OWNER
        try:
            with export_lock(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
                if not any(self._folder.iterdir()):
                    owner.write_text(json.dumps(identity(run)))
                is_same = owner.is_file() and json.loads(owner.read_text()) == identity(run)
        except (OSError, ValueError) as error:
            raise RunError(f"{folder} cannot be used as a log folder: {error}") from error
        if not is_same:
            raise RunError(f"{folder} is no export of {run.location}: choose another folder")

    def update(self, run: Run) -> int:
        """Add the trials that the folder lacks, and return their number."""
        try:
            with export_lock(self._folder):
                return self._add(run)
        except OSError as error:
            raise RunError(f"{self.place} cannot be written: {error}") from error

    def _add(self, run: Run) -> int:
        folders = [
            self._folder / stage / f"trial-{trial:06d}"
            for stage, trial in zip(run.trials["stage"], run.trials["trial"], strict=True)
        ]
        new = [place for place, folder in enumerate(folders) if not (folder / _EVENTS).is_file()]
        space = run.space
        metrics = [run.metric, *(metric for metric in run.metrics if metric != run.metric)]
        created = pd.Timestamp(run.study_file.created)
        _write(self._folder, event_file(study_events(space, metrics, created)))
        for start in range(0, len(new), _BATCH):
            places = new[start : start + _BATCH]
            rows = run.trials.iloc[places]
            curves = run.read_curves(rows["trial"])
            of_trial, none = dict(iter(curves.groupby("trial"))), curves.head(0)
            for place, row in zip(places, rows.to_dict("records"), strict=True):
                curve = of_trial.get(row["trial"], none)
                events = trial_events(space, metrics, row, curve)  # type: ignore[arg-type]
                _write(folders[place], event_file(events))
        return len(new)


def _write(folder: Path, content: bytes) -> None:
    """Write the event file of a folder, which TensorBoard sees whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / ".new"
    new.write_bytes(content)
    os.replace(new, folder / _EVENTS)
