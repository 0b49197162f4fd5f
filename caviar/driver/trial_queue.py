"""The queue of trials that wait to be sent: a value, cheap to take from at both ends and to put into.

What is taken is left behind by moving where the queue begins or ends; it is copied when half of it has gone.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from caviar.driver.messages import Assignment

_Key = tuple[bool, int, int, float, int]
_Entry = tuple[_Key, Assignment]


@dataclass(frozen=True, slots=True)
class Queue:
    """Assignments in the order in which the workers of a device get them.

    What was begun goes first. Then, where trials race, cohort goes by cohort, so that few of them are open at a time,
    and few trials paused. Then the longest: short ones fill the gaps at the end of the stage (Graham 1969). Where
    another device would help out, what is done best here, compared with there, goes before what is longest.
    """

    device: str = "cpu"
    rival: str | None = None
    """The other device."""
    cost_s: float = 0.0
    """Predicted seconds of all of them."""
    _entries: tuple[_Entry, ...] = ()
    _start: int = 0
    _end: int = 0

    def put(self, assignments: Iterable[Assignment], place: Callable[[int], int] | None = None) -> "Queue":
        """With some more.

        Args:
            assignments: of trials that are not in the queue.
            place: of a trial's cohort among the others, by its number; None where they do not race.
        """
        new: list[_Entry] = []
        for a in assignments:
            number = a.trial.number
            cohort = place(number) if place is not None else 0
            new.append(((not a.is_begun, cohort, self._rank(a), -a.cost_s(self.device), number), a))
        if not new:
            return self
        entries = tuple(sorted((*self._entries[self._start : self._end], *new)))
        cost_s = self.cost_s - sum(key[3] for key, _ in new)
        return replace(self, cost_s=cost_s, _entries=entries, _start=0, _end=len(entries))

    def without(self, taken: int, behind: bool = False) -> "Queue":
        """What is left when so many have been taken from the head, or from the end."""
        start = self._start if behind else self._start + taken
        end = self._end - taken if behind else self._end
        gone = self._entries[end : self._end] if behind else self._entries[self._start : start]
        cost_s = max(0.0, self.cost_s + sum(key[3] for key, _ in gone))
        if 2 * (end - start) < len(self._entries):
            return replace(self, cost_s=cost_s, _entries=self._entries[start:end], _start=0, _end=end - start)
        return replace(self, cost_s=cost_s, _start=start, _end=end)

    def __len__(self) -> int:
        return self._end - self._start

    def __iter__(self) -> Iterator[Assignment]:
        return (self._entries[n][1] for n in range(self._start, self._end))

    def __reversed__(self) -> Iterator[Assignment]:
        return (self._entries[n][1] for n in range(self._end - 1, self._start - 1, -1))

    def _rank(self, a: Assignment) -> int:
        """The better it is done here, compared with the rival, the lower; alike within a factor of two."""
        if self.rival is None:
            return 0
        here_s, there_s = a.cost_s(self.device), a.cost_s(self.rival)
        return round(math.log2(here_s / there_s)) if here_s > 0 < there_s else 0
