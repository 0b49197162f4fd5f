"""A saved run as pandas frames: `caviar.load("runs/digits").trials` is a plain DataFrame, and so is all else."""

from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from caviar.columns import CIRCUMSTANCES
from caviar.errors import RunError
from caviar.records.ledger import to_frame
from caviar.records.run_files import StudyFile, read_rounds
from caviar.records.segments import open_tables
from caviar.records.winner import Best, read_best
from caviar.space import Space
from caviar.storage.local import Disk
from caviar.storage.location import Location
from caviar.storage.uri import locate
from caviar.trial import Stage


class Run:
    """What a study left; read once when first asked for, also while the study runs.

    Args:
        location: the run directory.

    Raises:
        RunError: not a run directory, or one of another version of caviar.

    Example:
        >>> run = load("runs/digits")  # doctest: +SKIP
        >>> run.trials.nlargest(3, "value")[["trial", "round", "value"]]  # doctest: +SKIP
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        """The run directory, on a disk or in a store."""
        self.study_file = StudyFile.read(location)
        """The content of `study.json`."""

    def __repr__(self) -> str:
        return f"Run({str(self.location)!r}, {'finished' if self.finished else 'unfinished'})"

    @property
    def path(self) -> Path:
        """The folder of the run directory.

        Raises:
            RunError: it is in an object store.
        """
        if not isinstance(self.location, Disk):
            raise RunError(
                f"{self.location} is no folder here: copy it by `caviar fetch {self.location.quoted}`"
            )
        return self.location.path

    @property
    def study(self) -> dict[str, Any]:
        """What was asked: objective, space, rounds, seed."""
        return self.study_file.study

    @property
    def space(self) -> Space:
        """The space that the study began with."""
        return self.study_file.space()

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the curves."""
        return self.study_file.metrics

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a finished trial, by trial: outcome, value, `params_<name>`, last metrics, times."""
        trials, _ = open_tables(self.location, self.study_file)
        return to_frame(trials.read()).sort_values("trial", ignore_index=True)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row a trial and epoch: losses, accuracy, learning rate. Only of trials that have a row."""
        _, segments = open_tables(self.location, self.study_file)
        curves = to_frame(segments.read())
        known = curves[curves["trial"].isin(self.trials["trial"])]
        return known.sort_values(["trial", "epoch"], ignore_index=True)

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """One row a round and parameter: where it is drawn, what was done to it, and why.

        `width` is the length of the stretch around a value of the elite, as a share of the whole range; `counts` says
        how the elite is spread, such as how many took each of a choice's `options`. Columns of one kind have Arrow
        types, as those of `trials` do; `options`, `counts` and `best` hold objects.
        """
        return read_rounds(self.location)

    @property
    def best(self) -> Best | None:
        """The winner; None until the study is finished."""
        return read_best(self.location / "best") if self.finished else None

    @property
    def finished(self) -> bool:
        """Whether the final trial is recorded, and so the winner handed over."""
        return bool((self.trials["stage"] == Stage.FINAL).any())


def load(path: str | Path) -> Run:
    """Open a saved run, finished or not.

    Args:
        path: its run directory, such as "runs/digits" or "s3://bucket/runs/digits".

    Returns:
        The run: `.trials`, `.curves`, `.rounds`, `.best`.

    Raises:
        RunError: not a run directory, or one of another version of caviar.
    """
    return Run(locate(path))


def reproducible(trials: pd.DataFrame) -> pd.DataFrame:
    """The columns that are the same in every run of a study, whatever trained it, where and how fast (law 1)."""
    return trials.drop(columns=list(CIRCUMSTANCES))
