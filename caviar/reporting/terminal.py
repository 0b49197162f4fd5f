"""Building blocks of what is printed: lines, headings and tables that fit the terminal.

They turn strings into Text, because Rich looks for markup in strings, and escape control characters.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from caviar.control_chars import escaped_output, replace_control_chars
from caviar.reporting.formatting import UNFOLDED_WIDTH

_GAP = 2
"""Spaces between the columns of a table, and before its rows."""


def open_console() -> Console:
    """Return standard output: as wide as the terminal, or so wide that nothing is folded."""
    return Console(width=None if sys.stdout.isatty() else UNFOLDED_WIDTH)


def print_parts(parts: Iterable[RenderableType], console: Console) -> None:
    """Print lines, headings and tables."""
    with escaped_output(sys.stdout):
        for part in parts:
            # The terminal wraps lines of text itself, so that commands and paths can be copied whole.
            console.print(part, highlight=False, soft_wrap=isinstance(part, Text))


def line(text: str, style: str = "") -> Text:
    """Return a line of text; newlines in it are escaped, too."""
    return Text(_on_one_line(text), style)


def heading(title: str, rest: str) -> Text:
    """Return a line that begins with a title."""
    return Text.assemble((_on_one_line(title), "bold"), _on_one_line(rest))


def paragraph(title: str, rest: str) -> RenderableType:
    """Return prose that begins with a title, and is wrapped between words."""
    return Group(heading(title, rest))


def table(rows: Iterable[Sequence[str]], header: Sequence[str] = (), numbers: bool = False) -> Table:
    """Return a table whose rows are indented below its header.

    Args:
        rows: cells as text.
        header: a title for each column; by default there is no header.
        numbers: align all columns but the first to the right.
    """
    made = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=bool(header))
    rows = list(rows)
    for number in range(len(rows[0]) if rows else 0):
        title = line(header[number], "dim" if number else "bold") if header else ""
        is_number = numbers and number > 0
        made.add_column(
            title, justify="right" if is_number else "left", overflow="fold", no_wrap=numbers and number == 0
        )
    for first, *rest in rows:
        made.add_row(line(f"  {first}"), *map(line, rest))
    return made


def fitting_columns(columns: Mapping[str, Sequence[str]], least: Iterable[str], width: int) -> list[str]:
    """Return the titles of the columns that fit side by side.

    Args:
        columns: cells by title, the first column with the names of the rows.
        least: titles of the columns that matter least, in the order in which they are left out.
        width: columns of the terminal.

    Example:
        >>> fitting_columns({"part": ["1"], "epochs": ["20"], "best": ["0.975"]}, ["epochs"], width=16)
        ['part', 'best']
    """
    widths = {t: _GAP + max(map(cell_len, (t, *cells))) for t, cells in columns.items()}
    for title in least:
        if sum(widths.values()) > width:
            widths.pop(title, None)
    return list(widths)


def _on_one_line(text: str) -> str:
    return replace_control_chars(text).replace("\n", "\\n")
