"""The pure heart of scheduling: (state, event) -> (state, commands).

It reads no clock, draws no number, opens no file and knows no Ray: what happened comes in as events, what is
to be done goes out as commands, and `caviar.driver.loop` carries them out. Results of trials do not
depend on any choice made here (law 1); only the time they take does.

Where a round halves, a trial trains in parts: each comes back as `stopped` at the end of a rung, is paused, and is
recorded so, or sent out again for more epochs, when its cohort's verdict is out (`caviar.search.halving`).

Workers get trials in chunks of about CHUNK_S seconds, by predicted cost corrected by what finished trials
took; smaller ones toward the end of a stage, so that all workers end it together. A second chunk waits at the
worker while it works on the first.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from caviar.driver.device_queues import Lines, Pace
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
    Joined,
    Lost,
    Open,
    Opened,
    Record,
    Recorded,
    Reported,
    Submit,
)
from caviar.driver.retry_policy import after_failure, after_loss, failed, is_given_up
from caviar.retries import Retries
from caviar.search.halving import Race
from caviar.trial import Outcome, Result

CHUNK_S = 0.5
"""Seconds of work in a message."""
TAIL = 4
"""Near the end a chunk is at most a worker's share of what is left, divided by this."""
PREFETCH_S = 1.0
"""A second chunk is sent ahead only while the first is shorter than this."""
MIN_DRAW = 64
"""Trials are drawn so many at a time at least ..."""
AHEAD = 20_000
"""... and, where there is time, up to so many before they are needed: the longest of them can then go first."""
MAX_CHUNK = 1_000
"""Trials in a message."""
MEMORY = 0.9
"""How much the observed pace remembers from one report to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a study stands; its size depends on what is under way, not on what is finished."""

    stages: int
    """How many there are."""
    retries: Retries = field(default_factory=Retries)
    """How often trials are tried again."""
    opened: int = 0
    """How many have been opened."""
    undrawn: int = 0
    """Trials of the stage that have not been asked for."""
    left: int = 0
    """Trials of the stage that are not durable."""
    waiting: Lines
    """Drawn, not sent."""
    devices: Mapping[str, str] = field(default_factory=dict)
    """Each live worker's."""
    under_way: Mapping[str, tuple[Chunk, ...]] = field(default_factory=dict)
    """Each live worker's chunks: it works on the first."""
    hungry: Mapping[str, None] = field(default_factory=dict)
    """Workers that have joined or given a chunk back, and have not been looked at since: only they may need another.
    (A set, in the order in which they came.)"""
    race: Race | None = None
    """Which trials of the stage race against which; None where all train to the end."""
    paused: Mapping[int, Assignment] = field(default_factory=dict)
    """Trials that wait for a verdict, with what they gave so far."""
    chunks: int = 0
    """How many have been sent."""
    mean_costs: Mapping[str, float] = field(default_factory=lambda: {"cpu": 1.0, "cuda": 1.0})
    """Predicted seconds of a trial, as lately drawn, by device."""
    paces: Mapping[str, Pace] = field(default_factory=lambda: {"cpu": Pace(), "cuda": Pace()})
    """What trials took, compared with that, by device."""
    busy: bool = True
    """An `Open` or `Draw` has not been answered yet."""
    stopping: bool = False
    ended: bool = False


def begin(
    stages: int, retries: Retries, devices: Iterable[str] = ("cpu",)
) -> tuple[State, tuple[Command, ...]]:
    """A study of so many stages, and the first command.

    Args:
        stages: how many.
        retries: how often trials are tried again.
        devices: for which there will be workers, as far as it is known.
    """
    return State(stages=stages, retries=retries, waiting=Lines.of(devices)), (Open(),)


def step(state: State, event: Event) -> tuple[State, tuple[Command, ...]]:
    """What follows from an event. A report that is not expected (late, or twice) changes nothing."""
    commands: tuple[Command, ...] = ()
    match event:
        case Opened(left, race):
            state = replace(state, opened=state.opened + 1, undrawn=left, left=left, race=race, busy=False)
        case Drawn(assignments):
            state = _take_in(state, assignments)
        case Joined(worker, device):
            if worker not in state.under_way:
                under_way, hungry = {**state.under_way, worker: ()}, {**state.hungry, worker: None}
                state = replace(state, under_way=under_way, hungry=hungry)
                state = _with_devices(state, {**state.devices, worker: device})
        case Reported(worker, number, results):
            state, commands = _settle(state, worker, number, results)
        case Recorded(count):
            state = replace(state, left=state.left - count)
        case Lost():
            state, commands = _reassign(state, event)
        case Idle():
            return _draw_ahead(state)
        case Interrupted():
            state = replace(state, stopping=True)
    return _advance(state, commands)


def _advance(state: State, commands: tuple[Command, ...]) -> tuple[State, tuple[Command, ...]]:
    """Go on with whatever can go on. New work is sent before results are written, so that no worker waits."""
    if state.ended:
        return state, commands
    recording = any(isinstance(command, Record) for command in commands)
    if state.left == 0 and not state.busy and state.opened == state.stages:
        return replace(state, ended=True), (*commands, Finish(interrupted=False))
    if state.stopping:
        if not recording and not any(state.under_way.values()):
            return replace(state, ended=True), (*commands, Finish(interrupted=True))
        return state, commands
    if state.left == 0 and not state.busy:
        return replace(state, busy=True), (*commands, Open())
    state, submits = _fill(state)
    commands = (*submits, *commands)
    wanted = 2 * max(1, len(state.under_way)) * _chunk_length(state)
    if state.undrawn and not state.busy and len(state.waiting) < wanted:
        commands = (*commands, Draw(min(state.undrawn, max(wanted, MIN_DRAW))))
        state = replace(state, busy=True)
    return state, commands


def may_draw_ahead(state: State) -> bool:
    """Whether `Idle` would be answered by a `Draw`."""
    return bool(state.undrawn) and not state.busy and not state.stopping and len(state.waiting) < AHEAD


def _draw_ahead(state: State) -> tuple[State, tuple[Command, ...]]:
    if not may_draw_ahead(state):
        return state, ()
    return replace(state, busy=True), (Draw(min(state.undrawn, MIN_DRAW)),)


def _take_in(state: State, assignments: tuple[Assignment, ...]) -> State:
    """Queue what was drawn; where trials race, the first part of each."""
    if state.race is not None:
        assignments = tuple(replace(a, parts=(state.race.ends[0],)) for a in assignments)
    means = state.mean_costs
    if assignments:
        devices = assignments[0].costs
        means = {d: sum(a.cost_s(d) for a in assignments) / len(assignments) for d in devices}
    state = replace(state, undrawn=state.undrawn - len(assignments), mean_costs=means, busy=False)
    return _put(state, assignments)


def _put(state: State, assignments: Sequence[Assignment]) -> State:
    """Queue assignments."""
    place = state.race.place if state.race is not None else None
    return replace(state, waiting=state.waiting.put(assignments, state.paces, place))


def _with_devices(state: State, devices: Mapping[str, str]) -> State:
    """With other workers than before."""
    place = state.race.place if state.race is not None else None
    waiting = state.waiting.with_workers(Counter(devices.values()), state.paces, place)
    return replace(state, devices=devices, waiting=waiting)


def _settle(
    state: State, worker: str, number: int, results: tuple[Result, ...]
) -> tuple[State, tuple[Command, ...]]:
    """Accept a chunk's results, if it is under way there; what failed may be tried again."""
    chunks = state.under_way.get(worker, ())
    chunk = next((c for c in chunks if c.number == number), None)
    if chunk is None:
        return state, ()
    took = sum(r.times.setup_s + r.times.train_s for r in results)
    device = state.devices[worker]
    pace = state.paces[device].after(chunk.cost_s, took, MEMORY)
    state = replace(
        state,
        under_way={**state.under_way, worker: tuple(c for c in chunks if c is not chunk)},
        hungry={**state.hungry, worker: None},
        paces={**state.paces, device: pace},
    )
    assigned = {a.trial.number: a for a in chunk.assignments}
    again: list[Assignment] = []
    over: list[tuple[Assignment, Result]] = []
    for result in results:
        a = assigned[result.trial.number]
        if result.cause is not None:
            tried_again = after_failure(a, result.cause)
            if not is_given_up(tried_again, result.cause, state.retries):
                again.append(tried_again)
                continue
        over.append((a, result))
    return _sort_out(_put(state, again), over)


def _sort_out(state: State, pairs: Iterable[tuple[Assignment, Result]]) -> tuple[State, tuple[Command, ...]]:
    """Record what has ended; what came to the end of a rung is paused until its cohort's verdict."""
    race, paused = state.race, dict(state.paused)
    ready: list[Result] = []
    going_on: list[Assignment] = []
    arrived = deque((a, result.after(a.so_far)) for a, result in pairs)
    while arrived:
        assignment, result = arrived.popleft()
        over = result.outcome is not Outcome.STOPPED
        if over:
            ready.append(result)
        if race is None or assignment.until == assignment.trial.epochs:
            continue
        if not over:
            paused[result.trial.number] = replace(assignment, so_far=result)
        race, verdict = race.arrive(result.trial.number, result.measurements, over=over)
        ready += [stopped for number in verdict.stopped if (stopped := paused.pop(number).so_far)]
        for number, until in verdict.promoted.items():
            a = paused.pop(number)
            if a.so_far is not None and a.begun >= until:  # measured seldom: it is past the next rung
                arrived.append((a, a.so_far))
            else:
                going_on.append(replace(a, parts=(*a.parts, until)))
    state = _put(replace(state, race=race, paused=paused), going_on)
    return state, (Record(tuple(ready)),) if ready else ()


def _reassign(state: State, event: Lost) -> tuple[State, tuple[Command, ...]]:
    """Queue a lost worker's trials again; give up those that failed once too often."""
    chunks = state.under_way.get(event.worker)
    if chunks is None:
        return state, ()
    again: list[Assignment] = []
    over: list[tuple[Assignment, Result]] = []
    for chunk in chunks:
        for a in chunk.assignments:
            tried_again = after_loss(a, chunk, event)
            if is_given_up(tried_again, event.cause, state.retries):
                over.append((a, failed(tried_again, event)))
            else:
                again.append(tried_again)
    others = {worker: c for worker, c in state.under_way.items() if worker != event.worker}
    hungry = {worker: None for worker in state.hungry if worker != event.worker}
    devices = {worker: device for worker, device in state.devices.items() if worker != event.worker}
    state = _with_devices(replace(state, under_way=others, hungry=hungry), devices)
    return _sort_out(_put(state, again), over)


def _fill(state: State) -> tuple[State, list[Command]]:
    """Give idle workers a chunk; then, while there is plenty, send a second one ahead."""
    if not state.waiting:
        return state, []
    commands: list[Command] = []
    for slots in (1, 2):
        for worker in state.hungry:
            chunks = state.under_way[worker]
            if len(chunks) >= slots or not state.waiting:
                continue
            if chunks and not _may_prefetch(state, worker, chunks[0]):
                continue
            chunk = _next_chunk(state, worker)
            if not chunk.assignments:
                continue
            state = replace(
                state,
                chunks=state.chunks + 1,
                waiting=state.waiting.without(state.devices[worker], len(chunk.assignments)),
                under_way={**state.under_way, worker: (*chunks, chunk)},
            )
            commands.append(Submit(worker, chunk))
    enough = 1 if state.waiting else 2
    unfed = {worker: None for worker in state.hungry if len(state.under_way[worker]) < enough}
    return replace(state, hungry=unfed), commands


def _may_prefetch(state: State, worker: str, first: Chunk) -> bool:
    """Whether a second chunk may wait behind the first: it is short, nobody is alone, and there is plenty."""
    device = state.devices[worker]
    following = next(state.waiting.offer(device, state.paces), None)
    if following is None or following.alone or first.assignments[0].alone:
        return False
    plenty = len(state.waiting) + state.undrawn > len(state.under_way)
    return plenty and first.cost_s * state.paces[device].factor < PREFETCH_S


def _next_chunk(state: State, worker: str) -> Chunk:
    """What is on offer, up to a chunk's seconds; at least one, if any, and one that is to be alone alone."""
    device, idle = state.devices[worker], not any(state.under_way.values())
    target_s, factor = _chunk_seconds(state, device), state.paces[device].factor
    taken: list[Assignment] = []
    cost_s = 0.0
    for a in islice(state.waiting.offer(device, state.paces, idle), MAX_CHUNK):
        more_s = a.cost_s(device)
        if taken and (a.alone or (cost_s + more_s) * factor > target_s):
            break
        taken.append(a)
        cost_s += more_s
        if a.alone:
            break
    return Chunk(state.chunks, tuple(taken), cost_s)


def _chunk_seconds(state: State, device: str) -> float:
    """About CHUNK_S; near the end of a stage less; nothing (so one trial) before anything was observed."""
    if state.paces[device].observed_s == 0.0:
        return 0.0
    ahead_s = state.waiting.seconds(state.paces) + state.undrawn * _trial_seconds(state)
    return min(CHUNK_S, ahead_s / (TAIL * max(1, len(state.under_way))))


def _chunk_length(state: State) -> int:
    """How many trials a chunk has, about."""
    longest_s = max((_chunk_seconds(state, device) for device in state.waiting.queues), default=0.0)
    return max(1, min(MAX_CHUNK, int(longest_s / max(_trial_seconds(state), 1e-9))))


def _trial_seconds(state: State) -> float:
    """How long a trial takes, about, where it is done best."""
    there = [device for device in state.mean_costs if device in state.waiting.queues]
    return min(state.mean_costs[device] * state.paces[device].factor for device in there)
