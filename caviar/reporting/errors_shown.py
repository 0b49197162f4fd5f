"""The errors of trials that have been shown: each once, however many trials it fails."""

MAX_ERRORS = 5
"""Largest number of different errors that are shown."""


class ErrorsShown:
    """The different errors so far, up to MAX_ERRORS.

    Example:
        >>> shown = ErrorsShown()
        >>> [shown.is_new(f"KeyError: '{name}' (train.py, line 3)") for name in ("x7", "x8")]
        [True, False]
    """

    def __init__(self) -> None:
        self._kinds: set[tuple[str, str]] = set()

    def is_new(self, failure: str) -> bool:
        """Return whether a failure is to be shown, and note it."""
        kind = _kind_of_error(failure)
        if kind in self._kinds or self.is_full:
            return False
        self._kinds.add(kind)
        return True

    @property
    def count(self) -> int:
        """Number of errors shown."""
        return len(self._kinds)

    @property
    def is_full(self) -> bool:
        """True if no further errors are shown."""
        return self.count == MAX_ERRORS


def _kind_of_error(failure: str) -> tuple[str, str]:
    """Return what the failures of one error share, although their messages may differ: exception class and place.

    Example:
        >>> _kind_of_error("KeyError: 'x7' (train.py, line 3)")
        ('KeyError', '(train.py, line 3)')
    """
    place = failure[failure.rfind("(") :] if failure.endswith(")") else ""
    return failure.partition(":")[0], place
