"""Which trials to train again, and who has won.

The best observed of many scores is biased upwards: the more trials, the luckier the luckiest. So the top few
train again with fresh seeds, in heats: the better half goes on to twice as many seeds, until two are left; those
that are behind by more than noise explains go sooner, and leave their trainings to the others. Where training shows
no noise at all, there is nothing more to find out. Only these fresh values decide, and the winner is what gets scored
on the test split, once. What is said of the winner comes from the last heat: the heats before chose it partly for its
luck. So does the last one, between two: its mean leans to the lucky side by a fraction of its interval, which still
holds the truth as often as it says; the test score leans to no side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from caviar.columns import is_param
from caviar.rounds import Heat
from caviar.search.narrowing import rank
from caviar.trial import Outcome

BEHIND = 2.0
"""So many standard errors behind the first, a contender is out."""
FEWEST = 3
"""Fewer contenders than this, each trained again once, do not tell how noisy training is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """The params that did best when trained again."""

    trial: int
    """The search trial that drew them."""
    value: float
    """Mean value of its fresh trainings in the last heat."""
    interval: tuple[float, float] | None
    """95 % confidence interval of that mean (`mean_interval`); None where nothing trained twice."""
    seeds: int
    """How many fresh trainings that mean is of."""
    handed_over: int
    """The confirming trial whose seed the final network is trained with: the best by dev value."""


def to_confirm(search: pd.DataFrame, top: int, maximize: bool) -> list[int]:
    """The numbers of the search trials that are trained again, best first; of those with the same params the best.

    Only trials of the longest training that any completed count, so that none is preferred for having had more epochs.
    """
    completed = rank(search[search["outcome"] == Outcome.COMPLETED], maximize)
    longest = completed[completed["epochs"] == completed["epochs"].max()]
    distinct = longest.drop_duplicates([name for name in longest.columns if is_param(name)])
    return [int(number) for number in distinct["trial"].head(top)]


def next_heat(
    search: pd.DataFrame, confirmed: pd.DataFrame, heat: Heat, maximize: bool
) -> tuple[list[int], int]:
    """Who trains in the next heat, and with how many fresh seeds each.

    Those behind the first in the standing by more than `BEHIND` standard errors of the difference are out, and so is
    one that failed to complete where the first never did. The heat's trainings are shared among the others.

    Args:
        search: the search trials.
        confirmed: the confirming trials so far.
        heat: the most that may contend, and the trainings of each if so many do.
        maximize: whether more is better.

    Returns:
        Numbers of search trials, best first; none where there is nothing to find out: fresh trainings only repeat what
        the search had measured, all failed, or only one is left.
    """
    ranked = standing(confirmed, maximize)[: heat.contenders]
    fresh = {number: _fresh(confirmed, number) for number in ranked}
    first, variance = fresh[ranked[0]], noise(search, confirmed)
    if not first.scores or _repeats(search, confirmed):
        return [], 0
    level = [number for number in ranked if fresh[number].whole == first.whole]
    contenders = [number for number in level if not _behind(fresh[number], first, variance)]
    contenders = contenders if len(contenders) > 1 else level[:2]
    if len(contenders) == 1 and len(first.scores) > 1:
        return [], 0
    return contenders, heat.contenders * heat.seeds // len(contenders)


@dataclass(frozen=True, slots=True)
class _Fresh:
    """What a contender's fresh trainings came to."""

    scores: tuple[float, ...]
    whole: bool
    """None of them failed or diverged."""


def _fresh(confirmed: pd.DataFrame, number: int) -> _Fresh:
    rows = confirmed[confirmed["confirms"] == number]
    values = tuple(rows.loc[rows["outcome"] == Outcome.COMPLETED, "value"].tolist())
    return _Fresh(values, len(values) == len(rows))


def _behind(own: _Fresh, first: _Fresh, variance: float | None) -> bool:
    """Whether a contender is behind the first by more than noise explains."""
    if variance is None or not own.scores:
        return False
    error = math.sqrt(variance * (1 / len(own.scores) + 1 / len(first.scores)))
    return abs(_mean(own.scores) - _mean(first.scores)) > BEHIND * error


def _repeats(search: pd.DataFrame, confirmed: pd.DataFrame) -> bool:
    """Whether fresh trainings only repeat, to the last digit, what the search had measured."""
    metrics = [metric for metric in ("value", "dev_loss") if metric in confirmed.columns]
    completed = confirmed[confirmed["outcome"] == Outcome.COMPLETED]
    before = search.set_index("trial").loc[completed["confirms"], metrics]
    return len(completed) >= FEWEST and before.to_numpy().tolist() == completed[metrics].to_numpy().tolist()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def noise(search: pd.DataFrame, confirmed: pd.DataFrame) -> float | None:
    """The variance between trainings of one contender, as alike for all; None where it cannot be told.

    From contenders that trained twice at least; else from what each lost against its search value. That all lost, for
    they were chosen for their luck, does not count; how differently they did, does. A variance of 0 is chance: values
    such as accuracies tie easily.
    """
    completed = confirmed[confirmed["outcome"] == Outcome.COMPLETED]
    pooled = _pooled([group.tolist() for _, group in completed.groupby("confirms")["value"]])
    if pooled is not None:
        return pooled[0] or None
    searched = search.set_index("trial")["value"].loc[completed["confirms"]]
    lost = [now - then for now, then in zip(completed["value"].tolist(), searched.tolist(), strict=True)]
    if len(lost) < FEWEST:
        return None
    return sum((loss - _mean(lost)) ** 2 for loss in lost) / (2 * (len(lost) - 1)) or None


def standing(confirmed: pd.DataFrame, maximize: bool) -> list[int]:
    """The contenders of the last heat, best first, by the mean of all their fresh trainings.

    One that diverged or failed in any of them comes after those that never did.

    Args:
        confirmed: the confirming trials: `trial`, `round`, `confirms`, `outcome`, `value`, and `dev_loss` if
            measured.
        maximize: whether more is better.

    Returns:
        Numbers of the search trials; ties go to the smaller mean dev loss, then to the one ranked higher before.
    """
    last = confirmed[confirmed["round"] == confirmed["round"].max()]
    groups = confirmed[confirmed["confirms"].isin(last["confirms"])].groupby("confirms")
    completed = rank(confirmed, maximize).groupby("confirms")
    table = pd.DataFrame({"asked": groups.size(), "trial": groups["trial"].min()})
    table["done"] = completed.size().reindex(table.index, fill_value=0)
    table["whole"] = table["done"] == table["asked"]
    for metric in ("value", "dev_loss"):
        if metric in confirmed.columns:
            table[metric] = completed[metric].mean().reindex(table.index)
    keys = [key for key in ("whole", "value", "dev_loss", "trial") if key in table]
    ascending = [{"whole": False, "value": not maximize}.get(key, True) for key in keys]
    return [int(number) for number in table.sort_values(keys, ascending=ascending).index]


def winner(confirmed: pd.DataFrame, maximize: bool) -> Winner | None:
    """The first in the standing after the last heat (see `standing`).

    Its value and interval are those of the last heat that it completed a training in: what brought it there was partly
    luck.

    Returns:
        The winner; None where no training of the first in the standing completed.
    """
    if confirmed.empty:
        return None
    best = standing(confirmed, maximize)[0]
    own = rank(confirmed[confirmed["confirms"] == best], maximize)
    if own.empty:
        return None
    last = own[own["round"] == own["round"].max()]
    values = last["value"].tolist()
    fresh = rank(confirmed, maximize).groupby("confirms")["value"]
    return Winner(
        trial=best,
        value=sum(values) / len(values),
        interval=mean_interval(values, [group.tolist() for _, group in fresh]),
        seeds=len(values),
        handed_over=int(own["trial"].iloc[0]),
    )


def mean_interval(values: Sequence[float], groups: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """95 % confidence interval of a mean, by Student's t and a variance that all contenders share.

    Args:
        values: whose mean it is.
        groups: the fresh values of each contender: a winner's own two or three would say little of their spread.

    Returns:
        The interval; None where no contender trained twice, or those that did show no spread.
    """
    pooled = _pooled(groups)
    if pooled is None or pooled[0] == 0.0:
        return None
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    variance, degrees = pooled
    mean = sum(values) / len(values)
    half = float(stdtrit(degrees, 0.975)) * math.sqrt(variance / len(values))
    return mean - half, mean + half


def _pooled(groups: Sequence[Sequence[float]]) -> tuple[float, int] | None:
    """The variance within groups, and its degrees of freedom; None where no group has two values."""
    degrees = sum(len(group) - 1 for group in groups)
    if degrees == 0:
        return None
    squares = sum((value - sum(group) / len(group)) ** 2 for group in groups for value in group)
    return squares / degrees, degrees


def share_interval(share: float, n: int) -> tuple[float, float]:
    """95 % confidence interval of a share of n rows, such as a test accuracy (Wilson 1927)."""
    z = 1.959964
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half
