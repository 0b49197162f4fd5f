"""The forms of a run and of a winner in a notebook: a title and a table, in the colours of the notebook's theme."""

from collections.abc import Iterable
from html import escape

from caviar.control_chars import replace_control_chars
from caviar.errors import RunError
from caviar.records.frames import Run
from caviar.records.winner import Best
from caviar.reporting.digest import Digest, Row, digest_best, digest_run


def run_html(run: Run) -> str:
    """Return a run as HTML, also one with damaged files."""
    try:
        digest = digest_run(run, run.location.holder())
    except RunError as error:
        digest = Digest(f"{run.study['name']} cannot be read", (("error", str(error)),))
    return _table(digest.title, digest.rows)


def best_html(best: Best) -> str:
    """Return a winner, or the best trial so far, as HTML."""
    return _table("winner" if best.location else "best so far", digest_best(best, "value"))


def as_text(text: str) -> str:
    """Return text of unknown origin as HTML that shows it."""
    return escape(replace_control_chars(text))


def _table(title: str, rows: Iterable[Row]) -> str:
    cell = "text-align: left; vertical-align: top"
    lines = "".join(
        f'<tr><th style="{cell}; white-space: nowrap; padding-right: 1em">{as_text(label)}</th>'
        f'<td style="{cell}; overflow-wrap: anywhere">{as_text(text)}</td></tr>'
        for label, text in rows
    )
    return f"<div><b>{as_text(title)}</b><table>{lines}</table></div>"
