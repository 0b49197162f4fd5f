"""Messages between the controller and the loop: events go in, commands come out.

event            meaning                                           usual answer
StageOpened      a stage is ready, with this many trials left      DrawTrials
TrialsDrawn      some of its trials are drawn                      SubmitChunk
CertainDrawn     trials of later stages can start already          SubmitChunk
WorkerJoined     a worker is ready                                 SubmitChunk
ChunkDone        a worker finished a chunk                         SubmitChunk, RecordResults; OpenStage, if the next
                                                                  stage waited for its results, or DrawCertain
WorkerLost       a worker is gone                                  SubmitChunk elsewhere, or RecordResults
Idle             nothing has happened                              DrawTrials
StopRequested    the user wants to stop                            Finish, when nothing is running

A trial goes out as a `Task` in a `Chunk` and comes back as a `Result`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from caviar.search.halving import Race
from caviar.trial import Cause, Result, Trial


@dataclass(frozen=True, kw_only=True)
class Task:
    """A trial, or a part of one, for some worker to train."""

    trial: Trial
    costs: Mapping[str, float] = field(default_factory=lambda: {"cpu": 1.0, "cuda": 1.0})
    """Predicted seconds of the whole trial, by device; only ratios matter."""
    due: int = 0
    """Number of the first trial that learns from it."""
    room: int = 1
    """Number of trials that may be in flight with it."""
    start_by: float = 0.0
    """Place in the order of starts, as a trial number: earlier than `due` by more for a longer trial."""
    parts: tuple[int, ...] = ()
    """Epochs at which its parts end, up to this one; empty for a trial that trains in one go."""
    so_far: Result | None = None
    """Result of its earlier parts, with the checkpoint to continue from."""
    is_checkpoint_lost: bool = False
    """True if the checkpoint was lost with its machine: the worker then trains the earlier parts again."""
    attempt: int = 1
    failures: Mapping[Cause, int] = field(default_factory=dict)
    """Failures attributed to this trial, counted by cause."""
    alone: bool = False
    """Run alone: it was on a worker that died, so a second death identifies the culprit."""
    waiting_since: float = 0.0
    """Driver's clock, in seconds, when it was drawn or when its last part came back."""
    queue_s: float = 0.0
    """Seconds from `waiting_since` to being sent."""

    def cost_s(self, device: str) -> float:
        """Return the predicted seconds of this part; on a new device the earlier parts are trained again."""
        trained = self.trained_epochs if self.device in (None, device) else 0
        return self.costs[device] * (self.until - trained) / self.trial.epochs

    @property
    def device(self) -> str | None:
        """Device of the earlier parts: the checkpoint fits no other."""
        return self.so_far.device if self.so_far else None

    @property
    def until(self) -> int:
        """Epoch after which this part ends."""
        return self.parts[-1] if self.parts else self.trial.epochs

    @property
    def trained_epochs(self) -> int:
        """Epochs trained in earlier parts."""
        return self.so_far.measurements[-1].epoch if self.so_far else 0

    @property
    def is_begun(self) -> bool:
        """True if a worker has had it before."""
        return self.so_far is not None or self.attempt > 1

    @property
    def spent_s(self) -> float:
        """Seconds that earlier parts took, which count towards a time limit."""
        if self.so_far is None or self.is_checkpoint_lost:
            return 0.0
        return self.so_far.times.setup_s + self.so_far.times.train_s


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tasks sent to a worker in one message."""

    number: int
    tasks: tuple[Task, ...]
    cost_s: float
    """Predicted seconds on the worker's device."""


@dataclass(frozen=True, slots=True)
class StageOpened:
    """A stage is ready."""

    left: int
    """Number of its trials that are not in the ledger yet."""
    race: Race | None = None
    """State of the halving, for a stage that halves; trials in the ledger have ended."""
    done: frozenset[int] = frozenset()
    """Numbers of its trials that are in the ledger."""
    known: int = 0
    """All trials numbered below this are known; numbers that no trial has count as well."""


@dataclass(frozen=True, slots=True)
class TrialsDrawn:
    """The next trials of the stage that was opened last."""

    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class CertainDrawn:
    """Trials of stages that are not open yet, and that are certain whatever comes of the trials under way."""

    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class WorkerJoined:
    """A worker is ready for chunks."""

    worker: str
    device: str = "cpu"
    """Device that it trains on: "cpu" or "cuda"."""
    lanes: int = 1
    """Largest number of trials that it trains at the same time."""


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker is gone, with all that was sent to it."""

    worker: str
    cause: Cause
    """Cause of the loss; `TIME` if the driver killed it for a chunk that took too long."""
    detail: str
    """The same in words."""
    suspects: frozenset[int] = frozenset()
    """Numbers of the chunks it had not given back. One of them may have killed it; which one is not known, because a
    result can be lost on its way out."""


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """A worker finished a chunk."""

    worker: str
    chunk: int
    results: tuple[Result, ...]
    """One for each task, in any order."""


@dataclass(frozen=True, slots=True)
class Idle:
    """No event has come, so there is time to draw ahead."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The user wants to stop: finish when all running chunks are back."""


@dataclass(frozen=True, slots=True)
class OpenStage:
    """Open the next stage; answered by `StageOpened`."""


@dataclass(frozen=True, slots=True)
class DrawTrials:
    """Draw the next trials of the stage that was opened last; answered by `TrialsDrawn`."""

    count: int


@dataclass(frozen=True, slots=True)
class DrawCertain:
    """Draw trials of later stages that are certain and have not been drawn; answered by `CertainDrawn`."""


@dataclass(frozen=True, slots=True)
class SubmitChunk:
    """Send a chunk to a worker; answered by `ChunkDone` or `WorkerLost`."""

    worker: str
    chunk: Chunk


@dataclass(frozen=True, slots=True)
class RecordResults:
    """Add results to the ledger. They count at once, and are durable before any result that follows from them."""

    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """End of the study, or of this run of it."""

    interrupted: bool
    """True if the user stopped the study before its end."""


Event = (
    StageOpened | TrialsDrawn | CertainDrawn | WorkerJoined | ChunkDone | WorkerLost | Idle | StopRequested
)
Command = OpenStage | DrawTrials | DrawCertain | SubmitChunk | RecordResults | Finish
