"""Searches on simulated workers: when each training ends, and what a search would hand over at each moment.

caviar's own controller and loop run on a simulated cluster (`caviar.backends.simulated`), and a table gives the values.
So trainings start as early as they do in a real study, and in the same order.
"""

import heapq
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd
from default import declare
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial
from tables import Table

import caviar as cv
from caviar.backends.simulated import SimulatedBackend, SimulatedCluster
from caviar.columns import params_from_rows
from caviar.operations.run import run_study
from caviar.search.confirmation import is_deterministic
from caviar.search.sampling import distribution
from caviar.search.stages import trial_seed
from caviar.trial import Stage, Trial, Value

DRIVER_S = 2e-3
"""Seconds that caviar's driver works for each training. Deciding takes other methods no time."""

Seconds = npt.NDArray[np.float64]
"""Seconds that each configuration of a table trains."""


def run(study: cv.Study, table: Table, workers: int, seconds: Seconds) -> pd.DataFrame:
    """Run a study with caviar's driver on simulated workers.

    Returns:
        A row for each training of the search and the confirmation, in the order in which they ended: its `trial`,
        `round`, `stage`, `confirms`, `outcome` and `value`, the number of its configuration (`row`), and the simulated
        seconds at its end (`ended_s`).
    """

    def cost_s(trial: Trial) -> float:
        return float(seconds[table.row(trial.params)])

    cluster = SimulatedCluster(workers=workers, cost_s=cost_s, start_s=0.0, driver_s=DRIVER_S)
    backend = partial(SimulatedBackend, study.objective, cluster=cluster)
    with tempfile.TemporaryDirectory() as folder:
        trials = run_study(study, runs=Path(folder), progress=False, backend=backend).trials
    trained = trials[trials["stage"] != Stage.FINAL].reset_index(drop=True)
    params = params_from_rows(table.space, trained, np.arange(len(trained)))
    timed = trained[["trial", "round", "stage", "confirms", "outcome", "value"]].assign(
        row=[table.row(each) for each in params],
        ended_s=(trained["ended"] - trained["started"].min()).dt.total_seconds(),
    )
    return timed.sort_values("ended_s", ignore_index=True)


@dataclass(frozen=True, slots=True)
class Asked:
    """A search by Optuna's TPE."""

    params: Sequence[Mapping[str, Value]]
    """The params of each trial, in the order in which they started."""
    trainings: pd.DataFrame
    """The trainings, with columns as `run` returns them."""


def ask_tpe(table: Table, evaluations: int, seed: int, workers: int, seconds: Seconds) -> Asked:
    """Run TPE with constant liar, asked whenever a worker is free and told as results arrive."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna_study = optuna.create_study(sampler=TPESampler(seed=seed, constant_liar=True))
    study = declare(table, evaluations, seed)
    distributions = {name: distribution(parameter.domain) for name, parameter in table.space.items()}
    free_at, running = [0.0] * workers, list[tuple[float, int, optuna.Trial, float]]()
    params, rows = list[Mapping[str, Value]](), list[dict[str, object]]()
    for number in range(evaluations):
        while running and running[0][0] <= free_at[0]:
            _, _, trial, value = heapq.heappop(running)
            optuna_study.tell(trial, value)
        trial = optuna_study.ask(distributions)
        row = table.row(trial.params)
        value = table.training(row, np.random.default_rng(trial_seed(study, 1, number)))
        ended_s = free_at[0] + float(seconds[row])
        heapq.heapreplace(free_at, ended_s)
        heapq.heappush(running, (ended_s, number, trial, value))
        params.append(trial.params)
        rows.append({"trial": number, "value": value, "row": row, "ended_s": ended_s})
    trainings = pd.DataFrame(rows).assign(round=1, stage=Stage.SEARCH.value, confirms=None)
    return Asked(params, trainings.sort_values("ended_s", ignore_index=True))


def then_confirmed(study: cv.Study, asked: Asked) -> cv.Study:
    """Return a study whose search trains the first asked trials, as often as TPE did, and then confirms."""
    search, confirmation = study.rounds
    assert isinstance(search, cv.Search)
    all_in_flight = replace(search, in_flight=search.trials)
    return replace(study, rounds=[all_in_flight, confirmation], sampler=partial(_Replay, asked.params))


class _Replay(BaseSampler):
    """A sampler that draws given params."""

    def __init__(self, params: Sequence[Mapping[str, Value]], seed: int) -> None:
        del seed
        self._params = params

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._params[trial.number][param_name]


@dataclass(frozen=True, slots=True)
class HandOvers:
    """The configurations that a search would hand over, one after the other."""

    moments: Sequence[float]
    """Seconds from which on, in order."""
    rows: Sequence[int]
    """Numbers of the configurations."""


def hand_overs(trainings: pd.DataFrame) -> HandOvers:
    """Return what a search would hand over at each moment if it were stopped then.

    At first that is the configuration of the best value so far. Once half of the trainings of a confirmation step have
    ended, it is the contender of that step with the best mean of fresh trainings so far.

    Args:
        trainings: as of `run`.
    """
    search, confirming = (trainings[trainings["stage"] == s] for s in (Stage.SEARCH, Stage.CONFIRMATION))
    if is_deterministic(search, confirming):
        confirming = confirming.head(0)
    ranks = {trial: rank for rank, trial in enumerate(search.sort_values(["value", "trial"])["trial"])}
    planned, fresh, contenders = (
        Counter(confirming["round"]),
        dict[int, list[float]](),
        dict[int, list[int]](),
    )
    confirmed = list[tuple[float, int]]()
    for ended_s, step, trial, value in (
        confirming[["ended_s", "round", "confirms", "value"]].to_numpy().tolist()
    ):
        fresh.setdefault(trial, []).append(value)
        contenders.setdefault(step, []).append(trial)
        decisive = [step for step, those in contenders.items() if 2 * len(those) >= planned[step]]
        if decisive:
            leader = min(contenders[max(decisive)], key=lambda trial: (fmean(fresh[trial]), ranks[trial]))
            confirmed.append((ended_s, leader))
    improves = search["value"] < search["value"].cummin().shift(fill_value=np.inf)
    is_unconfirmed = search["ended_s"] < (confirmed[0][0] if confirmed else np.inf)
    leaders = search.loc[improves & is_unconfirmed, ["ended_s", "trial"]].to_numpy().tolist() + confirmed
    rows = search.set_index("trial")["row"].to_dict()
    return HandOvers([moment for moment, _ in leaders], [rows[trial] for _, trial in leaders])
