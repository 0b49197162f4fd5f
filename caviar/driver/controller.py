"""Scheduling decisions as a pure function: (state, event, time) -> (state, commands).

It reads no clock, draws no random number, opens no file and does not import Ray. Events say what happened, commands say
what to do, and `caviar.driver.loop` carries them out. No decision here changes the result of a trial (law 1), only when
and where it is trained.

A stage opens as soon as the results of the trials that it learns from are back, also while later ones of the stages
before it are still training. So several stages may be under way at a time. A stage that learns from all trials before
it opens when these are back, but those of its trials that are certain before then can start already (`DrawCertain`).

In a stage that halves, a trial trains in parts. Each part comes back as `stopped` at the end of a rung and is paused.
When its cohort is decided (`caviar.search.halving`), it is recorded as stopped or sent out for more epochs.

Waiting trials start in the order in which they must, so that later ones can learn from them in time: by the number of
the first trial that learns from them, less a lead that grows with their predicted length. Trials that are due at the
same time start by length, the longest first (Graham 1969).

Workers get trials in chunks of about CHUNK_S seconds, by predicted cost corrected by the observed pace, and in smaller
chunks if few trials are ready, so that all workers get some. A second chunk waits at the worker while it
works on the first. A worker with several lanes trains the trials of all its chunks at the same time, so it gets more
and smaller chunks, until its lanes are full.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from operator import itemgetter
from typing import Any

from caviar.driver.device_queues import DeviceQueues, Pace
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
    WorkerJoined,
    WorkerLost,
)
from caviar.driver.prefix import Prefix
from caviar.driver.retry_policy import after_failure, after_loss, failed, is_exhausted
from caviar.retries import Retries
from caviar.search.halving import Race
from caviar.trial import Outcome, Result, Trial

CHUNK_S = 0.5
"""Seconds of work in a chunk."""
TAIL = 4
"""Divisor if few trials are ready: a chunk is at most a worker's share of their seconds divided by this."""
PREFETCH_S = 1.0
"""Longest first chunk, in seconds, behind which a second one is sent ahead."""
LEAD = 0.25
"""Share of the trials in flight by which a trial of mean length starts before it is due."""
MIN_DRAW = 64
"""Smallest number of trials drawn at a time."""
DRAW_AHEAD = 20_000
"""Largest number of drawn trials that wait. Drawing ahead lets the longest trials go first."""
MAX_CHUNK = 1_000
"""Largest number of trials in a chunk."""
MAX_CHUNKS = 16
"""Largest number of chunks of a worker with several lanes."""
PACE_DECAY = 0.9
"""Weight of the earlier pace after each finished chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The state of a study's scheduling. Its size depends on the trials under way, not on the finished ones."""

    needs: tuple[int | None, ...]
    """For each stage, the number of first trials that are known before it opens; None for all trials before it."""
    retries: Retries = field(default_factory=Retries)
    opened: int = 0
    """Number of stages opened."""
    undrawn: int = 0
    """Number of trials of the stage opened last that have not been drawn."""
    left: int = 0
    """Number of trials that are not known: those of the opened stages, and those that have started before theirs."""
    known: Prefix = field(default_factory=Prefix)
    """Trials whose results are known."""
    waiting: DeviceQueues
    """Tasks that have not been sent."""
    devices: Mapping[str, str] = field(default_factory=dict)
    """Device of each live worker."""
    lanes: Mapping[str, int] = field(default_factory=dict)
    """Largest number of trials that each live worker trains at the same time, where it is not 1."""
    running: Mapping[str, tuple[Chunk, ...]] = field(default_factory=dict)
    """Chunks of each live worker. It works on the first; with several lanes, on all."""
    ready: Mapping[str, None] = field(default_factory=dict)
    """Workers that may need another chunk: they have joined or given one back. An ordered set."""
    races: Mapping[int, Race] = field(default_factory=dict)
    """State of the halving of each stage that halves and is under way, by its number."""
    paused: Mapping[int, Task] = field(default_factory=dict)
    """Trials that wait for their cohort to be decided, by number."""
    chunks: int = 0
    """Number of chunks sent."""
    mean_costs: Mapping[str, float] = field(default_factory=lambda: {"cpu": 1.0, "cuda": 1.0})
    """Mean predicted seconds of the trials drawn last, by device."""
    paces: Mapping[str, Pace] = field(default_factory=lambda: {"cpu": Pace(), "cuda": Pace()})
    """Pace of each device."""
    has_news: bool = False
    """True if results came after the last `DrawCertain`."""
    busy: bool = True
    """True while an `OpenStage`, `DrawTrials` or `DrawCertain` has not been answered."""
    stopping: bool = False
    """True once the user asked to stop."""
    ended: bool = False
    """True once `Finish` was sent."""


Step = tuple[State, tuple[Command, ...]]
"""A new state and the commands that go with it."""


def begin(needs: Iterable[int | None], retries: Retries, devices: Iterable[str] = ("cpu",)) -> Step:
    """Return the first state of a study and its first command.

    Args:
        needs: for each stage, the number of first trials that are known before it opens; None for all before it.
        retries: limits for retrying trials, by cause.
        devices: devices of the workers, present and expected.
    """
    return State(needs=tuple(needs), retries=retries, waiting=DeviceQueues.of(devices)), (OpenStage(),)


def step(state: State, event: Event, now: float = 0.0) -> Step:
    """Return what follows from an event. A chunk that is not expected (late, or reported twice) changes nothing.

    Args:
        state: before the event.
        event: what happened.
        now: the driver's clock in seconds.
    """
    commands: tuple[Command, ...] = ()
    match event:
        case StageOpened():
            state = _add_stage(state, event)
        case TrialsDrawn(tasks):
            state = _queue_drawn(state, tasks, now)
        case CertainDrawn(tasks):
            state = _queue_certain(state, tasks, now)
        case WorkerJoined():
            state = _add_worker(state, event)
        case ChunkDone(worker, number, results):
            state, commands = _accept(state, worker, number, results, now)
        case WorkerLost():
            state, commands = _reassign(state, event, now)
        case Idle():
            return _draw_ahead(state)
        case StopRequested():
            state = replace(state, stopping=True)
    return _advance(state, commands, now)


def _advance(state: State, commands: tuple[Command, ...], now: float) -> Step:
    """Send chunks, draw trials, open the next stage or finish, if it is time.

    Chunks are sent before results are recorded, so that no worker waits.
    """
    if state.ended:
        return state, commands
    if state.left == 0 and not state.busy and state.opened == len(state.needs):
        return replace(state, ended=True), (*commands, Finish(interrupted=False))
    if state.stopping:
        if not any(state.running.values()):
            return replace(state, ended=True), (*commands, Finish(interrupted=True))
        return state, commands
    state, submits = _fill(state, now)
    commands = (*submits, *commands)
    if _may_open(state):
        return replace(state, busy=True), (*commands, OpenStage())
    lanes = sum(_lanes(state, worker) for worker in state.running)
    wanted = max(lanes, 2 * max(1, len(state.running)) * _chunk_length(state))
    if state.undrawn and not state.busy and len(state.waiting) < wanted:
        commands = (*commands, DrawTrials(min(state.undrawn, max(wanted, MIN_DRAW))))
        state = replace(state, busy=True)
    elif state.has_news and _may_draw_certain(state) and len(state.waiting) < lanes:
        commands = (*commands, DrawCertain())
        state = replace(state, busy=True, has_news=False)
    return state, commands


def _may_open(state: State) -> bool:
    """Return whether all is known that the next stage learns from."""
    if state.busy or state.undrawn or state.opened == len(state.needs):
        return False
    need = state.needs[state.opened]
    return state.left == 0 if need is None else state.known.length >= need


def _may_draw_certain(state: State) -> bool:
    """Return whether trials of later stages may be certain while those of the opened stages are under way."""
    needs = state.needs[state.opened :]
    return not state.busy and not state.undrawn and state.left > 0 and bool(needs) and needs[0] is None


def trials_under_way(state: State) -> list[Trial]:
    """Return the trials that wait, run or are paused."""
    running = (chunk.tasks for chunks in state.running.values() for chunk in chunks)
    return [task.trial for task in chain(state.waiting, *running, state.paused.values())]


def may_draw_ahead(state: State) -> bool:
    """Return True if `Idle` would be answered by `DrawTrials`."""
    return bool(state.undrawn) and not state.busy and not state.stopping and len(state.waiting) < DRAW_AHEAD


def _draw_ahead(state: State) -> Step:
    if not may_draw_ahead(state):
        return state, ()
    return replace(state, busy=True), (DrawTrials(min(state.undrawn, MIN_DRAW)),)


def _add_stage(state: State, opened: StageOpened) -> State:
    number = state.opened + 1
    races = {**state.races, number: opened.race} if opened.race is not None else state.races
    return replace(
        state,
        opened=number,
        undrawn=opened.left,
        left=state.left + opened.left,
        known=state.known.up_to(opened.known).add(opened.done),
        races=races,
        busy=False,
    )


def _queue_drawn(state: State, tasks: Sequence[Task], now: float) -> State:
    """Queue drawn trials; in a stage that halves, the first part of each."""
    race, means = state.races.get(state.opened), state.mean_costs
    if tasks:
        means = {d: sum(task.costs[d] for task in tasks) / len(tasks) for d in tasks[0].costs}
    parts = () if race is None else (race.rung_epochs[0],)
    tasks = [replace(task, start_by=_start_by(task, means), parts=parts, waiting_since=now) for task in tasks]
    return _queue(replace(state, undrawn=state.undrawn - len(tasks), mean_costs=means, busy=False), tasks)


def _queue_certain(state: State, tasks: Sequence[Task], now: float) -> State:
    """Queue trials that start before their stage opens."""
    tasks = [replace(task, start_by=_start_by(task, state.mean_costs), waiting_since=now) for task in tasks]
    return _queue(replace(state, left=state.left + len(tasks), busy=False), tasks)


def _start_by(task: Task, means: Mapping[str, float]) -> float:
    """Return the place at which a trial should start, so that it ends in time for those that learn from it."""
    device, cost_s = min(task.costs.items(), key=itemgetter(1))
    relative = cost_s / means[device] if means[device] > 0 else 1.0
    return task.due - LEAD * task.room * relative


def _queue(state: State, tasks: Sequence[Task]) -> State:
    return replace(state, waiting=state.waiting.put(tasks, state.paces))


def _add_worker(state: State, joined: WorkerJoined) -> State:
    worker = joined.worker
    if worker in state.running:
        return state
    state = replace(
        state,
        running={**state.running, worker: ()},
        lanes={**state.lanes, worker: joined.lanes} if joined.lanes > 1 else state.lanes,
        ready={**state.ready, worker: None},
    )
    return _with_devices(state, {**state.devices, worker: joined.device})


def _with_devices(state: State, devices: Mapping[str, str]) -> State:
    """Return the state with other workers than before."""
    waiting = state.waiting.with_workers(Counter(devices.values()), state.paces)
    return replace(state, devices=devices, waiting=waiting)


def _accept(state: State, worker: str, number: int, results: Sequence[Result], now: float) -> Step:
    """Take the results of a running chunk; failed trials may be tried again."""
    chunks = state.running.get(worker, ())
    chunk = next((c for c in chunks if c.number == number), None)
    if chunk is None:
        return state, ()
    device = state.devices[worker]
    took_s = sum(r.times.setup_s + r.times.train_s for r in results)
    state = replace(
        state,
        running={**state.running, worker: tuple(c for c in chunks if c is not chunk)},
        ready={**state.ready, worker: None},
        paces={**state.paces, device: state.paces[device].after(chunk.cost_s, took_s, PACE_DECAY)},
    )
    sent = {task.trial.number: task for task in chunk.tasks}
    retried: list[Task] = []
    ended: list[tuple[Task, Result]] = []
    for result in results:
        task = sent[result.trial.number]
        if result.cause is not None:
            again = after_failure(task, result.cause)
            if not is_exhausted(again, result.cause, state.retries):
                retried.append(again)
                continue
        ended.append((task, result))
    return _finish_parts(_queue(state, retried), ended, now)


def _finish_parts(state: State, pairs: Iterable[tuple[Task, Result]], now: float) -> Step:
    """Record trials that have ended; pause those at the end of a rung until their cohort is decided."""
    races, paused = dict(state.races), dict(state.paused)
    ended: list[Result] = []
    promoted: list[Task] = []
    arrived = deque((task, result.after(task.so_far)) for task, result in pairs)
    while arrived:
        task, result = arrived.popleft()
        is_over = result.outcome is not Outcome.STOPPED
        if is_over:
            ended.append(result)
        race = races.get(task.trial.round)
        if race is None or task.until == task.trial.epochs:
            continue
        if not is_over:
            paused[task.trial.number] = replace(task, so_far=result, waiting_since=now)
        race, verdict = race.report(task.trial.number, result.measurements, ended=is_over)
        races[task.trial.round] = race
        ended += [stopped for number in verdict.stopped if (stopped := paused.pop(number).so_far)]
        for number, until in verdict.promoted.items():
            resumed = paused.pop(number)
            if resumed.so_far is not None and resumed.trained_epochs >= until:
                arrived.append((resumed, resumed.so_far))  # it reports seldom, and is past the next rung
            else:
                promoted.append(replace(resumed, parts=(*resumed.parts, until)))
    races = {number: race for number, race in races.items() if not race.is_decided}
    return _record(_queue(replace(state, races=races, paused=paused), promoted), ended)


def _record(state: State, ended: Sequence[Result]) -> Step:
    """Record trials that have ended."""
    if not ended:
        return state, ()
    known = state.known.add(result.trial.number for result in ended)
    state = replace(state, known=known, left=state.left - len(ended), has_news=True)
    return state, (RecordResults(tuple(ended)),)


def _reassign(state: State, event: WorkerLost, now: float) -> Step:
    """Queue a lost worker's trials again, except those that have failed too often."""
    chunks = state.running.get(event.worker)
    if chunks is None:
        return state, ()
    retried: list[Task] = []
    ended: list[tuple[Task, Result]] = []
    for chunk in chunks:
        for task in chunk.tasks:
            again = after_loss(task, chunk, event)
            if is_exhausted(again, event.cause, state.retries):
                ended.append((task, failed(again, event, now)))
            else:
                retried.append(again)
    running, lanes, ready, devices = (
        _without(values, event.worker) for values in (state.running, state.lanes, state.ready, state.devices)
    )
    state = _with_devices(replace(state, running=running, lanes=lanes, ready=ready), devices)
    return _finish_parts(_queue(state, retried), ended, now)


def _without(values: Mapping[str, Any], worker: str) -> dict[str, Any]:
    """Return what belongs to the other workers."""
    return {other: value for other, value in values.items() if other != worker}


def _fill(state: State, now: float) -> tuple[State, list[Command]]:
    """Give each idle worker a chunk; then, if there is plenty, send more ahead."""
    if not state.waiting:
        return state, []
    commands: list[Command] = []
    for slots in range(1, max((_max_chunks(state, worker) for worker in state.ready), default=0) + 1):
        for worker in state.ready:
            chunks = state.running[worker]
            if len(chunks) >= min(slots, _max_chunks(state, worker)) or not state.waiting:
                continue
            if chunks and not _may_send_ahead(state, worker):
                continue
            chunk = _next_chunk(state, worker, now)
            if not chunk.tasks:
                continue
            state = replace(
                state,
                chunks=state.chunks + 1,
                waiting=state.waiting.without(state.devices[worker], len(chunk.tasks)),
                running={**state.running, worker: (*chunks, chunk)},
            )
            commands.append(SubmitChunk(worker, chunk))
    ready = {
        worker: None
        for worker in state.ready
        if len(state.running[worker]) < (1 if state.waiting else _max_chunks(state, worker))
    }
    return replace(state, ready=ready), commands


def _lanes(state: State, worker: str) -> int:
    return state.lanes.get(worker, 1)


def _max_chunks(state: State, worker: str) -> int:
    """Return the largest number of chunks that a worker may have."""
    return MAX_CHUNKS if _lanes(state, worker) > 1 else 2


def _may_send_ahead(state: State, worker: str) -> bool:
    """Return True if a worker with chunks may get another, while none of its trials runs alone.

    If it has one lane, there must be plenty, and its first chunk must be short. If it has several, one must be free.
    """
    device, chunks = state.devices[worker], state.running[worker]
    following = next(state.waiting.offer(device, state.paces), None)
    if following is None or following.alone or chunks[0].tasks[0].alone:
        return False
    if _lanes(state, worker) > 1:
        return _free_lanes(state, worker) > 0
    is_plenty = len(state.waiting) + state.undrawn > len(state.running)
    return is_plenty and chunks[0].cost_s * state.paces[device].factor < PREFETCH_S


def _free_lanes(state: State, worker: str) -> int:
    """Return the number of trials that a worker could start at once."""
    return _lanes(state, worker) - sum(len(chunk.tasks) for chunk in state.running[worker])


def _next_chunk(state: State, worker: str, now: float) -> Chunk:
    """Return the first tasks on offer, up to a chunk's seconds; a task that runs alone comes alone."""
    device, idle = state.devices[worker], not any(state.running.values())
    target_s, factor, largest = _chunk_seconds(state, device), state.paces[device].factor, MAX_CHUNK
    if _lanes(state, worker) > 1:
        target_s, largest = target_s / MAX_CHUNKS, min(largest, max(1, _free_lanes(state, worker)))
    taken: list[Task] = []
    cost_s = 0.0
    for task in islice(state.waiting.offer(device, state.paces, idle), largest):
        task_s = task.cost_s(device)
        if taken and (task.alone or (cost_s + task_s) * factor > target_s):
            break
        taken.append(replace(task, queue_s=now - task.waiting_since))
        cost_s += task_s
        if task.alone:
            break
    return Chunk(state.chunks, tuple(taken), cost_s)


def _chunk_seconds(state: State, device: str) -> float:
    """Return the target length of a chunk: CHUNK_S, less near the end of a stage, 0 before the first observation."""
    if state.paces[device].observed_s == 0.0:
        return 0.0
    ahead_s = state.waiting.seconds(state.paces) + state.undrawn * _trial_seconds(state)
    return min(CHUNK_S, ahead_s / (TAIL * max(1, len(state.running))))


def _chunk_length(state: State) -> int:
    """Return the approximate number of trials in a chunk."""
    longest_s = max((_chunk_seconds(state, device) for device in state.waiting.queues), default=0.0)
    return max(1, min(MAX_CHUNK, int(longest_s / max(_trial_seconds(state), 1e-9))))


def _trial_seconds(state: State) -> float:
    """Return the expected seconds of a trial on the device that trains it fastest."""
    present = [device for device in state.mean_costs if device in state.waiting.queues]
    return min(state.mean_costs[device] * state.paces[device].factor for device in present)
