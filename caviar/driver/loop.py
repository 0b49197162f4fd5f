"""The one loop: events in, commands out, until the controller says that the study is finished."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol

from caviar.backends.worker import Task
from caviar.data.splits import Dataset
from caviar.driver import controller
from caviar.driver.backend import Arrived, Backend, Measured
from caviar.driver.messages import (
    Assignment,
    Chunk,
    Command,
    Draw,
    Drawn,
    Event,
    Finish,
    Idle,
    Interrupted,
    Open,
    Opened,
    Record,
    Recorded,
    Reported,
    Submit,
)
from caviar.engine import Progress
from caviar.errors import StudyError
from caviar.records.ledger import Ledger
from caviar.records.run_files import round_entry
from caviar.records.winner import Best
from caviar.search.confirmation import share_interval
from caviar.search.halving import Race
from caviar.search.stages import StagePlan, open_stage, stage_count
from caviar.study import Study
from caviar.trial import Outcome, Result, Stage, Trial

_log = logging.getLogger(__name__)
POLL_S = 0.2
"""How long the loop waits for news before it looks at the clock and at Ctrl-C."""
RECORD_S = 0.1
"""Results that arrive within this time are recorded together ..."""
RECORD_EVERY = 4
"""... or within so many times what the last recording took, where the disk or the store is slow ..."""
RECORD_AT_LATEST_S = 5.0
"""... but not within more than this."""


class Watcher(Protocol):
    """Whoever wants to see a study's progress."""

    def opened(self, plan: StagePlan, done: int) -> None:
        """A stage begins, of which so many trials are recorded already."""

    def recorded(self, results: list[Result]) -> None:
        """Results are durable."""

    def measured(self, progress: Sequence[Progress]) -> None:
        """Long trials are on their way: the latest of their measurements, not all of them."""

    def waited(self, workers: int) -> None:
        """Time has passed; so many workers are there."""


class Loop:
    """Runs a study on a backend, into a ledger.

    Args:
        study: what was asked.
        dataset: with the test split, which only the final trial is sent.
        ledger: open for writing; what it holds already is not trained again.
        backend: the workers.
        watcher: told of progress.
        interrupted: whether the user wants to stop; asked often.
    """

    def __init__(
        self,
        study: Study,
        dataset: Dataset | None,
        ledger: Ledger,
        backend: Backend,
        watcher: Watcher,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._study, self._dataset, self._ledger, self._backend = study, dataset, ledger, backend
        self._watcher, self._interrupted = watcher, interrupted
        self._state, commands = controller.begin(stage_count(study), study.retries, backend.devices)
        self._commands: deque[Command] = deque(commands)
        self._events: deque[Event | Arrived] = deque()
        self._unrecorded: list[Result] = []
        self._unrecorded_since = 0.0
        self._record_within_s = RECORD_S
        self._recording = False
        self._plan: StagePlan | None = None
        self._trials: Iterator[Trial] = iter(())
        self._rounds: list[dict[str, Any]] = []
        self._waits_since: dict[int, float] = {}
        self._queued_s: dict[int, float] = {}
        self._states: dict[int, Any] = {}
        self._warned = False
        self._finish: Finish | None = None

    def run(self) -> bool:
        """Run to the end of the study; False if the user stopped it before.

        Raises:
            CaviarError: the ledger cannot be written, or no trial completed.
        """
        try:
            finish = self._run()
        except (Exception, KeyboardInterrupt):
            if self._unrecorded and not self._recording:  # what has come back is not lost
                self._record()
            raise
        return not finish.interrupted

    def _run(self) -> Finish:
        while self._finish is None:
            if self._commands:
                self._perform(self._commands.popleft())
            elif self._events:
                self._take_in(self._events.popleft())
            elif self._unrecorded and self._is_time_to_record():
                self._record()
            else:
                self._events.extend(self._news())
        if self._unrecorded:
            self._record()
        return self._finish

    def _take_in(self, event: Event | Arrived) -> None:
        """Let the controller decide what follows."""
        if isinstance(event, Arrived):
            if self._is_under_way(event.worker, event.chunk):
                self._keep_states(event)
            event = Reported(event.worker, event.chunk, tuple(f.result for f in event.finished))
        self._state, commands = controller.step(self._state, event)
        self._commands.extend(commands)

    def _is_under_way(self, worker: str, chunk: int) -> bool:
        """Whether a chunk is expected back; one of a worker that was given up may arrive all the same."""
        return any(c.number == chunk for c in self._state.under_way.get(worker, ()))

    def _keep_states(self, arrived: Arrived) -> None:
        """What trials go on from; one that failed, if it is tried again, from where it was sent."""
        now = self._backend.clock()
        for finished in arrived.finished:
            if finished.result.outcome is not Outcome.FAILED:
                number = finished.result.trial.number
                self._states[number], self._waits_since[number] = finished.state, now
            if finished.state is None and finished.result.outcome is Outcome.STOPPED:
                self._warn_of_no_state()

    def _warn_of_no_state(self) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "trials save nothing to go on from, so each part of a halved one is trained from its first epoch: "
                "call trial.save(...) after each epoch, and begin with trial.restore()"
            )

    def _perform(self, command: Command) -> None:
        match command:
            case Open():
                self._open()
            case Draw(count):
                self._draw(count)
            case Submit(worker, chunk):
                self._submit(worker, chunk)
            case Record(results):
                if not self._unrecorded:
                    self._unrecorded_since = self._backend.clock()
                self._unrecorded.extend(results)
            case Finish():
                self._finish = command

    def _open(self) -> None:
        """Open the next stage from what the ledger holds; its recorded trials are skipped."""
        recorded = self._ledger.trials()
        number = self._state.opened + 1
        before = recorded[recorded["round"] < number]
        done = set(recorded.loc[recorded["round"] == number, "trial"])
        plan = open_stage(self._study, number, before, self._plan.region if self._plan else None, done)
        if plan.region is not None:
            self._rounds.append(round_entry(plan))
            self._ledger.write_rounds(self._rounds)
        self._plan = plan
        self._trials = plan.trials
        self._watcher.opened(plan, len(done))
        self._events.append(Opened(plan.count - len(done), self._race(plan, done)))

    def _race(self, plan: StagePlan, done: set[int]) -> Race | None:
        """How the stage's trials are halved, as far as it was decided before an interruption."""
        race = plan.race
        if race is None or not done or len(done) == plan.count:
            return race
        curves = self._ledger.curves(done)
        for number in sorted(done):
            race, _ = race.arrive(number, curves.get(number, ()), over=True)
        return race

    def _draw(self, count: int) -> None:
        """Draw trials of the stage, with what they are predicted to cost."""
        objective, now = self._study.objective, self._backend.clock()
        drawn = []
        for trial in islice(self._trials, count):
            costs = objective.costs(trial.params, trial.epochs, self._dataset)
            drawn.append(Assignment(trial=trial, costs=costs))
            self._waits_since[trial.number] = now
        self._events.append(Drawn(tuple(drawn)))

    def _submit(self, worker: str, chunk: Chunk) -> None:
        final = any(a.trial.stage is Stage.FINAL for a in chunk.assignments)
        test = self._dataset.test if final and self._dataset is not None else None
        tasks = [self._task(a) for a in chunk.assignments]
        self._backend.submit(worker, chunk.number, tasks, test)

    def _task(self, a: Assignment) -> Task:
        """What the worker is sent; the trial's waiting ends here."""
        number, now = a.trial.number, self._backend.clock()
        self._queued_s[number] = self._queued_s.get(number, 0.0) + now - self._waits_since[number]
        self._waits_since[number] = now
        state = self._states.get(number)
        return Task(
            trial=a.trial,
            attempt=a.attempt,
            until=a.until,
            state=state,
            engine=a.so_far.engine if a.so_far is not None else "",
            replay=a.parts[:-1] if state is not None else (),
            spent_s=a.spent_s,
        )

    def _is_time_to_record(self) -> bool:
        """Not for each that arrives: writing a segment costs as much for a hundred as for one."""
        waited_s = self._backend.clock() - self._unrecorded_since
        return waited_s >= self._record_within_s or len(self._unrecorded) >= self._state.left

    def _record(self) -> None:
        """Make what has arrived durable. A network is handed over first: once its row stands, it is there."""
        self._recording, began = True, self._backend.clock()
        results = self._unrecorded
        for result in results:
            if result.trial.stage is not Stage.FINAL:
                continue
            hands_over = (
                result.outcome is Outcome.COMPLETED or self._dataset is None
            )  # params are there anyway
            if not hands_over:
                raise StudyError(
                    f"the winner is trial {result.trial.confirms}, but its final training {result.outcome} "
                    f"({result.failure}): `caviar resume {self._ledger.location.typed}` tries it again"
                )
            self._hand_over(result)
        results = [self._timed(result) for result in results]
        self._ledger.append(results)
        self._unrecorded, self._recording = [], False
        took_s = self._backend.clock() - began
        self._record_within_s = max(RECORD_S, min(RECORD_EVERY * took_s, RECORD_AT_LATEST_S))
        self._watcher.recorded(results)
        self._events.append(Recorded(len(results)))

    def _timed(self, result: Result) -> Result:
        number = result.trial.number
        del self._waits_since[number]
        self._states.pop(number, None)
        queue_s = self._queued_s.pop(number)
        return replace(result, times=replace(result.times, queue_s=queue_s))

    def _hand_over(self, result: Result) -> None:
        assert self._plan is not None
        assert self._plan.winner is not None
        winner, test = self._plan.winner, self._dataset.test if self._dataset else None
        accuracy = result.test.get("accuracy")
        best = Best(
            trial=winner.trial,
            params=result.trial.params,
            value=winner.value,
            interval=winner.interval,
            seeds=winner.seeds,
            test_accuracy=accuracy,
            test_interval=share_interval(accuracy, len(test.y)) if test and accuracy is not None else None,
            test_rows=len(test.y) if test else None,
            fixed=self._study.to_json()["objective"].get("fixed", {}),
        )
        state = self._states.get(result.trial.number)
        self._ledger.hand_over(best, state, self._dataset)

    def _news(self) -> list[Event | Arrived]:
        """What the workers and the user did."""
        if self._interrupted() and not self._state.stopping:
            return [Interrupted()]
        self._ledger.check_lock()
        self._watcher.waited(len(self._state.under_way))
        events: list[Event | Arrived] = []
        spare_time = controller.may_draw_ahead(self._state)
        patience_s = RECORD_S if self._unrecorded else POLL_S
        for happening in self._backend.poll(0.0 if spare_time else patience_s):
            if isinstance(happening, Measured):
                self._watcher.measured(happening.progress)
            else:
                events.append(happening)
        return events or ([Idle()] if spare_time else [])
