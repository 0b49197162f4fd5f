"""Measurement of what trials cost: some of a study's first draws are trained on its workers, and timed.

The first trial of each worker pays for what a process does once, such as compiling, so it is timed apart. A trial that
would take too long is trained for a few epochs, if the objective can stop there, and its reports tell the seconds of an
epoch from those of its start. All workers measure at the same time: cores that share caches slow each other down, as
they do in the study.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import pandas as pd

from caviar.data.splits import Dataset, Split
from caviar.driver.backend import Backend, BackendEvent, Measured, TrialFailed
from caviar.driver.messages import ChunkDone, Task, WorkerJoined, WorkerLost
from caviar.search.region import Region
from caviar.search.sampling import draw_params
from caviar.search.stages import open_stage, trial_seed
from caviar.study import Study
from caviar.trial import Outcome, Result, Trial

ENOUGH_TRIALS = 150
"""Number of whole trials after which little is gained by measuring more."""
LEAST_S = 6.0
"""Seconds that are measured even so, because a machine's speed varies from one second to the next."""
MAX_TRIALS = 400
"""Largest number of trials to train."""
MEASURE_S = 15.0
"""Seconds after which no trial begins, unless the caller says otherwise."""
JOIN_S = 10.0
"""Seconds after the first worker in which one must join that trains one trial at a time."""
ENOUGH_FAILURES = 20
"""Number of failed trials after which no other begins, if none has ended otherwise."""
MAX_LOSSES = 3
"""Number of workers that may be lost before measuring ends."""
SOME_EPOCHS = 2
"""Epochs of each worker's first trial, if its trials can pause."""
POLL_S = 0.1
"""Longest wait for workers, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedPart:
    """A trial that was trained for some or all of its epochs, and the seconds that this took."""

    trial: Trial
    predicted_s: float
    """Seconds that the objective predicts for the whole trial; only ratios count."""
    epochs: int
    """Epochs that it was trained for."""
    took_s: float
    """Seconds of its worker's time."""
    later_epochs: int = 0
    """Number of those epochs after its first report; 0 if it reported once."""
    later_s: float = 0.0
    """Seconds from its first report to its end."""
    message_s: float = 0.0
    """Seconds from its submission to its result in which its worker did not train it."""
    began_s: float = 0.0
    """Seconds from when the first worker was ready to its submission."""
    is_first: bool = False
    """True for the first trial of its worker, which pays for what the process does once."""
    is_whole: bool = True
    """True if it ended by itself, after its last epoch or before."""
    outcome: Outcome | None = None
    """The way it ended; None if it was still running when measuring ended."""
    value: float | None = None
    failure: str | None = None
    """Description in one line of why it failed or diverged, or of how its worker was lost."""
    reports: int = 1
    """Number of its measurements."""

    @property
    def share(self) -> float:
        """The share of its epochs that it was trained for; 1 for a trial that ended by itself."""
        return 1.0 if self.is_whole else self.epochs / self.trial.epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The timed parts of trials, and how they were measured."""

    parts: tuple[TimedPart, ...]
    start_s: float
    """Seconds until the first worker was ready."""
    took_s: float
    """Seconds from then to the end of measuring."""
    workers: int
    """Number of workers that measured."""
    devices: tuple[str, ...] = ("cpu",)
    """Device of each live worker."""

    @property
    def all_failed(self) -> bool:
        """True if trials were tried and none ended otherwise."""
        return bool(self.parts) and all(part.outcome is Outcome.FAILED for part in self.parts)

    @property
    def failures(self) -> list[str]:
        """The different failures, the most frequent first."""
        found = pd.Series([part.failure for part in self.parts if part.outcome is Outcome.FAILED])
        return [str(failure) for failure in found.value_counts().index]


@dataclass(slots=True)
class _Running:
    """A part of a trial in training."""

    worker: str
    trial: Trial
    until: int
    predicted_s: float
    began_s: float
    is_first: bool
    reported: dict[int, float] = field(default_factory=dict)
    """Time of the arrival of each epoch's report."""


class Measuring:
    """A measurement on the workers of a backend. Afterwards these train the study as if nothing had happened.

    Args:
        study: the study; some of its first draws are trained.
        dataset: what its objective loads.
        backend: the workers.
        limit_s: seconds after which no trial begins, from when the first worker is ready.
        wait_s: seconds after which a trial that has not ended is waited for no longer.
    """

    def __init__(
        self, study: Study, dataset: Dataset | None, backend: Backend, limit_s: float, wait_s: float
    ) -> None:
        self._study, self._dataset, self._backend = study, dataset, backend
        self._limit_s, self._wait_s = limit_s, max(limit_s, wait_s)
        self._draws = _draw_trials(study)
        self._joined: dict[str, WorkerJoined] = {}
        self._running: dict[int, _Running] = {}
        self._parts: list[TimedPart] = []
        self._has_trained: set[str] = set()
        self._chunks = 0
        self._losses = 0
        self._first_s = math.nan

    def run(self) -> Measurement:
        """Measure, and return what was found."""
        started_s = self._backend.clock()
        while True:
            for event in self._backend.poll(POLL_S):
                self._take(event)
            now_s = self._backend.clock()
            if math.isnan(self._first_s):
                if self._losses > MAX_LOSSES:
                    break
                continue
            if now_s - self._first_s > self._wait_s:
                self._abandon(now_s)
                break
            if not self._has_trained and now_s - self._first_s > JOIN_S:
                break
            busy = {running.worker for running in self._running.values()}
            idle = [name for name, joined in self._joined.items() if joined.lanes == 1 and name not in busy]
            for worker in idle:
                self._give(worker, now_s)
            if not self._running and self._has_trained:
                break
        ended_s = self._backend.clock()
        first_s = ended_s if math.isnan(self._first_s) else self._first_s
        return Measurement(
            parts=tuple(self._parts),
            start_s=first_s - started_s,
            took_s=ended_s - first_s,
            workers=len(self._has_trained),
            devices=tuple(joined.device for joined in self._joined.values()),
        )

    def workers(self) -> Backend:
        """Return the workers for the study: those that have joined are announced to it."""
        return _JoinedWorkers(self._backend, tuple(self._joined.values()))

    def _take(self, event: BackendEvent) -> None:
        now_s = self._backend.clock()
        match event:
            case WorkerJoined(worker):
                self._joined[worker] = event
                if math.isnan(self._first_s):
                    self._first_s = now_s
            case Measured(_, progress):
                latest = {each.trial: each.measurement.epoch for each in progress}  # the others came earlier
                for running in self._running.values():
                    if running.trial.number in latest:
                        running.reported.setdefault(latest[running.trial.number], now_s)
            case ChunkDone(_, chunk, results):
                if chunk in self._running:  # else its worker was lost
                    self._parts.append(_timed(self._running.pop(chunk), results[0], now_s, self._first_s))
            case WorkerLost(worker, _, detail):
                self._losses += 1
                self._joined.pop(worker, None)
                for chunk in [n for n, running in self._running.items() if running.worker == worker]:
                    self._parts.append(_unfinished(self._running.pop(chunk), now_s, Outcome.FAILED, detail))
            case TrialFailed():
                pass  # its result follows

    def _abandon(self, now_s: float) -> None:
        """Wait no longer for trials that are still running."""
        for chunk in list(self._running):
            self._parts.append(_unfinished(self._running.pop(chunk), now_s, None, None))

    def _give(self, worker: str, now_s: float) -> None:
        """Give a worker another trial, unless it has measured long enough."""
        left_s = self._limit_s - (now_s - self._first_s)
        if left_s <= 0 or self._losses > MAX_LOSSES:
            return
        whole = sum(part.is_whole and not part.is_first for part in self._parts)
        if whole >= ENOUGH_TRIALS and now_s - self._first_s > LEAST_S:
            return
        if len(self._parts) >= ENOUGH_FAILURES and all(p.outcome is Outcome.FAILED for p in self._parts):
            return
        trial = next(self._draws, None)
        if trial is None:
            return
        device = self._joined[worker].device
        predicted_s = self._study.objective.costs(trial.params, trial.epochs, self._dataset)[device]
        is_first = worker not in self._has_trained
        until = self._until(trial, predicted_s, left_s, is_first)
        if until is None:
            return
        self._chunks += 1
        self._has_trained.add(worker)
        parts = (until,) if until < trial.epochs else ()
        self._running[-self._chunks] = _Running(worker, trial, until, predicted_s, now_s, is_first)
        self._backend.submit(worker, -self._chunks, [Task(trial=trial, parts=parts)], None)

    def _until(self, trial: Trial, predicted_s: float, left_s: float, is_first: bool) -> int | None:
        """Return the epoch after which a trial ends, so that it ends in time; None if it cannot."""
        can_pause = self._study.objective.has_checkpoints and trial.epochs > SOME_EPOCHS
        if is_first:
            return SOME_EPOCHS if can_pause else trial.epochs
        expected_s = self._expected_s(predicted_s)
        is_second = all(part.is_first for part in self._parts)  # the first ones may have taken too long
        if expected_s <= (self._limit_s if is_second else left_s):
            return trial.epochs
        epochs = int(left_s / expected_s * trial.epochs)
        if can_pause and (is_second or epochs > SOME_EPOCHS):
            return max(epochs, SOME_EPOCHS)
        return None

    def _expected_s(self, predicted_s: float) -> float:
        """Return the expected seconds of a whole trial, from those timed so far; the first ones count too much."""
        timed = [part for part in self._parts if not part.is_first] or self._parts
        predictions_s = sum(part.predicted_s * part.share for part in timed)
        return predicted_s * sum(part.took_s for part in timed) / predictions_s if predictions_s > 0 else 0.0


def _draw_trials(study: Study) -> Iterator[Trial]:
    """Yield the first trials of a study, then others from the whole space."""
    first = list(islice(open_stage(study, 1, pd.DataFrame(), None).trials, MAX_TRIALS))
    yield from first
    whole = Region(declared=study.space)
    others = draw_params(whole, study.narrowing, count=MAX_TRIALS, seed=study.seed, round_number=0)
    for number, params in enumerate(others, start=len(first)):
        yield replace(first[0], number=number, params=params, seed=trial_seed(study, 0, number))


def _timed(running: _Running, result: Result, now_s: float, first_s: float) -> TimedPart:
    """Return the timed part that a result describes."""
    epochs = result.measurements[-1].epoch if result.measurements else running.until
    earliest = min((epoch for epoch in running.reported if epoch < epochs), default=None)
    took_s = result.times.setup_s + result.times.train_s
    return TimedPart(
        trial=running.trial,
        predicted_s=running.predicted_s,
        epochs=epochs,
        took_s=took_s,
        message_s=max(0.0, now_s - running.began_s - took_s),
        later_epochs=0 if earliest is None else epochs - earliest,
        later_s=0.0 if earliest is None else now_s - running.reported[earliest],
        began_s=running.began_s - first_s,
        is_first=running.is_first,
        is_whole=result.outcome is not Outcome.STOPPED,
        outcome=result.outcome,
        value=result.value,
        failure=result.failure,
        reports=len(result.measurements),
    )


def _unfinished(running: _Running, now_s: float, outcome: Outcome | None, failure: str | None) -> TimedPart:
    """Return the timed part of a trial that gave no result; its reports tell how far it came."""
    epochs = sorted(running.reported)
    return TimedPart(
        trial=running.trial,
        predicted_s=running.predicted_s,
        epochs=epochs[-1] if epochs else 0,
        took_s=(running.reported[epochs[-1]] if epochs else now_s) - running.began_s,
        later_epochs=epochs[-1] - epochs[0] if epochs else 0,
        later_s=running.reported[epochs[-1]] - running.reported[epochs[0]] if epochs else 0.0,
        is_first=running.is_first,
        is_whole=outcome is Outcome.FAILED,
        outcome=outcome,
        failure=failure,
        reports=len(epochs),
    )


class _JoinedWorkers(Backend):
    """Workers that have joined before, and are announced again."""

    def __init__(self, backend: Backend, joined: Sequence[WorkerJoined]) -> None:
        self._backend, self._joined = backend, list(joined)

    @property
    def devices(self) -> frozenset[str]:
        return self._backend.devices

    def submit(self, worker: str, chunk: int, tasks: Sequence[Task], test: Split | None) -> None:
        self._backend.submit(worker, chunk, tasks, test)

    def poll(self, timeout_s: float) -> list[BackendEvent]:
        if self._joined:
            joined: list[BackendEvent] = [*self._joined]
            self._joined = []
            return joined
        return self._backend.poll(timeout_s)

    def clock(self) -> float:
        return self._backend.clock()

    def close(self) -> None:
        self._backend.close()
