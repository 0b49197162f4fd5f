"""Observers of a study's progress. Importing this loads no pandas."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

from caviar.driver.messages import Chunk
from caviar.engine import Progress
from caviar.trial import Result, Trial

if TYPE_CHECKING:
    import pandas as pd

    from caviar.records.winner import Best
    from caviar.search.stages import StagePlan


class Watcher:
    """Observer of a study's progress. This one does nothing; subclasses show it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Do nothing."""

    def recalled(self, trials: "pd.DataFrame") -> None:
        """Note the trials of a resumed run that are recorded already."""

    def opened(self, plan: "StagePlan", done: int) -> None:
        """Note that a stage begins, `done` of whose trials are recorded already."""

    def recorded(self, results: list[Result]) -> None:
        """Note that results are durable."""

    def measured(self, progress: Sequence[Progress]) -> None:
        """Note the latest measurements of long trials; some are skipped."""

    def failed(self, trial: Trial, failure: str) -> None:
        """Note that a trial has failed. This may be called twice for a trial, and its result is recorded later."""

    def waited(self, running: Mapping[str, Sequence[Chunk]]) -> None:
        """Note that time has passed; each live worker trains the first of its chunks, if it has any."""

    def handed_over(self, best: "Best") -> None:
        """Note the winner, whose network is written; its final training is recorded next."""

    def stopping(self) -> None:
        """Note that the user wants to stop, and that the running trials are finished first."""
