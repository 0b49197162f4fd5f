"""What is shown on a terminal may come from anywhere, and must not command it."""

_CONTROLS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "\N{REPLACEMENT CHARACTER}")
"""All control characters but tab and newline: others move the cursor, clear the screen, or worse."""


def printable(text: str) -> str:
    r"""The text with its control characters made visible.

    Example:
        >>> printable("clear \x1b[2J me")
        'clear �[2J me'
    """
    return text.translate(_CONTROLS)
