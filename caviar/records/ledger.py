"""The durable record of a run: what a study leaves, and what it goes on from.

    study.json    what was asked, of which versions, on which data
    trials/       one row a finished trial           the commit: a trial counts once its row is here
    curves/       one row a trial and epoch          written before its trials' rows
    rounds.json   each round's space, and why
    best/         the network that is handed over
    .lock         held by the one driver that may write

A batch of results is two segments of the same number, curves first. A crash between the two leaves curves
without rows: they are deleted when the run is resumed, and their trials are trained again.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import pandas as pd
import pyarrow as pa
from pyarrow import compute

from caviar.data.splits import Dataset
from caviar.engine import Checkpoint
from caviar.errors import DamagedError
from caviar.records import schema
from caviar.records.run_files import StudyFile, write_rounds
from caviar.records.segments import Segment, open_tables
from caviar.records.winner import Best, write_best
from caviar.storage.location import Location, Lock, hint_on_refusal
from caviar.trial import Measurement, Result

DAMAGED: Final = "damaged"
"""The folder of segments that were set aside."""
MERGE_AT = 16
"""Single segments are merged when there are this many."""


class Ledger:
    """The run directory of a driver, which alone may write to it. Use `create` or `reopen`."""

    def __init__(self, location: Location, study_file: StudyFile, lock: Lock) -> None:
        self.location, self._space, self._lock = location, study_file.space(), lock
        self._trials, self._curves = open_tables(location, study_file)
        present = self._trials.list()
        self._next = max((s.last for s in present), default=-1) + 1
        self._singles = sum(s.first == s.last for s in present)

    @classmethod
    def create(cls, runs: Location, name: str, study_file: StudyFile, numbered: bool) -> "Ledger":
        """Make a run directory, the first free of NAME, NAME-2, NAME-3, ... where `numbered`.

        Raises:
            RunError: it exists, or cannot be made.
        """

        def fill(location: Location) -> None:
            study_file.write(location)
            for table in ("trials", "curves"):
                (location / table).make_folder()

        with hint_on_refusal("or choose another folder with --runs"):
            location, lock = runs.create(name, numbered, fill)
        return cls(location, study_file, lock)

    @classmethod
    def reopen(cls, location: Location, study_file: StudyFile, repair: bool = False) -> "Ledger":
        """Open a run directory to go on with it: whatever a killed driver left half-done is cleared away.

        Args:
            location: the run directory.
            study_file: the content of its `study.json`.
            repair: set damaged segments aside, so that their trials are trained again.

        Raises:
            RunError: another driver is at work on it, or it cannot be written.
            DamagedError: a segment cannot be read back, and `repair` is not asked for.
        """
        lock = location.lock()
        try:
            cls(location, study_file, lock)._clear(repair)
            return cls(location, study_file, lock)
        except BaseException:
            lock.release()
            raise

    def append(self, results: Sequence[Result]) -> None:
        """Make results durable.

        Raises:
            RunError: the disk or the store refuses; none of these results counts, all earlier ones do.
        """
        started = time.perf_counter()
        with self._writing():
            self._curves.write(self._next, schema.curves_table(results, self._curves.schema))
            record_s = (time.perf_counter() - started) / len(results)
            self._lock.confirm()  # again, for that may have taken long
            self._trials.write(
                self._next, schema.trials_table(results, self._space, self._trials.schema, record_s)
            )
        self._next += 1
        self._singles += 1
        if self._singles >= MERGE_AT:
            self.merge()

    def merge(self) -> None:
        """Merge the single segments, so that the number of files stays small."""
        with self._writing():
            self._curves.merge()
            self._trials.merge()
        self._singles = 0

    def trials(self) -> pd.DataFrame:
        """All rows, by trial."""
        return to_frame(self._trials.read()).sort_values("trial", ignore_index=True)

    @property
    def was_repaired(self) -> bool:
        """Whether damaged segments were ever set aside."""
        return DAMAGED in self.location.folders()

    def curves(self, trials: Iterable[int]) -> dict[int, list[Measurement]]:
        """The measurements of some trials, by their numbers, in order of epochs."""
        found: dict[int, list[Measurement]] = {}
        wanted = compute.field("trial").isin(list(trials))
        for row in self._curves.read().filter(wanted).sort_by("epoch").to_pylist():
            metrics = {m: row[m] for m in self._curves.schema.names[2:] if row[m] is not None}
            found.setdefault(row["trial"], []).append(Measurement(row["epoch"], metrics))
        return found

    def write_rounds(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Replace `rounds.json`."""
        with self._writing():
            write_rounds(self.location, entries)

    def hand_over(self, best: Best, checkpoint: Checkpoint | None, dataset: Dataset | None) -> None:
        """Write `best/`."""
        with self._writing():
            write_best(self.location / "best", best, checkpoint, dataset)

    def check_lock(self) -> None:
        """Whether this is still the driver that may write; costs nothing.

        Raises:
            RunError: another one has taken over.
        """
        self._lock.check()

    def close(self) -> None:
        """Let go of the lock."""
        self._lock.release()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """While inside, this driver writes: only if no other one does, and nothing is lost where it cannot."""
        with hint_on_refusal(
            f"what was recorded before is safe: `caviar resume {self.location.quoted}` then"
        ):
            self._lock.confirm()
            yield

    def _clear(self, repair: bool) -> None:
        """Bring the folder to the state after its last commit."""
        for segments in (self._trials, self._curves):
            segments.folder.make_folder()
            segments.remove_covered()
        self._set_damaged_aside(repair)
        committed = max((s.last for s in self._trials.list()), default=-1)
        self._curves.folder.remove(s.name for s in self._curves.list() if s.first > committed)

    def _set_damaged_aside(self, repair: bool) -> None:
        """Move every damaged file away, and with it whatever belongs to the same segments."""
        lost: list[Segment] = []
        for segments in (self._trials, self._curves):
            for segment in segments.list():
                try:
                    segments.read_segment(segment)
                except DamagedError:
                    if not repair:
                        raise
                    lost.append(segment)
        while lost:
            damaged = lost.pop()
            for segments in (self._trials, self._curves):
                for segment in segments.list():
                    if segment.first <= damaged.last and damaged.first <= segment.last:
                        aside = self.location / DAMAGED / segments.folder.name / segment.name
                        (segments.folder / segment.name).move(aside)
                        lost.append(segment)


def to_frame(table: pa.Table) -> pd.DataFrame:
    """A DataFrame whose columns keep their Arrow types: integers stay integers beside empty cells."""
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame
