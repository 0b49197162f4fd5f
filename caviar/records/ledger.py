"""The ledger of a run: its driver's access to the run directory, which makes results durable.

    study.json    the study, its data, and the versions that began it
    trials/       one row a finished trial; a trial is recorded once its row is here
    curves/       one row a trial and epoch; written before the rows of its trials
    ledger.json   the number of segments in each of these tables
    rounds.json   the space of each round, and why it narrowed
    best/         the trained network of the winner
    status.json   what the driver does now; it is no record (`status.py`)
    damaged/      segments that `caviar resume --repair` has set aside
    .lock         the lock of the one driver that may write

Results count as soon as they are added, and are durable once they are written, in the order in which they were added.
What is added later may follow from them, so after a crash no row follows from one that is lost. The lost trials are
trained again, and what follows from them is decided anew.

A batch of results becomes two segments of one number, curves first. A crash after the curves leaves curves without
rows. They are deleted when the run is resumed (`recovery.py`). `ledger.json` and `rounds.json` follow a little later,
and at the end.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyarrow import compute

from caviar.data.splits import Dataset
from caviar.engine import Checkpoint
from caviar.errors import RunError
from caviar.frame_columns import CIRCUMSTANCES
from caviar.records import schema
from caviar.records.growing_table import GrowingTable
from caviar.records.json_files import ListFile
from caviar.records.recovery import recover
from caviar.records.run_files import ROUNDS, StudyFile, write_recorded
from caviar.records.segments import open_tables
from caviar.records.winner import Best, write_best, write_description
from caviar.storage.location import Location, Lock, hint_on_refusal
from caviar.trial import Measurement, Result

MERGE_AT = 16
"""Number of single segments at which they are merged into one file."""
NOTES_S = 1.0
"""Shortest time between two writes of `ledger.json` and `rounds.json`, in seconds."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Results and their rows in both tables."""

    results: Sequence[Result]
    trials: pa.Table
    curves: pa.Table


class Ledger:
    """A run directory, locked by the driver that writes to it. Use `create` or `reopen`."""

    def __init__(
        self, location: Location, study_file: StudyFile, lock: Lock, remove_if_empty: bool = False
    ) -> None:
        self.location, self.study_file, self._lock = location, study_file, lock
        self._space = study_file.space()
        self._remove_if_empty = remove_if_empty
        self._rounds = ListFile(location / ROUNDS, "rounds")
        self._unwritten_rounds: Sequence[Mapping[str, Any]] = ()
        self._notes_written_at = -math.inf
        self._trials, self._curves = open_tables(location, study_file)
        present = self._trials.current()
        self._next = self._counted = max((s.last for s in present), default=-1) + 1
        self._singles = sum(s.first == s.last for s in present)
        self._decisive = [name for name in self._trials.schema.names if name not in CIRCUMSTANCES]
        self._recorded = GrowingTable(self._trials.read(self._next).select(self._decisive))
        self._frame: pd.DataFrame | None = None
        self._added: list[Result] = []
        self._unwritten: list[_Batch] = []

    @classmethod
    def create(
        cls,
        runs: Location,
        name: str,
        study_file: StudyFile,
        numbered: bool,
        remove_if_empty: bool = False,
    ) -> "Ledger":
        """Create a run directory.

        Args:
            runs: the folder of run directories.
            name: the name of the new one.
            study_file: the content of its `study.json`.
            numbered: take the first free of NAME, NAME-2, NAME-3, ...
            remove_if_empty: remove the run directory as it is closed if no trial was recorded.

        Raises:
            RunError: the name is taken, or the folder cannot be created.
        """

        def fill(location: Location) -> None:
            study_file.write(location)
            for table in ("trials", "curves"):
                (location / table).make_folder()
            write_recorded(location, 0)

        with hint_on_refusal("or choose another folder with --runs"):
            location, lock = runs.create(name, numbered, fill)
        return cls(location, study_file, lock, remove_if_empty)

    @classmethod
    def reopen(cls, location: Location, study_file: StudyFile, repair: bool = False) -> "Ledger":
        """Open a run directory to resume its run, and delete what a killed driver left unfinished.

        Args:
            location: the run directory.
            study_file: the content of its `study.json`.
            repair: set aside what is damaged, and what belongs to lost segments, so that it is trained again.

        Raises:
            RunError: another driver has locked it, or it cannot be written.
            DamagedError: a segment is missing or cannot be read back, and `repair` is off.
        """
        lock = location.lock()
        try:
            recover(location, *open_tables(location, study_file), repair)
            return cls(location, study_file, lock)
        except BaseException:
            lock.release()
            raise

    def add(self, results: Sequence[Result]) -> None:
        """Add results, which `trials` returns from now on, and which the next `write` makes durable."""
        self._added.extend(results)

    @property
    def has_unwritten(self) -> bool:
        """True if there are results that are not durable."""
        return bool(self._added or self._unwritten)

    def write(self) -> list[Result]:
        """Make the results durable that were added since the last call.

        Returns:
            The results as they are recorded: one that no table can hold is a failed one that says why.

        Raises:
            RunError: the disk or the store refuses. None of these results is recorded; all earlier ones are.
        """
        started = time.perf_counter()
        self._make_rows()
        batches, self._unwritten = self._unwritten, []
        if not batches:
            return []
        trials, curves = (
            pa.concat_tables(rows) for rows in zip(*((b.trials, b.curves) for b in batches), strict=True)
        )
        with self._writing():
            self._curves.write(self._next, curves)
            self._lock.confirm()  # again: writing the curves may have taken long
            self._trials.write(self._next, schema.with_record_s(trials, time.perf_counter() - started))
            self._next += 1
            self._singles += 1
            self._write_notes()
        if self._singles >= MERGE_AT:
            self.merge()
        return [result for batch in batches for result in batch.results]

    def merge(self) -> None:
        """Merge the single segments of both tables, so that the number of files stays small."""
        with self._writing():
            self._curves.merge()
            self._trials.merge()
        self._singles = 0

    def trials(self) -> pd.DataFrame:
        """Return the trials of all results so far, sorted by trial, without reading files.

        They have the columns that are the same in every run of a study. So nothing that is decided from them can
        depend on machines and times (law 1).
        """
        self._make_rows()
        if self._frame is None:
            self._frame = schema.to_frame(self._recorded.rows.sort_by("trial"))
        return self._frame.copy(deep=False)

    def curves(self, trials: Iterable[int]) -> dict[int, list[Measurement]]:
        """Return the measurements of recorded trials, by their numbers, in order of epochs."""
        found: dict[int, list[Measurement]] = {}
        wanted = compute.field("trial").isin(list(trials))
        for row in self._curves.read(self._next, rows=wanted).sort_by("epoch").to_pylist():
            metrics = {m: row[m] for m in self._curves.schema.names[2:] if row[m] is not None}
            found.setdefault(row["trial"], []).append(Measurement(row["epoch"], metrics))
        return found

    def write_study(self, study_file: StudyFile) -> None:
        """Replace `study.json`, with another note on how the run went."""
        with self._writing():
            study_file.write(self.location)
        self.study_file = study_file

    def write_rounds(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Write `rounds.json`, with all entries so far: soon, and after the results that they follow from.

        A crash before it is written loses nothing, because a resumed run writes it anew.
        """
        self._unwritten_rounds = entries
        if not self.has_unwritten:
            with self._writing():
                self._write_notes()

    def write_best(
        self,
        best: Best,
        checkpoint: Checkpoint | None,
        dataset: Dataset | None,
        p_NC: npt.NDArray[np.floating] | None = None,
    ) -> None:
        """Write the winner and its trained network, if there is one, to `best/`; see `winner.write_best`."""
        with self._writing():
            self._write_notes(now=True)
            write_best(self.location, best, checkpoint, dataset, p_NC)

    def keep_best(self, best: Best) -> None:
        """Write that the last extension has the same winner as before, with its values from the new confirmation."""
        with self._writing():
            self._write_notes(now=True)
            write_description(self.location, best)
        self.write_study(self.study_file.with_winner_kept())

    def keep(self) -> None:
        """Keep the run directory from now on, though no trial may be recorded."""
        self._remove_if_empty = False

    def check_lock(self) -> None:
        """Raise `RunError` if another driver has taken the lock, as far as is known without a request."""
        self._lock.check()

    @property
    def is_empty(self) -> bool:
        """True if no trial is recorded."""
        return self._next == 0

    @property
    def resume_command(self) -> str:
        """The command or the call that continues the run."""
        return self.study_file.resume_command(self.location)

    def close(self) -> None:
        """Write what is left to write, and release the lock."""
        try:
            with suppress(RunError):  # another driver has taken it, or the disk is full
                if self._remove_if_empty and self.is_empty:
                    self._lock.confirm()
                    self.location.remove_tree()
                elif self._unwritten_rounds or self._counted < self._next:
                    self._lock.confirm()
                    self._write_notes(now=True)
        finally:
            self._lock.release()

    def _write_notes(self, now: bool = False) -> None:
        """Write `ledger.json` and `rounds.json` if they lack something.

        Args:
            now: write them even if they were written a moment ago.
        """
        if not now and time.monotonic() - self._notes_written_at < NOTES_S:
            return
        if self._counted < self._next:
            write_recorded(self.location, self._next)
            self._counted = self._next
        entries, self._unwritten_rounds = self._unwritten_rounds, ()
        if entries:
            self._rounds.write(entries)
        self._notes_written_at = time.monotonic()

    def _make_rows(self) -> None:
        """Make the rows of the results added last."""
        if not self._added:
            return
        try:
            batch = self._to_batch(self._added)
        except Exception:  # it is one result or a few; the others are recorded as they are
            safe = schema.recordable(self._added, self._space, self._trials.schema, self._curves.schema)
            batch = self._to_batch(safe)
        self._added = []
        self._unwritten.append(batch)
        self._recorded.append(batch.trials.select(self._decisive))
        self._frame = None

    def _to_batch(self, results: Sequence[Result]) -> _Batch:
        trials = schema.trials_table(results, self._space, self._trials.schema)
        return _Batch(results, trials, schema.curves_table(results, self._curves.schema))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Confirm the lock before a write, and name the way to continue where the write is refused."""
        with hint_on_refusal(f"earlier results are recorded; continue with `{self.resume_command}`"):
            self._lock.confirm()
            yield
