"""The verdict of `caviar retune`: keep the old best, take a neighbour of it, or tune again."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from caviar.analysis.score_difference import Difference, Score, compare_pairs, difference, score_of
from caviar.columns import params_from_row
from caviar.records.frames import Run
from caviar.records.start_from import score_words
from caviar.starting_point import Origin
from caviar.trial import Stage, Value

OLD, NEIGHBOUR, FRESH = "old best", "neighbourhood", "fresh search"
"""Names of the candidates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The best of a kind, on the new data."""

    name: str
    """ "old best", "neighbourhood" or "fresh search"."""
    trial: int
    """Number of its search trial."""
    params: Mapping[str, Value]
    score: Score
    """Mean of its fresh trainings, of the last step that it reached."""
    gain: Difference | None
    """The difference from the old best, positive if it is better; None for the old best itself, or if that failed."""
    beats: tuple[str, ...]
    """Names of the candidates that it is clearly better than: chance hardly explains it (Holm's method, all pairs)."""
    trained: int
    """Number of search trials of its kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retuning:
    """The comparison of the old best, its neighbourhood and a fresh search. It prints as a sentence."""

    metric: str
    source: str
    """The run whose best is judged."""
    candidates: tuple[Candidate, ...]
    """The old best, the best of its neighbours and the best of the fresh search, those that completed."""
    maximize: bool
    winner: int
    """Number of the trial with the best mean, whose network `best/` holds."""

    @property
    def chosen(self) -> Candidate:
        """The old best, unless a neighbour clearly beats it; or the fresh search, if it clearly beats that one."""
        chosen, *others = self.candidates
        for other in others:
            chosen = other if chosen.name in other.beats else chosen
        return chosen

    @property
    def verdict(self) -> str:
        """The answer in a few words: "keep", "its neighbourhood is better" or "tune again"."""
        return {OLD: "keep", NEIGHBOUR: "its neighbourhood is better", FRESH: "tune again"}[self.chosen.name]

    def __str__(self) -> str:
        chosen = self.chosen
        score = chosen.score
        interval = (score.low, score.high) if score.variance > 0 else None
        have = f"{self.metric} {score_words(self.metric, score.value, interval)}"
        others = [
            f"the {this.name} {_gain_text(this.gain)}" for this in self.candidates if this.gain is not None
        ]
        if chosen.name == OLD:
            text = f"keep: the old best has {have}, and nothing is clearly better: {', '.join(others)}"
            is_ahead = f"; trial {self.winner} is ahead by its mean alone, and its network is in best/"
            return text + (is_ahead if self.winner != chosen.trial else "")
        if not others:
            return (
                f"{self.verdict}: the old best does not train here; the best of the {chosen.name} has {have}"
            )
        return f"{self.verdict}: use trial {chosen.trial}, with {have}; against the old best, {', '.join(others)}"


def retuning(run: Run) -> Retuning | None:
    """Return the verdict of a finished run of `caviar retune`; None for any other run."""
    if not run.study_file.is_retuning or not run.finished:
        return None
    search = run.trials[run.trials["stage"] == Stage.SEARCH]
    names = search["origin"].map({Origin.START: OLD, Origin.NEAR_START: NEIGHBOUR}).fillna(FRESH)
    kinds = dict(zip(search["trial"], names, strict=True))
    confirmed, scores = run.confirming, dict[str, tuple[int, Score]]()
    for trial in run.confirmed["trial"]:
        score = score_of(trial, search, confirmed, run.study_file.maximize)
        if kinds[trial] not in scores and score is not None:
            scores[kinds[trial]] = trial, score
    order = [name for name in (OLD, NEIGHBOUR, FRESH) if name in scores]
    pairs = compare_pairs([scores[name][1] for name in order], run.study_file.maximize)
    clear = pairs.loc[pairs["clear"], ["one", "other", "difference"]].itertuples(index=False)
    better = [(one, other) if gap > 0 else (other, one) for one, other, gap in clear]
    rows, found = search.set_index("trial", drop=False), list[Candidate]()
    for place, name in enumerate(order):
        trial, score = scores[name]
        is_other = OLD in scores and name != OLD
        found.append(
            Candidate(
                name=name,
                trial=int(trial),
                params=params_from_row(run.space, rows.loc[trial].to_dict()),
                score=score,
                gain=difference(score, scores[OLD][1], run.study_file.maximize) if is_other else None,
                beats=tuple(order[other] for one, other in better if one == place),
                trained=int((names == name).sum()),
            )
        )
    source = str(run.study["start_from"]["source"])
    return Retuning(
        metric=run.metric,
        source=source,
        candidates=tuple(found),
        maximize=run.study_file.maximize,
        winner=int(run.winner or 0),
    )


def _gain_text(gain: Difference) -> str:
    how = "is better by" if gain.value > 0 else "is worse by"
    if math.isnan(gain.low) or gain.low == gain.high:
        return f"{how} {abs(gain.value):.3g}"
    low, high = (gain.low, gain.high) if gain.value > 0 else (-gain.high, -gain.low)
    return f"{how} {abs(gain.value):.3g} ({low:.3g} .. {high:.3g})"
