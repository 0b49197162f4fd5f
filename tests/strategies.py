"""Hypothesis strategies for scales, choices and spaces that a user may declare."""

from typing import Any

from hypothesis import strategies as st

from caviar.space import Choice, Domain, Interval, Space, integer, linear, log, reverse_log
from caviar.trial import Value


def _ordered(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    """Return a strategy for two different numbers, the smaller first."""
    return (
        st.tuples(numbers, numbers)
        .filter(lambda pair: pair[0] != pair[1])
        .map(lambda pair: tuple(sorted(pair)))
    )


def _reals(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_subnormal=False)


linears = _ordered(_reals(-1e6, 1e6)).map(lambda ends: linear(*ends))
logs = _ordered(_reals(1e-12, 1e12)).map(lambda ends: log(*ends))
reverse_logs = _ordered(st.one_of(_reals(0.0, 1 - 1e-9), _reals(0.0, 9.0).map(lambda r: 1 - 10**-r))).map(
    lambda ends: reverse_log(*ends)
)
linear_integers = _ordered(st.integers(-(10**6), 10**6)).map(lambda ends: integer(*ends))
log_integers = _ordered(st.integers(1, 10**6)).map(lambda ends: integer(*ends, scale="log"))

real_intervals: st.SearchStrategy[Interval] = st.one_of(linears, logs, reverse_logs)
integer_intervals: st.SearchStrategy[Interval] = st.one_of(linear_integers, log_integers)
intervals: st.SearchStrategy[Interval] = st.one_of(real_intervals, integer_intervals)

options: st.SearchStrategy[Value] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(-1e9, 1e9, allow_subnormal=False),
    st.text(max_size=8),
)
"""Plain values. Equal ones, such as 1, 1.0 and True, cannot be in one choice."""


def choices_of(values: st.SearchStrategy[Value]) -> st.SearchStrategy[Choice]:
    """Return a strategy for choices of some of these values."""
    return st.lists(values, min_size=1, max_size=6, unique=True).map(lambda found: Choice(tuple(found)))


choices: st.SearchStrategy[Choice] = st.one_of(
    choices_of(options),
    choices_of(st.booleans()),
    choices_of(st.integers(-(10**9), 10**9)),
    choices_of(st.one_of(st.integers(-(10**6), 10**6), st.floats(-1e9, 1e9, allow_subnormal=False))),
    choices_of(st.text(max_size=8)),
    choices_of(st.one_of(st.none(), st.text(max_size=3))),
)
domains: st.SearchStrategy[Domain] = st.one_of(intervals, choices)
spaces: st.SearchStrategy[Space] = st.dictionaries(
    st.sampled_from("abcdefgh"), domains, min_size=1, max_size=5
).map(lambda found: Space(**found))


@st.composite
def places(draw: st.DrawFn, domains: st.SearchStrategy[Interval] = intervals) -> tuple[Interval, float]:
    """Draw an interval, and the coordinate of a point in it."""
    domain = draw(domains)
    low, high = domain.ends
    return domain, min(max(low + draw(st.floats(0.0, 1.0)) * (high - low), low), high)
