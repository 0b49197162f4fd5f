"""Advice on what to do after a run, from its frames alone."""

from collections.abc import Iterator

from caviar.analysis.positions import positions
from caviar.analysis.quality import best_trials
from caviar.columns import param_column
from caviar.records.frames import Run
from caviar.space import Interval
from caviar.trial import Outcome

ELITE = 10
"""Number of best trials that are looked at."""
EDGE = 0.05
"""Share of a parameter's declared range, on its scale, that counts as its edge."""
MANY = 0.2
"""Share of trials from which failures or divergences are worth a sentence."""
BUSY = 0.7
"""Share of worker time below which workers count as idle."""


def advice(run: Run) -> list[str]:
    """Return what the results suggest to do next, most important first; nothing where they suggest nothing.

    Args:
        run: a finished, running or unfinished run.
    """
    return [*_from_the_winner(run), *_from_the_edges(run), *_from_outcomes(run), *_from_worker_time(run)]


def _from_the_winner(run: Run) -> Iterator[str]:
    """Say if the winner is no better than a guess."""
    best = run.best
    if best is not None and best.beats_baseline is False:
        yield (
            "The test rows do not show that the network is better than always predicting the most frequent class: "
            "look at the features, the space and the number of epochs."
        )


def _from_the_edges(run: Run) -> Iterator[str]:
    """Name parameters whose best values lie at an edge of their range."""
    best = best_trials(run, ELITE)
    if len(best) < ELITE:
        return
    for name, parameter in run.space.items():
        domain = parameter.domain
        if not isinstance(domain, Interval):
            continue
        values = best[param_column(name)].dropna()
        if domain.integer or len(values) < ELITE:
            continue
        places = positions(domain, values)
        for is_there, side, end in (
            (places < EDGE, "smaller", domain.low),
            (places > 1 - EDGE, "larger", domain.high),
        ):
            if is_there.mean() > 0.5:
                yield (
                    f"{name} of the best trials lies at the edge of its range ({domain.text(end)}): "
                    f"search {side} values, too."
                )


def _from_outcomes(run: Run) -> Iterator[str]:
    """Say if many trials diverged or failed."""
    trials = run.trials
    if trials.empty:
        return
    shares = trials["outcome"].value_counts(normalize=True)
    if (share := shares.get(Outcome.FAILED, 0.0)) > MANY:
        yield f"{share:.0%} of the trials failed: see the causes below."
    if (share := shares.get(Outcome.DIVERGED, 0.0)) > MANY:
        yield f"{share:.0%} of the trials diverged: leave out the values that they share, such as large learning rates."


def _from_worker_time(run: Run) -> Iterator[str]:
    """Say if the workers waited for long."""
    trials = run.trials
    seconds = trials[["train_s", "setup_s", "dispatch_s"]].sum()
    busy = float(seconds["train_s"] + seconds["setup_s"])
    if len(trials) >= 100 and seconds.sum() > 60 and busy < BUSY * seconds.sum():
        yield (
            f"The workers trained for {busy / seconds.sum():.0%} of their time: fewer workers, or more trials in "
            "flight (in_flight), would waste less."
        )
