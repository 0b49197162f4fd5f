"""Removal of control characters from text of unknown origin, which could move the cursor or clear the screen."""

_REPLACEMENTS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "\N{REPLACEMENT CHARACTER}")
"""Replacement of every control character but tab and newline."""


def replace_control_chars(text: str) -> str:
    r"""Replace the control characters in a text, except tabs and newlines, by a visible character.

    Example:
        >>> replace_control_chars("clear \x1b[2J me")
        'clear �[2J me'
    """
    return text.translate(_REPLACEMENTS)
