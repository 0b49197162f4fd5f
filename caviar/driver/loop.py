"""The loop of a study: it turns what happens into events and carries out the controller's commands."""

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import pandas as pd

from caviar.data.splits import Dataset
from caviar.driver import controller
from caviar.driver.backend import Backend, Measured, TrialFailed
from caviar.driver.learned_costs import LearnedCosts
from caviar.driver.messages import (
    CertainDrawn,
    Chunk,
    ChunkDone,
    Command,
    DrawCertain,
    DrawTrials,
    Event,
    Finish,
    Idle,
    OpenStage,
    RecordResults,
    StageOpened,
    StopRequested,
    SubmitChunk,
    Task,
    TrialsDrawn,
)
from caviar.driver.watcher import Watcher
from caviar.errors import DamagedError, StudyError
from caviar.records.ledger import Ledger
from caviar.records.run_files import round_entry
from caviar.records.winner import BEST, Baseline, Best, read_best
from caviar.rounds import Search
from caviar.search.confirmation import Winner, loss_by_pauses, wilson_interval
from caviar.search.halving import Race
from caviar.search.region import Region
from caviar.search.sampling import OptunaSearch
from caviar.search.schedule import first_learner, phase_of
from caviar.search.stages import StagePlan, certain_trials, open_stage, stage_needs
from caviar.study import Study
from caviar.trial import Outcome, Result, Stage, Trial

_log = logging.getLogger(__name__)
POLL_S = 0.2
"""Longest wait for workers, in seconds, before the loop looks at the clock and for Ctrl-C."""
RECORD_S = 0.2
"""Shortest time between two writes to the ledger, in seconds; results that arrive in between are written together."""
RECORD_FACTOR = 4
"""Shortest time between two writes, in units of what the last one took: a slow disk is written to less often."""
MAX_RECORD_S = 5.0
"""Longest time between two writes, in seconds."""


class Loop:
    """Loop that runs a study on a backend and records it in a ledger.

    Args:
        study: the study.
        dataset: all splits; the test split is sent with the final trial alone. None if the objective has no data.
        ledger: open for writing; trials that it holds are not trained again.
        backend: the workers.
        watcher: observer of the progress.
        interrupted: returns True if the user wants to stop; called often.
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
        self._phases = ledger.study_file.phases()
        self._steps = {step.number: step for phase in self._phases for step in phase.steps}
        self._state, commands = controller.begin(stage_needs(self._phases), study.retries, backend.devices)
        self._commands: deque[Command] = deque(commands)
        self._events: deque[Event] = deque()
        self._write_at = -math.inf
        self._is_writing = False
        self._plan: StagePlan | None = None
        self._trials: Iterator[Trial] = iter(())
        self._rounds: list[dict[str, Any]] = []
        self._region: Region | None = None
        self._asked: OptunaSearch | None = None
        self._learned = LearnedCosts(study.space)
        self._has_warned = False
        self._finish: Finish | None = None

    def run(self) -> bool:
        """Run the study to its end.

        Returns:
            True at the end of the study, False if the user stopped it before.

        Raises:
            CaviarError: the ledger cannot be written, or no trial completed.
        """
        try:
            finish = self._run()
        except (Exception, KeyboardInterrupt):
            if not self._is_writing:  # results that are back are not lost
                self._write()
            raise
        return not finish.interrupted

    def _run(self) -> Finish:
        while self._finish is None:
            if self._commands:
                self._perform(self._commands.popleft())
            elif self._events:
                self._decide(self._events.popleft())
            elif self._ledger.has_unwritten and self._backend.clock() >= self._write_at:
                self._write()
            else:
                self._events.extend(self._poll())
        self._write()
        return self._finish

    def _decide(self, event: Event) -> None:
        """Let the controller decide what follows from an event."""
        if isinstance(event, ChunkDone):
            self._warn_of_missing_checkpoints(event)
        self._state, commands = controller.step(self._state, event, self._backend.clock())
        self._commands.extend(commands)

    def _warn_of_missing_checkpoints(self, event: ChunkDone) -> None:
        """Warn once if a trial was paused and saved nothing to continue from."""
        if self._has_warned:
            return
        if any(r.outcome is Outcome.STOPPED and r.checkpoint is None for r in event.results):
            self._has_warned = True
            _log.warning(
                "trials save no checkpoint, so halving trains each part from the first epoch: "
                "call trial.save(...) after each epoch, and begin with trial.restore()"
            )

    def _perform(self, command: Command) -> None:
        match command:
            case OpenStage():
                self._open_stage()
            case DrawTrials(count):
                self._draw(count)
            case DrawCertain():
                self._draw_certain()
            case SubmitChunk(worker, chunk):
                self._submit(worker, chunk)
            case RecordResults(results):
                self._record(results)
            case Finish():
                self._finish = command

    def _open_stage(self) -> None:
        """Open the next stage from what the ledger holds; its recorded trials are skipped.

        Before a stage that follows from all trials, these are written: nothing else is under way.
        """
        if self._state.left == 0:
            self._write()
        recorded = self._ledger.trials()
        number = self._state.opened + 1
        if number in self._steps and phase_of(self._phases, number).search_ended:
            self._events.append(StageOpened(0))
            return
        done = frozenset(recorded.loc[recorded["round"] == number, "trial"])
        self._warn_of_incomplete_checkpoints(number, recorded)
        under_way = controller.trials_under_way(self._state)
        plan = open_stage(
            self._study, number, recorded, self._region, done, self._asked, under_way, self._phases
        )
        if plan.region is not None:
            self._region, self._asked = plan.region, plan.asked
            self._rounds.append(round_entry(plan))
            self._ledger.write_rounds(self._rounds)
        self._learned.learn()
        self._plan = plan
        self._trials = plan.trials
        self._watcher.opened(plan, len(done))
        if plan.winner is not None and plan.count == 0 and number == self._phases[-1].final:
            self._keep_winner(plan.winner)
        race = self._resumed_race(plan, done)
        self._events.append(StageOpened(plan.count - len(done), race, done, plan.known))

    def _warn_of_incomplete_checkpoints(self, number: int, recorded: pd.DataFrame) -> None:
        """Warn after the first confirmation step if functions that were paused in the search trained worse for it."""
        study, phase = self._study, phase_of(self._phases, number)
        is_halved = any(rule.halving for rule in phase.rules)
        if self._dataset is not None or not is_halved or number != phase.confirming.start + 1:
            return
        search, confirmed = (recorded[recorded["stage"] == s] for s in (Stage.SEARCH, Stage.CONFIRMATION))
        confirmed = confirmed[confirmed["round"] == phase.confirming.start]
        means = loss_by_pauses(search, confirmed, study.objective.maximize)
        if means is not None:
            _log.warning(
                "halving seems to change what trials learn: the mean %s of the best is %.4g if they are paused and "
                "continued, and %.4g if the same trials train in one part; save all that the training needs, such as "
                "trial.save((model, optimizer)), and compare one trial with study.try_one()",
                study.objective.metric,
                *means,
            )

    def _resumed_race(self, plan: StagePlan, done: frozenset[int]) -> Race | None:
        """Return the state of the stage's halving, as decided before an interruption."""
        race = plan.race
        if race is None or not done or len(done) == plan.count:
            return race
        curves = self._ledger.curves(done)
        for number in sorted(done):
            race, _ = race.report(number, curves.get(number, ()), ended=True)
        return race

    def _draw(self, count: int) -> None:
        """Draw trials of the stage, with their predicted costs."""
        tasks = tuple(self._make_task(trial) for trial in islice(self._trials, count))
        self._events.append(TrialsDrawn(tasks))

    def _draw_certain(self) -> None:
        """Draw the trials of later stages that are certain by now."""
        under_way = controller.trials_under_way(self._state)
        opened, recorded = self._state.opened, self._ledger.trials()
        certain = certain_trials(self._study, opened, recorded, under_way, self._phases)
        self._events.append(CertainDrawn(tuple(self._make_task(trial) for trial in certain)))

    def _make_task(self, trial: Trial) -> Task:
        factor = self._learned.factor(trial.params)
        costs = {device: factor * seconds for device, seconds in self._predict(trial).items()}
        plan = self._plan
        assert plan is not None
        step = self._steps.get(trial.round)
        if step is None:
            return Task(trial=trial, costs=costs, due=trial.learned_from)
        due = first_learner(phase_of(self._phases, trial.round).steps, trial.number)
        room = step.rule.in_flight if isinstance(step.rule, Search) else step.count
        if plan.race is not None:  # cohorts one after the other
            cohort = plan.race.cohort_numbers(plan.race.cohort_index(trial.number))
            due -= step.first + step.count - cohort.stop
            room = min(room, len(cohort))
        return Task(trial=trial, costs=costs, due=due, room=room)

    def _predict(self, trial: Trial) -> Mapping[str, float]:
        """Return the seconds that the objective predicts, by device."""
        return self._study.objective.costs(trial.params, trial.epochs, self._dataset)

    def _submit(self, worker: str, chunk: Chunk) -> None:
        is_final = any(task.trial.stage is Stage.FINAL for task in chunk.tasks)
        test = self._dataset.test if is_final and self._dataset is not None else None
        self._backend.submit(worker, chunk.number, chunk.tasks, test)

    def _record(self, results: Sequence[Result]) -> None:
        """Add results to the ledger. The network of the winner is written before its row."""
        for result in results:
            if result.outcome is Outcome.FAILED:
                self._watcher.failed(result.trial, str(result.failure))
            if result.trial.stage is Stage.FINAL:
                self._hand_over(result)
            if result.device and (trained := result.measurements):
                whole_s = result.times.train_s * result.trial.epochs / trained[-1].epoch
                predicted_s = self._predict(result.trial)[result.device]
                self._learned.note(result.trial.params, predicted_s, whole_s)
        self._ledger.add(results)

    def _write(self) -> None:
        """Make the results in the ledger durable."""
        self._is_writing, began = True, self._backend.clock()
        results = self._ledger.write()
        self._is_writing, ended = False, self._backend.clock()
        if results:
            self._write_at = ended + max(RECORD_S, min(RECORD_FACTOR * (ended - began), MAX_RECORD_S))
            self._watcher.recorded(results)

    def _keep_winner(self, winner: Winner) -> None:
        """Write that an extension has come to the same winner: its network and its test score stay as they are."""
        best = read_best(self._ledger.location)
        if best is None:
            raise DamagedError(
                f"{self._ledger.location / BEST} is missing; "
                f"`caviar resume {self._ledger.location.quoted} --repair` trains the winner again"
            )
        best = replace(best, value=winner.value, interval=winner.interval, seeds=winner.seeds)
        self._ledger.keep_best(best)
        self._watcher.handed_over(best)

    def _hand_over(self, final: Result) -> None:
        """Write the winner: params, score and network, or what a function saved.

        If the final training of a function failed, its params are handed over alone. A winner of an earlier phase,
        which a repair trains again, does not replace a later one.

        Raises:
            StudyError: the final training failed or diverged, so there is no network.
        """
        assert self._plan is not None
        assert self._plan.winner is not None
        if final.outcome is not Outcome.COMPLETED and self._dataset is not None:
            raise StudyError(
                f"the winner is trial {final.trial.confirms}, but its final training {final.outcome} "
                f"({final.failure}): `{self._ledger.resume_command}` tries it again"
            )
        if final.failure is not None:
            _log.warning(
                "the winner is trial %d; its final training: %s", final.trial.confirms, final.failure
            )
        others = self._ledger.trials()
        others = others[(others["stage"] == Stage.FINAL) & (others["trial"] != final.trial.number)]
        if (others["round"] > final.trial.round).any():
            return
        phase = phase_of(self._phases, final.trial.round)
        winner, objective = self._plan.winner, self._study.objective
        test = self._dataset.test if self._dataset else None
        accuracy, value = final.test.get("accuracy"), final.test.get("value")
        has_score = accuracy is not None or value is not None
        best = Best(
            trial=winner.trial,
            params=final.trial.params,
            recipe=objective.recipe(final.trial.params),
            epochs=final.trial.epochs,
            seed=final.trial.seed,
            refit=objective.refit,
            value=winner.value,
            interval=winner.interval,
            seeds=winner.seeds,
            test_accuracy=accuracy,
            test_interval=wilson_interval(accuracy, len(test.y)) if test and accuracy is not None else None,
            test_rows=len(test.y) if test else None,
            test_value=value,
            test_uses=len(others) + 1 if has_score else 0,
            folder=f"extension-{phase.number}" if phase.number else "",
            baseline=Baseline.of(self._dataset) if self._dataset and self._dataset.classes else None,
        )
        self._ledger.write_best(best, final.checkpoint, self._dataset, final.predictions)
        self._watcher.handed_over(best)

    def _poll(self) -> list[Event]:
        """Return what the workers and the user did."""
        if self._interrupted() and not self._state.stopping:
            self._watcher.stopping()
            return [StopRequested()]
        self._ledger.check_lock()
        self._watcher.waited(self._state.running)
        events: list[Event] = []
        has_spare_time = controller.may_draw_ahead(self._state)
        timeout_s = 0.0 if has_spare_time else RECORD_S if self._ledger.has_unwritten else POLL_S
        for event in self._backend.poll(timeout_s):
            if isinstance(event, Measured):
                self._watcher.measured(event.progress)
            elif isinstance(event, TrialFailed):
                self._watcher.failed(event.trial, event.failure)
            else:
                events.append(event)
        return events or ([Idle()] if has_spare_time else [])
