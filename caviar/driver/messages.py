"""What the controller and the loop say to each other: events come in, commands go out.

event        means                                        usual answer
Opened       a stage is ready, with so many trials left   Draw
Drawn        here are some of its trials                  Submit
Joined       a worker is ready                            Submit
Reported     a worker finished a chunk                    Submit, Record
Recorded     results are durable: now they count          Open, when it was the stage's last
Lost         a worker is gone                             Submit its trials elsewhere, or Record a failure
Idle         nothing has happened                         Draw
Interrupted  the user wants to stop                       Finish, when nothing is under way
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from caviar.search.halving import Race
from caviar.trial import Cause, Result, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A trial to be trained by some worker, whole or in part."""

    trial: Trial
    costs: Mapping[str, float]
    """Predicted seconds of the whole trial, by device; only ratios matter."""
    parts: tuple[int, ...] = ()
    """The epochs at which its parts end, up to this one; empty where it trains in one go."""
    so_far: Result | None = None
    """What earlier parts of it gave."""
    attempt: int = 1
    failures: Mapping[Cause, int] = field(default_factory=dict)
    """How often each befell it for which it is to blame, as far as one can tell."""
    alone: bool = False
    """To be sent in a chunk of its own, to a worker that has no other: it was there when a worker died."""

    def cost_s(self, device: str) -> float:
        """Predicted seconds of this part; on another device than before, of those before it too."""
        begun = self.begun if self.device in (None, device) else 0
        return self.costs[device] * (self.until - begun) / self.trial.epochs

    @property
    def device(self) -> str | None:
        """Where earlier parts trained: only there it can go on from its state."""
        return self.so_far.device if self.so_far else None

    @property
    def until(self) -> int:
        """The epoch after which this part ends."""
        return self.parts[-1] if self.parts else self.trial.epochs

    @property
    def begun(self) -> int:
        """Epochs that it has trained in earlier parts."""
        return self.so_far.measurements[-1].epoch if self.so_far else 0

    @property
    def is_begun(self) -> bool:
        """Whether a worker has had it before."""
        return self.so_far is not None or self.attempt > 1

    @property
    def spent_s(self) -> float:
        """Seconds that earlier parts took."""
        return self.so_far.times.setup_s + self.so_far.times.train_s if self.so_far else 0.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Assignments in one message."""

    number: int
    assignments: tuple[Assignment, ...]
    cost_s: float
    """Predicted seconds, on the device of the worker that it is sent to."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A stage is ready; so many of its trials are not in the ledger yet."""

    left: int
    race: Race | None = None
    """How its trials are halved, where they are; those in the ledger have ended."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """The next trials of the stage."""

    assignments: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True)
class Joined:
    """A worker is ready for chunks."""

    worker: str
    device: str = "cpu"
    """What it trains on: "cpu" or "cuda"."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker is gone, with all that was sent to it."""

    worker: str
    cause: Cause
    """What became of it; it was killed itself if a chunk took too long."""
    detail: str
    """The same in words."""
    suspects: frozenset[int] = frozenset()
    """The chunks it was sent and had not given back: one of them may have killed it. Which one is not known, for
    a result may be lost on its way out."""


@dataclass(frozen=True, slots=True)
class Reported:
    """A worker finished a chunk."""

    worker: str
    chunk: int
    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """So many results of the stage are durable."""

    count: int


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing has happened: there is time to draw ahead."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Stop as soon as what is under way has come in."""


@dataclass(frozen=True, slots=True)
class Open:
    """Open the next stage; answered by `Opened`."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Give the next trials of the stage; answered by `Drawn`."""

    count: int


@dataclass(frozen=True, slots=True)
class Submit:
    """Send a chunk to a worker; answered by `Reported` or `Lost`."""

    worker: str
    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Record:
    """Make results durable; answered by `Recorded`."""

    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """There is nothing more to do."""

    interrupted: bool


Event = Opened | Drawn | Joined | Lost | Reported | Recorded | Idle | Interrupted
Command = Open | Draw | Submit | Record | Finish
