"""Frames as CSV files for spreadsheets and other programs.

A spreadsheet runs text that begins like a formula, such as `=HYPERLINK(...)`, and names and messages come from many
hands. So an apostrophe stands before such text, which spreadsheets show as text. Numbers are left alone.
"""

import os
import re
from pathlib import Path
from typing import Any, Final

import pandas as pd

from caviar.errors import RunError
from caviar.exports.export_lock import export_lock
from caviar.records.frames import Run

TABLES: Final = ("trials", "curves", "rounds", "confirmed")
"""Frames of a run, each of which becomes a file."""
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?(e[+-]?\d+)?", re.IGNORECASE)


class CsvExport:
    """A folder with a CSV file for each frame of a run.

    Args:
        folder: path of the folder; it is created.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder).expanduser()
        self.place = str(folder)
        """Path of the folder."""
        self._trials: int | None = None

    def update(self, run: Run) -> int:
        """Write the files anew if there are new trials, and return the number of trials in them; else return 0."""
        if len(run.trials) == self._trials:
            return 0
        with export_lock(self._folder):
            for name in TABLES:
                write_csv(getattr(run, name), self._folder / f"{name}.csv")
        self._trials = len(run.trials)
        return self._trials


def write_csv(frame: pd.DataFrame, file: Path) -> None:
    """Write a frame of a run to a CSV file, and replace the file at once if it exists.

    Args:
        frame: the frame.
        file: path of the file; its folder is created.

    Raises:
        RunError: the disk refuses it.
    """
    text = [
        name for name, kind in frame.dtypes.items() if kind == "object" or pd.api.types.is_string_dtype(kind)
    ]
    shown = frame.assign(**{str(name): frame[name].map(_as_text, na_action="ignore") for name in text})
    new = file.with_name(f".{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        shown.to_csv(new, index=False, header=[_as_text(str(name)) for name in frame.columns])
        os.replace(new, file)
    except OSError as error:
        raise RunError(f"{file} cannot be written: {error.strerror or error}") from error


def _as_text(cell: Any) -> Any:
    """Return a cell as a spreadsheet shows it and does not run it.

    Example:
        >>> _as_text("=1+1"), _as_text("-1.5e3"), _as_text("adam")
        ("'=1+1", '-1.5e3', 'adam')
    """
    is_formula = isinstance(cell, str) and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell)
    return f"'{cell}" if is_formula else cell
