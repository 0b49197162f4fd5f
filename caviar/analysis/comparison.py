"""Comparisons of runs: which one is better and how surely, by confirmed scores and at equal budget."""

import html
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from caviar.analysis.comparable import require_comparable
from caviar.analysis.equal_budget import BUDGETS, best_at, expected_best, spent
from caviar.analysis.score_difference import Score, compare_pairs, confirmed_score, places, score_on_test
from caviar.control_chars import replace_control_chars
from caviar.errors import RunError
from caviar.records.frames import Run, load
from caviar.trial import Stage

By = Literal["confirmed", "test"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """The result of `compare`. It prints as text, and shows as tables in a notebook."""

    metric: str
    """The metric that ranks: that of the studies, or "test"."""
    maximize: bool
    """True if larger values are better."""
    by: By
    """The scores that rank: of the confirmation, or on the test split."""
    runs: pd.DataFrame
    """One row a run, best first: `run`, `place` and `worst_place` (the same if its place is clear); its confirmed score
    as `value`, `low` and `high`, and `seeds`, the number of its trainings; `test`, `test_low` and `test_high`; and
    `trials`, `epochs` and `worker_s`, which its search has spent."""
    pairs: pd.DataFrame
    """One row a pair of runs, the better one first: `run`, `other`, `difference`, `low`, `high`, `probability` (that
    `run` is better) and `clear` (True if chance hardly explains it)."""
    budgets: pd.DataFrame
    """One row a budget and run: `budget`, `amount` (the least that any of the runs has spent), `run`, `best` (the best
    value of its search by then), and for trials `expected`: the best of so many of its trials, chosen at random.
    Seconds depend on the machines."""
    notes: tuple[str, ...]
    """Sentences about what is doubtful."""

    @property
    def verdict(self) -> str:
        """The answer in a sentence or two."""
        scored = self.runs[self.runs["place"].notna()]
        if len(scored) < 2:
            return "At most one of the runs has a score, so only the searches can be compared."
        return _verdict_of_two(self) if len(scored) == 2 else _verdict_of_many(scored)

    def __str__(self) -> str:
        shown = [table.to_string(index=False, float_format="{:.5g}".format) for table in self._tables]
        return replace_control_chars("\n\n".join([self.verdict, *shown, "\n".join(self.notes)]).rstrip())

    def _repr_html_(self) -> str:
        shown = [table.to_html(index=False, float_format="{:.5g}".format, border=0) for table in self._tables]
        sentences = [f"<p>{html.escape(sentence)}</p>" for sentence in (self.verdict, *self.notes)]
        return replace_control_chars("\n".join([sentences[0], *shown, *sentences[1:]]))

    @property
    def _tables(self) -> Iterator[pd.DataFrame]:
        """The frames that have rows, with a dash in each empty cell."""
        for table in (self.runs, self.pairs, self.budgets):
            if len(table):
                yield table.astype(object).where(table.notna(), "-")


def compare(*runs: Run | str | Path, by: By = "confirmed") -> Comparison:
    """Compare runs on the same data: which one is better, and how surely.

    Runs are ranked by their confirmed scores: means of fresh trainings on the dev split, so luck in the search does not
    count. A difference is called clear if chance hardly explains it, given the number of trainings and of pairs. Runs
    whose difference is not clear share their places. The searches are compared at equal budget too: the best value
    after as many trials, epochs and seconds of workers as each run has spent.

    Args:
        runs: two runs or more, or their run directories.
        by: "confirmed", or "test" to rank by the scores on the test split. A choice by the test split makes the score
            of the chosen run too good.

    Returns:
        The comparison: print it, or use its frames `.runs`, `.pairs` and `.budgets`.

    Raises:
        RunError: fewer than two runs, one that is no run directory, or runs that differ in metric or data.

    Example:
        >>> print(compare("runs/digits", "runs/digits-2").verdict)  # doctest: +SKIP
        digits is better than digits-2: by 0.0061 in dev_accuracy (95% interval 0.0012 .. 0.011), probability 99 %.
    """
    if by not in get_args(By):
        raise RunError(f"compare: by={by!r} is unknown; use {' or '.join(map(repr, get_args(By)))}")
    labelled = _label([run if isinstance(run, Run) else load(run) for run in runs])
    notes = require_comparable(labelled)
    first = next(iter(labelled.values()))
    maximize = first.study_file.maximize if by == "confirmed" else _is_larger_test_better(labelled)
    confirmed = {label: confirmed_score(run) for label, run in labelled.items()}
    test = {label: score_on_test(run) for label, run in labelled.items()}
    scores = {label: score for label, score in (confirmed if by == "confirmed" else test).items() if score}
    ranked = dict(sorted(scores.items(), key=lambda item: item[1].value, reverse=maximize))
    pairs = compare_pairs(list(ranked.values()), maximize)
    spending = {label: spent(run) for label, run in labelled.items()}
    return Comparison(
        metric=first.metric if by == "confirmed" else "test score",
        maximize=maximize,
        by=by,
        runs=_runs_frame(labelled, ranked, confirmed, test, pairs, spending),
        pairs=_pairs_frame(pairs, list(ranked)),
        budgets=pd.DataFrame(_budget_rows(labelled, spending), columns=_BUDGET_COLUMNS),
        notes=(*notes, *_notes(labelled, confirmed, by), *_bias_of_expected(labelled)),
    )


_BUDGET_COLUMNS = ["budget", "amount", "run", "best", "expected"]


def _is_larger_test_better(labelled: dict[str, Run]) -> bool:
    """Return True if larger test scores are better: accuracies, or those of functions whose metric is so."""
    found = {label: run.best.test_accuracy is not None for label, run in labelled.items() if run.best}
    if len(set(found.values())) > 1:
        accuracy, other = (next(label for label in found if found[label] is kind) for kind in (True, False))
        raise RunError(
            f"compare: {accuracy} has a test accuracy and {other} has none, so they cannot be ranked by it"
        )
    return any(found.values()) or next(iter(labelled.values())).study_file.maximize


def _label(runs: list[Run]) -> dict[str, Run]:
    """Return the runs by the names of their run directories, or by the whole paths if names repeat."""
    names = [run.location.name for run in runs]
    labels = names if len(set(names)) == len(names) else [str(run.location) for run in runs]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise RunError(f"compare: {twice} is given twice")
    return dict(zip(labels, runs, strict=True))


def _runs_frame(
    labelled: dict[str, Run],
    ranked: dict[str, Score],
    confirmed: dict[str, Score | None],
    test: dict[str, Score | None],
    pairs: pd.DataFrame,
    spending: dict[str, pd.DataFrame],
) -> pd.DataFrame:
    """Return a row for each run, best first; those without a score come last."""
    ranges = dict(zip(ranked, places(pairs, len(ranked)), strict=True))
    rows = []
    for label in (*ranked, *(label for label in labelled if label not in ranked)):
        score, of_test, table = confirmed[label], test[label], spending[label]
        best, worst = ranges.get(label, (np.nan, np.nan))
        winner = labelled[label].best
        test_low, test_high = (winner and winner.test_interval) or (np.nan, np.nan)
        rows.append(
            {
                "run": label,
                "place": best,
                "worst_place": worst,
                "value": score.value if score else np.nan,
                "low": score.low if score else np.nan,
                "high": score.high if score else np.nan,
                "seeds": score.n if score else np.nan,
                "test": of_test.value if of_test else np.nan,
                "test_low": test_low,
                "test_high": test_high,
                **{name: table[name].iloc[-1] if len(table) else 0 for name in BUDGETS},
            }
        )
    return pd.DataFrame(rows).astype({"place": "Int64", "worst_place": "Int64", "seeds": "Int64"})


def _pairs_frame(pairs: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """Return the pairs with the labels of their runs."""
    named = pairs.rename(columns={"one": "run"})
    return named.assign(
        run=[labels[place] for place in pairs["one"]], other=[labels[place] for place in pairs["other"]]
    )


def _budget_rows(
    labelled: dict[str, Run], spending: dict[str, pd.DataFrame]
) -> Iterator[tuple[str, float, str, float, float]]:
    """Yield what each search had found within each budget that all of them have spent."""
    for budget in BUDGETS:
        amount = min(float(table[budget].max()) if len(table) else 0.0 for table in spending.values())
        for label, run in labelled.items():
            expected = np.nan
            if budget == "trials" and amount:
                trials = run.trials[run.trials["stage"] == Stage.SEARCH]
                values = trials["value"].where(trials["outcome"] == "completed")
                expected = float(expected_best(values, [int(amount)], run.study_file.maximize)[0])
            yield budget, amount, label, best_at(spending[label], budget, amount), expected


def _notes(labelled: dict[str, Run], confirmed: dict[str, Score | None], by: By) -> Iterator[str]:
    """Yield sentences about scores that are missing or say less than they seem to."""
    for label, run in labelled.items():
        score = confirmed[label]
        if not run.finished:
            yield f"{label} is not finished, so it has no confirmed score."
        elif score is not None and score.n == 1 and np.isnan(score.variance):
            yield f"{label} was confirmed by one training, so nothing tells how much its score varies."
    if by == "test":
        yield "The runs are ranked on the test split: the score of the best of them is now too good."


def _bias_of_expected(labelled: dict[str, Run]) -> Iterator[str]:
    """Yield a sentence if the expected best of a search is of trials that learned from more trials than it counts."""
    searches = {label: run.trials[run.trials["stage"] == Stage.SEARCH] for label, run in labelled.items()}
    least = min(map(len, searches.values()))
    biased = [
        label
        for label, trials in searches.items()
        if len(trials) > least and trials["learned_from"].max() > 0
    ]
    if least and biased:
        yield (
            f"The best to expect of {least:,} trials is too good for {_join(biased)}: "
            "later trials, which learned from earlier ones, are among those it chooses from."
        )


def _verdict_of_two(comparison: Comparison) -> str:
    """Return the answer for two runs with scores."""
    pair = comparison.pairs.iloc[0]
    gap, chance = f"{pair['difference']:.3g} in {comparison.metric}", pair["probability"]
    if np.isnan(chance):
        return f"{pair['run']} is ahead of {pair['other']} by {gap}, but nothing tells how surely."
    interval = f"95% interval {pair['low']:.2g} .. {pair['high']:.2g}"
    if pair["difference"] == 0:
        return f"{pair['run']} and {pair['other']} have the same score."
    if pair["low"] == pair["high"]:
        return f"{pair['run']} is better than {pair['other']} by {gap}: training shows no noise."
    probability = f"probability {_percent(chance)}"
    if pair["clear"]:
        return f"{pair['run']} is better than {pair['other']}: by {gap} ({interval}), {probability}."
    return (
        f"No clear difference: {pair['run']} is ahead of {pair['other']} by {gap} ({interval}), "
        f"{probability} that it is better."
    )


def _verdict_of_many(scored: pd.DataFrame) -> str:
    """Return the answer for three runs or more with scores."""
    names = scored["run"].tolist()
    behind = scored["place"] > 1
    ties = scored.loc[~behind, "run"].tolist()[1:]
    if not ties:
        return f"{names[0]} is clearly better than all others."
    worse = scored.loc[behind, "run"].tolist()
    also = f" {_join(worse)} {'is' if len(worse) == 1 else 'are'} clearly worse." if worse else ""
    return f"{names[0]} is ahead, but not clearly better than {_join(ties)}.{also}"


def _percent(probability: float) -> str:
    """Return a probability in percent, never as certain."""
    return f"{min(100 * probability, 99.9):.3g} %"


def _join(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
