"""A run as it is seen from elsewhere, through its run directory alone: what is recorded, and what its driver does."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from caviar.records.followed_trials import FollowedTrials
from caviar.records.frames import Run
from caviar.records.run_files import StudyFile
from caviar.records.status import Status
from caviar.reporting.standing import FINAL, Standing
from caviar.reporting.summary import worker_time
from caviar.trial import Outcome, Stage

COLUMNS = (
    "trial",
    "round",
    "stage",
    "outcome",
    "value",
    "failure",
    "queue_s",
    "dispatch_s",
    "setup_s",
    "train_s",
    "record_s",
)
RECENT = 1_000
"""Number of trials recorded last whose workers' time is looked at."""
MAX_FAILURES = 100
"""Largest number of failures that a view holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A run at one moment."""

    name: str
    metric: str
    driver: str | None
    """Process that holds the lock; None if none does: the study has ended, or its driver is dead."""
    is_finished: bool
    stage: str
    """Name of the stage that is under way."""
    standing: Standing
    outcomes: Mapping[str, int]
    """Number of recorded trials, by outcome."""
    training: float
    """Share of their time that workers trained, in the latest trials."""
    failures: tuple[tuple[int, str], ...]
    """Numbers and messages of the trials that failed last, the latest first."""
    status: Status | None
    """State that the driver left last, if it is this driver's."""
    status_age_s: float
    """Seconds since that state was first seen here."""
    took_s: float
    """Seconds that reading the run took."""

    @property
    def per_s(self) -> float:
        """The trials that this driver has recorded a second; 0 if it is unknown."""
        if self.status is None:
            return 0.0
        elapsed_s = self.status.elapsed_s + self.status_age_s
        recorded = sum(self.outcomes.values()) - self.status.recalled
        return recorded / elapsed_s if elapsed_s > 0 and recorded > 0 else 0.0

    @property
    def left_s(self) -> float:
        """The seconds left at this pace; infinite if it is unknown."""
        return max(0, self.standing.ahead) / self.per_s if self.per_s else math.inf


class Follower:
    """A reader of a run that another process writes, at the cost of what is new.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._trials = FollowedTrials(run, COLUMNS)
        self._holder = run.location.follow_holder()
        self._status: Status | None = None
        self._status_seen_at = 0.0

    def look(self) -> View:
        """Return the run as it is now.

        Raises:
            RunError: the run directory cannot be read.
        """
        began = time.monotonic()
        driver = self._holder()  # first: what a driver that has ended has recorded is then all there is
        status = self._read_status(driver) if driver else None
        trials = self._trials.read()
        study_file = StudyFile.read(self._run.location)  # it may be extended meanwhile
        phase = study_file.phases()[-1]
        standing = Standing(phase, study_file.maximize)
        standing.recall(trials)
        is_final = status is not None and any(t.stage == Stage.FINAL for t in status.trials)
        failed = trials.loc[trials["outcome"] == Outcome.FAILED, ["trial", "failure"]].tail(MAX_FAILURES)
        return View(
            name=str(self._run.study["name"]),
            metric=self._run.metric,
            driver=driver,
            is_finished=study_file.is_finished_by(trials),
            stage=FINAL if is_final else standing.current,
            standing=standing,
            outcomes={o: n for o in Outcome if (n := int((trials["outcome"] == o).sum()))},
            training=worker_time(trials.tail(RECENT))["training"],
            failures=tuple((int(n), str(why)) for n, why in failed.itertuples(index=False))[::-1],
            status=status,
            status_age_s=time.monotonic() - self._status_seen_at,
            took_s=time.monotonic() - began,
        )

    def _read_status(self, driver: str) -> Status | None:
        """Return the latest status of this driver; another one may have left its own."""
        status = Status.read(self._run.location)
        if status != self._status:
            self._status, self._status_seen_at = status, time.monotonic()
        return status if status is not None and status.driver == driver else None
