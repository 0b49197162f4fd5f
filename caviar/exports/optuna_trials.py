"""A run's search trials as trials of Optuna, for its plots, importances, dashboard and samplers.

    caviar                            Optuna
    completed                         COMPLETE, with its value
    stopped                           PRUNED, with its last value
    diverged or failed                FAIL, without a value, like an objective that returns NaN to Optuna
    linear, log, integer, choice      the distribution of the same kind
    reverse_log, such as momentum     `1 - momentum` on a log scale
    parameter that does not apply     absent
    curve of the ranking metric       intermediate values by epoch, where they are finite
    other columns                     user attributes

Optuna has no reverse-log distribution, and on a linear scale its plots and importances would not tell 0.99 from 0.999.
As `1 - momentum` the axis has the logarithmic scale that the trials were drawn on, and its numbers can be read.

Confirmation trials and the final trial are left out. They train the best params again, and every plot and importance
would count these params many times.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from caviar.columns import params_from_rows
from caviar.search.sampling import distribution
from caviar.space import Domain, Interval, Space
from caviar.trial import Outcome, Stage, Value

STATES: Final = {
    Outcome.COMPLETED: TrialState.COMPLETE,
    Outcome.STOPPED: TrialState.PRUNED,
    Outcome.DIVERGED: TrialState.FAIL,
    Outcome.FAILED: TrialState.FAIL,
}
"""States of Optuna's trials, by outcome."""
NUMBER: Final = "trial"
"""User attribute with caviar's number of a trial. Optuna numbers trials in the order in which they are added."""
_ATTRIBUTES = (NUMBER, "round", "outcome", "epochs_trained", "seed", "worker", "train_s", "failure")
"""Columns that become user attributes, beside the last values of the metrics that do not rank the trials."""


def optuna_names(space: Space) -> dict[str, str]:
    """Return the name of each parameter in Optuna: that of a reverse-log parameter says what its values are.

    Example:
        >>> from caviar.space import log, reverse_log
        >>> optuna_names(Space(rate=log(1e-4, 1), momentum=reverse_log(0.9, 0.999)))
        {'rate': 'rate', 'momentum': '1 - momentum'}
    """
    names = {name: name for name in space}
    for name, parameter in space.items():
        if _is_reverse_log(parameter.domain):
            term = name
            while f"1 - {term}" in names.values():  # a parameter of the user's has this name
                term = f"({term})"
            names[name] = f"1 - {term}"
    return names


def optuna_distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return the distribution of each parameter, by its own name, not that in Optuna."""
    return {name: _distribution(parameter.domain) for name, parameter in space.items()}


def optuna_trials(
    space: Space,
    trials: pd.DataFrame,
    curves: pd.DataFrame | None = None,
    *,
    metric: str,
    others: Sequence[str] = (),
) -> list[FrozenTrial]:
    """Return the search trials of a run as finished trials of Optuna, numbered from 0 in the order of their rows.

    Args:
        space: the space that the study declares.
        trials: rows of `Run.trials`; those of the confirmation and the final trial are left out.
        curves: rows of `Run.curves` of at least these trials; without them there are no intermediate values.
        metric: the metric that ranks the trials.
        others: other metrics, whose last values become user attributes.
    """
    search = trials[trials["stage"] == Stage.SEARCH]
    names, distributions = optuna_names(space), optuna_distributions(space)
    points = {} if curves is None else _points(metric, search["trial"], curves)
    rows = zip(
        search["trial"],
        search["outcome"],
        search["value"],
        *_local_times(search),
        params_from_rows(space, search, np.arange(len(search))),
        _attributes(search, others),
        strict=True,
    )
    return [
        FrozenTrial(
            number=place,
            trial_id=place,
            state=STATES[outcome],
            value=float(value) if STATES[outcome] != TrialState.FAIL and math.isfinite(value) else None,
            datetime_start=started,
            datetime_complete=ended,
            params={names[name]: _optuna_value(space[name].domain, x) for name, x in params.items()},
            distributions={
                names[name]: _widened(distributions[name], _optuna_value(space[name].domain, x))
                for name, x in params.items()
            },
            user_attrs=attributes,
            system_attrs={},
            intermediate_values=points.get(number, {}),
        )
        for place, (number, outcome, value, started, ended, params, attributes) in enumerate(rows)
    ]


def optuna_study(trials: list[FrozenTrial], *, name: str, maximize: bool) -> optuna.Study:
    """Return a study in memory that has these trials."""
    study = optuna.create_study(study_name=name, direction="maximize" if maximize else "minimize")
    study.add_trials(trials)
    return study


def _is_reverse_log(domain: Domain) -> bool:
    return isinstance(domain, Interval) and domain.scale == "reverse_log"


def _distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain, Interval) and domain.scale == "reverse_log":
        return FloatDistribution(1 - domain.high, 1 - domain.low, log=True)
    return distribution(domain)


def _optuna_value(domain: Domain, value: Value) -> Value:
    return 1 - value if _is_reverse_log(domain) else value  # type: ignore[operator]


def _widened(known: BaseDistribution, value: Value) -> BaseDistribution:
    """Return a distribution that has a value: a session may leave the range that its study declares."""
    if not isinstance(known, FloatDistribution | IntDistribution) or not isinstance(value, int | float):
        return known
    low, high = min(known.low, value), max(known.high, value)
    if (low, high) == (known.low, known.high):
        return known
    return type(known)(low, high, log=known.log)  # type: ignore[arg-type]


def _points(metric: str, numbers: "pd.Series[int]", curves: pd.DataFrame) -> dict[int, dict[int, float]]:
    """Return the finite values of the ranking metric by epoch, for each trial."""
    kept = curves[np.isfinite(curves[metric]) & curves["trial"].isin(numbers)]
    points: dict[int, dict[int, float]] = {}
    for number, epoch, value in zip(
        *(kept[column].tolist() for column in ("trial", "epoch", metric)), strict=True
    ):
        points.setdefault(number, {})[epoch] = value
    return points


def _local_times(trials: pd.DataFrame) -> Iterator[list[Any]]:
    """Yield the times at which the trials started and ended, in local time without a zone, as Optuna keeps them.

    A trial whose worker was lost has none; it gets the time at which the trial before it ended.
    """
    ended = trials["ended"].fillna(trials["started"]).ffill().bfill()
    ended = ended.fillna(pd.Timestamp.now("UTC"))  # no trial has a time
    for times in (trials["started"].fillna(ended), ended):
        yield [time.to_pydatetime().astimezone().replace(tzinfo=None) for time in times]


def _attributes(trials: pd.DataFrame, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return the user attributes of each trial, without those that are empty or not finite."""
    columns = [*_ATTRIBUTES, *metrics]
    frame = trials[columns].astype({"seed": "str"})  # a browser would round it to 53 bits
    rows = zip(*(frame[column].tolist() for column in columns), strict=True)
    return [
        {
            column: cell
            for column, cell in zip(columns, row, strict=True)
            if not isinstance(cell, float) or math.isfinite(cell)
        }
        for row in rows
    ]
