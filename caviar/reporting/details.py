"""Details of a run: its best trials, its failures, and its columns; `round_details.py` has its rounds.

Each function returns a view, which can be printed or written as JSON.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import RenderableType

from caviar.analysis.failures import failures
from caviar.analysis.quality import best_trials
from caviar.columns import is_param
from caviar.frame_columns import FrameColumns
from caviar.plurals import counted
from caviar.records.frames import Run
from caviar.reporting.formatting import metric_text, params_text
from caviar.reporting.run_json import rows_with_params, run_document
from caviar.reporting.summary import summary_parts
from caviar.reporting.terminal import heading, line, table
from caviar.trial import Outcome, Stage

TRIAL = ("trial", "round", "epochs", "value")
"""Columns of a trial in JSON, beside its params."""
_FRAMES = {
    "trials": "one row a finished trial, sorted by trial",
    "curves": "one row a trial and epoch",
    "rounds": "one row a parameter and round, or step",
    "confirmed": "one row a contender, best first",
    "interventions": "one row a command of the user of caviar panda",
}
Parts = Iterator[RenderableType]


@dataclass(frozen=True, slots=True)
class View:
    """A part of the results."""

    data: Callable[[], Any]
    """Returns it as data for JSON."""
    parts: Callable[[int], Parts]
    """Returns what is printed on a terminal with so many columns."""


def overview(run: Run, every_round: bool = False) -> View:
    """View a whole run.

    Args:
        run: a finished, running or unfinished run.
        every_round: print each round in a row of its own, and how each narrowed the space.
    """
    return View(lambda: run_document(run), lambda width: summary_parts(run, every_round, width))


def top(run: Run, count: int) -> View:
    """View the best search trials, each with the mean of its fresh trainings if it was a contender.

    Args:
        run: a finished, running or unfinished run.
        count: the number of trials, at most.
    """
    found = best_trials(run, count)

    def data() -> Any:
        rows = rows_with_params(run, found[[*TRIAL, *param_columns(found)]])
        confirmed, metrics = _confirmed(run), found[list(run.metrics)].to_dict(orient="records")
        return [
            row | {"confirmed": confirmed.get(row["trial"]), "metrics": last}
            for row, last in zip(rows, metrics, strict=True)
        ]

    def parts(_width: int) -> Parts:
        if found.empty:
            yield line(f"{run.location}: {_none_of(run.trials)} has completed")
            return
        searched = int((run.trials["stage"] == Stage.SEARCH).sum())
        best = "the best" if len(found) == 1 else f"the best {len(found):,}"
        which = f"{best} of {counted(searched, 'search trial')} in {run.location}"
        yield heading(run.study["name"], f": {which}")
        yield trials_table(run, found)

    return View(data, parts)


def failed(run: Run) -> View:
    """View why trials failed or diverged: a cause with the number of trials, and one of them as an example.

    Args:
        run: a finished, running or unfinished run.
    """
    trials = run.trials
    broken = trials[trials["outcome"].isin([Outcome.FAILED, Outcome.DIVERGED])]
    causes = failures(broken)
    examples = broken.set_index("trial", drop=False).loc[causes["example"]]
    shown = ["epochs", "epochs_trained", "worker", "node", "attempt", *param_columns(trials)]
    details = rows_with_params(run, examples[shown])

    def data() -> Any:
        return [
            cause | example for cause, example in zip(causes.to_dict(orient="records"), details, strict=True)
        ]

    def parts(_width: int) -> Parts:
        if not details:
            yield line(f"{run.location}: {_none_of(trials)} has failed or diverged")
            return
        yield heading(
            run.study["name"],
            f": {len(broken):,} of {len(trials):,} trials in {run.location} failed or diverged",
        )
        for cause in data():
            yield heading(f"{cause['trials']:,} {cause['outcome']}", f"  {cause['cause']}")
            where = f"{cause['worker']} on {cause['node']}" if cause["worker"] else "a worker that was lost"
            yield table(
                [
                    (f"trial {cause['example']}", cause["failure"]),
                    ("params", params_text(cause["params"])),
                    ("where", f"{where}, after {cause['epochs_trained']:,} of {cause['epochs']:,} epochs"),
                ]
            )
        yield heading(
            "In Python", "  study.try_one(params) trains one in your process, with the whole traceback"
        )

    return View(data, parts)


def schema(run: Run | None) -> View:
    """View the columns of all frames.

    Args:
        run: the run whose columns to view; None for those of any run.
    """
    rows = FrameColumns().rows() if run is None else run.schema.to_dict(orient="records")

    def parts(_width: int) -> Parts:
        for frame, what in _FRAMES.items():
            columns = [row for row in rows if row["frame"] == frame]
            if not columns:
                continue
            yield heading(frame, f": {what}")
            yield table([(row["column"], _type_text(row), _meaning(row)) for row in columns])

    return View(lambda: rows, parts)


def trials_table(run: Run, trials: pd.DataFrame) -> RenderableType:
    """Return a row a trial with its value, the mean of its fresh trainings if any has them, and its params."""
    confirmed = _confirmed(run)
    has_means = any(trial in confirmed for trial in trials["trial"])
    rows = [
        (
            f"{row['trial']}",
            number_text(row["value"]),
            *([number_text(confirmed.get(row["trial"], math.nan))] if has_means else []),
            params_text(row["params"]),
        )
        for row in rows_with_params(run, trials)
    ]
    return table(rows, ["trial", run.metric, *(["confirmed"] if has_means else []), "params"])


def _confirmed(run: Run) -> dict[int, float]:
    """Return the mean of the fresh trainings of each contender."""
    return dict(zip(run.confirmed["trial"], run.confirmed["mean"], strict=True))


def param_columns(frame: pd.DataFrame) -> list[str]:
    """Return the columns of a frame that hold params."""
    return [name for name in frame.columns if is_param(name)]


def _none_of(trials: pd.DataFrame) -> str:
    return (
        f"none of the {len(trials):,} recorded trials" if len(trials) else "no trial is recorded yet, so none"
    )


def number_text(value: float) -> str:
    """Return a metric's value, or a dash if it is unknown."""
    return "-" if pd.isna(value) else metric_text(value)


def _type_text(row: Mapping[Any, Any]) -> str:
    kind = "time" if row["type"].startswith("datetime") else row["type"]
    return f"{kind}, {row['unit']}" if row["unit"] else kind


def _meaning(row: Mapping[Any, Any]) -> str:
    return f"{row['meaning']} May be empty." if row["optional"] else row["meaning"]
