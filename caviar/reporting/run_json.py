"""Results as JSON, which `caviar show RUN --json` prints.

The document of a run has these keys. Later versions may add keys; if they change one, `format` is raised.

    format       1
    run, study   path or URI of the run directory, and the name of the study
    state        "finished", "running" or "unfinished"
    resume       the command or the call that continues an unfinished run, else null
    metric       the metric that ranks the trials
    maximize     true if larger values are better
    trials       for each stage how many are `recorded`, and how many are `planned` (of a confirmation at most; null for
                 a session of `caviar panda`, which plans none)
    extensions   how often the study was extended with `caviar extend`
    best         the winner; before the end the best search trial, which nothing has `confirmed`; null if there is none:
                 trial, params, epochs, seed, value, interval, seeds, and its scores test_accuracy, test_interval,
                 test_rows, test_value and test_uses (how many winners the test split has scored)
    importance   a row a parameter, as `Run.importance()` returns it; empty if the trials are too few to tell
    rounds       round, stage, trials, epochs, completed, stopped, diverged, failed, best and median of each
    start_effect whether it helped to start from another run, as `Run.start_effect` says; null if the study did not
    tried_first  a row a configuration that the study gives (`try_first`): trial, outcome, value, params, and its rank
                 among the completed search trials
    confirmed    a row a contender, as in `Run.confirmed`, with `params` in one object
    failures     a row a cause: outcome, cause, trials (how many), and of the first its number, example, and failure
    worker_time  shares of the workers' time: training, setup, waiting

With these options it prints a part instead:

    --top N      a list of trials, best first: trial, round, epochs, value, params, the mean of the fresh trainings of a
                 contender as `confirmed`, and the last `metrics`
    --failed     the list of `failures`, each with the params of the example, its epochs, epochs_trained, worker,
                 node and attempt
    --round N    of the search: the keys of `rounds`, how many trials are `planned`, learned_from and width, a row a
                 parameter as in `Run.rounds`, and its `top` trials; of the confirmation: its `contenders`
    --schema     a row a column of each frame, as `Run.schema` returns it

Numbers that are not finite or unknown are null, params have the values of the study's options, and those that do not
apply are left out. Characters beyond ASCII are escaped.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from caviar.analysis.failures import failures
from caviar.analysis.round_summary import summarize_groups
from caviar.analysis.tried_first import tried_first
from caviar.columns import is_param, params_from_row
from caviar.records.frames import Run
from caviar.records.winner import Best
from caviar.reporting.summary import worker_time
from caviar.trial import Stage

FORMAT = 1
"""Format of the document; raised when a key changes."""
_SCORES = "seeds", "test_accuracy", "test_interval", "test_rows", "test_value", "test_uses"


def json_text(value: Any) -> str:
    r"""Return plain data, or what NumPy and pandas make of them, as JSON.

    Example:
        >>> json_text([{"value": float("nan"), "name": "größe"}]).split()
        ['[', '{', '"value":', 'null,', '"name":', '"gr\\u00f6\\u00dfe"', '}', ']']
    """
    return json.dumps(_plain(value), indent=2, allow_nan=False)


def run_document(run: Run) -> dict[str, Any]:
    """Return the results of a run, finished or not, as described above."""
    trials, maximize = run.trials, run.study_file.maximize
    state = run_state(run)
    stages = trials["stage"].value_counts()
    phases, extensions = run.study_file.phases(), run.study_file.extensions
    planned = {
        Stage.SEARCH: sum(phase.trials for phase in phases),
        Stage.CONFIRMATION: sum(phase.confirmation.trials for phase in phases),
        Stage.FINAL: len(phases) - sum(bool(extension["keeps_winner"]) for extension in extensions),
    }
    groups = list(zip(trials["round"], trials["stage"], strict=True))
    rounds = summarize_groups(trials, groups, maximize).sort_index()
    best, given = run.best_so_far, tried_first(run)
    effect = run.start_effect
    params = [name for name in given.columns if is_param(name)]
    return {
        "format": FORMAT,
        "run": str(run.location),
        "study": run.study["name"],
        "state": state,
        "resume": run.study_file.resume_command(run.location) if state == "unfinished" else None,
        "metric": run.metric,
        "maximize": maximize,
        "trials": {
            s: {"recorded": stages.get(s, 0), "planned": None if run.study_file.panda else number}
            for s, number in planned.items()
        },
        "extensions": len(extensions),
        "best": None if best is None else _best(best, run.winner is not None),
        "importance": run.importance().dropna(subset="importance").to_dict(orient="records"),
        "rounds": [
            {"round": number, "stage": stage, **row}
            for (number, stage), row in zip(rounds.index, rounds.to_dict(orient="records"), strict=True)
        ],
        "start_effect": None if effect is None else {**asdict(effect), "verdict": effect.verdict},
        "tried_first": rows_with_params(run, given[["trial", "outcome", "value", "rank", *params]]),
        "confirmed": rows_with_params(run, run.confirmed),
        "failures": failures(trials).to_dict(orient="records"),
        "worker_time": worker_time(trials),
    }


def run_state(run: Run) -> str:
    """Return "finished", "running" if a driver holds the lock of the run, or "unfinished"."""
    if run.finished:
        return "finished"
    return "running" if run.location.holder() else "unfinished"


def rows_with_params(run: Run, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame, with the params of each in one object."""
    return [
        {str(n): v for n, v in row.items() if not is_param(str(n))}
        | {"params": params_from_row(run.space, row)}
        for row in frame.to_dict(orient="records")
    ]


def _best(best: Best, confirmed: bool) -> dict[str, Any]:
    return {
        "trial": best.trial,
        "confirmed": confirmed,
        "params": best.params,
        "epochs": best.epochs,
        "seed": best.seed,
        "value": best.value,
        "interval": best.interval,
        **{name: getattr(best, name) for name in _SCORES},
    }


def _plain(value: Any) -> Any:
    """Return data as JSON can hold them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "item"):  # a number of NumPy
        value = value.item()
    if value is pd.NA or value is pd.NaT or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value.isoformat() if isinstance(value, pd.Timestamp) else value
