"""A list of runs, which `caviar list` prints: a line a run, as plain text that other programs can read."""

from collections.abc import Iterator
from datetime import UTC, datetime

from caviar.control_chars import replace_control_chars
from caviar.errors import RunError
from caviar.records.frames import Run
from caviar.records.run_files import is_run_directory
from caviar.reporting.formatting import age_text, metric_text
from caviar.storage.location import Location

HEADER = ("run", "state", "trials", "best", "age", "size")


def list_runs(folder: Location) -> str:
    """Return a line for each run in a folder, below a header.

    Raises:
        RunError: the folder holds no runs, or is a run itself.
    """
    if is_run_directory(folder):
        raise RunError(f"{folder} is a run: `caviar show {folder.quoted}` shows it")
    rows = [_row(folder / name) for name in folder.folders() if is_run_directory(folder / name)]
    if not rows:
        raise RunError(f"{folder} holds no runs")
    return "\n".join(_aligned([HEADER, *rows]))


def _row(location: Location) -> tuple[str, ...]:
    """Return the cells of a run; a run that cannot be read is listed too."""
    try:
        run = Run(location)
        age_s = (datetime.now(UTC) - datetime.fromisoformat(run.study_file.created)).total_seconds()
        size = f"{location.size() / 2**20:,.1f} MiB"
        return location.name, _state(run), f"{len(run.trials):,}", _best(run), age_text(age_s), size
    except (RunError, ValueError, TypeError):  # damaged, of another version, or with links in it
        return location.name, "unreadable", "-", "-", "-", "-"


def _state(run: Run) -> str:
    if run.finished:
        return "finished"
    return "running" if run.location.holder() else "unfinished"


def _best(run: Run) -> str:
    best = run.best_so_far
    return "-" if best is None else f"{run.metric} {metric_text(best.value)}"


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield replace_control_chars("  ".join(cells).rstrip())
