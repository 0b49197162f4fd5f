"""From the trials so far to where the next round draws, with a reason for every parameter.

The rule, read aloud: take the best few of all trials so far, the *elite*. The next round draws near them: each
number from a stretch around the value that one of them has, each choice mostly as one of them has it. A tenth
of the draws stay near one member (but for choices that stray); the others take each parameter from another
member, so that what is good in one meets what is good in another. From round to round the stretch gets narrower:
coarse to fine. A draw costs next to nothing, so there are several for each trial, and the one whose nearest trials so
far did best is trained (`caviar.search.candidate_ranking`). A few trials still come from the whole space, no option
is ever ruled out, and no range is closed for good: a stretch around a value at its end reaches beyond it. A parameter
that exists only in some trials is judged by those alone.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from caviar.columns import column, from_column, params_from_row
from caviar.rounds import Narrowing
from caviar.search.region import Region
from caviar.space import Choice, Interval, Space
from caviar.trial import Outcome, Value

FEWEST = 4
"""Fewer completed trials than this say nothing about a parameter."""
MOST_TRIED = 1_000
"""Draws are compared with the latest so many trials, which lie nearest: the cost of a draw stops growing there."""
EDGE = 0.1
"""So near an end of a range, as a share of it, a value lies at its edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What became of one parameter, and why."""

    parameter: str
    action: str
    """"narrowed", "kept", "widened" (opened at an edge), "moved" (both at once), "weighted" (a choice's options),
    or "dropped" (its condition holds in exploring draws only)."""
    before: str
    """Its range, or its options and how often each was drawn, in words."""
    after: str
    elite: int
    """How many trials decided: the best of those that have the parameter."""
    elite_low: float | None = None
    """The smallest value among them, for numbers."""
    elite_high: float | None = None
    best: Any = None
    """The value in the best of them."""
    counts: tuple[int, ...] = ()
    """How many of the elite took each option of a choice, or lie in each quarter of a number's whole range."""
    reason: str = ""


def rank(trials: pd.DataFrame, maximize: bool) -> pd.DataFrame:
    """Completed trials, best first, then stopped ones: those that came further before those that did not.

    Ties go to the smaller dev loss, then to the earlier trial.

    Args:
        trials: with `trial`, `outcome`, `value`, `epochs_trained` where any has stopped, and `dev_loss` where the
            objective measures it.
        maximize: whether more is better.
    """
    ranked = trials[trials["outcome"].isin([Outcome.COMPLETED, Outcome.STOPPED])]
    stopped = ranked["outcome"] == Outcome.STOPPED
    order = {"stopped": True, "epochs_trained": False, "value": not maximize, "dev_loss": True, "trial": True}
    ranked = ranked.assign(stopped=stopped)
    if "epochs_trained" in ranked.columns:
        ranked = ranked.assign(epochs_trained=ranked["epochs_trained"].where(stopped, 0))
    keys = [key for key in order if key in ranked.columns]
    order_of = ranked.sort_values(keys, ascending=[order[key] for key in keys]).index
    return trials.loc[order_of]


def narrow(
    trials: pd.DataFrame,
    region: Region,
    rule: Narrowing,
    *,
    round_number: int,
    maximize: bool,
    weighs: bool = True,
) -> tuple[Region, tuple[Decision, ...]]:
    """Where the next round draws.

    Args:
        trials: all trials so far that trained for as long as the last round's: `trial`, `outcome`, `value` and
            a column `params_<name>` for each parameter.
        region: the last round's.
        rule: the shares.
        round_number: the next round's.
        maximize: whether more is better.
        weighs: whether options are drawn as often as the elite has them; samplers that draw from the region's
            `space` choose among options themselves.

    Returns:
        The region, and a decision for each parameter. With too few completed trials, the same region.
    """
    whole, ranked = region.whole, rank(trials, maximize)
    if len(ranked) < FEWEST:
        reason = f"only {len(ranked)} trials completed"
        return region, tuple(_kept(name, region, rule, reason) for name in whole)
    elite = ranked.head(_elite_size(len(ranked), rule))
    near = _near(ranked, elite, whole, rule)
    numbers = {name: values for name, values in near.items() if isinstance(whole[name].domain, Interval)}
    after = Region(
        whole=whole,
        elite=tuple(params_from_row(whole, row) for row in elite.to_dict(orient="records")),
        trials=tuple(int(number) for number in elite["trial"]),
        near=near if weighs else numbers,
        width=rule.width_in(round_number),
        tried=_tried(trials, ranked, whole),
    )
    inside = after.space
    return after, tuple(
        _decide(name, region, after, rule, weighs) if name in inside else _dropped(name, region, inside, rule)
        for name in whole
    )


def _elite_size(count: int, rule: Narrowing) -> int:
    """How many of so many completed trials decide."""
    return max(rule.least_elite, math.ceil(rule.elite * count))


def _tried(trials: pd.DataFrame, ranked: pd.DataFrame, whole: Space) -> tuple[dict[str, Value], ...]:
    """The params of the latest trials, best first; those that diverged come last, and failures say nothing."""
    diverged = trials[trials["outcome"] == Outcome.DIVERGED].sort_values("trial")
    known = trials.loc[ranked.index.append(diverged.index)]
    latest = known[known["trial"] >= known["trial"].nlargest(MOST_TRIED).min()]
    return tuple(params_from_row(whole, row) for row in latest.to_dict(orient="records"))


def _near(
    ranked: pd.DataFrame, elite: pd.DataFrame, whole: Space, rule: Narrowing
) -> dict[str, tuple[Any, ...]]:
    """Each parameter's values in the best of the trials that have it, the elite's among them."""
    near = {}
    for name, parameter in whole.items():
        cells = ranked[column(name)].dropna()
        if len(cells) >= FEWEST:
            size = max(_elite_size(len(cells), rule), int(elite[column(name)].notna().sum()))
            near[name] = tuple(from_column(parameter.domain, cell) for cell in cells.head(size))
    return near


def _decide(name: str, before: Region, after: Region, rule: Narrowing, weighs: bool) -> Decision:
    if isinstance(after.whole[name].domain, Choice) and not weighs:
        return _kept(name, after, rule, "the sampler chooses among its options itself")
    if name not in after.near:
        return _kept(name, after, rule, f"fewer than {FEWEST} completed trials have it")
    if isinstance(after.whole[name].domain, Choice):
        return _decide_choice(name, before, after, rule)
    return _decide_interval(name, before, after)


def _kept(name: str, region: Region, rule: Narrowing, reason: str) -> Decision:
    text = _text(name, region, rule)
    return Decision(parameter=name, action="kept", before=text, after=text, elite=0, reason=reason)


def _dropped(name: str, before: Region, inside: Space, rule: Narrowing) -> Decision:
    conditions = [
        f"{other} is no longer {' or '.join(map(str, allowed))}"
        for other, allowed in before.whole[name].when.items()
        if other not in inside or not any(value in inside[other].domain for value in allowed)
    ]
    text, reason = _text(name, before, rule), " and ".join(conditions)
    return Decision(parameter=name, action="dropped", before=text, after="none", elite=0, reason=reason)


def _decide_interval(name: str, before: Region, after: Region) -> Decision:
    """How the range that holds all stretches changed, and at which ends."""
    whole, old, new = (_range(name, region) for region in (Region(whole=after.whole), before, after))
    values: Sequence[Any] = after.near[name]
    counts = _by_quarter(whole, values)
    span = whole.text(min(values)) if min(values) == max(values) else _span(whole, min(values), max(values))
    reason = f"the best {len(values)}: {span} ({' '.join(map(str, counts))} by quarter)"
    best, (low, high), margin = whole.coordinate(values[0]), old.ends, EDGE * old.width
    if new.low < old.low or new.high > old.high:
        ends = [end for end, opens in _opened(old, new).items() if opens]
        reason += f"; it opens at the {' and '.join(ends)} end"
    if not low <= best <= high:
        reason += (
            f"; the best, {whole.text(values[0])}, lies outside the last range: an exploring draw found it"
        )
    elif min(best - low, high - best) < margin:
        limit = "what the study allows" if _is_limit(whole, old, best, margin) else "the last range"
        reason += f"; the best, {whole.text(values[0])}, is near the end of {limit}"
    return Decision(
        parameter=name,
        action=_action(old, new),
        before=str(old),
        after=str(new),
        elite=len(values),
        elite_low=min(values),
        elite_high=max(values),
        best=values[0],
        counts=counts,
        reason=reason,
    )


def _by_quarter(whole: Interval, values: Sequence[Any]) -> tuple[int, ...]:
    """How many of the values lie in each quarter of a range, on its scale."""
    low, _ = whole.ends
    quarters = Counter(min(int(4 * (whole.coordinate(value) - low) / whole.width), 3) for value in values)
    return tuple(quarters[quarter] for quarter in range(4))


def _decide_choice(name: str, before: Region, after: Region, rule: Narrowing) -> Decision:
    """How often each option is drawn from now on."""
    domain = after.whole[name].domain
    assert isinstance(domain, Choice)
    values = after.near[name]
    tally = Counter((type(value), value) for value in values)
    counts = tuple(tally[type(option), option] for option in domain.options)
    most = sorted(zip(domain.options, counts, strict=True), key=lambda each: -each[1])
    took = ", ".join(f"{option} {count}" for option, count in most if count)
    same = before.shares(name, rule.stray) == after.shares(name, rule.stray)
    return Decision(
        parameter=name,
        action="kept" if same else "weighted",
        before=_text(name, before, rule),
        after=_text(name, after, rule),
        elite=len(values),
        best=values[0],
        counts=counts,
        reason=f"of the best {len(values)}: {took}",
    )


def _range(name: str, region: Region) -> Interval:
    """Where the parameter is drawn, whether or not its condition can hold."""
    domain = region.domain(name)
    assert isinstance(domain, Interval)
    return domain


def _action(old: Interval, new: Interval) -> str:
    opened, closed = any(_opened(old, new).values()), any(_opened(new, old).values())
    if opened:
        return "moved" if closed else "widened"
    return "narrowed" if closed else "kept"


def _opened(old: Interval, new: Interval) -> dict[str, bool]:
    """At which ends the new range reaches beyond the old one."""
    return {"lower": new.low < old.low, "upper": new.high > old.high}


def _is_limit(whole: Interval, old: Interval, best: float, margin: float) -> bool:
    """Whether the end that the best lies near is one that the study declared."""
    low, high = old.ends
    return (best - low < margin and old.low == whole.low) or (high - best < margin and old.high == whole.high)


def _text(name: str, region: Region, rule: Narrowing) -> str:
    """A range; or options, and how often each is drawn."""
    domain = region.domain(name)
    if isinstance(domain, Interval):
        return str(domain)
    shares = region.shares(name, rule.stray)
    return ", ".join(f"{option} {share:.0%}" for option, share in zip(domain.options, shares, strict=True))


def _span(domain: Interval, low: float, high: float) -> str:
    return f"{domain.text(low)} .. {domain.text(high)}"
