"""Several watchers as one."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from caviar.driver.messages import Chunk
from caviar.driver.watcher import Watcher
from caviar.engine import Progress
from caviar.trial import Result, Trial

if TYPE_CHECKING:
    import pandas as pd

    from caviar.records.winner import Best
    from caviar.search.stages import StagePlan


class Watchers(Watcher):
    """A watcher that tells several others all that it is told. It does not enter or exit them."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def recalled(self, trials: "pd.DataFrame") -> None:
        for watcher in self._watchers:
            watcher.recalled(trials)

    def opened(self, plan: "StagePlan", done: int) -> None:
        for watcher in self._watchers:
            watcher.opened(plan, done)

    def recorded(self, results: list[Result]) -> None:
        for watcher in self._watchers:
            watcher.recorded(results)

    def measured(self, progress: Sequence[Progress]) -> None:
        for watcher in self._watchers:
            watcher.measured(progress)

    def failed(self, trial: Trial, failure: str) -> None:
        for watcher in self._watchers:
            watcher.failed(trial, failure)

    def waited(self, running: Mapping[str, Sequence[Chunk]]) -> None:
        for watcher in self._watchers:
            watcher.waited(running)

    def handed_over(self, best: "Best") -> None:
        for watcher in self._watchers:
            watcher.handed_over(best)

    def stopping(self) -> None:
        for watcher in self._watchers:
            watcher.stopping()
