"""The journal of a session of `caviar panda`: everything that happened in it, in order.

    begun      the hyperparameters and the epochs with which the session began
    said       a command of the user, with the branch and the epoch at which it was said
    trained    an epoch, with its metrics and times
    resumed    the session goes on after its user has left it

The state of a session follows from its journal alone (`caviar.panda.session`), and an event counts once it is here.
`trials` and `curves` get a branch when the session leaves it. Metrics that JSON lacks, such as infinity, are text.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd

from caviar.errors import DamagedError
from caviar.frame_columns import INTERVENTION_COLUMNS
from caviar.records.json_files import ListFile, errors_as_damage, read_checked
from caviar.storage.location import Location

JOURNAL: Final = "journal"
"""Folder of the journal in a run directory."""
PART = 200
"""Number of events in a file: the cost of an event does not grow with how many there are."""
_NAME = re.compile(r"part-(\d{5})\.json")


class Journal:
    """The journal of a session that is open for writing.

    Args:
        run: the run directory, locked by this process.
        events: the events that it has already.
    """

    def __init__(self, run: Location, events: Sequence[Mapping[str, Any]] = ()) -> None:
        self._folder, self._number = run / JOURNAL, len(events) // PART
        self._folder.make_folder()
        self._events = [_encoded(event) for event in events[self._number * PART :]]
        self._file = self._open()

    def write(self, event: Mapping[str, Any]) -> None:
        """Add an event; it is durable on return.

        Raises:
            RunError: the disk or the store refuses.
        """
        if len(self._events) == PART:
            self._number, self._events = self._number + 1, []
            self._file = self._open()
        self._events.append(_encoded(event))
        self._file.write(self._events)

    def _open(self) -> ListFile:
        return ListFile(self._folder / f"part-{self._number:05d}.json", "events")


def read_journal(run: Location) -> list[dict[str, Any]]:
    """Return the events of a session, none if there is no journal.

    Raises:
        DamagedError: a file is missing, or is not as it was written.
    """
    folder = run / JOURNAL
    events: list[dict[str, Any]] = []
    names = [name for name in folder.files() if _NAME.fullmatch(name)]
    for number, name in enumerate(names):
        if name != f"part-{number:05d}.json" or len(events) != number * PART:
            raise DamagedError(f"{folder} is damaged: events before {name} are missing; copy the run again")
        found = read_checked(folder / name, {"events": [{"event": str, "time": int | float}]})["events"]
        with errors_as_damage(folder / name):
            events += [_decoded(event) for event in found]
    return events


def interventions(run: Location) -> pd.DataFrame:
    """Return the user's commands as a frame of one row each."""
    said = [event for event in read_journal(run) if event["event"] == "said"]
    with errors_as_damage(run / JOURNAL):
        cells = {
            "time": pd.to_datetime([event["time"] for event in said], unit="s", utc=True),
            "trial": [event["trial"] for event in said],
            "epoch": [event["epoch"] for event in said],
            "command": [event["line"] for event in said],
        }
        return pd.DataFrame(cells).astype({c.name: c.dtype for c in INTERVENTION_COLUMNS})


def _encoded(event: Mapping[str, Any]) -> dict[str, Any]:
    if event.get("metrics") is None:
        return dict(event)
    metrics = {name: v if math.isfinite(v) else repr(v) for name, v in event["metrics"].items()}
    return {**event, "metrics": metrics}


def _decoded(event: dict[str, Any]) -> dict[str, Any]:
    if event.get("metrics") is None:
        return event
    return {**event, "metrics": {name: float(value) for name, value in event["metrics"].items()}}
