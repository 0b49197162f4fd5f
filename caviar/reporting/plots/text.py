"""Text in figures. plotly reads it as HTML and fills in templates, so what users chose must be escaped."""

import html
import textwrap

from caviar.control_chars import replace_control_chars

MAX_CHARS = 60
"""Length in characters beyond which a text is cut: figures have little space."""


def escape(text: object, most: int = MAX_CHARS) -> str:
    """Return text that plotly shows as it is: without tags, templates, formulas and control characters.

    Args:
        text: anything that a user may have chosen, such as an option or a failure.
        most: number of characters to which it is cut.

    Example:
        >>> escape("<b>%{x}</b> $5")
        '&lt;b&gt;&#37;{x}&lt;/b&gt; &#36;5'
    """
    return html.escape(shorten(text, most), quote=False).replace("%", "&#37;").replace("$", "&#36;")


def shorten(text: object, most: int = MAX_CHARS) -> str:
    """Return text in one line and not too long, for the few places where plotly shows it as it is."""
    plain = " ".join(replace_control_chars(str(text)).split())
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"


def label(name: str, most: int = MAX_CHARS) -> str:
    """Return the name of a parameter or metric as the title of an axis.

    Example:
        >>> label("learning_rate")
        'learning rate'
    """
    return escape(name.replace("_", " "), most)


def wrap(note: str, most: int) -> list[str]:
    """Return a note, whose words are escaped already, in lines of so many characters."""
    return textwrap.wrap(note, most)
