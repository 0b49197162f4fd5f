"""Details of a run: its best trials, its failures, one round, and its columns.

Each function returns a view, which can be printed or written as JSON.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import RenderableType

from caviar.analysis.advice import best_trials
from caviar.analysis.failures import failures
from caviar.analysis.round_summary import summarize_groups
from caviar.errors import RunError
from caviar.frame_columns import FrameColumns
from caviar.records.frames import Run
from caviar.reporting.formatting import metric_text, params_text
from caviar.reporting.run_json import rows_with_params, run_document
from caviar.reporting.summary import group_table, has_steps, how_drawn, summary_parts
from caviar.reporting.terminal import heading, line, table
from caviar.trial import Outcome, Stage

BEST_OF_ROUND = 3
"""Number of the best trials of a round that are shown with it."""
_TRIAL = ["trial", "round", "epochs", "value"]
_FRAMES = {
    "trials": "one row a finished trial, sorted by trial",
    "curves": "one row a trial and epoch",
    "rounds": "one row a parameter and round, or step",
    "confirmed": "one row a contender, best first",
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
        rows = rows_with_params(run, found[[*_TRIAL, *_params(found)]])
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
        which = f"the best {len(found):,} of {searched:,} search trials in {run.location}"
        yield heading(run.study["name"], f": {which}")
        yield _trials_table(run, found)

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
    shown = ["epochs", "epochs_trained", "worker", "node", "attempt", *_params(trials)]
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


def one_round(run: Run, number: int) -> View:
    """View a round, a step of the search or of the confirmation, or the final training.

    Args:
        run: a finished, running or unfinished run.
        number: its number, as in the column `round`.

    Raises:
        RunError: there is no such round yet.
    """
    trials, rounds = (frame[frame["round"] == number] for frame in (run.trials, run.rounds))
    if trials.empty and rounds.empty:
        known = sorted({*run.trials["round"], *run.rounds["round"]})
        there = (
            f"rounds 1 to {known[-1]} have begun"
            if known[1:]
            else "one has begun"
            if known
            else "none has begun"
        )
        raise RunError(f"{run.location} has no round {number}: {there}")
    stage = trials["stage"].iloc[0] if len(trials) else Stage.SEARCH
    view = _searched_round if stage == Stage.SEARCH else _confirmed_round
    return view(run, number, stage, trials, rounds)


def schema(run: Run | None) -> View:
    """View the columns of all frames.

    Args:
        run: the run whose columns to view; None for those of any run.
    """
    rows = FrameColumns().rows() if run is None else run.schema.to_dict(orient="records")

    def parts(_width: int) -> Parts:
        for frame, what in _FRAMES.items():
            yield heading(frame, f": {what}")
            columns = [row for row in rows if row["frame"] == frame]
            yield table([(row["column"], _type_text(row), _meaning(row)) for row in columns])

    return View(lambda: rows, parts)


def _searched_round(run: Run, number: int, stage: str, trials: pd.DataFrame, rounds: pd.DataFrame) -> View:
    """View a round that draws new trials."""
    groups = summarize_groups(trials, [number] * len(trials), run.study_file.maximize)
    best = best_trials(run, len(run.trials))
    best = best[best["round"] == number].head(BEST_OF_ROUND)
    first = rounds.iloc[0].to_dict() if len(rounds) else {}  # a damaged file may lack a round

    def data() -> Any:
        kept = [
            name
            for name in rounds.columns
            if name not in ("round", "trials", "epochs", "learned_from", "width")
        ]
        return {
            "round": number,
            "stage": stage,
            "planned": first.get("trials"),
            "learned_from": first.get("learned_from"),
            "width": first.get("width"),
            **{name: cells.iloc[0] for name, cells in groups.items() if len(groups)},
            "parameters": rounds[kept].to_dict(orient="records"),
            "top": rows_with_params(run, best[[*_TRIAL, *_params(best)]]),
        }

    def parts(width: int) -> Parts:
        what = "step" if has_steps(run) else "round"
        planned = f" of {first['trials']:,}" if first and first["trials"] > len(trials) else ""
        yield heading(f"Round {number}", f" of {run.study['name']}, a {what} of the search in {run.location}")
        if len(trials):
            named = groups.set_axis([f"{len(trials):,}{planned}"])
            yield group_table("Trials", named.drop(columns="trials"), run.metric, width)
        else:
            yield line(f"  none of its {first['trials']:,} trials is recorded yet")
        if first and (rounds["action"] == "declared").all():
            yield table([("draws from the whole space:",)])
            yield table(rounds[["parameter", "after"]].to_numpy().tolist())
        elif first:
            yield table([(how_drawn(run, first),)])
            yield table(rounds[["parameter", "after", "reason"]].to_numpy().tolist())
        if len(best):
            yield _trials_table(run, best)

    return View(data, parts)


def _confirmed_round(run: Run, number: int, stage: str, trials: pd.DataFrame, _rounds: pd.DataFrame) -> View:
    """View a step of the confirmation, or the final training."""
    completed = trials[trials["outcome"] == Outcome.COMPLETED].groupby("confirms")["value"]
    contenders = trials.groupby("confirms").size().rename("trainings").reset_index()
    contenders["completed"] = contenders["confirms"].map(completed.size()).fillna(0).astype(int)
    contenders["mean"] = contenders["confirms"].map(completed.mean())
    contenders = contenders.rename(columns={"confirms": "trial"}).astype({"trial": int})
    confirmed = run.confirmed.drop(columns=["mean", "value", "low", "high", "trainings", "failures"])
    contenders = contenders.merge(confirmed, on="trial", how="left").sort_values(
        "mean", ascending=not run.study_file.maximize, kind="stable"
    )

    def data() -> Any:
        return {"round": number, "stage": stage, "contenders": rows_with_params(run, contenders)}

    def parts(_width: int) -> Parts:
        what = "trains the winner once more" if stage == Stage.FINAL else "trains contenders with fresh seeds"
        yield heading(f"Round {number}", f" of {run.study['name']} {what} in {run.location}")
        rows = [
            (
                f"{row['trial']}",
                f"{row['completed']:,} of {row['trainings']:,}",
                _number(row["mean"]),
                _number(row["search_value"]),
                params_text(row["params"]),
            )
            for row in data()["contenders"]
        ]
        yield table(rows, ["trial", "completed", f"mean {run.metric}", "in the search", "params"])

    return View(data, parts)


def _trials_table(run: Run, trials: pd.DataFrame) -> RenderableType:
    """Return a row a trial with its value, the mean of its fresh trainings if any has them, and its params."""
    confirmed = _confirmed(run)
    has_means = any(trial in confirmed for trial in trials["trial"])
    rows = [
        (
            f"{row['trial']}",
            _number(row["value"]),
            *([_number(confirmed.get(row["trial"], math.nan))] if has_means else []),
            params_text(row["params"]),
        )
        for row in rows_with_params(run, trials)
    ]
    return table(rows, ["trial", run.metric, *(["confirmed"] if has_means else []), "params"])


def _confirmed(run: Run) -> dict[int, float]:
    """Return the mean of the fresh trainings of each contender."""
    return dict(zip(run.confirmed["trial"], run.confirmed["mean"], strict=True))


def _params(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame.columns if name.startswith("params_")]


def _none_of(trials: pd.DataFrame) -> str:
    return (
        f"none of the {len(trials):,} recorded trials" if len(trials) else "no trial is recorded yet, so none"
    )


def _number(value: float) -> str:
    return "-" if pd.isna(value) else metric_text(value)


def _type_text(row: Mapping[Any, Any]) -> str:
    kind = "time" if row["type"].startswith("datetime") else row["type"]
    return f"{kind}, {row['unit']}" if row["unit"] else kind


def _meaning(row: Mapping[Any, Any]) -> str:
    return f"{row['meaning']} May be empty." if row["optional"] else row["meaning"]
