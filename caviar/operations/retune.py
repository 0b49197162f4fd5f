"""Tuning again: is the best of a run still good on other data, is its neighbourhood, is a fresh search better?

One study answers. Its first trial is the old best, on the new data. The trials after it are its neighbours; as many
others are a search of its own, which learns nothing from them. The best of each kind trains again with the same number
of fresh seeds, and these trainings alone are compared (`caviar.analysis.retuning`).
"""

from dataclasses import replace

from caviar.records.frames import Run
from caviar.records.start_from import take
from caviar.rounds import Confirmation, Round, Search
from caviar.study import Study
from caviar.validation import whole_number

MIN_TRIALS = 8
"""Smallest number of search trials."""


def declare(study: Study, trials: int, seeds: int, name: str) -> Study:
    """Return the study that tunes again, without the best of the old run; `begin_at` adds it.

    Args:
        study: the objective on the new data, the space and the seed; its longest trials say how many epochs to train.
        trials: number of search trials: half of them the old best and its neighbours, half a fresh search.
        seeds: number of fresh trainings of the best of each kind; the better two then train twice as many.
        name: name of the study.

    Raises:
        StudyError: a number is out of bounds.
    """
    trials = whole_number("retune: trials", trials, MIN_TRIALS)
    seeds = whole_number("retune: seeds", seeds, 2, 100)
    fresh, epochs = trials // 2, max(rule.epochs for rule in study.search_rounds)
    return replace(
        study,
        name=name,
        rounds=(
            Round(trials - fresh, epochs),
            Search(fresh, epochs, in_flight=max(2, fresh // 8)),
            Confirmation(top=3, seeds=seeds),
        ),
        sampler="random",
        try_first=(),
        start_from=None,
    )


def begin_at(declared: Study, run: Run, source: str) -> Study:
    """Return the study with the best of a run, whose neighbourhood it compares with a search of its own.

    Args:
        declared: the study.
        run: the run whose best is judged, finished or not.
        source: the run as the user names it.

    Raises:
        StudyError: the best of the run does not fit the study.
    """
    start = take(run, declared, source)
    return replace(
        declared, start_from=replace(start, elite=start.elite[:1], trained_first=1, is_compared=True)
    )
