"""The summary of a session of `caviar panda`: the branch that was handed over, all branches, and the notes."""

from collections.abc import Iterator

import pandas as pd
from rich.console import RenderableType

from caviar.analysis.branches import Branch, branches
from caviar.records.frames import Run
from caviar.records.winner import Best
from caviar.reporting.formatting import metric_text, params_text
from caviar.reporting.scores import score_rows
from caviar.reporting.terminal import heading, line, table
from caviar.trial import Outcome, Stage

MAX_NOTES = 10
"""Largest number of notes that are printed."""
_HOW_ENDED = {Outcome.COMPLETED: "", Outcome.STOPPED: "left"}


def session_parts(run: Run) -> Iterator[RenderableType]:
    """Yield what `caviar show` prints of a session."""
    best = run.best
    if best is not None:
        yield from _handed_over(run, best)
    elif run.finished:  # `caviar fetch --frames` copies no winner
        yield heading(
            run.study["name"], f" is finished. {run.location / 'best'} with the network is missing."
        )
    else:
        yield from _unfinished(run)
    found = branches(run)
    if found:
        header = ["Branch", "from", "epochs", f"best {run.metric}", "last", "", "changes"]
        yield table([_row(branch) for branch in found], header)
    yield from _notes(run)
    example = f".branch({found[-1].number}), " if found else ""
    yield heading(
        "In Python", f"    caviar.load({str(run.location)!r}) has .trials, .curves, {example}.interventions"
    )


def _handed_over(run: Run, best: Best) -> Iterator[RenderableType]:
    where = f"branch {best.trial} after epoch {best.epochs}"
    yield heading(run.study["name"], f" is finished, saved in {run.location}. You handed over {where}:")
    chosen = f"{run.metric} {metric_text(best.value)} (one training; it was chosen by this value, which is too good)"
    yield table([("params", params_text(best.params)), ("dev", chosen), *score_rows(run, best)])


def _unfinished(run: Run) -> Iterator[RenderableType]:
    driver = run.location.holder()
    state = f"running ({driver})" if driver else "unfinished"
    number = int((run.trials["stage"] == Stage.SEARCH).sum())
    count = "1 branch" if number == 1 else f"{number:,} branches"
    yield heading(run.study["name"], f" is a session of caviar panda, {state}: {count} in {run.location}")
    if not driver:
        yield line(f"  to go on     {run.study_file.resume_command(run.location)}")


def _row(branch: Branch) -> tuple[str, ...]:
    start = "" if branch.parent is None else f"{branch.parent} at {branch.parent_epoch}"
    best = "-" if branch.best is None else f"{metric_text(branch.best)} at {branch.best_epoch}"
    last = "-" if pd.isna(branch.value) else metric_text(branch.value)
    ended = _HOW_ENDED.get(branch.outcome, branch.outcome.value)
    return (str(branch.number), start, f"{branch.first} .. {branch.last}", best, last, ended, branch.changes)


def _notes(run: Run) -> Iterator[RenderableType]:
    """Yield the last notes."""
    said = run.interventions
    notes = said[said["command"].str.startswith("note ")]
    rows = [
        (f"{trial:.0f}".replace("nan", "-"), str(epoch), str(command).removeprefix("note ").strip())
        for _, trial, epoch, command in notes.tail(MAX_NOTES).itertuples(index=False)
    ]
    if rows:
        yield table(rows, ["Notes at branch", "epoch", ""])
