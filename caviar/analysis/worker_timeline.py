"""The workers of a run over time: what they did, and where the seconds went.

A trial that was trained in parts (by halving) has one start, one end and one worker, but paused in between. Its seconds
are spread evenly from its start to its end.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from caviar.frame_columns import TIMES
from caviar.records.frames import Run

Numbers = npt.NDArray[np.float64]
DOINGS = ("train_s", "setup_s")
"""Columns of the seconds in which a worker is busy; in the others it waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTimeline:
    """The shares of time that workers were busy, in bins of equal length."""

    edges: Numbers
    """Seconds since the first trial began, at which the bins begin and end."""
    lanes: tuple[str, ...]
    """Names of the workers, or of groups of neighbours if there are too many."""
    sizes: tuple[int, ...]
    """Number of workers of each lane."""
    busy: dict[str, Numbers]
    """For each column of `DOINGS`, the share of time by lane and bin; NaN where no worker of the lane was there."""
    workers: int
    present: Numbers
    """Number of workers that were there, by bin."""
    total: dict[str, Numbers]
    """For each column of `DOINGS`, the share of time of all workers, by bin."""


def worker_timeline(run: Run, lanes: int, bins: int) -> WorkerTimeline | None:
    """Return what the workers of a run did over time.

    Args:
        run: a run, finished or not.
        lanes: number of lanes from which neighbouring workers share one.
        bins: number of bins.

    Returns:
        The timeline; None if no trial says when it began and ended. Trials whose worker was lost do not.
    """
    trials = run.trials
    trials = trials[trials["started"].notna() & trials["ended"].notna()]
    if trials.empty:
        return None
    origin = trials["started"].min()
    start, end = ((trials[time] - origin).dt.total_seconds().to_numpy() for time in ("started", "ended"))
    end = np.maximum(end, start + 1e-6)
    edges = np.linspace(0.0, end.max(), bins + 1)
    names, numbers = _in_order(trials["worker"])
    waited = np.nan_to_num(trials["dispatch_s"].to_numpy(float))
    present = _presence(numbers, np.maximum(start - waited, 0.0), end, edges, len(names))
    lane_of = np.arange(len(names)) * min(lanes, len(names)) // len(names)
    first = np.flatnonzero(np.diff(lane_of, prepend=-1))
    room = np.add.reduceat(present, first)
    seconds = {
        column: np.add.reduceat(
            _spread(numbers, start, end, trials[column].to_numpy(), edges, len(names)), first
        )
        for column in DOINGS
    }
    sizes = np.diff([*first, len(names)])
    return WorkerTimeline(
        edges=edges,
        lanes=tuple(
            names[place] if size == 1 else f"{names[place]} .. {_number(names[place + size - 1])}"
            for place, size in zip(first.tolist(), sizes.tolist(), strict=True)
        ),
        sizes=tuple(int(size) for size in sizes),
        busy={column: _share(of, room) for column, of in seconds.items()},
        workers=len(names),
        present=present.sum(axis=0) / np.diff(edges),
        total={column: _share(of.sum(axis=0), room.sum(axis=0)) for column, of in seconds.items()},
    )


def seconds_of_trials(run: Run) -> dict[str, float]:
    """Return the seconds of all trials together, by what they were spent on (the columns `caviar.trial.Times`)."""
    return {column: float(run.trials[column].sum()) for column in TIMES}


def _share(part: Numbers, room: Numbers) -> Numbers:
    """Return shares of time, NaN where there is none."""
    share = np.full(room.shape, np.nan)
    is_there = room > 1e-9 * room.max()
    share[is_there] = np.clip(part[is_there] / room[is_there], 0.0, 1.0)
    return share


def _in_order(workers: "pd.Series[str]") -> tuple[list[str], npt.NDArray[np.intp]]:
    """Return the workers' names in natural order (2 before 10), and the place of each trial's worker in it."""
    numbers, names = pd.factorize(workers)
    texts = [str(name) for name in names]
    width = max(map(len, texts))
    order = sorted(range(len(texts)), key=lambda place: _natural(texts[place], width))
    places = np.empty(len(texts), np.intp)
    places[order] = np.arange(len(texts))
    return [texts[place] for place in order], places[numbers]


def _natural(name: str, width: int) -> str:
    """Return a name whose last number has leading zeros, so that names sort by it."""
    number = _number(name)
    return name.removesuffix(number) + number.zfill(width)


def _number(name: str) -> str:
    """Return the number at the end of a name, or the name if it has none."""
    return name[len(name.rstrip("0123456789")) :] or name


def _presence(
    numbers: npt.NDArray[np.intp], start: Numbers, end: Numbers, edges: Numbers, workers: int
) -> Numbers:
    """Return the seconds that each worker was there, by bin: without the time between two sittings of a run.

    Args:
        numbers: the worker of each trial.
        start: time at which the worker began to wait for the trial.
        end: time at which the trial ended.
        edges: the edges of the bins.
        workers: the number of workers.
    """
    came, left = np.full(workers, np.inf), np.zeros(workers)
    np.minimum.at(came, numbers, start)
    np.maximum.at(left, numbers, end)
    seconds = _spread(np.arange(workers), came, left, left - came, edges, workers)
    bins, length = len(edges) - 1, edges[1] - edges[0]
    trials = np.zeros((workers, bins + 1))
    np.add.at(trials, (numbers, np.clip((start / length).astype(int), 0, bins - 1)), 1)
    np.add.at(trials, (numbers, np.clip((end / length).astype(int), 0, bins - 1) + 1), -1)
    here: Numbers = np.where(np.cumsum(trials, axis=1)[:, :bins] > 0, seconds, 0.0)
    return here


def _spread(
    numbers: npt.NDArray[np.intp],
    start: Numbers,
    end: Numbers,
    seconds: Numbers,
    edges: Numbers,
    workers: int,
) -> Numbers:
    """Return seconds by worker and bin, each spread evenly from a start to an end.

    The integral of a ramp from start to end, at each edge of a bin, is a sum of two hinges: so a trial that covers many
    bins costs no more than a short one.
    """
    bins, length = len(edges) - 1, edges[1] - edges[0]
    rates = np.nan_to_num(seconds) / (end - start)
    done = np.zeros((workers, bins + 2))
    for times, sign in ((start, 1.0), (end, -1.0)):
        place = np.clip((times / length).astype(int), 0, bins - 1)
        inside = edges[place + 1] - times  # until the end of its bin
        np.add.at(done, (numbers, place), sign * rates * inside)
        np.add.at(done, (numbers, place + 1), sign * rates * (length - inside))
    return np.cumsum(done, axis=1)[:, :bins]
