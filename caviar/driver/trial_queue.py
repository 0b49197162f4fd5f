"""The queue of trials that wait to be sent: an immutable value, cheap to take from at both ends and to extend.

Taking entries moves the start or the end of the queue; the entries are copied when half of them are gone.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from operator import itemgetter

from caviar.driver.messages import Task

_Key = tuple[bool, int, float, int]
_Entry = tuple[_Key, float, Task]
"""A key, the predicted seconds of the task, and the task."""


@dataclass(frozen=True, slots=True)
class TrialQueue:
    """Tasks in the order in which the workers of a device get them.

    Trials that have begun go first. The others follow by the place at which they should start, because later trials
    wait for them (least slack first). If workers of another device help out, trials that suit this device best,
    relative to the other, go before all.
    """

    device: str = "cpu"
    other_device: str | None = None
    """The device whose workers help out."""
    cost_s: float = 0.0
    """Predicted seconds of all tasks."""
    _entries: tuple[_Entry, ...] = ()
    _start: int = 0
    _end: int = 0

    def put(self, tasks: Iterable[Task]) -> "TrialQueue":
        """Return the queue with more tasks, of trials that are not in it."""
        new = [(self._key(task), task.cost_s(self.device), task) for task in tasks]
        if not new:
            return self
        entries = tuple(sorted((*self._entries[self._start : self._end], *new), key=itemgetter(0)))
        cost_s = self.cost_s + sum(seconds for _, seconds, _ in new)
        return replace(self, cost_s=cost_s, _entries=entries, _start=0, _end=len(entries))

    def without(self, taken: int, at_end: bool = False) -> "TrialQueue":
        """Return what is left after `taken` tasks were taken from the start, or from the end."""
        start = self._start if at_end else self._start + taken
        end = self._end - taken if at_end else self._end
        gone = self._entries[end : self._end] if at_end else self._entries[self._start : start]
        cost_s = max(0.0, self.cost_s - sum(seconds for _, seconds, _ in gone))
        if 2 * (end - start) < len(self._entries):
            return replace(self, cost_s=cost_s, _entries=self._entries[start:end], _start=0, _end=end - start)
        return replace(self, cost_s=cost_s, _start=start, _end=end)

    def __len__(self) -> int:
        return self._end - self._start

    def __iter__(self) -> Iterator[Task]:
        return (self._entries[n][2] for n in range(self._start, self._end))

    def __reversed__(self) -> Iterator[Task]:
        return (self._entries[n][2] for n in range(self._end - 1, self._start - 1, -1))

    def _key(self, task: Task) -> _Key:
        return not task.is_begun, self._rank(task), task.start_by, task.trial.number

    def _rank(self, task: Task) -> int:
        """Return a lower rank for tasks that suit this device better than the other, in steps of a factor of two."""
        if self.other_device is None:
            return 0
        here_s, there_s = task.cost_s(self.device), task.cost_s(self.other_device)
        return round(math.log2(here_s / there_s)) if here_s > 0 < there_s else 0
