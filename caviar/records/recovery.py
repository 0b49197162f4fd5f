"""Recovery of a run directory: what a killed driver left unfinished, and what was damaged or lost since.

Each batch leaves curves, then rows; `ledger.json` counts it within a second. So a driver that is killed leaves at most
one segment of curves without rows, and a few of both that are not counted; neither is a loss. Everything else that is
not there is lost. A repair sets aside what belongs to it and puts empty segments in its place; its trials are then
trained again.
"""

from collections.abc import Callable, Iterator

from caviar.errors import DamagedError
from caviar.records.run_files import ROUNDS, read_recorded, read_rounds, write_recorded
from caviar.records.segments import Segments, missing
from caviar.records.winner import BEST, read_best
from caviar.storage.location import Location
from caviar.trial import Stage

DAMAGED = "damaged"
"""Folder of a run directory for what a repair sets aside."""


def recover(run: Location, trials: Segments, curves: Segments, repair: bool) -> None:
    """Restore the state after the last recorded batch.

    Args:
        run: the run directory, locked.
        trials: its segments of trials.
        curves: its segments of curves.
        repair: set aside what is damaged, and what belongs to lost segments.

    Raises:
        DamagedError: a segment is missing or cannot be read back, and `repair` is off.
    """
    for table in (trials, curves):
        table.folder.make_folder()
        table.remove_replaced()
    recorded = _count_segments(run, trials, curves, repair)
    if repair:
        _set_files_aside(run)
        _set_segments_aside(run, trials, curves, recorded)
    for table in (trials, curves):
        for segment in table.complete(recorded):
            table.read_segment(segment)
    curves.folder.remove(segment.name for segment in curves.current() if segment.first >= recorded)
    write_recorded(run, recorded)


def _count_segments(run: Location, trials: Segments, curves: Segments, repair: bool) -> int:
    """Return how many segments each table must have, by the count and by what is there."""
    try:
        counted = read_recorded(run)
    except DamagedError:
        if not repair:
            raise
        counted = 0
    last_trials, last_curves = (max((s.last for s in t.current()), default=-1) for t in (trials, curves))
    # Before its curves, a driver writes the rows of earlier ones
    return max(counted, last_trials + 1, last_curves)


def _set_files_aside(run: Location) -> None:
    """Move damaged files that are no segments to `damaged/`."""
    readers: dict[str, Callable[[], object]] = {
        ROUNDS: lambda: read_rounds(run),
        BEST: lambda: _read_winner(run),
    }
    for name, read in readers.items():
        try:
            read()
        except DamagedError:
            (run / name).move(run / DAMAGED / name)


def _read_winner(run: Location) -> None:
    if (best := read_best(run)) is not None:
        best.require_files()


def _set_segments_aside(run: Location, trials: Segments, curves: Segments, recorded: int) -> None:
    """Move damaged segments to `damaged/`, with all that share numbers with them or with missing ones; fill gaps."""
    lost = list(_lost_numbers(run, trials, curves, recorded))
    while lost:
        first, last = lost.pop()
        for table in (trials, curves):
            for segment in table.current():
                if segment.first <= last and first <= segment.last:
                    (table.folder / segment.name).move(run / DAMAGED / table.folder.name / segment.name)
                    lost.append((segment.first, segment.last))
    for table in (trials, curves):
        table.fill(recorded)


def _lost_numbers(
    run: Location, trials: Segments, curves: Segments, recorded: int
) -> Iterator[tuple[int, int]]:
    """Yield the numbers of missing and damaged segments, and those of the final trial if the winner is missing."""
    has_winner = read_best(run) is not None
    for table in (trials, curves):
        yield from missing(table.current(), recorded)
        for segment in table.current():
            try:
                rows = table.read_segment(segment)
            except DamagedError:
                yield segment.first, segment.last
            else:
                if table is trials and not has_winner and Stage.FINAL in rows["stage"].to_pylist():
                    yield segment.first, segment.last
