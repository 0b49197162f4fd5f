"""The plan of a study as it is printed."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from rich.console import RenderableType

from caviar.durations import duration_words
from caviar.planning.advice import Way
from caviar.planning.plan import Cost, Places, Plan
from caviar.plurals import counted
from caviar.reporting.terminal import heading, paragraph, table
from caviar.resources import GIB
from caviar.rounds import Confirmation, Search, Stages


def plan_parts(plan: Plan, now: datetime) -> Iterator[RenderableType]:
    """Return the lines and tables of a plan.

    Args:
        plan: the plan.
        now: the time at which the study would begin.
    """
    asked = counted(plan.trials, "trial")
    if plan.time_s is not None and plan.cost is not None:
        fits = plan.advice is None or plan.advice.way is Way.CAVIAR
        within = duration_words(plan.time_s)
        asked = f"{asked} in {within}" if fits else f"the smallest search, {asked}, takes more than {within}"
    yield heading(plan.name, f": {asked} on {_places_text(plan.places)}")
    yield table(list(_rows(plan, now)))
    if plan.advice is not None:
        yield paragraph(_WAYS[plan.advice.way], f" {'; '.join(plan.advice.reasons)}.")
    for note in plan.notes:
        yield paragraph("note:", f" {note}.")


_WAYS = {
    Way.CAVIAR: "This is the caviar way, many trials at once:",
    Way.PANDA: "Rather the panda way, one model that you adjust while it trains (`caviar panda`):",
}


def _rows(plan: Plan, now: datetime) -> Iterator[tuple[str, str]]:
    """Yield the rows of the table: a title and what belongs to it."""
    if plan.cost is None:
        yield "a trial", f"could not be measured: {plan.unmeasured}"
        yield "search", _stages_text(plan.stages)
        yield "duration", f"about {plan.in_trials:,.1f} times as long as a trial"
    else:
        yield "a trial", _trial_text(plan.cost)
        yield "search", _stages_text(plan.stages)
        yield from _time_rows(plan.cost, now)
    memory = plan.memory.total_bytes(plan.places.count)
    if memory is not None and plan.memory.worker_bytes is not None:
        each = f"{_size_text(plan.memory.worker_bytes)} a worker"
        yield "memory", f"{each}, {_size_text(memory)} in all with driver and Ray"
    if plan.cost is not None:
        yield "disk", f"{_size_text(plan.cost.forecast.disk_bytes)} of tables, and the winner"


def _time_rows(cost: Cost, now: datetime) -> Iterator[tuple[str, str]]:
    low, high = (duration_words(seconds) for seconds in cost.interval_s)
    start = f"the first trial begins after {duration_words(cost.before_s)}"
    yield "duration", f"{duration_words(cost.duration_s)} (90% interval {low} .. {high}); {start}"
    yield "end", _clock_text(now + timedelta(seconds=cost.duration_s), now)


def _trial_text(cost: Cost) -> str:
    """Return how long trials take, and how many were timed."""
    timed, measured = cost.costs.timed, cost.costs.measured_s
    mean = f"{duration_words(cost.forecast.mean_s)} on average"
    if len(measured) < 2:
        return f"{mean}, from {counted(timed, 'trial')} that {'was' if timed == 1 else 'were'} timed"
    ends = f"{duration_words(measured[0])} .. {duration_words(measured[-1])}"
    return f"{mean} where the search goes; {timed:,} timed, {ends}"


def _stages_text(stages: Stages) -> str:
    """Return the trials of the stages in words."""
    words = []
    for stage in stages:
        if isinstance(stage, Search):
            flight = f", {stage.in_flight:,} in flight"
            words.append(f"{stage.trials:,} trials of {counted(stage.epochs, 'epoch')}{flight}")
        elif isinstance(stage, Confirmation):
            best = "the best" if stage.top == 1 else f"the best {stage.top:,}"
            words.append(f"then {stage.trials:,} to confirm {best}, and the winner's last one")
        else:
            words.append(f"{stage.trials:,} trials of {counted(stage.epochs, 'epoch')}")
    return ", ".join(words)


def _places_text(places: Places) -> str:
    """Return the workers and machines in words."""
    cpus, gpus = places.workers.get("cpu", 0), places.workers.get("cuda", 0)
    kinds = [counted(cpus, "CPU worker")] if cpus or not gpus else []
    kinds += [counted(gpus, "GPU worker")] if gpus else []
    workers = " and ".join(kinds)
    if places.address in ("local", "here"):
        machine = places.machines[0]
        return f"{workers} of this machine ({machine['CPU']:.0f} cores, {_size_text(machine['memory'])})"
    cores, cards = (sum(machine.get(name, 0.0) for machine in places.machines) for name in ("CPU", "GPU"))
    room = f"{counted(len(places.machines), 'machine')}, {cores:.0f} cores, {counted(round(cards), 'GPU')}"
    return f"{workers} of the cluster at {places.address} ({room})"


def _clock_text(end: datetime, now: datetime) -> str:
    """Return a time of the day, with the date if it is not today's."""
    return f"{end:%H:%M:%S}" if end.date() == now.date() else f"{end:%a %Y-%m-%d %H:%M}"


def _size_text(size_bytes: float) -> str:
    """Return a size in its unit."""
    for unit, name in ((GIB, "GiB"), (2**20, "MiB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:,.1f} {name}"
    return f"{size_bytes / 2**10:,.0f} KiB"
