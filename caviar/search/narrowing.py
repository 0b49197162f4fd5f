"""Narrowing: the region of the next round from the trials so far, with a reason for each parameter.

The best few of all trials so far are the *elite*, and the next round draws near them. irace draws near its elite in a
similar way (López-Ibáñez et al. 2016, "The irace package"), and Perrone et al. 2019 restrict the space to the best of
earlier tasks ("Learning search spaces for Bayesian optimization"). Each number comes from a window around the value of
an elite trial, and each choice is mostly as an elite trial has it. Most draws take each parameter from another elite
trial (uniform crossover). From round to round the windows get narrower: coarse to fine.

Nothing is ruled out for good. A few trials still come from the whole space, every option of a choice remains possible,
and a window around a value at the end of the last range reaches beyond it. A conditional parameter is judged by the
trials that have it.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from caviar.columns import from_cells, param_column, params_from_rows
from caviar.rounds import Narrowing
from caviar.search.region import Region
from caviar.space import Choice, Interval, Space
from caviar.starting_point import StartingPoint
from caviar.trial import Outcome, Value

MIN_TRIALS = 4
"""Completed trials below which a parameter keeps its range."""
MAX_ELITE = 1_000
"""Largest number of elite trials. It bounds the cost of narrowing a large search."""
MAX_COMPARED = 1_000
"""Finished trials, the latest ones, that candidates are compared with at most. It bounds the cost of a draw."""
EDGE = 0.1
"""Distance from the end of a range, as a share of its width, below which a value is near that end."""
MAX_OPTIONS = 3
"""Largest number of options that a reason names."""
Rows = npt.NDArray[np.intp]
"""Positions of rows in a frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The change of one parameter's range or options from one round to the next, and the reason."""

    parameter: str
    action: str
    """For a number "narrowed", "widened", "shifted" (both, at different ends) or "kept"; for a choice "weighted" or
    "kept"; "dropped" if its condition holds nowhere in the region."""
    before: str
    """Its range, or its options with the probability of each."""
    after: str
    elite: int
    """Number of trials that decided: the best of those that have the parameter."""
    elite_low: float | None = None
    """The smallest value among them, for numbers."""
    elite_high: float | None = None
    """The largest value among them, for numbers."""
    best: Any = None
    """The value of the best of them."""
    counts: tuple[int, ...] = ()
    """Number of them with each option of a choice, or in each quarter of a number's declared range."""
    reason: str = ""
    """A short clause, such as "the best 6 lie between 0.01 and 0.1"."""


def rank(trials: pd.DataFrame, maximize: bool) -> pd.DataFrame:
    """Return the completed trials, best first, then the stopped ones, those that trained longer first.

    Ties go to the smaller dev loss, then to the earlier trial. Diverged and failed trials are left out.

    Args:
        trials: trials with the columns `trial`, `outcome`, `value`, `epochs_trained` if any has stopped, and
            `dev_loss` if the objective measures it.
        maximize: True if larger values are better.
    """
    return trials.iloc[_ranking(trials, maximize)]


def narrow(
    trials: pd.DataFrame,
    region: Region,
    rule: Narrowing,
    *,
    shrinkages: float,
    maximize: bool,
    weights_options: bool = True,
) -> tuple[Region, tuple[Decision, ...]]:
    """Return the region of the next round, and a decision for each parameter.

    Args:
        trials: the trials so far that trained for as long as the last round's, with the columns `trial`, `outcome`,
            `value` and one for each parameter.
        region: the region of the last round.
        rule: the settings of narrowing.
        shrinkages: number of times that the windows have shrunk.
        maximize: True if larger values are better.
        weights_options: True if options are drawn as often as the elite has them. Samplers that learn choose among
            the options themselves.

    Returns:
        The region and the decisions. If fewer than `MIN_TRIALS` trials completed, the region stays the same.
    """
    declared, ranked = region.declared, _ranking(trials, maximize)
    if len(ranked) < MIN_TRIALS:
        reason = f"only {len(ranked)} trials completed"
        return region, tuple(_keep(name, region, rule, reason) for name in declared)
    elite = ranked[: _elite_size(len(ranked), rule)]
    values = _elite_values(trials, ranked, elite, declared, rule)
    numbers = {name: v for name, v in values.items() if isinstance(declared[name].domain, Interval)}
    after = Region(
        declared=declared,
        elite=tuple(params_from_rows(declared, trials, elite)),
        elite_trials=tuple(trials["trial"].to_numpy()[elite].tolist()),
        elite_values=values if weights_options else numbers,
        width=rule.width_after(shrinkages),
        finished=_finished(trials, ranked, declared),
    )
    inside = after.space
    return after, tuple(
        _decide(name, region, after, rule, weights_options)
        if name in inside
        else _drop(name, region, inside, rule)
        for name in declared
    )


def start_region(declared: Space, start: StartingPoint) -> tuple[Region, tuple[Decision, ...]]:
    """Return the region near the best configurations of another run, and a decision for each parameter.

    Args:
        declared: the space of the study.
        start: what the study takes from the other run.
    """
    values = {name: tuple(p[name] for p in start.elite if name in p) for name in declared}
    before = Region(declared=declared)
    after = Region(
        declared=declared,
        elite=start.elite,
        elite_values={name: found for name, found in values.items() if found},
        width=start.width,
    )
    rule, inside = Narrowing(), after.space

    def decide(name: str) -> Decision:
        if name not in inside or name not in after.elite_values:
            return _keep(name, before, rule, f"{start.study} has no value of it")
        decision = _decide(name, before, after, rule, weights_options=True)
        return replace(decision, reason=f"in {start.study}, {decision.reason}")

    return after, tuple(map(decide, declared))


def _ranking(trials: pd.DataFrame, maximize: bool) -> Rows:
    """Return the rows of the trials that `rank` returns, in its order."""
    stopped = (trials["outcome"] == Outcome.STOPPED).to_numpy()
    rows = np.flatnonzero(stopped | (trials["outcome"] == Outcome.COMPLETED).to_numpy())
    value = trials["value"].to_numpy(np.float64)
    keys = [stopped, -value if maximize else value, trials["trial"].to_numpy()]  # NaN is last in any order
    if "epochs_trained" in trials.columns:
        keys.insert(1, np.where(stopped, -trials["epochs_trained"].to_numpy(), 0))
    if "dev_loss" in trials.columns:
        keys.insert(-1, trials["dev_loss"].to_numpy(np.float64))
    return rows[np.lexsort([key[rows] for key in reversed(keys)])]


def _elite_size(count: int, rule: Narrowing) -> int:
    return max(rule.min_elite, min(math.ceil(rule.elite * count), MAX_ELITE))


def _finished(trials: pd.DataFrame, ranked: Rows, declared: Space) -> tuple[dict[str, Value], ...]:
    """Return the params of the latest trials, best first. Diverged trials come last, failed ones are left out."""
    numbers = trials["trial"].to_numpy()
    diverged = np.flatnonzero(trials["outcome"] == Outcome.DIVERGED)
    known = np.concatenate([ranked, diverged[np.argsort(numbers[diverged])]])
    first = np.sort(numbers[known])[-MAX_COMPARED:][0]
    return tuple(params_from_rows(declared, trials, known[numbers[known] >= first]))


def _elite_values(
    trials: pd.DataFrame, ranked: Rows, elite: Rows, declared: Space, rule: Narrowing
) -> dict[str, tuple[Any, ...]]:
    """Return the values of each parameter in the best of the trials that have it; they include the elite's."""
    found = {}
    for name, parameter in declared.items():
        cells = trials[param_column(name)].array
        has_it = ~cells.isna()
        having = ranked[has_it[ranked]]
        if len(having) >= MIN_TRIALS:
            size = max(_elite_size(len(having), rule), int(has_it[elite].sum()))
            found[name] = tuple(from_cells(parameter.domain, cells[having[:size]]))
    return found


def _decide(name: str, before: Region, after: Region, rule: Narrowing, weights_options: bool) -> Decision:
    is_choice = isinstance(after.declared[name].domain, Choice)
    if is_choice and not weights_options:
        return _keep(name, after, rule, "the sampler chooses among the options itself")
    if name not in after.elite_values:
        return _keep(name, after, rule, f"fewer than {MIN_TRIALS} completed trials have it")
    return _decide_choice(name, before, after, rule) if is_choice else _decide_number(name, before, after)


def _keep(name: str, region: Region, rule: Narrowing, reason: str) -> Decision:
    text = _text(name, region, rule)
    return Decision(parameter=name, action="kept", before=text, after=text, elite=0, reason=reason)


def _drop(name: str, before: Region, inside: Space, rule: Narrowing) -> Decision:
    conditions = [
        f"{other} is no longer {' or '.join(map(str, allowed))}"
        for other, allowed in before.declared[name].when.items()
        if other not in inside or not any(value in inside[other].domain for value in allowed)
    ]
    text, reason = _text(name, before, rule), " and ".join(conditions)
    return Decision(parameter=name, action="dropped", before=text, after="none", elite=0, reason=reason)


def _decide_number(name: str, before: Region, after: Region) -> Decision:
    declared, old, new = (_range(name, region) for region in (Region(declared=after.declared), before, after))
    values: Sequence[Any] = after.elite_values[name]
    low, high = min(values), max(values)
    span = f"lie between {declared.text(low)} and {declared.text(high)}"
    reason = f"the best {len(values)} {span if low < high else f'all have {declared.text(low)}'}"
    if place := _place_of_best(declared, old, values[0]):
        reason += f", the best one {place}"
    return Decision(
        parameter=name,
        action=_action(old, new),
        before=str(old),
        after=str(new),
        elite=len(values),
        elite_low=low,
        elite_high=high,
        best=values[0],
        counts=_quarter_counts(declared, values),
        reason=reason,
    )


def _place_of_best(declared: Interval, old: Interval, best: float) -> str:
    """Say if the best value is outside the last range or near one of its ends; return "" otherwise."""
    r, (low, high) = declared.coordinate(best), old.ends
    if not low <= r <= high:
        return "outside the last range"
    is_low, is_high = r - low < EDGE * old.width, high - r < EDGE * old.width
    if (is_low and old.low == declared.low) or (is_high and old.high == declared.high):
        return "near the declared limit"
    return "near the end of the last range" if is_low or is_high else ""


def _action(old: Interval, new: Interval) -> str:
    grew, shrank = (new.low < old.low or new.high > old.high), (new.low > old.low or new.high < old.high)
    if grew:
        return "shifted" if shrank else "widened"
    return "narrowed" if shrank else "kept"


def _quarter_counts(declared: Interval, values: Sequence[Any]) -> tuple[int, ...]:
    """Count the values in each quarter of a range, on its scale."""
    low, _ = declared.ends
    quarters = Counter(
        min(int(4 * (declared.coordinate(value) - low) / declared.width), 3) for value in values
    )
    return tuple(quarters[quarter] for quarter in range(4))


def _decide_choice(name: str, before: Region, after: Region, rule: Narrowing) -> Decision:
    domain = after.declared[name].domain
    assert isinstance(domain, Choice)
    values = after.elite_values[name]
    counts = after.option_counts(name)
    shares = [region.option_shares(name, rule.choice_mutation) for region in (before, after)]
    return Decision(
        parameter=name,
        action="kept" if shares[0] == shares[1] else "weighted",
        before=_text(name, before, rule),
        after=_text(name, after, rule),
        elite=len(values),
        best=values[0],
        counts=counts,
        reason=_choice_reason(domain, counts),
    )


def _choice_reason(domain: Choice, counts: Sequence[int]) -> str:
    """Name the options that most of the elite have, such as "4 of the best 6 have adam, 2 have sgd"."""
    by_count = sorted(zip(domain.options, counts, strict=True), key=lambda each: -each[1])
    (option, count), *others = [each for each in by_count if each[1]]
    if not others:
        return f"the best {count} all have {option}"
    clauses = [f"{count} of the best {sum(counts)} {_have(count)} {option}"]
    clauses += [f"{count} {_have(count)} {option}" for option, count in others[: MAX_OPTIONS - 1]]
    if rest := sum(count for _, count in others[MAX_OPTIONS - 1 :]):
        clauses.append(f"{rest} {_have(rest)} others")
    return ", ".join(clauses)


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _range(name: str, region: Region) -> Interval:
    """Return the range of a number, even if its condition holds nowhere in the region."""
    domain = region.domain(name)
    assert isinstance(domain, Interval)
    return domain


def _text(name: str, region: Region, rule: Narrowing) -> str:
    """Format a range, or options with the probability of each."""
    domain = region.domain(name)
    if isinstance(domain, Interval):
        return str(domain)
    shares = region.option_shares(name, rule.choice_mutation)
    return ", ".join(f"{option} {share:.0%}" for option, share in zip(domain.options, shares, strict=True))
