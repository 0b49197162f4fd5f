"""CSV files, read exactly: every cell is text until a column is known to hold numbers.

A file is UTF-8, with a header of names and as many fields in each row. Fields are separated by commas, or by the
semicolons, tabs or bars of a header without commas. What is doubtful is refused with its line.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import csv

from caviar.data.features import Columns, join_names, row_text
from caviar.errors import DataError

SEPARATORS = (";", "\t", "|")
"""Separators that are recognised in a header without commas."""
MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None")
"""Texts in a feature column that mean a missing number. In the class column only an empty cell is missing."""
TRUTH = {"true": True, "false": False}
"""Texts, in any case, of a feature column that holds booleans."""


@dataclass(frozen=True, slots=True)
class CsvTable:
    """The cells of a CSV file as text."""

    cells: pa.Table
    """Columns of strings, (N rows)."""
    first_line: int | None
    """Line number of the first row; None if rows and lines do not correspond, as with line breaks in quotes."""

    def numbers(self, name: str, without: str) -> pd.DataFrame:
        """Return the feature columns as numbers; missing ones are NaN.

        Args:
            name: the name of the data in error messages.
            without: the class column.

        Raises:
            DataError: a cell is not a number.
        """
        features = [column for column in self.cells.column_names if column != without]
        numbers = {column: self._numbers(column) for column in features}
        wrong = [column for column, values in numbers.items() if values is None]
        if wrong:
            raise DataError(self._not_numbers(name, wrong))
        return pd.DataFrame(numbers)

    def classes(self, column: str) -> Any:
        """Return a class column (N,): integers, floats or booleans if all texts are written as Python writes them.

        Otherwise they stay text, so that "01" and "1" are two classes. Empty cells become None.
        """
        texts = self.cells[column].to_pandas()
        present = texts.unique()
        for kind in (int, float, bool):
            if all(_is_written_as(kind, text) for text in present):
                return np.array([_parse(kind, text) for text in texts])
        return np.array([text or None for text in texts], dtype=object)

    def _numbers(self, column: str) -> npt.NDArray[np.float64] | None:
        """Return a column as numbers, or None if a cell is not a number."""
        texts = pc.utf8_trim_whitespace(self.cells[column].combine_chunks())
        missing = pc.is_in(texts, pa.array(MISSING))
        texts = pc.if_else(missing, None, texts)
        truth = pc.utf8_lower(texts)
        is_truth = pc.all(pc.is_in(pc.drop_null(truth), pa.array(list(TRUTH)))).as_py()
        if is_truth and truth.null_count < len(truth):
            truths: npt.NDArray[np.float64] = (
                pc.equal(truth, "true").cast(pa.float64()).to_pandas().to_numpy()
            )
            return truths
        parsed = pd.to_numeric(texts.to_pandas(), errors="coerce")
        numbers: npt.NDArray[np.float64] = parsed.to_numpy(np.float64, na_value=np.nan)
        is_wrong = np.isnan(numbers) & ~missing.to_numpy(zero_copy_only=False)
        return None if is_wrong.any() else numbers

    def _not_numbers(self, name: str, columns: list[str]) -> str:
        """Return the message about columns that hold other texts than numbers, with the first such text."""
        texts = self.cells[columns[0]].to_pandas()
        known = texts.str.strip().isin(MISSING) | pd.to_numeric(texts, errors="coerce").notna()
        row = int(np.flatnonzero(~known)[0])
        text = str(texts[row])
        advice = "encode or drop them"
        if text.count(",") == 1 and text.replace(",", "").strip("+- ").isdigit():
            advice = "write numbers with decimal points, or read the file yourself and give data=(x, y)"
        place = row_text(row, Columns((), None, self.first_line))
        return (
            f"{name}: columns that are not numbers: {join_names(columns)} "
            f"(the first is {text[:40]!r} in {place}, column {columns[0]}); {advice}"
        )


def read_csv(path: Path) -> CsvTable:
    """Read a CSV file.

    Raises:
        DataError: the file is empty or not UTF-8, or a row has more or fewer fields than the header.
    """
    name, content = f"data={str(path)!r}", path.read_bytes()
    _require_utf8(name, content)
    content = content.removeprefix(b"\xef\xbb\xbf")
    header = content.split(b"\n", 1)[0].decode()
    if not header.strip():
        raise DataError(f"{name}: the first line is empty; it must hold the names of the columns")
    separator = next((s for s in SEPARATORS if s in header), ",") if "," not in header else ","
    misfits: list[csv.InvalidRow] = []

    def note(row: csv.InvalidRow) -> str:
        misfits.append(row)
        return "skip"

    names = csv.read_csv(
        pa.BufferReader(content.split(b"\n", 1)[0] + b"\n"),
        parse_options=csv.ParseOptions(delimiter=separator),
    ).column_names
    cells = csv.read_csv(
        pa.BufferReader(content),
        read_options=csv.ReadOptions(use_threads=False),  # else rows have no numbers
        parse_options=csv.ParseOptions(
            delimiter=separator, newlines_in_values=True, invalid_row_handler=note
        ),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )
    n_lines = content.count(b"\n") + (not content.endswith(b"\n"))
    is_line_a_row = n_lines == len(cells) + len(misfits) + 1
    if misfits:
        first = misfits[0]
        place = f"line {first.number}" if is_line_a_row else f"row {first.number - 2}"
        raise DataError(
            f"{name}: {place} has {first.actual_columns} fields, but the header has {first.expected_columns} names: "
            f"{first.text[:60]!r}; add the missing names, or remove or quote the extra fields"
        )
    return CsvTable(cells, first_line=2 if is_line_a_row else None)


def _require_utf8(name: str, content: bytes) -> None:
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{name}: line {line} is not UTF-8 text (byte 0x{content[error.start]:02x}); "
            'save the file as UTF-8, such as by pandas.read_csv(..., encoding="latin-1").to_csv(..., index=False)'
        ) from error


def _is_written_as(kind: type, text: str) -> bool:
    try:
        return str(_parse(kind, text)) == text
    except ValueError:
        return False


def _parse(kind: type, text: str) -> Any:
    if kind is bool:
        return {"True": True, "False": False}.get(text)
    return kind(text)
