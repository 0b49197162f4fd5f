"""The importance of hyperparameters: how much each of them decided about the quality of the trials.

Two methods answer two questions. PED-ANOVA asks what it takes to be among the best tenth: its importances are shares
that sum to 1. fANOVA asks what explains the differences between all trials: its importances are shares of the variance
of quality, and what is missing to 1 are interactions.

Which trials count matters more than the method. A search draws ever nearer to its best trials, so later trials have
good values of the important parameters, and the values that the elite happens to have of all others. Compared with
early trials, each parameter would seem important: in two of four searches of 544 trials, one of four parameters without
any effect came to a fifth of the importance. So the default is the trials that were drawn from the whole space; and
trials of several rounds are compared within their part of the search (`graded_trials`).

Both methods look at the order of trials alone: a trial that is better counts as better, by however much. So the scale
of the metric does not matter, and diverged trials count as the worst ones.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from caviar.analysis import fanova, ped_anova
from caviar.analysis.positions import option_numbers, positions
from caviar.analysis.quality import graded_trials
from caviar.columns import param_column
from caviar.errors import RunError
from caviar.records.frames import Run
from caviar.space import Choice, Domain, Interval, Space
from caviar.starting_point import Origin

Floats = npt.NDArray[np.float64]
Method = Literal["ped_anova", "fanova"]

MIN_TRIALS: Final = 20
"""Trials below which the importance of a parameter is unknown."""
MAX_WIDTH: Final = 0.3
"""Largest width of an interval that is reliable."""
MIN_SCORE: Final = 0.3
"""Smallest share of the variance that the forest of fANOVA must predict for trials that it has not seen."""
MAX_FOREST_TRIALS: Final = 2_000
"""Trials that fANOVA uses at most, drawn at random: more make its trees larger and hardly better."""
SAMPLES: Final = 200
"""Number of bootstrap samples, and of random choices of trials that tell what chance alone comes to."""
_INTERVAL = (2.5, 97.5)
"""Percentiles of a 95 % interval."""


_DTYPES: Mapping[str, str] = {
    **dict.fromkeys(("parameter", "other"), "str"),
    **dict.fromkeys(("importance", "low", "high"), "float64"),
    "trials": "int64",
    "reliable": "bool",
}
_Row = tuple[object, ...]
"""One or two names, importance, low, high, trials, reliable."""


def importance(
    run: Run,
    round: int | Collection[int] | None = None,
    *,
    method: Method | None = None,
    pairs: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how much each parameter of a run mattered; see `Run.importance`."""
    return importance_among(_choose(run, round), run.space, method=method, pairs=pairs, seed=seed)


def importance_among(
    trials: pd.DataFrame, space: Space, *, method: Method | None = None, pairs: bool = False, seed: int = 0
) -> pd.DataFrame:
    """Return how much each parameter mattered among some trials; see `Run.importance`.

    Args:
        trials: trials with the column `quality` (`graded_trials`), in any order.
        space: the space of their parameters.
        method: as for `Run.importance`.
        pairs: as for `Run.importance`.
        seed: as for `Run.importance`.

    Raises:
        RunError: the method is unknown or has no pairs.
    """
    method = _check_method(method, pairs)
    trials = trials[trials["quality"].notna()]
    trials = trials.sort_values(["quality", "trial"], ascending=[False, True], ignore_index=True)
    rows = _ped_anova(trials, space, seed) if method == "ped_anova" else _fanova(trials, space, pairs, seed)
    names = [name for name in _DTYPES if pairs or name != "other"]
    frame = pd.DataFrame(rows, columns=names).astype({name: _DTYPES[name] for name in names})
    return frame.sort_values("importance", ascending=False, kind="stable", ignore_index=True)


def _check_method(method: Method | None, pairs: bool) -> Method:
    """Return the method, by default the one that can do what is asked."""
    if method is not None and method not in get_args(Method):
        raise RunError(
            f"importance: method={method!r} is unknown; use {' or '.join(map(repr, get_args(Method)))}"
        )
    if pairs and method == "ped_anova":
        raise RunError(
            'importance: ped_anova compares one parameter at a time; use method="fanova" for pairs'
        )
    return method or ("fanova" if pairs else "ped_anova")


def _choose(run: Run, round: int | Collection[int] | None) -> pd.DataFrame:
    """Return the search trials that count.

    Raises:
        RunError: the run has no search trials of a round.
    """
    trials = graded_trials(run)
    if round is None:
        trials = trials[trials["learned_from"] == 0]
        if run.study_file.has_origin:  # those near the best of another run are no draws from the whole space
            trials = trials[trials["origin"] == Origin.WHOLE_SPACE]
    else:
        wanted = {round} if isinstance(round, int | np.integer) else set(round)
        if unknown := sorted(wanted - set(trials["round"])):
            known = f"1 to {trials['round'].max()}" if len(trials) else "none yet"
            raise RunError(
                f"importance: {run.location} has no search trials of round {unknown[0]}; its rounds: {known}"
            )
        trials = trials[trials["round"].isin(wanted)]
    return trials


def _ped_anova(trials: pd.DataFrame, space: Space, seed: int) -> Iterator[_Row]:
    """Yield the importance of each parameter for being among the best trials.

    The divergence of few trials is too large: chance alone comes to something, and to twice as much in a bootstrap
    sample of them. So that is subtracted.
    """
    counts = {name: int(trials[param_column(name)].notna().sum()) for name in space}
    known = [name for name in space if counts[name] >= MIN_TRIALS]
    for name in space:
        if name not in known:
            yield name, np.nan, np.nan, np.nan, counts[name], False
    if not known:
        return
    n, rng = len(trials), np.random.default_rng(seed)
    columns = [_column(space[name].domain, trials[param_column(name)]) for name in known]
    worse_N = -trials["quality"].to_numpy()
    ends_N = np.searchsorted(worse_N, worse_N, side="right")
    found_P = ped_anova.divergences(columns, ends_N, [np.ones(n)])[0]
    samples = (np.bincount(rng.integers(n, size=n), minlength=n).astype(float) for _ in range(SAMPLES))
    sampled_BP = ped_anova.divergences(columns, ends_N, samples)
    top = ped_anova.top_count(np.ones(n), ends_N)
    chance_BP = ped_anova.chance_divergences(columns, top, SAMPLES, rng)
    chance_P = chance_BP.mean(axis=0)
    varies_P = chance_P > 0
    excess_P, excess_BP = (found[..., varies_P] / chance_P[varies_P] for found in (found_P, chance_BP))
    is_more_than_chance = varies_P.any() and excess_P.max() > np.percentile(excess_BP.max(axis=1), 95)
    shares_P = _shares(found_P - chance_P)
    sampled_BP = _shares(sampled_BP - 2 * chance_P)
    for name, share, sampled_B in zip(known, shares_P, sampled_BP.T, strict=True):
        low, high = _interval(share, sampled_B)
        yield name, share, low, high, counts[name], bool(is_more_than_chance and high - low <= MAX_WIDTH)


def _shares(amounts: Floats) -> Floats:
    """Return each positive amount as a share of the sum in its row; NaN if there is none."""
    amounts = np.maximum(amounts, 0)
    total = amounts.sum(axis=-1, keepdims=True)
    shares: Floats = np.divide(amounts, total, out=np.full_like(amounts, np.nan), where=total > 0)
    return shares


def _interval(estimate: float, sampled: Floats) -> tuple[float, float]:
    """Return the 95 % interval of samples; it holds the estimate."""
    sampled = np.append(sampled[~np.isnan(sampled)], estimate)
    low, high = np.percentile(sampled, _INTERVAL)
    return float(np.fmin(low, estimate)), float(np.fmax(high, estimate))


def _fanova(trials: pd.DataFrame, space: Space, pairs: bool, seed: int) -> Iterator[_Row]:
    """Yield the share of the variance of quality that each parameter explains, or each pair.

    Parameters with the same condition are judged by a forest of their own, of the trials that have them.
    """
    groups: dict[str, list[str]] = {}
    for name, parameter in space.items():
        groups.setdefault(repr(dict(parameter.when)), []).append(name)
    rng = np.random.default_rng(seed)
    for own in groups.values():
        applicable = trials[trials[param_column(own[0])].notna()]
        if len(applicable) > MAX_FOREST_TRIALS:
            chosen = rng.choice(len(applicable), MAX_FOREST_TRIALS, replace=False)
            applicable = applicable.iloc[np.sort(chosen)]
        names = [name for name in space if applicable[param_column(name)].notna().all()]
        names = names if len(applicable) else own
        shares, score = _forest_shares(applicable, space, names, pairs, seed)
        for indices, share_T in shares:
            if not {names[index] for index in indices} & set(own):
                continue
            estimate = float(share_T.mean()) if len(share_T) else np.nan
            low, high = _interval(estimate, share_T)
            is_reliable = score >= MIN_SCORE and high - low <= MAX_WIDTH
            yield (
                *(names[index] for index in indices),
                estimate,
                low,
                high,
                len(applicable),
                bool(is_reliable),
            )


def _forest_shares(
    trials: pd.DataFrame, space: Space, names: Sequence[str], pairs: bool, seed: int
) -> tuple[list[tuple[tuple[int, ...], Floats]], float]:
    """Return the shares of the variance by parameter or pair, each for all trees, and the score of the forest."""
    indices = list(combinations(range(len(names)), 2 if pairs else 1))
    quality = trials["quality"].to_numpy()
    if len(trials) < MIN_TRIALS or len(set(quality)) == 1:
        return [(some, np.zeros(0)) for some in indices], 0.0
    domains, columns = [space[name].domain for name in names], [trials[param_column(name)] for name in names]
    x_ND = np.array(
        [_axis(domain, column, quality) for domain, column in zip(domains, columns, strict=True)]
    ).T
    forest = fanova.grow_forest(x_ND, quality, seed)
    return fanova.shares(forest, indices), float(forest.oob_score_)


def _column(domain: Domain, cells: pd.Series) -> ped_anova.Column:
    """Return the values of a parameter as cells of its grid."""
    cells_N = np.full(len(cells), -1)
    is_present = cells.notna().to_numpy()
    size = ped_anova.grid_size(domain)
    if isinstance(domain, Choice):
        cells_N[is_present] = option_numbers(domain, cells[is_present])
    else:
        cells_N[is_present] = np.ceil(positions(domain, cells[is_present]) * (size - 1) - 0.5)
    return ped_anova.Column(cells_N, size, isinstance(domain, Interval))


def _axis(domain: Domain, cells: pd.Series, quality: Floats) -> Floats:
    """Return values as positions between 0 and 1: of numbers on their scale, of options in the order of their quality.

    In that order a tree finds the best division of the options (Fisher 1958).
    """
    if isinstance(domain, Interval):
        return positions(domain, cells)
    numbers, size = option_numbers(domain, cells), len(domain.options)
    with np.errstate(invalid="ignore"):
        means = np.bincount(numbers, quality, size) / np.bincount(numbers, minlength=size)
    places = np.argsort(np.argsort(means, kind="stable"), kind="stable")
    return (places[numbers] + 0.5) / size
