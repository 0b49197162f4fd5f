"""The set of recorded trials: how many of the first are recorded without a gap, and which beyond."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prefix:
    """Trial numbers, of which all below `length` are present. Its size depends on those beyond a gap alone.

    Example:
        >>> Prefix().add([0, 1, 3])
        Prefix(length=2, beyond=frozenset({3}))
        >>> Prefix().add([0, 1, 3]).add([2])
        Prefix(length=4, beyond=frozenset())
    """

    length: int = 0
    beyond: frozenset[int] = frozenset()

    def add(self, numbers: Iterable[int]) -> "Prefix":
        """Return the set with more numbers."""
        beyond, length = {*self.beyond, *numbers}, self.length
        while length in beyond:
            beyond.remove(length)
            length += 1
        return Prefix(length, frozenset(beyond))

    def up_to(self, number: int) -> "Prefix":
        """Return the set with all numbers below this one, whether they are given to trials or not.

        Example:
            >>> Prefix().add([0, 7]).up_to(7)
            Prefix(length=8, beyond=frozenset())
        """
        beyond = (other for other in self.beyond if other >= number)
        return Prefix(max(self.length, number)).add(beyond)
