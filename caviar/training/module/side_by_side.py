"""Modules in training side by side: those of one structure as a stack, others one after the other."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch

from caviar.engine import Part, PartDone, Progress, divergence
from caviar.training.module.stack import NotStackableError, Stack
from caviar.training.module.structure import structure
from caviar.training.module.training import ModuleTraining
from caviar.trial import Measurement, Outcome


@dataclass(slots=True, eq=False)
class _Lane:
    """A part in training."""

    part: Part
    training: ModuleTraining
    describe: Callable[[BaseException], str]
    """Returns an exception of this trial's code in one line."""
    max_loss: float
    setup_s: float
    train_s: float = 0.0

    @property
    def until(self) -> int:
        """Epoch after which the part ends."""
        return self.part.trial.epochs if self.part.until is None else self.part.until


Begun = tuple[ModuleTraining, float, Callable[[BaseException], str]]
"""A training, the loss above which it has diverged, and a function that describes its exceptions."""


class ModulesSideBySide:
    """Modules that train at the same time.

    Args:
        begin: returns the training of a part; its exceptions end the part as failed.
        describe: returns an exception of `begin` in one line.
        call: calls a step of the training of some modules in isolation.
        lanes: largest number of modules in training.
    """

    def __init__(
        self,
        begin: Callable[[Part], Begun],
        describe: Callable[[BaseException], str],
        call: Callable[[Callable[[], list[dict[str, float]]]], list[dict[str, float]]],
        lanes: int,
    ) -> None:
        self._begin, self._describe, self._call, self._max_lanes = begin, describe, call, lanes
        self._waiting: deque[Part] = deque()
        self._groups: deque[bytes | int] = deque()
        """Structures in the order in which they train; a number for a module that trains alone."""
        self._lanes: dict[bytes | int, list[_Lane]] = {}
        self._stacks: dict[bytes | int, Stack] = {}
        self._checked: dict[bytes, str | None] = {}
        """Reason why modules of a structure train alone; None if they need not."""

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self._lanes

    def add(self, part: Part) -> None:
        self._waiting.append(part)

    def advance(self) -> list[Progress | PartDone]:
        events: list[Progress | PartDone] = []
        while self._waiting and sum(map(len, self._lanes.values())) < self._max_lanes:
            failed = self._start(self._waiting.popleft())
            events += [failed] if failed else []
        if self._groups:
            group = self._groups.popleft()
            events += self._train(group)
            if group in self._lanes:
                self._groups.append(group)
        return events

    def _start(self, part: Part) -> PartDone | None:
        """Start a part; return its end if that fails."""
        began = time.perf_counter()
        try:
            training, max_loss, describe = self._begin(part)
        except (Exception, SystemExit) as error:
            return _failed(part, self._describe(error))
        lane = _Lane(part, training, describe, max_loss, setup_s=time.perf_counter() - began)
        group: bytes | int = part.trial.number
        try:
            wanted = structure(training)
            if self._checked.get(wanted) is None:
                group = wanted
        except NotStackableError:
            pass
        if group not in self._lanes:
            self._lanes[group] = []
            self._groups.append(group)
        self._lanes[group].append(lane)
        self._stacks.pop(group, None)
        return None

    def _train(self, group: bytes | int) -> list[Progress | PartDone]:
        """Train an epoch of the modules of a group."""
        lanes = self._lanes[group]
        began = time.perf_counter()
        if isinstance(group, bytes) and len(lanes) > 1:
            try:
                measured = self._train_stack(group, lanes)
            except torch.OutOfMemoryError:
                self._max_lanes = max(1, len(lanes) // 2)
                self._restart(group)
                return []
            except (Exception, SystemExit) as error:
                self._checked[group] = lanes[0].describe(error)
                self._restart(group)
                return []
        else:
            try:
                measured = [dict(lanes[0].training.train_epoch(lanes[0].part.trial.epochs))]
            except (Exception, SystemExit) as error:
                failure = lanes[0].describe(error)
                return [_failed(self._remove(group, lanes[0]).part, failure)]
        share_s = (time.perf_counter() - began) / len(lanes)
        events: list[Progress | PartDone] = []
        for lane, metrics in zip(tuple(lanes), measured, strict=True):
            lane.train_s += share_s
            events += self._report(group, lane, metrics)
        return events

    def _train_stack(self, group: bytes, lanes: list[_Lane]) -> list[dict[str, float]]:
        """Train an epoch of modules of one structure together."""
        if group not in self._stacks:
            self._stacks[group] = Stack([lane.training for lane in lanes])
        stack = self._stacks[group]
        if group not in self._checked:
            stack.check()
            self._checked[group] = None
        return self._call(stack.train_epoch)

    def _restart(self, group: bytes | int) -> None:
        """Start the parts of a group again from their checkpoints: an epoch of theirs was not finished."""
        self._waiting.extendleft(lane.part for lane in reversed(self._lanes.pop(group)))
        self._stacks.pop(group, None)

    def _remove(self, group: bytes | int, lane: _Lane) -> _Lane:
        self._lanes[group].remove(lane)
        self._stacks.pop(group, None)
        if not self._lanes[group]:
            del self._lanes[group]
        return lane

    def _report(
        self, group: bytes | int, lane: _Lane, metrics: dict[str, float]
    ) -> list[Progress | PartDone]:
        """Return the measurement of an epoch; if it was the part's last, also its end."""
        number, epoch = lane.part.trial.number, lane.training.epoch
        progress = Progress(number, Measurement(epoch, metrics))
        failure = divergence(metrics["train_loss"], metrics["dev_loss"], lane.max_loss)
        if failure is None and epoch < lane.until:
            return [progress]
        self._remove(group, lane)
        end = PartDone(
            trial=number,
            outcome=Outcome.COMPLETED if failure is None else Outcome.DIVERGED,
            failure=failure,
            checkpoint=lane.training.save() if lane.part.keep_checkpoint else None,
            setup_s=lane.setup_s,
            train_s=lane.train_s,
        )
        return [progress, end]


def _failed(part: Part, failure: str) -> PartDone:
    return PartDone(trial=part.trial.number, outcome=Outcome.FAILED, failure=failure)
