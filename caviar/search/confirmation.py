"""Confirmation: which trials train again with fresh seeds, and which one wins.

The best of many noisy scores is biased upwards: the more trials, the luckier the best one (the winner's curse). So the
best few train again with fresh seeds, in steps (`caviar.rounds.Confirmation`), and only these fresh values decide. Most
trainings are spent where the decision is hardest, between the last two contenders. If the first step shows no noise at
all, nothing is left to confirm: the trainings of the other steps search instead (`caviar.search.stages`).

The winner's value is the mean of its trainings in the last step alone, because the earlier steps chose it partly for
its luck. A choice between two remains in that value: it is slightly too good, by a fraction of its interval, which
still holds the truth as often as it says. The score on the test split has no such bias.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from caviar.columns import is_param
from caviar.rounds import ConfirmationStep
from caviar.search.narrowing import rank
from caviar.trial import Outcome, Stage

MIN_GAIN = 4.0
"""Mean gain of the contenders in confirmation, in standard errors, from which their parts trained worse."""
MIN_GAINERS = 5
"""Contenders below which their gain says nothing."""
MIN_CONTENDERS = 3
"""Fresh trainings below which equal values say nothing about the noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """The params that were best in confirmation."""

    trial: int
    """Number of the search trial that has these params."""
    value: float
    """Mean value of its fresh trainings in the last step; its value in the search if training shows no noise."""
    interval: tuple[float, float] | None
    """95 % confidence interval of that mean (`t_interval`); None if no contender trained twice."""
    seeds: int
    """Number of fresh trainings in that mean; 0 if training shows no noise."""
    best_training: int
    """Number of its training with the best value on the dev split, whose seed the final trial uses: a fresh one, or the
    search trial itself if training shows no noise."""


def choose_contenders(
    search: pd.DataFrame, top: int, maximize: bool, champion: int | None = None
) -> list[int]:
    """Return the numbers of the best search trials with different params, best first.

    Only completed trials of the longest training count, so that none is preferred because it had more epochs.

    Args:
        search: the search trials.
        top: the number of contenders, at most.
        maximize: True if larger values are better.
        champion: number of the trial that has won an earlier confirmation: it comes first, however lucky others were.
    """
    completed = rank(search[search["outcome"] == Outcome.COMPLETED], maximize)
    longest = completed[completed["epochs"] == completed["epochs"].max()]
    if champion is not None:
        longest = longest.iloc[(longest["trial"] != champion).argsort(kind="stable")]
    distinct = longest.drop_duplicates([name for name in longest.columns if is_param(name)])
    return [int(number) for number in distinct["trial"].head(top)]


def next_contenders(
    search: pd.DataFrame, confirmed: pd.DataFrame, step: ConfirmationStep, maximize: bool
) -> list[int]:
    """Return the contenders of the next step, best first.

    A contender that failed to complete a training drops out if the best one completed all.

    Args:
        search: the search trials.
        confirmed: the confirming trials so far.
        step: the planned step.
        maximize: True if larger values are better.

    Returns:
        Numbers of search trials. There are none if nothing is left to find out: only one contender is left, all failed,
        or training shows no noise.
    """
    if is_deterministic(search, confirmed):
        return []
    ranked = _rank(search, confirmed, maximize)[: step.contenders]
    contenders = ranked[ranked["all_completed"] == ranked["all_completed"].iloc[0]]
    fresh = contenders["completed"].iloc[0]
    return _numbers(contenders) if fresh == 1 or (fresh and len(contenders) > 1) else []


def certain_contenders(
    search: pd.DataFrame,
    step: ConfirmationStep,
    maximize: bool,
    epochs: int,
    missing: int,
    champion: int | None = None,
) -> list[int]:
    """Return the trials that will be contenders of the first step, whatever the missing search trials show.

    A trial is certain if it is among the best even if all missing ones are better. The caller leaves out those that
    have the same params as a missing one, which may take their place.

    Args:
        search: the search trials so far.
        step: the first step.
        maximize: True if larger values are better.
        epochs: epochs of the longest training. Trials with fewer are certain of nothing.
        missing: number of search trials that are not in `search`.
        champion: as for `choose_contenders`.
    """
    places = step.contenders - missing
    longest = search[(search["outcome"] == Outcome.COMPLETED) & (search["epochs"] == epochs)]
    return choose_contenders(longest, places, maximize, champion) if places > 0 and len(longest) else []


def certain_to_continue(
    search: pd.DataFrame,
    confirmed: pd.DataFrame,
    before: ConfirmationStep,
    step: ConfirmationStep,
    maximize: bool,
) -> list[int]:
    """Return the contenders that will be in the next step, whatever the missing trainings of the last one show.

    Args:
        search: the search trials so far.
        confirmed: the confirming trials so far, of the last step and those before.
        before: the last step.
        step: the next one.
        maximize: True if larger values are better.
    """
    last = confirmed[confirmed["round"] == confirmed["round"].max()]
    trainings = last["confirms"].value_counts()
    done = trainings.index[trainings == before.seeds]
    places = step.contenders - (before.contenders - len(done))
    if places < 2 or _repeats(search, confirmed):
        return []
    ranked = _rank(search, confirmed[confirmed["confirms"].isin(done)], maximize)[:places]
    certain = _numbers(ranked[ranked["all_completed"]])
    # A single one may be the only one left at the end, and then confirmation is over
    return certain if len(certain) > 1 else []


def is_deterministic(search: pd.DataFrame, confirmed: pd.DataFrame) -> bool:
    """Return True if training shows no noise: the fresh trainings repeat the values of the search to the last digit."""
    if confirmed.empty:
        return False
    completed = (confirmed["outcome"] == Outcome.COMPLETED).sum()
    return bool(completed >= MIN_CONTENDERS) and _repeats(search, confirmed)


def _repeats(search: pd.DataFrame, confirmed: pd.DataFrame) -> bool:
    """Return True if all fresh trainings that completed have the values of the search, or if there are none."""
    metrics = [metric for metric in ("value", "dev_loss") if metric in confirmed.columns]
    completed = confirmed[confirmed["outcome"] == Outcome.COMPLETED]
    before = search.set_index("trial").loc[completed["confirms"], metrics]
    return before.to_numpy().tolist() == completed[metrics].to_numpy().tolist()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def last_winner(trials: pd.DataFrame) -> int | None:
    """Return the number of the search trial that the last final trial trains again; None without a final trial."""
    final = trials[trials["stage"] == Stage.FINAL].sort_values("round")
    return None if final.empty else int(final["confirms"].iloc[-1])


def loss_by_pauses(
    search: pd.DataFrame, confirmed: pd.DataFrame, maximize: bool
) -> tuple[float, float] | None:
    """Find out whether contenders that a halving paused in the search do better if they train without a pause.

    The contenders were chosen for their luck in the search, so by chance their fresh values are worse. If they are
    clearly better, the parts of the search trained worse: a checkpoint lacks something, such as the optimizer.

    Args:
        search: the search trials.
        confirmed: the confirming trials of the first step, each trained in one part.
        maximize: True if larger values are better.

    Returns:
        The mean value of the contenders in the search and in confirmation; None if nothing is wrong.
    """
    completed = confirmed[confirmed["outcome"] == Outcome.COMPLETED]
    paused = search.set_index("trial")["value"].loc[completed["confirms"]].tolist()
    fresh = completed["value"].tolist()
    gains = [(now - then) * (1 if maximize else -1) for then, now in zip(paused, fresh, strict=True)]
    if len(gains) < MIN_GAINERS or min(gains) <= 0:
        return None
    variance = sum((gain - _mean(gains)) ** 2 for gain in gains) / (len(gains) - 1)
    if _mean(gains) < MIN_GAIN * math.sqrt(variance / len(gains)):
        return None
    return _mean(paused), _mean(fresh)


def rank_contenders(search: pd.DataFrame, confirmed: pd.DataFrame, maximize: bool) -> list[int]:
    """Rank the contenders of the last step by the mean of all their fresh trainings.

    Contenders that completed all trainings come first. Ties go to the smaller mean dev loss, then to the contender
    that ranks higher in the search.

    Args:
        search: the search trials.
        confirmed: the confirming trials, with the columns `round`, `confirms`, `outcome`, `value`, and `dev_loss` if
            measured.
        maximize: True if larger values are better.

    Returns:
        Numbers of search trials, best first.
    """
    return _numbers(_rank(search, confirmed, maximize))


def _rank(search: pd.DataFrame, confirmed: pd.DataFrame, maximize: bool) -> pd.DataFrame:
    """Return the contenders of the last step by their numbers, best first.

    The columns are `completed`, the number of fresh trainings that did, `all_completed`, and the mean of each metric.
    """
    last = confirmed.loc[confirmed["round"] == confirmed["round"].max(), "confirms"]
    ranked = rank(search[search["trial"].isin(last)], maximize)
    fresh = confirmed[confirmed["outcome"] == Outcome.COMPLETED].groupby("confirms")
    table = pd.DataFrame(index=ranked["trial"])
    table["completed"] = fresh.size().reindex(table.index, fill_value=0)
    table["all_completed"] = table["completed"] == confirmed["confirms"].value_counts().reindex(table.index)
    for metric in ("value", "dev_loss"):
        if metric in confirmed.columns:
            table[metric] = fresh[metric].mean().reindex(table.index)
    ascending = {"all_completed": False, "value": not maximize, "dev_loss": True}
    keys = [key for key in ascending if key in table]
    return table.sort_values(keys, ascending=[ascending[key] for key in keys], kind="stable")


def _numbers(ranked: pd.DataFrame) -> list[int]:
    return [int(number) for number in ranked.index]


def choose_winner(search: pd.DataFrame, confirmed: pd.DataFrame, maximize: bool) -> Winner | None:
    """Return the best contender after the last step; None if it completed no training.

    Its value and interval are those of the last step in which it completed a training.

    Args:
        search: the search trials.
        confirmed: the confirming trials, as for `rank_contenders`.
        maximize: True if larger values are better.
    """
    if confirmed.empty:
        return None
    best = rank_contenders(search, confirmed, maximize)[0]
    own = rank(confirmed[confirmed["confirms"] == best], maximize)
    if own.empty:
        return None
    values = _last_values(own)
    return Winner(
        trial=best,
        value=_mean(values),
        interval=t_interval(values, fresh_values(confirmed, maximize)),
        seeds=len(values),
        best_training=int(own["trial"].iloc[0]),
    )


def score_contenders(search: pd.DataFrame, confirmed: pd.DataFrame, maximize: bool) -> pd.DataFrame:
    """Return what the confirmation has shown so far of each contender, best first.

    Those of the last step come first, as `rank_contenders` ranks them, then those that the step before it left out, and
    so on.

    Args:
        search: the search trials.
        confirmed: the confirming trials so far, as for `rank_contenders`.
        maximize: True if larger values are better.

    Returns:
        One row a contender: `trial`, the number of its search trial, and `search_value`; the last `step` that it
        reached, from 1; the numbers of `trainings` that completed and of `failures`; their `mean`, which ranks; and
        `value`, `low` and `high`: the mean of those in its last step and its interval, as `choose_winner` returns them
        for the winner.
    """
    rows: dict[int, dict[str, object]] = {}
    trainings = confirmed["confirms"].value_counts()
    own = dict(iter(rank(confirmed, maximize).groupby("confirms")))
    pooled = pooled_variance(fresh_values(confirmed, maximize))
    before = search.set_index("trial")["value"]
    for number in sorted(confirmed["round"].unique(), reverse=True):
        ranked = _rank(search, confirmed[confirmed["round"] <= number], maximize)
        for trial in (trial for trial in _numbers(ranked) if trial not in rows):
            values = _last_values(own[trial]) if trial in own else []
            low, high = (_interval(values, pooled) if values else None) or (math.nan, math.nan)
            completed = int(ranked.loc[trial, "completed"])  # type: ignore[arg-type]
            rows[trial] = {
                "trial": trial,
                "step": int(number - confirmed["round"].min()) + 1,
                "trainings": completed,
                "failures": int(trainings[trial]) - completed,
                "mean": ranked.loc[trial, "value"],
                "value": _mean(values) if values else math.nan,
                "low": low,
                "high": high,
                "search_value": before[trial],
            }
    return pd.DataFrame(rows.values())


def _last_values(own: pd.DataFrame) -> list[float]:
    """Return the values of a contender in the last step in which it completed a training, from its ranked trials."""
    return list(own.loc[own["round"] == own["round"].max(), "value"])


def fresh_values(confirmed: pd.DataFrame, maximize: bool) -> list[list[float]]:
    """Return the fresh values of each contender."""
    groups = rank(confirmed, maximize).groupby("confirms")["value"]
    return [group.tolist() for _, group in groups]


def best_of_search(search: pd.DataFrame, maximize: bool) -> Winner:
    """Return the best search trial as the winner of a study whose training shows no noise.

    Args:
        search: the search trials, among which one completed.
        maximize: True if larger values are better.
    """
    best = choose_contenders(search, 1, maximize)[0]
    value = float(search.set_index("trial").loc[best, "value"])  # type: ignore[arg-type]
    return Winner(trial=best, value=value, interval=None, seeds=0, best_training=best)


def t_interval(values: Sequence[float], groups: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of a mean by Student's t, with the variance pooled over contenders.

    Args:
        values: the values of the mean.
        groups: the fresh values of each contender. All of them tell the variance, because the winner's own two or
            three values say little about it.

    Returns:
        The interval; None if no contender trained twice, or if all that did had equal values.
    """
    return _interval(values, pooled_variance(groups))


def _interval(values: Sequence[float], pooled: tuple[float, int] | None) -> tuple[float, float] | None:
    """Return the interval of a mean, from the variance within groups and its degrees of freedom."""
    if pooled is None or pooled[0] == 0.0:
        return None
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    variance, degrees = pooled
    mean = _mean(values)
    half = float(stdtrit(degrees, 0.975)) * math.sqrt(variance / len(values))
    return mean - half, mean + half


def pooled_variance(groups: Sequence[Sequence[float]]) -> tuple[float, int] | None:
    """Return the variance within groups and its degrees of freedom; None if no group has two values."""
    degrees = sum(len(group) - 1 for group in groups)
    if degrees == 0:
        return None
    means = [_mean(group) for group in groups]
    squares = sum((value - mean) ** 2 for group, mean in zip(groups, means, strict=True) for value in group)
    return squares / degrees, degrees


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share of n rows, such as a test accuracy (Wilson 1927).

    Example:
        >>> low, high = wilson_interval(0.95, 360)
        >>> f"{low:.3f} .. {high:.3f}"
        '0.922 .. 0.968'
    """
    z = 1.959964
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half
