"""The controller under arbitrary orders of arrivals, losses, duplicates, interruptions and resumes."""

import itertools
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from caviar.driver.controller import CHUNK_S, MAX_CHUNKS, State, begin, step
from caviar.driver.device_queues import DeviceQueues, Pace
from caviar.driver.messages import (
    CertainDrawn,
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
    WorkerJoined,
    WorkerLost,
)
from caviar.retries import Retries
from caviar.rounds import Halving
from caviar.search.halving import Race
from caviar.trial import Cause, Measurement, Outcome, Result, Times, Trial

STAGES = (7, 0, 4, 12, 3, 6, 4, 1)
"""Number of trials of each stage; one has none left, as after a resume."""
NEEDS = (0, 3, 4, 9, 17, None, None, None)
"""For each stage, the number of first trials that are known before it opens; None for all before it."""
HALVED = 3
"""Index of the stage that halves."""
COHORT = 3
"""Size of a cohort, of which one trial trains to the end."""
EPOCHS = 9
PACES = {"cpu": Pace(10.0, 10.0), "cuda": Pace(10.0, 10.0)}
"""Paces that confirm the predictions."""
RETRIES = Retries(errors=1, timeouts=1, memory=2, crashes=1, nodes=2)
LIMITS = {Cause.ERROR: 1, Cause.TIME: 1, Cause.MEMORY: 2, Cause.CRASH: 1, Cause.NODE: 2}
LOSSES = [cause for cause in Cause if cause is not Cause.ERROR]
SUDDEN = (Cause.MEMORY, Cause.CRASH, Cause.NODE)
FAILURES = st.lists(st.sampled_from([None, None, None, Cause.ERROR, Cause.TIME]), min_size=8, max_size=8)
"""Causes of failure of the trials of a chunk, one after the other; None for success."""


def make_task(number: int, cost_s: float = 0.1, on_gpu_s: float | None = None, stage: int = 1) -> Task:
    trial = Trial(number=number, round=stage, params={}, epochs=EPOCHS, seed=number)
    return Task(trial=trial, costs={"cpu": cost_s, "cuda": on_gpu_s or cost_s})


def make_measurement(number: int, epoch: int) -> Measurement:
    """Return a measurement that is the same whenever the trial is trained; no two trials of a cohort tie."""
    return Measurement(epoch, {"loss": float(number * 7 % 11 + epoch)})


def make_result(task: Task, took_s: float = 0.1) -> Result:
    """Return the result of the part that was asked for."""
    return Result(
        trial=task.trial,
        attempt=task.attempt,
        outcome=Outcome.COMPLETED if task.until == EPOCHS else Outcome.STOPPED,
        value=1.0,
        measurements=tuple(
            make_measurement(task.trial.number, epoch)
            for epoch in range(task.trained_epochs + 1, task.until + 1)
        ),
        times=Times(train_s=took_s),
    )


def make_failure(task: Task, cause: Cause) -> Result:
    """Return a failed result."""
    return Result(
        trial=task.trial, outcome=Outcome.FAILED, failure="it raised", cause=cause, attempt=task.attempt
    )


def trial_numbers(stage: int) -> range:
    """Return the numbers of a stage's trials."""
    return range(sum(STAGES[:stage]), sum(STAGES[: stage + 1]))


def make_race(stage: int, curves: Mapping[int, Sequence[Measurement]]) -> Race | None:
    """Return the state of a stage's halving after the recorded trials; None for a stage that does not halve."""
    if stage != HALVED:
        return None
    trials = trial_numbers(stage)
    rule = Halving(cohort=COHORT)
    racing = Race(rule=rule, epochs=EPOCHS, first=trials[0], count=len(trials), metric="loss", maximize=False)
    for number in trials:
        if number in curves:
            racing, _ = racing.report(number, curves[number], ended=True)
    return racing


class StudyMachine(RuleBasedStateMachine):
    """A study in which workers join, die, report late and twice, trials fail, and the driver is killed."""

    def __init__(self) -> None:
        super().__init__()
        self.state, commands = begin(NEEDS, RETRIES, ["cpu"])
        self.pending: list[Command] = list(commands)
        self.recorded: list[int] = []
        self.durable = 0
        """Number of recorded trials that no driver has lost."""
        self.failed: set[int] = set()
        self.blamed: Counter[tuple[int, Cause]] = Counter()
        """Failures attributed to each trial, by cause, as counted by the test."""
        self.losses: Counter[int] = Counter()
        """Lost or failed attempts of each trial."""
        self.suspected: set[int] = set()
        """Trials that were on a worker when it died."""
        self.curves: dict[int, tuple[Measurement, ...]] = {}
        """Recorded measurements of each trial."""
        self.undrawn: list[int] = []
        """Trials of the stage that have not been drawn."""
        self.drawn: set[int] = set()
        """Trials that were drawn, or recorded before a resume."""
        self.workers = 0
        self.resumes = 0
        self.finished: Finish | None = None
        self.sent: list[SubmitChunk] = []
        """Chunks whose results may arrive, at any time and more than once."""

    def send(self, event: Event) -> None:
        """Send an event, and keep the commands that follow."""
        self.state, commands = step(self.state, event)
        for command in commands:
            if isinstance(command, SubmitChunk):
                self.sent.append(command)
            else:
                self.pending.append(command)

    def send_outdated(self, event: Event) -> None:
        """Send an event that is out of date, and check that it changes nothing."""
        before = self.state
        self.send(event)
        assert (self.state.running, self.state.waiting) == (before.running, before.waiting)
        assert (self.state.paused, self.state.races) == (before.paused, before.races)

    @initialize(devices=st.lists(st.sampled_from(["cpu", "cuda"]), min_size=1, max_size=3))
    def start(self, devices: list[str]) -> None:
        self.perform_commands(1)
        self.perform_commands(1)
        for device in devices:
            self.join(device)

    @precondition(lambda self: len(self.state.running) < 4)
    @rule(device=st.sampled_from(["cpu", "cuda"]), lanes=st.sampled_from([1, 5]))
    def join(self, device: str, lanes: int = 1) -> None:
        self.workers += 1
        self.send(WorkerJoined(f"w{self.workers}", device, lanes))

    @precondition(lambda self: self.pending)
    @rule(count=st.integers(1, 3))
    def perform_commands(self, count: int) -> None:
        """Perform the oldest commands."""
        for _ in range(min(count, len(self.pending))):
            self.perform(self.pending.pop(0))

    def perform(self, command: Command) -> None:
        match command:
            case OpenStage():
                stage = self.state.opened
                assert not {*trial_numbers(stage)} & self.drawn - self.curves.keys(), "they are drawn again"
                self.undrawn = [number for number in trial_numbers(stage) if number not in self.curves]
                done = frozenset(trial_numbers(stage)) & self.curves.keys()
                self.send(StageOpened(len(self.undrawn), make_race(stage, self.curves), done))
            case DrawTrials(count):
                assert 0 < count <= len(self.undrawn)
                drawn, self.undrawn = self.undrawn[:count], self.undrawn[count:]
                self.drawn |= set(drawn)
                costs = (0.02, 0.1, 0.5)
                tasks = [make_task(n, on_gpu_s=costs[n % 3], stage=self.state.opened) for n in drawn]
                self.send(TrialsDrawn(tuple(tasks)))
            case DrawCertain():
                certain = self.some_later_trials()
                self.drawn |= set(certain)
                self.send(CertainDrawn(tuple(make_task(n, stage=len(STAGES)) for n in certain)))
            case RecordResults(results):
                self.recorded += [r.trial.number for r in results]
                for r in results:
                    self.check_failure(r)
                self.curves |= {r.trial.number: r.measurements for r in results}
            case Finish():
                assert self.finished is None, "finished twice"
                self.finished = command
            case _:
                raise AssertionError(command)

    def some_later_trials(self) -> list[int]:
        """Return a third of the trials of stages that are not open, of those that are not drawn."""
        later = range(sum(STAGES[: self.state.opened]), sum(STAGES) - 1)
        return [n for n in later if n not in self.drawn and (n + len(self.recorded)) % 3 == 0]

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), again=st.booleans(), failures=FAILURES)
    def report(self, data: st.DataObject, again: bool, failures: list[Cause | None]) -> None:
        """Let a chunk's results arrive: perhaps late, from a lost worker, and perhaps again later."""
        submit = self.sent.pop(data.draw(st.integers(0, len(self.sent) - 1)))
        if again:
            self.sent.append(submit)
        results = []
        expected = submit.chunk in self.state.running.get(submit.worker, ())
        for task, cause in zip(submit.chunk.tasks, itertools.cycle(failures), strict=False):
            results.append(make_result(task) if cause is None else make_failure(task, cause))
            if expected and cause is not None:
                self.losses[task.trial.number] += 1
                self.blamed[task.trial.number, cause] += 1
        event = ChunkDone(submit.worker, submit.chunk.number, tuple(results))
        if expected:
            self.send(event)
        else:
            self.send_outdated(event)

    @precondition(lambda self: any(self.state.running.values()))
    @rule(data=st.data(), cause=st.sampled_from(LOSSES), began_both=st.booleans())
    def lose(self, data: st.DataObject, cause: Cause, began_both: bool) -> None:
        """Lose a worker; a chunk that was sent after its end cannot have been the reason."""
        worker = data.draw(st.sampled_from(sorted(w for w, chunks in self.state.running.items() if chunks)))
        self.lose_worker(worker, cause, began_both)

    @precondition(lambda self: self.workers_of_blamed_trials())
    @rule(data=st.data())
    def lose_again(self, data: st.DataObject) -> None:
        """Lose a worker whose trial has lost one before, by the same cause."""
        worker, cause = data.draw(st.sampled_from(self.workers_of_blamed_trials()))
        self.lose_worker(worker, cause, began_both=True)

    def workers_of_blamed_trials(self) -> list[tuple[str, Cause]]:
        """Return workers whose trial was blamed for a death before, with its cause."""
        first = {worker: chunks[0].tasks[0] for worker, chunks in self.state.running.items() if chunks}
        return [
            (worker, cause) for worker, task in first.items() for cause in task.failures if cause in SUDDEN
        ]

    def lose_worker(self, worker: str, cause: Cause, began_both: bool) -> None:
        chunks, device = self.state.running[worker], self.state.devices[worker]
        suspects = chunks if began_both else chunks[:1]
        for task in (task for chunk in chunks for task in chunk.tasks):
            self.losses[task.trial.number] += 1
        if cause is not Cause.PREEMPTED:
            self.suspected |= {task.trial.number for chunk in suspects for task in chunk.tasks}
        if cause is not Cause.PREEMPTED and [len(chunk.tasks) for chunk in suspects] == [1]:
            self.blamed[suspects[0].tasks[0].trial.number, cause] += 1
        event = WorkerLost(worker, cause, "a test lost it", frozenset(c.number for c in suspects))
        self.send(event)
        self.send_outdated(event)
        if cause is not Cause.NODE:
            self.join(device)

    @rule()
    def idle(self) -> None:
        self.send(Idle())

    @precondition(lambda self: self.workers > 20)
    @rule()
    def interrupt(self) -> None:
        """Interrupt late in a long run, so that few runs are interrupted."""
        self.send(StopRequested())

    @precondition(lambda self: len(self.recorded) > 4 * self.resumes)
    @rule(devices=st.lists(st.sampled_from(["cpu", "cuda"]), max_size=3), lost=st.integers(0, 4))
    def resume(self, devices: list[str], lost: int) -> None:
        """Start another driver after a kill or an end; it does not know the latest results, which were not durable."""
        self.resumes += 1
        self.durable = max(self.durable, len(self.recorded) - lost)
        for number in self.recorded[self.durable :]:
            self.failed.discard(number)
            del self.curves[number]
        del self.recorded[self.durable :]
        self.state, commands = begin(NEEDS, RETRIES, ["cpu"])
        self.pending, self.sent, self.finished = list(commands), [], None
        self.drawn = set(self.recorded)
        self.suspected &= self.drawn
        self.losses = Counter({n: c for n, c in self.losses.items() if n in self.drawn})
        self.blamed = Counter({key: c for key, c in self.blamed.items() if key[0] in self.drawn})
        for device in devices:
            self.join(device)

    def teardown(self) -> None:
        """Run the study to its end without further disturbance."""
        if self.state.stopping:
            self.resume(["cpu"], lost=0)
        self.join("cpu")
        while self.finished is None:
            running = [(w, chunk) for w, chunks in self.state.running.items() for chunk in chunks[:1]]
            assert self.pending or running, "nothing is running, and the study has not ended"
            if self.pending:
                self.perform(self.pending.pop(0))
            else:
                worker, chunk = running[0]
                self.send(ChunkDone(worker, chunk.number, tuple(map(make_result, chunk.tasks))))
        self.a_finished_study_has_recorded_all_trials()
        self.the_best_of_a_cohort_trains_to_the_end()

    def check_failure(self, r: Result) -> None:
        """Check that a trial failed only when its retries were exhausted, and that all attempts were counted."""
        number, given_up = r.trial.number, r.outcome is Outcome.FAILED
        assert r.attempt == self.losses[number] + (not given_up)
        for cause, limit in LIMITS.items():
            assert (
                self.blamed[number, cause] == limit + 1
                if r.cause is cause
                else (self.blamed[number, cause] <= limit)
            )
        assert (r.cause in LIMITS) == given_up
        if given_up:
            self.failed.add(number)

    @invariant()
    def no_trial_is_counted_twice(self) -> None:
        assert len(self.recorded) == len(set(self.recorded))

    @invariant()
    def every_trial_is_in_exactly_one_place(self) -> None:
        waiting = [task.trial.number for task in self.state.waiting]
        running = [task.trial.number for cs in self.state.running.values() for c in cs for task in c.tasks]
        to_record = [
            r.trial.number
            for command in self.pending
            if isinstance(command, RecordResults)
            for r in command.results
        ]
        everywhere = waiting + running + to_record + self.recorded + list(self.state.paused)
        assert sorted(everywhere) == sorted(self.drawn)

    @invariant()
    def seconds_of_the_queues_are_those_of_their_tasks(self) -> None:
        for device, queue in self.state.waiting.queues.items():
            assert queue.cost_s == pytest.approx(sum(task.cost_s(device) for task in queue), abs=1e-9)

    @invariant()
    def no_worker_is_idle_while_trials_wait(self) -> None:
        """A worker may idle only if the busy workers of the other device finish the waiting trials sooner."""
        if not self.state.waiting or self.state.stopping:
            return
        for worker, chunks in self.state.running.items():
            if not chunks:
                device = self.state.devices[worker]
                assert next(self.state.waiting.offer(device, self.state.paces), None) is None
        assert not self.state.running or any(self.state.running.values())

    @invariant()
    def each_device_with_workers_has_a_queue(self) -> None:
        devices = set(self.state.devices.values())
        assert self.state.devices.keys() == self.state.running.keys()
        assert devices <= set(self.state.waiting.queues)

    @invariant()
    def a_worker_has_no_more_than_it_can_take(self) -> None:
        for worker, chunks in self.state.running.items():
            lanes = self.state.lanes.get(worker, 1)
            assert len(chunks) <= (2 if lanes == 1 else MAX_CHUNKS)
            assert lanes == 1 or sum(len(chunk.tasks) for chunk in chunks) <= lanes

    @invariant()
    def only_trials_alone_on_a_worker_are_blamed_for_its_death(self) -> None:
        for chunks in self.state.running.values():
            if any(task.alone for c in chunks for task in c.tasks):
                assert len(chunks) == len(chunks[0].tasks) == 1
        sent = [task for cs in self.state.running.values() for c in cs for task in c.tasks]
        for task in (*sent, *self.state.waiting):
            assert task.alone or not {Cause.CRASH, Cause.MEMORY} & set(task.failures)

    @invariant()
    def attempts_are_counted_and_bounded(self) -> None:
        sent = [task for cs in self.state.running.values() for c in cs for task in c.tasks]
        for task in (*sent, *self.state.waiting):
            assert task.attempt == 1 + self.losses[task.trial.number]
            assert not task.alone or task.trial.number in self.suspected
            assert all(
                task.failures.get(c, 0) == self.blamed[task.trial.number, c] <= LIMITS[c] for c in LIMITS
            )

    @invariant()
    def a_finished_study_has_recorded_all_trials(self) -> None:
        if self.finished is not None and not self.finished.interrupted:
            assert sorted(self.recorded) == list(range(sum(STAGES)))
            assert not self.state.paused

    @invariant()
    def recorded_curves_have_each_epoch_once(self) -> None:
        for number, curve in self.curves.items():
            assert list(curve) == [make_measurement(number, epoch) for epoch in range(1, len(curve) + 1)]
            assert number in self.failed or len(curve) in (1, 3, EPOCHS)

    @invariant()
    def most_trials_of_a_halved_stage_stop_early(self) -> None:
        whole = [n for n in trial_numbers(HALVED) if len(self.curves.get(n, ())) == EPOCHS]
        assert len(whole) <= STAGES[HALVED] // COHORT

    @invariant()
    def the_best_of_a_cohort_trains_to_the_end(self) -> None:
        """The others stop after the first rung, unless a trial of the cohort failed."""
        trials = trial_numbers(HALVED)
        for cohort in (trials[place : place + COHORT] for place in range(0, len(trials), COHORT)):
            if self.curves.keys() >= set(cohort) and not self.failed & set(cohort):
                best = min(cohort, key=lambda number: make_measurement(number, 1).metrics["loss"])
                assert [len(self.curves[n]) for n in cohort] == [EPOCHS if n == best else 1 for n in cohort]

    @invariant()
    def a_stage_opens_when_all_that_it_learns_from_is_recorded(self) -> None:
        for stage, need in enumerate(NEEDS[: self.state.opened]):
            assert set(self.recorded) >= set(range(trial_numbers(stage).start if need is None else need))

    @invariant()
    def a_stage_opens_as_soon_as_it_may(self) -> None:
        """An idle driver with nothing left to draw has opened all stages whose trials can be decided."""
        is_idle = not self.pending and not self.state.undrawn and not self.state.stopping
        if is_idle and self.state.opened < len(STAGES):
            need = NEEDS[self.state.opened]
            before = {*range(trial_numbers(self.state.opened).start)}
            assert not set(self.recorded) >= (before | self.drawn if need is None else {*range(need)})

    @invariant()
    def certain_trials_start_while_a_worker_is_idle(self) -> None:
        """If the stages left learn from all trials before them, each new result may make some of theirs certain."""
        is_idle = not self.pending and not self.state.undrawn and not self.state.stopping
        if is_idle and NEEDS[self.state.opened :][:1] == (None,) and not all(self.state.running.values()):
            assert not self.state.has_news or not self.state.left


TestStudyMachine = StudyMachine.TestCase
TestStudyMachine.settings = settings(stateful_step_count=150, deadline=None)


def make_state(workers: int = 2, waiting: tuple[Task, ...] = (), undrawn: int = 0) -> State:
    """Return the state of an open stage whose workers are idle, after some observed trials."""
    return State(
        needs=(0,),
        opened=1,
        left=len(waiting) + undrawn,
        undrawn=undrawn,
        waiting=DeviceQueues.of(["cpu"]).put(waiting, PACES).with_workers({"cpu": workers}, PACES),
        devices={f"w{n}": "cpu" for n in range(workers)},
        running={f"w{n}": () for n in range(workers)},
        ready={f"w{n}": None for n in range(workers)},
        paces=PACES,
        busy=False,
    )


def submitted(commands: tuple[Command, ...]) -> list[SubmitChunk]:
    return [command for command in commands if isinstance(command, SubmitChunk)]


def test_chunks_hold_about_half_a_second_of_work() -> None:
    waiting = tuple(make_task(n, cost_s=0.05) for n in range(400))
    _, commands = step(make_state(2, waiting), WorkerJoined("w2"))
    assert {len(c.chunk.tasks) for c in submitted(commands)} == {round(CHUNK_S / 0.05)}


def test_observed_times_correct_the_predictions() -> None:
    waiting = tuple(make_task(n, cost_s=0.05) for n in range(4000))
    slow = replace(make_state(2, waiting), paces={"cpu": Pace(10.0, 100.0)})
    _, commands = step(slow, WorkerJoined("w2"))
    assert {len(c.chunk.tasks) for c in submitted(commands)} == {1}


def test_the_first_chunks_hold_one_trial() -> None:
    state = replace(make_state(2, tuple(make_task(n) for n in range(100))), paces={"cpu": Pace()})
    _, commands = step(state, WorkerJoined("w2"))
    assert {len(c.chunk.tasks) for c in submitted(commands)} == {1}


def test_the_lanes_of_a_worker_are_filled() -> None:
    state, commands = step(
        make_state(0, tuple(make_task(n) for n in range(100))), WorkerJoined("w0", lanes=40)
    )
    sent = [len(submit.chunk.tasks) for submit in submitted(commands)]
    assert sum(sent) <= 40
    assert len(sent) == MAX_CHUNKS or sum(sent) == 40
    done = submitted(commands)[0].chunk
    results = tuple(make_result(task, 1e-4) for task in done.tasks)
    state, commands = step(state, ChunkDone("w0", done.number, results))
    assert submitted(commands), "a lane that is free is filled at once"


def test_chunks_shrink_toward_the_end_of_a_stage() -> None:
    sizes = []
    state = make_state(2, tuple(make_task(n, cost_s=0.01) for n in range(200)))
    state, commands = step(state, WorkerJoined("w0"))
    queue = submitted(commands)
    while queue:
        submit = queue.pop(0)
        sizes.append(len(submit.chunk.tasks))
        results = tuple(make_result(task, 0.01) for task in submit.chunk.tasks)
        state, commands = step(state, ChunkDone(submit.worker, submit.chunk.number, results))
        queue += submitted(commands)
    assert sum(sizes) == 200
    assert sizes[0] > 10
    assert sizes[-2:] == [1, 1]


def test_new_work_is_sent_before_results_are_written() -> None:
    state = make_state(1, tuple(make_task(n) for n in range(50)))
    state, commands = step(state, WorkerJoined("w0"))
    first = submitted(commands)[0]
    results = tuple(make_result(task) for task in first.chunk.tasks)
    _, commands = step(state, ChunkDone("w0", first.chunk.number, results))
    assert [type(command) for command in commands][:2] == [SubmitChunk, RecordResults]


def test_only_the_trial_that_kills_workers_fails() -> None:
    state = make_state(0, tuple(make_task(n, cost_s=0.1) for n in range(12)))
    events: deque[Event] = deque([WorkerJoined("w0")])
    results: list[Result] = []
    deaths = 0
    while events:
        state, commands = step(state, events.popleft())
        for command in commands:
            match command:
                case RecordResults(recorded):
                    results += recorded
                case SubmitChunk(worker, chunk) if any(task.trial.number == 3 for task in chunk.tasks):
                    deaths += 1
                    suspects = frozenset(c.number for c in state.running[worker])
                    events += [
                        WorkerLost(worker, Cause.CRASH, "signal 11", suspects),
                        WorkerJoined(f"w{deaths}"),
                    ]
                case SubmitChunk(worker, chunk):
                    events.append(ChunkDone(worker, chunk.number, tuple(map(make_result, chunk.tasks))))
    assert state.ended
    assert sorted(r.trial.number for r in results) == list(range(12))
    assert [r.trial.number for r in results if r.outcome is Outcome.FAILED] == [3]
    assert deaths <= Retries().crashes + 2


@pytest.mark.parametrize("times", [1, 7])
def test_preemptions_are_blamed_on_no_trial(times: int) -> None:
    state = make_state(0, (make_task(0),))
    for n in range(times):
        state, _ = step(state, WorkerJoined(f"x{n}"))
        ((worker, chunks),) = [(w, chunks) for w, chunks in state.running.items() if chunks]
        state, commands = step(
            state,
            WorkerLost(worker, Cause.PREEMPTED, "it was taken away", frozenset(c.number for c in chunks)),
        )
        assert not any(isinstance(command, RecordResults) for command in commands)
    state, _ = step(state, WorkerJoined("last"))
    ((chunk,),) = [chunks for chunks in state.running.values() if chunks]
    (sent,) = chunk.tasks
    assert (sent.attempt, sent.failures, sent.alone) == (times + 1, {}, False)


def test_a_trial_that_loses_five_machines_fails() -> None:
    state = make_state(0, (make_task(0),))
    records: list[RecordResults] = []
    for n in range(Retries().nodes + 1):
        assert not records
        state, _ = step(state, WorkerJoined(f"x{n}"))
        ((worker, chunks),) = [(w, chunks) for w, chunks in state.running.items() if chunks]
        lost = WorkerLost(
            worker, Cause.NODE, "it can no longer be reached", frozenset(c.number for c in chunks)
        )
        state, commands = step(state, lost)
        records += [command for command in commands if isinstance(command, RecordResults)]
    ((given_up,),) = [record.results for record in records]
    assert (given_up.outcome, given_up.cause, given_up.attempt) == (Outcome.FAILED, Cause.NODE, 5)
    assert str(given_up.failure).startswith("its machine failed 5 times")


def test_trials_that_lost_two_machines_are_tried_alone() -> None:
    lost_before = replace(make_task(1), attempt=2)
    state, _ = step(
        make_state(0, (make_task(0), lost_before, make_task(2), *map(make_task, range(3, 30)))),
        WorkerJoined("w0"),
    )
    first = state.running["w0"][0]
    assert len(first.tasks) > 2
    state, _ = step(state, WorkerLost("w0", Cause.NODE, "it is gone", frozenset({first.number})))
    assert {task.trial.number for task in state.waiting if task.alone} == {1}
    assert not any(task.failures for task in state.waiting)


def test_an_interruption_waits_for_running_chunks() -> None:
    state = make_state(1, tuple(make_task(n) for n in range(50)))
    state, commands = step(state, WorkerJoined("w0"))
    (sent, *_) = submitted(commands)
    chunks = state.running["w0"]
    state, commands = step(state, StopRequested())
    assert commands == ()
    for chunk in chunks:
        state, commands = step(state, ChunkDone("w0", chunk.number, tuple(map(make_result, chunk.tasks))))
        assert not submitted(commands)
    assert [type(command) for command in commands] == [RecordResults, Finish]
    assert commands[-1] == Finish(interrupted=True)
    assert sent.chunk in chunks


def test_a_trial_over_its_time_limit_is_not_retried() -> None:
    timed = tuple(replace(make_task(n), alone=True) for n in range(3))
    state, commands = step(make_state(1, timed), WorkerJoined("w0"))
    (sent,) = submitted(commands)
    assert [task.trial.number for task in sent.chunk.tasks] == [0]
    overdue = WorkerLost("w0", Cause.TIME, "took longer than 5 s", frozenset({sent.chunk.number}))
    state, commands = step(state, overdue)
    (record,) = commands
    assert isinstance(record, RecordResults)
    assert [(r.outcome, r.failure) for r in record.results] == [(Outcome.FAILED, "took longer than 5 s")]
    assert [task.trial.number for task in state.waiting] == [1, 2]
    state, commands = step(state, WorkerJoined("w1"))
    assert [task.trial.number for task in submitted(commands)[0].chunk.tasks] == [1]
    assert len(state.running["w1"]) == 1, "its time would run while a second one waits"


def test_several_suspects_are_each_tried_alone() -> None:
    state = replace(make_state(1, tuple(make_task(n, cost_s=0.4) for n in range(20))), running={"w0": ()})
    state, _ = step(state, WorkerJoined("w0"))
    suspects = state.running["w0"]
    assert [len(chunk.tasks) for chunk in suspects] == [1, 1]
    state, _ = step(
        state, WorkerLost("w0", Cause.CRASH, "signal 11", frozenset(chunk.number for chunk in suspects))
    )
    tried_again = list(state.waiting)[:2]
    assert [(task.failures, task.alone, task.attempt) for task in tried_again] == [({}, True, 2)] * 2


def test_a_worker_that_joins_twice_keeps_its_chunks() -> None:
    state = make_state(1, tuple(make_task(n) for n in range(20)))
    state, _ = step(state, WorkerJoined("w0"))
    again, commands = step(state, WorkerJoined("w0"))
    assert again.running == state.running
    assert commands == ()


def test_idle_time_draws_ahead_and_long_trials_go_first() -> None:
    state = make_state(1, tuple(make_task(n, cost_s=10.0) for n in range(8)), undrawn=200)
    state, commands = step(state, Idle())
    (draw,) = commands
    assert isinstance(draw, DrawTrials)
    again, nothing = step(state, Idle())
    assert (again, nothing) == (state, ()), "draws are not repeated"
    long_one = tuple(make_task(8 + n, cost_s=60.0 if n == 40 else 1.0) for n in range(draw.count))
    state, commands = step(state, TrialsDrawn(long_one))
    (sent,) = submitted(commands)[:1]
    assert [task.trial.number for task in sent.chunk.tasks] == [48]


def test_begun_trials_go_before_new_ones() -> None:
    begun = replace(make_task(0, cost_s=0.1), attempt=2)
    state, _ = step(
        make_state(0, (begun,), undrawn=64),
        TrialsDrawn(tuple(make_task(n, cost_s=9.0) for n in range(1, 65))),
    )
    assert next(iter(state.waiting)) == begun


def test_each_trial_of_an_overdue_chunk_is_tried_alone() -> None:
    state = make_state(1, tuple(make_task(n, cost_s=0.1) for n in range(8)))
    state, commands = step(state, WorkerJoined("w0"))
    chunks = state.running["w0"]
    numbers = frozenset(chunk.number for chunk in chunks)
    assert sum(len(chunk.tasks) for chunk in chunks) > 1
    state, commands = step(state, WorkerLost("w0", Cause.TIME, "took longer than 5 s", numbers))
    assert not any(isinstance(command, RecordResults) for command in commands)
    suspects = [task for chunk in chunks for task in chunk.tasks]
    assert [(task.trial.number, task.alone) for task in list(state.waiting)[: len(suspects)]] == [
        (task.trial.number, True) for task in suspects
    ]


def test_an_interruption_at_the_end_changes_nothing() -> None:
    state, commands = step(make_state(1, (make_task(0),)), WorkerJoined("w0"))
    ((worker, chunk),) = [(sent.worker, sent.chunk) for sent in submitted(commands)]
    state, _ = step(state, StopRequested())
    _, commands = step(state, ChunkDone(worker, chunk.number, tuple(map(make_result, chunk.tasks))))
    assert commands[-1] == Finish(interrupted=False)


def test_trials_start_by_when_they_are_due_and_by_length() -> None:
    costs = {0: 1.0, 1: 1.0, 2: 6.0, 3: 1.0, 4: 1.0}
    tasks = tuple(replace(make_task(n, cost_s=s), due=10 + 10 * n, room=40) for n, s in costs.items())
    state, _ = step(make_state(0, undrawn=5), TrialsDrawn(tasks))
    assert [task.trial.number for task in state.waiting] == [2, 0, 1, 3, 4]


def test_trials_that_are_due_together_start_by_length() -> None:
    tasks = tuple(replace(make_task(n, cost_s=float(n * 3 % 5 + 1)), due=5, room=5) for n in range(5))
    state, _ = step(make_state(0, undrawn=5), TrialsDrawn(tasks))
    assert [task.cost_s("cpu") for task in state.waiting] == [5.0, 4.0, 3.0, 2.0, 1.0]


def test_a_trial_past_its_next_rung_is_not_sent() -> None:
    """A function that first reports at epoch 3 has measured the second rung when it comes back from the first."""
    racing = Race(rule=Halving(cohort=3), epochs=EPOCHS, first=0, count=3, metric="loss", maximize=False)
    state = replace(make_state(1, undrawn=3), races={1: racing})
    events: deque[Event] = deque([TrialsDrawn(tuple(make_task(n) for n in range(3))), WorkerJoined("w0")])
    parts: list[tuple[int, int]] = []
    while events:
        state, commands = step(state, events.popleft())
        for submit in submitted(commands):
            parts += [(task.trial.number, task.until) for task in submit.chunk.tasks]
            results = [
                replace(
                    make_result(task), measurements=(make_measurement(task.trial.number, max(3, task.until)),)
                )
                for task in submit.chunk.tasks
            ]
            events.append(ChunkDone(submit.worker, submit.chunk.number, tuple(results)))
    best = min(range(3), key=lambda number: make_measurement(number, 3).metrics["loss"])
    assert sorted(parts) == sorted([(0, 1), (1, 1), (2, 1), (best, EPOCHS)])
