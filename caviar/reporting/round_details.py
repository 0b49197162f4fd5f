"""Details of one round, step of the search or of the confirmation, or the final training."""

from typing import Any

import pandas as pd

from caviar.analysis.quality import best_trials
from caviar.analysis.round_summary import summarize_groups
from caviar.errors import RunError
from caviar.records.frames import Run
from caviar.reporting.details import TRIAL, Parts, View, number_text, param_columns, trials_table
from caviar.reporting.formatting import params_text
from caviar.reporting.run_json import rows_with_params
from caviar.reporting.summary import group_table, has_steps, how_drawn
from caviar.reporting.terminal import heading, line, table
from caviar.trial import Outcome, Stage

BEST_OF_ROUND = 3
"""Number of the best trials of a round that are shown with it."""


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
        begun = len({*run.trials["round"], *run.rounds["round"]}) or "none"
        raise RunError(f"{run.location} has no round {number}: {begun} of its rounds have begun")
    stage = trials["stage"].iloc[0] if len(trials) else Stage.SEARCH
    if stage == Stage.SEARCH:
        return _search_round(run, number, trials, rounds)
    return _confirmation_round(run, number, stage, trials)


def _search_round(run: Run, number: int, trials: pd.DataFrame, rounds: pd.DataFrame) -> View:
    """View a round that draws new trials."""
    groups = summarize_groups(trials, [number] * len(trials), run.study_file.maximize)
    best = best_trials(run, len(run.trials))
    best = best[best["round"] == number].head(BEST_OF_ROUND)
    first = rounds.iloc[0].to_dict() if len(rounds) else {}  # a damaged file may lack a round

    def data() -> Any:
        return {
            "round": number,
            "stage": Stage.SEARCH,
            "planned": first.get("trials"),
            "learned_from": first.get("learned_from"),
            "width": first.get("width"),
            **{name: cells.iloc[0] for name, cells in groups.items() if len(groups)},
            "parameters": rounds.loc[:, "parameter":].to_dict(orient="records"),
            "top": rows_with_params(run, best[[*TRIAL, *param_columns(best)]]),
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
            yield trials_table(run, best)

    return View(data, parts)


def _confirmation_round(run: Run, number: int, stage: str, trials: pd.DataFrame) -> View:
    """View a step of the confirmation, or the final training."""
    completed = trials[trials["outcome"] == Outcome.COMPLETED].groupby("confirms")["value"]
    contenders = trials.drop_duplicates("confirms")[["confirms", *param_columns(trials)]]
    trial = contenders["confirms"].astype(int)
    contenders = contenders.drop(columns="confirms").assign(
        trial=trial,
        trainings=trial.map(trials["confirms"].value_counts()),
        completed=trial.map(completed.size()).fillna(0).astype(int),
        mean=trial.map(completed.mean()),
        search_value=trial.map(run.trials.set_index("trial")["value"]),
    )
    contenders = contenders.sort_values("mean", ascending=not run.study_file.maximize, kind="stable")

    def data() -> Any:
        return {"round": number, "stage": stage, "contenders": rows_with_params(run, contenders)}

    def parts(_width: int) -> Parts:
        what = "trains the winner once more" if stage == Stage.FINAL else "trains contenders with fresh seeds"
        yield heading(f"Round {number}", f" of {run.study['name']} {what} in {run.location}")
        rows = [
            (
                f"{row['trial']}",
                f"{row['completed']:,} of {row['trainings']:,}",
                number_text(row["mean"]),
                number_text(row["search_value"]),
                params_text(row["params"]),
            )
            for row in data()["contenders"]
        ]
        yield table(rows, ["trial", "completed", f"mean {run.metric}", "in the search", "params"])

    return View(data, parts)
