"""The status file of a run directory: what its driver does now, for those who follow it from elsewhere.

It is no record: a driver replaces it about once a second and removes it at the end, and nothing depends on it. It may
be missing, left behind by a driver that was killed, or damaged by a crash of the machine.
"""

from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from caviar.errors import RunError
from caviar.records.json_files import read_json, write_json
from caviar.storage.location import Location

STATUS: Final = "status.json"
_FORMAT: Final = 1
"""Format of the file; raised when the meaning of a key changes."""
_SHAPE = {
    "format": int,
    "driver": str,
    "workers": int,
    "elapsed_s": int | float,
    "recalled": int,
    "running": int,
    "trials": [
        {
            "trial": int,
            "round": int,
            "stage": str,
            "worker": str,
            "others": int,
            "since_s": int | float,
            "epochs": int,
            "epoch": int | None,
            "value": int | float | None,
        }
    ],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTrial:
    """A trial that a worker trains now."""

    trial: int
    round: int
    stage: str
    worker: str
    others: int
    """Number of other trials in its chunk: the worker trains one after the other, and may be at a later one."""
    since_s: float
    """Seconds for which it has been training."""
    epochs: int
    """Number of epochs that it trains."""
    epoch: int | None = None
    """Epoch of its latest measurement, if it has reported one."""
    value: float | None = None
    """Metric that ranks the trials, after that epoch; None if it is not finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The content of the status file. Times are durations, because the clocks of two machines may differ."""

    driver: str
    """Process of the driver, as its lock names it."""
    workers: int
    """Number of live workers."""
    elapsed_s: float
    """Seconds since the first worker of this driver was ready."""
    recalled: int
    """Number of trials that were recorded before."""
    running: int
    """Number of workers that train a trial now."""
    trials: tuple[RunningTrial, ...]
    """Trials that run now, the longest first; of many, not all are listed."""

    def write(self, run: Location) -> None:
        """Replace the file in a run directory."""
        write_json(run / STATUS, {"format": _FORMAT, **asdict(self)}, durable=False)

    @classmethod
    def read(cls, run: Location) -> Self | None:
        """Return the content of the file in a run directory; None if it is missing, damaged or of another format."""
        with suppress(RunError):
            content = read_json(run / STATUS, _SHAPE)
            if content["format"] == _FORMAT:
                trials = tuple(RunningTrial(**_pick(RunningTrial, entry)) for entry in content["trials"])
                return cls(**_pick(cls, content) | {"trials": trials})
        return None


def _pick(cls: Any, content: dict[str, Any]) -> dict[str, Any]:
    """Return the entries that are fields of a dataclass."""
    return {name: content[name] for name in cls.__dataclass_fields__ if name in content}
