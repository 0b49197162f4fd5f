"""Escapes for characters that a terminal, a file or a reader would misread, in text of unknown origin.

control characters          they move the cursor or clear the screen; tab and newline are kept
surrogates                  parts of file names that are not UTF-8: no file and no terminal takes them
line and bidi controls      they break lines, and reverse the text that follows
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_MISREAD = (
    *(code for code in range(32) if chr(code) not in "\t\n"),
    *range(0x7F, 0xA0),
    *range(0xD800, 0xE000),
    *(0x061C, 0x200E, 0x200F),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
)
_ESCAPES = {code: ascii(chr(code))[1:-1] for code in _MISREAD}


def replace_control_chars(text: str) -> str:
    r"""Replace the characters that would be misread by their escapes in Python.

    Example:
        >>> print(replace_control_chars("clear \x1b[2J caf\udce9.csv"))
        clear \x1b[2J caf\udce9.csv
    """
    return text if text.isprintable() else text.translate(_ESCAPES)


@contextmanager
def escaped_output(stream: TextIO) -> Iterator[None]:
    """Let a stream escape characters that its encoding lacks, such as those of a name on an ASCII terminal.

    Args:
        stream: standard output. One that is no file, such as a notebook's, is left as it is.
    """
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    errors = stream.errors
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        stream.reconfigure(errors=errors)
