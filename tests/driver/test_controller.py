"""The controller, driven through arbitrary orders of arrivals, losses, duplicates, interruptions and resumes."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from caviar.driver.controller import CHUNK_S, State, begin, step
from caviar.driver.device_queues import DeviceQueues, Pace
from caviar.driver.messages import (
    ChunkDone,
    Command,
    DrawTrials,
    Event,
    Finish,
    Idle,
    OpenStage,
    RecordResults,
    ResultsRecorded,
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

STAGES = (7, 0, 12, 1)
"""How many trials each stage has; one has none left, as after a resume."""
HALVED = 2
"""The place of the stage in which trials race against each other."""
COHORT = 3
"""Of so many of them one trains to the end."""
EPOCHS = 9
PACES = {"cpu": Pace(10.0, 10.0), "cuda": Pace(10.0, 10.0)}
"""Some experience of how long trials take: as predicted."""
RETRIES = Retries(errors=1, timeouts=1, memory=2, crashes=1, nodes=2)
LIMITS = {Cause.ERROR: 1, Cause.TIME: 1, Cause.MEMORY: 2, Cause.CRASH: 1, Cause.NODE: 2}
LOSSES = [cause for cause in Cause if cause is not Cause.ERROR]
SUDDEN = (Cause.MEMORY, Cause.CRASH, Cause.NODE)
FAILURES = st.lists(st.sampled_from([None, None, None, Cause.ERROR, Cause.TIME]), min_size=8, max_size=8)
"""How the trials of a chunk end, one after the other."""


def task(number: int, cost_s: float = 0.1, on_gpu_s: float | None = None) -> Task:
    trial = Trial(number=number, round=1, params={}, epochs=EPOCHS, seed=number)
    return Task(trial=trial, costs={"cpu": cost_s, "cuda": on_gpu_s or cost_s})


def measurement(number: int, epoch: int) -> Measurement:
    """The same whenever the trial is trained; no two trials of a cohort are equally good."""
    return Measurement(epoch, {"loss": float(number * 7 % 11 + epoch)})


def result(a: Task, took_s: float = 0.1) -> Result:
    """Of the part that was asked for."""
    return Result(
        trial=a.trial,
        attempt=a.attempt,
        outcome=Outcome.COMPLETED if a.until == EPOCHS else Outcome.STOPPED,
        value=1.0,
        measurements=tuple(
            measurement(a.trial.number, epoch) for epoch in range(a.trained_epochs + 1, a.until + 1)
        ),
        times=Times(train_s=took_s),
    )


def failure(a: Task, cause: Cause) -> Result:
    """The worker's word that it went wrong."""
    return Result(trial=a.trial, outcome=Outcome.FAILED, failure="so", cause=cause, attempt=a.attempt)


def numbers(stage: int) -> range:
    """Of a stage's trials."""
    return range(sum(STAGES[:stage]), sum(STAGES[: stage + 1]))


def race(stage: int, curves: Mapping[int, Sequence[Measurement]]) -> Race | None:
    """Of four cohorts, where trials race at all; as far as it was decided by what is recorded."""
    if stage != HALVED:
        return None
    trials = numbers(stage)
    rule = Halving(cohort=COHORT)
    racing = Race(rule=rule, epochs=EPOCHS, first=trials[0], count=len(trials), metric="loss", maximize=False)
    for number in trials:
        if number in curves:
            racing, _ = racing.report(number, curves[number], ended=True)
    return racing


class Study(RuleBasedStateMachine):
    """A whole study in which workers come, go, report late and report twice, trials fail, and the driver is killed."""

    def __init__(self) -> None:
        super().__init__()
        self.state, commands = begin(len(STAGES), RETRIES, ["cpu"])
        self.pending: list[Command] = list(commands)
        self.recorded: list[int] = []
        self.failed: set[int] = set()
        self.blamed: Counter[tuple[int, Cause]] = Counter()
        """How often each cause was a trial's own, by our own books ..."""
        self.befell: Counter[int] = Counter()
        """... and how often any befell it."""
        self.suspected: set[int] = set()
        """What was at a worker when it came to grief."""
        self.curves: dict[int, tuple[Measurement, ...]] = {}
        """What is recorded of each trial."""
        self.undrawn: list[int] = []
        """Trials of the stage."""
        self.drawn: set[int] = set()
        """Those that were, and those that need not be, for they are recorded."""
        self.workers = 0
        self.resumes = 0
        self.finished: Finish | None = None
        self.sent: list[SubmitChunk] = []
        """What may be reported; at any time, and more than once."""

    def tell(self, event: Event) -> None:
        """Give an event; keeps what is to be done."""
        self.state, commands = step(self.state, event)
        for command in commands:
            if isinstance(command, SubmitChunk):
                self.sent.append(command)
            elif isinstance(command, Finish):
                assert self.finished is None, "finished twice"
                self.finished = command
            else:
                self.pending.append(command)

    def tell_in_vain(self, event: Event) -> None:
        """Give an event that is out of date: nothing becomes of any trial."""
        before = self.state
        self.tell(event)
        assert (self.state.running, self.state.waiting) == (before.running, before.waiting)
        assert (self.state.paused, self.state.race) == (before.paused, before.race)

    @initialize(devices=st.lists(st.sampled_from(["cpu", "cuda"]), min_size=1, max_size=3))
    def start(self, devices: list[str]) -> None:
        self.obey(1)
        self.obey(1)
        for device in devices:
            self.join(device)

    @precondition(lambda self: len(self.state.running) < 4)
    @rule(device=st.sampled_from(["cpu", "cuda"]))
    def join(self, device: str) -> None:
        self.workers += 1
        self.tell(WorkerJoined(f"w{self.workers}", device))

    @precondition(lambda self: self.pending)
    @rule(count=st.integers(1, 3))
    def obey(self, count: int) -> None:
        """Carry out the oldest commands."""
        for _ in range(min(count, len(self.pending))):
            self.carry_out(self.pending.pop(0))

    def carry_out(self, command: Command) -> None:
        match command:
            case OpenStage():
                stage = self.state.opened
                self.undrawn = [number for number in numbers(stage) if number not in self.curves]
                self.tell(StageOpened(len(self.undrawn), race(stage, self.curves)))
            case DrawTrials(count):
                assert 0 < count <= len(self.undrawn)
                drawn, self.undrawn = self.undrawn[:count], self.undrawn[count:]
                self.drawn |= set(drawn)
                self.tell(TrialsDrawn(tuple(task(n, on_gpu_s=(0.02, 0.1, 0.5)[n % 3]) for n in drawn)))
            case RecordResults(results):
                self.recorded += [r.trial.number for r in results]
                for r in results:
                    self.examine(r)
                self.curves |= {r.trial.number: r.measurements for r in results}
                self.tell(ResultsRecorded(len(results)))
            case _:
                raise AssertionError(command)

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), again=st.booleans(), failures=FAILURES)
    def report(self, data: st.DataObject, again: bool, failures: list[Cause | None]) -> None:
        """A chunk's results arrive: perhaps late, from a worker that was lost, and perhaps once more later."""
        submit = self.sent.pop(data.draw(st.integers(0, len(self.sent) - 1)))
        if again:
            self.sent.append(submit)
        results = []
        expected = submit.chunk in self.state.running.get(submit.worker, ())
        for a, cause in zip(submit.chunk.tasks, itertools.cycle(failures), strict=False):
            results.append(result(a) if cause is None else failure(a, cause))
            if expected and cause is not None:
                self.befell[a.trial.number] += 1
                self.blamed[a.trial.number, cause] += 1
        event = ChunkDone(submit.worker, submit.chunk.number, tuple(results))
        if expected:
            self.tell(event)
        else:
            self.tell_in_vain(event)

    @precondition(lambda self: any(self.state.running.values()))
    @rule(data=st.data(), cause=st.sampled_from(LOSSES), began_both=st.booleans())
    def lose(self, data: st.DataObject, cause: Cause, began_both: bool) -> None:
        """A worker is gone; what was sent to it after its end cannot have been the reason."""
        worker = data.draw(st.sampled_from(sorted(w for w, chunks in self.state.running.items() if chunks)))
        self.strike(worker, cause, began_both)

    @precondition(lambda self: self.blamed_before())
    @rule(data=st.data())
    def lose_likewise(self, data: st.DataObject) -> None:
        """Lightning strikes the same trial twice."""
        worker, cause = data.draw(st.sampled_from(self.blamed_before()))
        self.strike(worker, cause, began_both=True)

    def blamed_before(self) -> list[tuple[str, Cause]]:
        """Workers whose trial has lost one before, and how."""
        first = {worker: chunks[0].tasks[0] for worker, chunks in self.state.running.items() if chunks}
        return [(worker, cause) for worker, a in first.items() for cause in a.failures if cause in SUDDEN]

    def strike(self, worker: str, cause: Cause, began_both: bool) -> None:
        chunks, device = self.state.running[worker], self.state.devices[worker]
        suspects = chunks if began_both else chunks[:1]
        for a in (a for chunk in chunks for a in chunk.tasks):
            self.befell[a.trial.number] += 1
        if cause is not Cause.PREEMPTED:
            self.suspected |= {a.trial.number for chunk in suspects for a in chunk.tasks}
        if cause is not Cause.PREEMPTED and [len(chunk.tasks) for chunk in suspects] == [1]:
            self.blamed[suspects[0].tasks[0].trial.number, cause] += 1
        event = WorkerLost(worker, cause, "it was struck by lightning", frozenset(c.number for c in suspects))
        self.tell(event)
        self.tell_in_vain(event)
        if cause is not Cause.NODE:
            self.join(device)

    @rule()
    def idle(self) -> None:
        self.tell(Idle())

    @precondition(lambda self: self.workers > 20)
    @rule()
    def interrupt(self) -> None:
        """Rarely: only late in a long run."""
        self.tell(StopRequested())

    @precondition(lambda self: len(self.recorded) > 4 * self.resumes)
    @rule(devices=st.lists(st.sampled_from(["cpu", "cuda"]), max_size=3))
    def resume(self, devices: list[str]) -> None:
        """The driver was killed, or ended; another one goes on from what is recorded, and knows nothing else."""
        self.resumes += 1
        self.state, commands = begin(len(STAGES), RETRIES, ["cpu"])
        self.pending, self.sent, self.finished = list(commands), [], None
        self.drawn = set(self.recorded)
        self.suspected &= self.drawn
        self.befell = Counter({n: c for n, c in self.befell.items() if n in self.drawn})
        self.blamed = Counter({key: c for key, c in self.blamed.items() if key[0] in self.drawn})
        for device in devices:
            self.join(device)

    def teardown(self) -> None:
        """From wherever it is, undisturbed, the study comes to its end."""
        if self.state.stopping:
            self.resume(["cpu"])
        self.join("cpu")
        while self.finished is None:
            running = [(w, chunk) for w, chunks in self.state.running.items() for chunk in chunks[:1]]
            assert self.pending or running, "nothing is under way, and it has not ended"
            if self.pending:
                self.carry_out(self.pending.pop(0))
            else:
                worker, chunk = running[0]
                self.tell(ChunkDone(worker, chunk.number, tuple(map(result, chunk.tasks))))
        self.an_end_without_interruption_has_recorded_everything()
        self.of_a_cohort_the_best_is_trained_to_the_end()

    def examine(self, r: Result) -> None:
        """A trial fails for what befell it itself, as often as it was given tries; every try is counted."""
        number, given_up = r.trial.number, r.outcome is Outcome.FAILED
        assert r.attempt == self.befell[number] + (not given_up)
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
        waiting = [a.trial.number for a in self.state.waiting]
        running = [a.trial.number for cs in self.state.running.values() for c in cs for a in c.tasks]
        to_record = [
            r.trial.number
            for command in self.pending
            if isinstance(command, RecordResults)
            for r in command.results
        ]
        everywhere = waiting + running + to_record + self.recorded + list(self.state.paused)
        assert sorted(everywhere) == sorted(self.drawn)

    @invariant()
    def the_seconds_that_wait_are_those_of_what_waits(self) -> None:
        for device, queue in self.state.waiting.queues.items():
            assert queue.cost_s == pytest.approx(sum(a.cost_s(device) for a in queue), abs=1e-9)

    @invariant()
    def no_worker_is_idle_while_trials_wait(self) -> None:
        """Unless what waits is done sooner by those of the other device, who are at work."""
        if not self.state.waiting or self.state.stopping:
            return
        for worker, chunks in self.state.running.items():
            if not chunks:
                device = self.state.devices[worker]
                assert next(self.state.waiting.offer(device, self.state.paces), None) is None
        assert not self.state.running or any(self.state.running.values())

    @invariant()
    def a_line_is_served_by_its_workers(self) -> None:
        devices = set(self.state.devices.values())
        assert self.state.devices.keys() == self.state.running.keys()
        assert devices <= set(self.state.waiting.queues)

    @invariant()
    def at_most_two_chunks_wait_at_a_worker(self) -> None:
        assert all(len(chunks) <= 2 for chunks in self.state.running.values())

    @invariant()
    def only_a_trial_that_was_alone_at_its_worker_is_blamed_for_its_death(self) -> None:
        for chunks in self.state.running.values():
            if any(a.alone for c in chunks for a in c.tasks):
                assert len(chunks) == len(chunks[0].tasks) == 1
        sent = [a for cs in self.state.running.values() for c in cs for a in c.tasks]
        blamed_for_losses = [
            a for a in (*sent, *self.state.waiting) if {Cause.CRASH, Cause.MEMORY} & set(a.failures)
        ]
        assert all(a.alone for a in blamed_for_losses)

    @invariant()
    def attempts_are_counted_and_bounded(self) -> None:
        sent = [a for cs in self.state.running.values() for c in cs for a in c.tasks]
        for a in (*sent, *self.state.waiting):
            assert a.attempt == 1 + self.befell[a.trial.number]
            assert not a.alone or a.trial.number in self.suspected
            assert all(a.failures.get(c, 0) == self.blamed[a.trial.number, c] <= LIMITS[c] for c in LIMITS)

    @invariant()
    def an_end_without_interruption_has_recorded_everything(self) -> None:
        if self.finished is not None and not self.finished.interrupted:
            assert sorted(self.recorded) == list(range(sum(STAGES)))
            assert not self.state.paused

    @invariant()
    def a_recorded_curve_has_every_epoch_once_whatever_its_parts(self) -> None:
        for number, curve in self.curves.items():
            assert list(curve) == [measurement(number, epoch) for epoch in range(1, len(curve) + 1)]
            assert number in self.failed or len(curve) in (1, 3, EPOCHS)

    @invariant()
    def most_trials_of_a_halved_stage_stop_early(self) -> None:
        whole = [n for n in numbers(HALVED) if len(self.curves.get(n, ())) == EPOCHS]
        assert len(whole) <= STAGES[HALVED] // COHORT

    @invariant()
    def of_a_cohort_the_best_is_trained_to_the_end(self) -> None:
        """And the others are not; whatever was lost, late or resumed, as long as none of them failed."""
        trials = numbers(HALVED)
        for cohort in (trials[place : place + COHORT] for place in range(0, len(trials), COHORT)):
            if self.curves.keys() >= set(cohort) and not self.failed & set(cohort):
                best = min(cohort, key=lambda number: measurement(number, 1).metrics["loss"])
                assert [len(self.curves[n]) for n in cohort] == [EPOCHS if n == best else 1 for n in cohort]

    @invariant()
    def a_stage_is_opened_only_when_the_one_before_is_durable(self) -> None:
        assert len(self.recorded) >= sum(STAGES[: max(0, self.state.opened - 1)])


TestStudy = Study.TestCase
TestStudy.settings = settings(max_examples=100, stateful_step_count=150, deadline=None)


def opened(workers: int = 2, waiting: tuple[Task, ...] = (), undrawn: int = 0) -> State:
    """A stage with workers that have nothing to do yet, and some experience of how long trials take."""
    return State(
        stages=1,
        opened=1,
        left=len(waiting) + undrawn,
        undrawn=undrawn,
        waiting=DeviceQueues.of(["cpu"])
        .put(waiting, PACES, None)
        .with_workers({"cpu": workers}, PACES, None),
        devices={f"w{n}": "cpu" for n in range(workers)},
        running={f"w{n}": () for n in range(workers)},
        ready={f"w{n}": None for n in range(workers)},
        paces=PACES,
        busy=False,
    )


def submits(commands: tuple[Command, ...]) -> list[SubmitChunk]:
    return [command for command in commands if isinstance(command, SubmitChunk)]


def test_chunks_hold_about_half_a_second_of_work() -> None:
    waiting = tuple(task(n, cost_s=0.05) for n in range(400))
    _, commands = step(opened(2, waiting), WorkerJoined("w2"))
    assert {len(c.chunk.tasks) for c in submits(commands)} == {round(CHUNK_S / 0.05)}


def test_predictions_are_corrected_by_what_trials_took() -> None:
    waiting = tuple(task(n, cost_s=0.05) for n in range(4000))
    slow = replace(opened(2, waiting), paces={"cpu": Pace(10.0, 100.0)})
    _, commands = step(slow, WorkerJoined("w2"))
    assert {len(c.chunk.tasks) for c in submits(commands)} == {1}


def test_before_anything_is_known_a_chunk_is_one_trial() -> None:
    state = replace(opened(2, tuple(task(n) for n in range(100))), paces={"cpu": Pace()})
    _, commands = step(state, WorkerJoined("w2"))
    assert {len(c.chunk.tasks) for c in submits(commands)} == {1}


def test_chunks_shrink_toward_the_end_of_a_stage() -> None:
    sizes = []
    state = opened(2, tuple(task(n, cost_s=0.01) for n in range(200)))
    state, commands = step(state, WorkerJoined("w0"))
    queue = submits(commands)
    while queue:
        submit = queue.pop(0)
        sizes.append(len(submit.chunk.tasks))
        results = tuple(result(a, 0.01) for a in submit.chunk.tasks)
        state, commands = step(state, ChunkDone(submit.worker, submit.chunk.number, results))
        queue += submits(commands)
    assert sum(sizes) == 200
    assert sizes[0] > 10
    assert sizes[-2:] == [1, 1]


def test_new_work_is_sent_before_results_are_written() -> None:
    state = opened(1, tuple(task(n) for n in range(50)))
    state, commands = step(state, WorkerJoined("w0"))
    first = submits(commands)[0]
    results = tuple(result(a) for a in first.chunk.tasks)
    _, commands = step(state, ChunkDone("w0", first.chunk.number, results))
    assert [type(command) for command in commands][:2] == [SubmitChunk, RecordResults]


def test_a_trial_that_keeps_killing_its_worker_is_given_up_and_its_neighbours_are_not() -> None:
    state = opened(1, tuple(task(n, cost_s=0.1) for n in range(12)))
    state, commands = step(state, WorkerJoined("w0"))
    recorded: list[Result] = []
    deaths = 0
    while not any(isinstance(command, Finish) for command in commands):
        ((worker, chunks),) = state.running.items()
        chunk = chunks[0]
        if any(a.trial.number == 3 for c in chunks for a in c.tasks):
            deaths += 1
            state, commands = step(
                state, WorkerLost(worker, Cause.CRASH, "signal 11", frozenset(c.number for c in chunks))
            )
            recorded += [r for c in commands if isinstance(c, RecordResults) for r in c.results]
            state, more = step(state, WorkerJoined(f"w{deaths}"))
        else:
            state, commands = step(state, ChunkDone(worker, chunk.number, tuple(map(result, chunk.tasks))))
            recorded += [r for c in commands if isinstance(c, RecordResults) for r in c.results]
            more = ()
        if state.left == len(recorded) and not any(state.running.values()) and not state.waiting:
            state, commands = step(state, ResultsRecorded(len(recorded)))
        else:
            commands = more
    assert sorted(r.trial.number for r in recorded) == list(range(12))
    assert [r.trial.number for r in recorded if r.outcome is Outcome.FAILED] == [3]
    assert deaths <= Retries().crashes + 2


@pytest.mark.parametrize("times", range(1, 8))
def test_a_machine_that_is_taken_away_is_held_against_no_trial(times: int) -> None:
    state = opened(0, (task(0),))
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


def test_a_trial_whose_machines_are_lost_one_after_the_other_is_given_up() -> None:
    state = opened(0, (task(0),))
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


def test_of_many_on_a_lost_machine_only_those_lost_before_go_alone() -> None:
    lost_before = replace(task(1), attempt=2)
    state, _ = step(opened(0, (task(0), lost_before, task(2), *map(task, range(3, 30)))), WorkerJoined("w0"))
    first = state.running["w0"][0]
    assert len(first.tasks) > 2
    state, _ = step(state, WorkerLost("w0", Cause.NODE, "it is gone", frozenset({first.number})))
    assert {a.trial.number for a in state.waiting if a.alone} == {1}
    assert not any(a.failures for a in state.waiting)


def test_interruption_waits_for_what_is_under_way_and_sends_nothing_new() -> None:
    state = opened(1, tuple(task(n) for n in range(50)))
    state, commands = step(state, WorkerJoined("w0"))
    (sent, *_) = submits(commands)
    chunks = state.running["w0"]
    state, commands = step(state, StopRequested())
    assert commands == ()
    for chunk in chunks:
        state, commands = step(state, ChunkDone("w0", chunk.number, tuple(map(result, chunk.tasks))))
        assert not submits(commands)
        if any(isinstance(command, RecordResults) for command in commands):
            state, commands = step(state, ResultsRecorded(len(chunk.tasks)))
    assert commands == (Finish(interrupted=True),)
    assert sent.chunk in chunks


def test_a_trial_that_took_too_long_is_not_tried_again() -> None:
    timed = tuple(replace(task(n), alone=True) for n in range(3))
    state, commands = step(opened(1, timed), WorkerJoined("w0"))
    (sent,) = submits(commands)
    assert [a.trial.number for a in sent.chunk.tasks] == [0]
    overdue = WorkerLost("w0", Cause.TIME, "took longer than 5 s", frozenset({sent.chunk.number}))
    state, commands = step(state, overdue)
    (record,) = commands
    assert isinstance(record, RecordResults)
    assert [(r.outcome, r.failure) for r in record.results] == [(Outcome.FAILED, "took longer than 5 s")]
    assert [a.trial.number for a in state.waiting] == [1, 2]
    state, commands = step(state, WorkerJoined("w1"))
    assert [a.trial.number for a in submits(commands)[0].chunk.tasks] == [1]
    assert len(state.running["w1"]) == 1, "a second one would wait, and its time would run"


def test_of_several_suspects_none_is_blamed_but_each_is_tried_alone() -> None:
    state = replace(opened(1, tuple(task(n, cost_s=0.4) for n in range(20))), running={"w0": ()})
    state, _ = step(state, WorkerJoined("w0"))
    suspects = state.running["w0"]
    assert [len(chunk.tasks) for chunk in suspects] == [1, 1]
    state, _ = step(
        state, WorkerLost("w0", Cause.CRASH, "signal 11", frozenset(chunk.number for chunk in suspects))
    )
    tried_again = list(state.waiting)[:2]
    assert [(a.failures, a.alone, a.attempt) for a in tried_again] == [({}, True, 2)] * 2


def test_a_worker_that_joins_twice_keeps_what_it_works_on() -> None:
    state = opened(1, tuple(task(n) for n in range(20)))
    state, _ = step(state, WorkerJoined("w0"))
    again, commands = step(state, WorkerJoined("w0"))
    assert again.running == state.running
    assert commands == ()


def test_where_there_is_time_trials_are_drawn_ahead_and_the_longest_go_first() -> None:
    state = opened(1, tuple(task(n, cost_s=10.0) for n in range(8)), undrawn=200)
    state, commands = step(state, Idle())
    (draw,) = commands
    assert isinstance(draw, DrawTrials)
    again, nothing = step(state, Idle())
    assert (again, nothing) == (state, ()), "one at a time"
    long_one = tuple(task(8 + n, cost_s=60.0 if n == 40 else 1.0) for n in range(draw.count))
    state, commands = step(state, TrialsDrawn(long_one))
    (sent,) = submits(commands)[:1]
    assert [a.trial.number for a in sent.chunk.tasks] == [48]


def test_what_was_begun_goes_on_before_what_is_new() -> None:
    trained_epochs = replace(task(0, cost_s=0.1), attempt=2)
    state, _ = step(
        opened(0, (trained_epochs,), undrawn=64),
        TrialsDrawn(tuple(task(n, cost_s=9.0) for n in range(1, 65))),
    )
    assert next(iter(state.waiting)) == trained_epochs


def test_of_several_in_a_chunk_that_took_too_long_each_is_tried_alone() -> None:
    state = opened(1, tuple(task(n, cost_s=0.1) for n in range(8)))
    state, commands = step(state, WorkerJoined("w0"))
    chunks = state.running["w0"]
    numbers = frozenset(chunk.number for chunk in chunks)
    assert sum(len(chunk.tasks) for chunk in chunks) > 1
    state, commands = step(state, WorkerLost("w0", Cause.TIME, "took longer than 5 s", numbers))
    assert not any(isinstance(command, RecordResults) for command in commands)
    suspects = [a for chunk in chunks for a in chunk.tasks]
    assert [(a.trial.number, a.alone) for a in list(state.waiting)[: len(suspects)]] == [
        (a.trial.number, True) for a in suspects
    ]


def test_an_interruption_after_all_is_recorded_changes_nothing() -> None:
    _, commands = step(replace(opened(1, (task(0),)), stopping=True), ResultsRecorded(1))
    assert commands == (Finish(interrupted=False),)


def test_where_trials_race_few_cohorts_are_open_at_a_time() -> None:
    racing = Race(rule=Halving(cohort=3), epochs=EPOCHS, first=0, count=30, metric="loss", maximize=False)
    state = replace(opened(0, undrawn=30), race=racing)
    state, _ = step(state, TrialsDrawn(tuple(task(n, cost_s=float(n * 7 % 30 + 1)) for n in range(30))))
    assert [a.trial.number // 3 for a in state.waiting] == sorted(n // 3 for n in range(30))
