"""The state of a session: a tree of branches, and what epochs make of it. Nothing here trains, waits or writes.

A branch is a trial whose hyperparameters stay the same. It continues another branch from some epoch, or begins at the
first one. A change of a hyperparameter makes a new branch as soon as an epoch is trained with it, and so does going on
from an earlier epoch. So no branch is empty, and only the last one grows.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from caviar.analysis.branches import changes_text
from caviar.panda.rules import Rules, Values
from caviar.trial import Measurement, Outcome, Result, Times, Trial, Value


@dataclass(frozen=True, slots=True)
class Place:
    """A point of the tree: the state of a branch after some epoch."""

    branch: int | None
    """Number of the branch; None before the first epoch."""
    epoch: int


START = Place(None, 0)
"""The state before the first epoch."""


@dataclass(frozen=True, slots=True)
class Trained:
    """An epoch that was trained, or the attempt."""

    measurement: Measurement | None
    """None if it failed."""
    outcome: Outcome = Outcome.COMPLETED
    """`completed`, `diverged` or `failed`; of the epoch, not of its branch."""
    failure: str | None = None
    setup_s: float = 0.0
    train_s: float = 0.0
    time: float = 0.0
    """Time at its end, in seconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A trial of the session."""

    number: int
    params: Mapping[str, Value]
    values: Values
    """Values from which these params follow."""
    epochs: int
    """Epochs that it was to train, for the schedule of the learning rate."""
    start: Place
    """State from which it continues."""
    trained: tuple[Trained, ...] = ()
    outcome: Outcome | None = None
    """`diverged` or `failed` if an epoch ended it."""
    failure: str | None = None

    @property
    def last(self) -> int:
        """The last epoch that it trained."""
        return (
            self.trained[-1].measurement.epoch
            if self.trained and self.trained[-1].measurement
            else self.start.epoch
        )

    @property
    def curve(self) -> tuple[Measurement, ...]:
        """Its own measurements."""
        return tuple(epoch.measurement for epoch in self.trained if epoch.measurement is not None)


class End(StrEnum):
    """The way in which a user ends a session."""

    QUIT = "quit"
    """It can be resumed."""
    FINISH = "finish"
    """The branch is handed over."""


@dataclass(frozen=True, slots=True)
class Note:
    """A note of the user."""

    time: float
    """Time in seconds since 1970."""
    place: Place
    text: str


@dataclass(frozen=True, kw_only=True)
class Session:
    """The state of a session."""

    rules: Rules
    values: Values
    """Values with which the next epoch is trained."""
    epochs: int
    """Epochs to train in all."""
    metric: str
    maximize: bool
    metrics: tuple[str, ...]
    branches: tuple[Branch, ...] = ()
    at: Place = START
    """State from which the next epoch continues."""
    is_running: bool = True
    pause_at: int | None = None
    """Epoch after which it pauses; None for the last."""
    is_left: bool = False
    """True if the last branch is closed, because the user left the session."""
    compared: int | None = None
    """Number of the branch that is drawn beside the present one."""
    plotted: str | None = None
    """Metric that is drawn; None for the losses on train and dev split."""
    pace_s: float = 0.0
    """Shortest time between two epochs, in seconds."""
    notes: tuple[Note, ...] = ()
    end: End | None = None
    answer: str = field(default="", compare=False)
    """Reply to the last command, or news of the training."""
    is_refusal: bool = field(default=False, compare=False)
    """True if the answer says why the last command was refused."""

    @property
    def params(self) -> dict[str, Value]:
        """The hyperparameters with which the next epoch is trained."""
        return self.rules.params(self.values)

    @property
    def branch(self) -> Branch | None:
        """The branch of the present state; None before the first epoch."""
        return None if self.at.branch is None else self.branches[self.at.branch]

    @property
    def extends(self) -> bool:
        """True if the next epoch belongs to the present branch, and not to a new one."""
        branch = self.branch
        return (
            branch is not None
            and branch.number == len(self.branches) - 1
            and not self.is_left
            and branch.outcome is None
            and self.at.epoch == branch.last
            and branch.params == self.params
            and branch.epochs == self.epochs
        )

    @property
    def stuck(self) -> str | None:
        """The reason why no epoch can be trained from here, with what to do; None if one can."""
        if self.has_diverged():
            back = "back 0" if self.best() is None else "back best"
            return f"branch {self.at.branch} diverged at epoch {self.at.epoch}: step back first, such as with `{back}`"
        if self.at.epoch >= self.epochs:
            return (
                f"epoch {self.epochs} is the last: train longer with `epochs {2 * self.epochs}`, or `finish`"
            )
        return None

    def has_diverged(self, place: Place | None = None) -> bool:
        """Return whether the last epoch of a state diverged, so that nothing can continue from it."""
        place = self.at if place is None else place
        branch = None if place.branch is None else self.branches[place.branch]
        return branch is not None and branch.outcome is Outcome.DIVERGED and place.epoch == branch.last

    @property
    def next_trial(self) -> int:
        """Number of the branch that the next epoch belongs to."""
        return len(self.branches) - 1 if self.extends else len(self.branches)

    def path(self, place: Place | None = None) -> Iterator[tuple[Branch, int]]:
        """Yield the branches that lead to a state, last first, each with the last epoch of it that counts."""
        place = place or self.at
        while place.branch is not None:
            branch = self.branches[place.branch]
            yield branch, place.epoch
            place = branch.start

    def curve(self, place: Place | None = None) -> list[Measurement]:
        """Return the measurements that lead to a state, from the first epoch on."""
        parts = [[m for m in branch.curve if m.epoch <= last] for branch, last in self.path(place)]
        return [measurement for part in reversed(parts) for measurement in part]

    def place_at(self, epoch: int) -> Place:
        """Return the state after an earlier epoch of the present branch or of its ancestors; `START` for epoch 0."""
        return next(
            (Place(b.number, epoch) for b, last in self.path() if b.start.epoch < epoch <= last), START
        )

    def tip(self, branch: int) -> Place:
        """Return the last state of a branch."""
        return Place(branch, self.branches[branch].last)

    def best(self, place: Place | None = None) -> Measurement | None:
        """Return the measurement with the best finite value of the ranking metric on the way to a state.

        An epoch that diverged is none: nothing can continue from it.
        """
        curve = self.curve(place)
        reached = curve[:-1] if self.has_diverged(place) else curve
        found = [m for m in reached if math.isfinite(m.metrics.get(self.metric, math.nan))]
        sign = 1 if self.maximize else -1
        return max(found, key=lambda m: sign * m.metrics[self.metric], default=None)

    def moved(self, place: Place) -> "Session":
        """Return the session at another state, paused, with the hyperparameters of the epoch that led to it."""
        owner = next((branch for branch, _ in self.path(place)), self.branches[0] if self.branches else None)
        if owner is None:
            return replace(self, is_running=False)
        return replace(
            self, at=place, values=owner.values, epochs=owner.epochs, is_running=False, pause_at=None
        )

    def after(self, event: Trained) -> "Session":
        """Return the session after an epoch, or after the attempt."""
        if event.measurement is None:
            return self._after_failure(event)
        branch, others = self._grown(event)
        session = replace(
            self,
            branches=(*others, branch),
            at=Place(branch.number, branch.last),
            is_left=False,
            answer=self._without_effect(branch),
        )
        if event.outcome is Outcome.DIVERGED:
            why = f"branch {branch.number} diverged at epoch {branch.last}: {event.failure}"
            return replace(session, is_running=False, pause_at=None, answer=why)
        if session.at.epoch >= session.epochs:
            return replace(session, is_running=False, pause_at=None, answer=str(session.stuck))
        if session.pause_at is not None and session.at.epoch >= session.pause_at:
            return replace(
                session, is_running=False, pause_at=None, answer=f"paused after epoch {session.at.epoch}"
            )
        return session

    def _without_effect(self, branch: Branch) -> str:
        """Return a warning if the first epoch of a new branch is equal to that of another one with other params."""
        first = branch.curve[0]
        is_new = len(branch.trained) == 1 and math.isfinite(first.metrics.get(self.metric, math.nan))
        for other in self.branches if is_new else ():
            if self.place_of(other, first.epoch - 1) != branch.start or first not in other.curve:
                continue
            if changes := changes_text(dict(other.params), dict(branch.params)):
                return (
                    f"epoch {first.epoch} is the same as without {changes}: a function must apply params after "
                    "trial.restore(), because a saved optimizer has the old ones"
                )
        return ""

    def place_of(self, branch: Branch, epoch: int) -> Place:
        """Return the state from which a branch trained the epoch after this one."""
        return branch.start if epoch == branch.start.epoch else Place(branch.number, epoch)

    def _grown(self, event: Trained) -> tuple[Branch, tuple[Branch, ...]]:
        """Return the branch with one more epoch, which may be a new one, and the branches before it."""
        if self.extends:
            branch, others = self.branches[-1], self.branches[:-1]
        else:
            others = self.branches
            branch = Branch(
                number=len(others), params=self.params, values=self.values, epochs=self.epochs, start=self.at
            )
        is_over = event.outcome is not Outcome.COMPLETED
        grown = replace(
            branch,
            trained=(*branch.trained, event),
            outcome=event.outcome if is_over else None,
            failure=event.failure,
        )
        return grown, others

    def _after_failure(self, event: Trained) -> "Session":
        """Return the session after an epoch that failed: no branch has begun, or the present one has ended."""
        why = f"epoch {self.at.epoch + 1} failed: {event.failure}"
        session = replace(self, is_running=False, pause_at=None, answer=why, is_refusal=True)
        if not self.extends:
            before = self.branch
            if before is None or before.params == self.params:
                return session
            changes = changes_text(dict(before.params), self.params)
            why = f"{why}; {changes} is taken back"
            return replace(session, values=before.values, epochs=before.epochs, answer=why)
        failed = replace(self.branches[-1], outcome=Outcome.FAILED, failure=event.failure)
        return replace(session, branches=(*self.branches[:-1], failed))

    @property
    def closed(self) -> tuple[Branch, ...]:
        """The branches that do not grow any more."""
        is_last_closed = self.is_left or self.end is not None
        return self.branches if is_last_closed else self.branches[:-1]


def result_of(branch: Branch, session: Session, seed: int, engine: str, device: str, node: str) -> Result:
    """Return a closed branch as the result of a trial.

    Args:
        branch: the branch.
        session: its session.
        seed: seed of the session's trainings.
        engine: name of the engine that trained it.
        device: the device.
        node: name of the machine.
    """
    outcome = branch.outcome or (Outcome.COMPLETED if branch.last >= branch.epochs else Outcome.STOPPED)
    has_value = outcome in (Outcome.COMPLETED, Outcome.STOPPED)
    return Result(
        trial=trial_of(branch, seed),
        outcome=outcome,
        value=branch.curve[-1].metrics[session.metric] if has_value else None,
        measurements=branch.curve,
        failure=branch.failure,
        engine=engine,
        device=device,
        worker=f"{device}-0",
        node=node,
        times=Times(
            setup_s=sum(epoch.setup_s for epoch in branch.trained),
            train_s=sum(epoch.train_s for epoch in branch.trained),
        ),
        started=branch.trained[0].time - branch.trained[0].train_s - branch.trained[0].setup_s,
        ended=branch.trained[-1].time,
    )


def trial_of(branch: Branch, seed: int) -> Trial:
    """Return the trial that a branch is. All branches have one seed, so they differ in their params alone."""
    return Trial(
        number=branch.number,
        round=1,
        params=branch.params,
        epochs=branch.epochs,
        seed=seed,
        parent=branch.start.branch,
        parent_epoch=None if branch.start.branch is None else branch.start.epoch,
    )
