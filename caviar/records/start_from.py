"""Taking the best configurations of a run over into a study that starts from it (`cv.Study(start_from=...)`)."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from random import Random

from caviar.columns import params_from_row
from caviar.errors import StudyError
from caviar.records.frames import Run, load
from caviar.records.run_files import StudyFile
from caviar.search.confirmation import choose_contenders
from caviar.search.narrowing import MIN_TRIALS
from caviar.space import Interval, Space
from caviar.space_draws import complete
from caviar.starting_point import StartingPoint
from caviar.study import Study, start_source
from caviar.trial import Outcome, Stage, Value
from caviar.validation import plain_value

MAX_TAKEN = 50
"""Largest number of configurations that are taken."""
TRAINED_FIRST = 3
"""Largest number of configurations that are trained before anything is drawn."""


def with_starting_point(study: Study) -> Study:
    """Return a study that starts from another run with what it takes from there; other studies as they are.

    Raises:
        RunError: the run cannot be read.
        StudyError: nothing of it can be taken.
    """
    if study.start_from is None or isinstance(study.start_from, StartingPoint):
        return study
    run = study.start_from if isinstance(study.start_from, Run) else load(study.start_from)
    return replace(study, start_from=take(run, study, start_source(study.start_from)))


def with_recorded_starting_point(study: Study, begun: StudyFile) -> Study:
    """Return a study with the starting point that its run has recorded, if it names the same source."""
    recorded = begun.study.get("start_from")
    if study.start_from is None or isinstance(study.start_from, StartingPoint) or recorded is None:
        return study
    if recorded["source"] != start_source(study.start_from):
        return study
    return replace(study, start_from=StartingPoint.from_json(recorded))


def take(run: Run, study: Study, source: str) -> StartingPoint:
    """Return what a study takes from a run.

    Args:
        run: the run, finished or not.
        study: the study that starts from it.
        source: the run as the study names it.

    Raises:
        StudyError: it has no completed trials, ranks in the other direction, or shares no parameter with the study.
    """
    where = f"Study {study.name}: start_from={source!r}"
    if run.study_file.maximize != study.objective.maximize:
        raise StudyError(
            f"{where}: there {'larger' if run.study_file.maximize else 'smaller'} values of {run.metric} are better, "
            f"and here {'larger' if study.objective.maximize else 'smaller'} ones of {study.objective.metric}, so its "
            "best would be the worst: start from a run that ranks in the same direction"
        )
    search = run.trials[run.trials["stage"] == Stage.SEARCH]
    completed = search[search["outcome"] == Outcome.COMPLETED]
    if len(completed) < MIN_TRIALS:
        raise StudyError(
            f"{where}: {len(completed)} of its search trials have completed, and at least {MIN_TRIALS} must: "
            f"`caviar resume {run.location.quoted}` trains more"
        )
    rule = study.narrowing
    size = min(MAX_TAKEN, max(rule.min_elite, math.ceil(rule.elite * len(completed))))
    chosen = choose_contenders(search, size, run.study_file.maximize, run.winner)
    rows = search.set_index("trial", drop=False).loc[chosen].to_dict(orient="records")
    fitting, notes = fit_into(study.space, [params_from_row(run.space, row) for row in rows])
    elite = [params for params in fitting if params and _is_possible(study, params)]
    if refused := len(fitting) - len(elite):
        notes.append(f"{refused} of its best {len(fitting)} configurations cannot be trained in this study")
    if not elite:
        raise StudyError(
            f"{where}: none of its best configurations has a value in this space: {'; '.join(notes)}"
        )
    if run.best is not None:
        notes.insert(
            0,
            f"its winner had {run.metric} {score_words(run.metric, run.best.value, run.best.interval)} there",
        )
    if not run.finished:
        notes.append("it is not finished, so nothing has confirmed its best configurations")
    if run.metric != study.objective.metric:
        notes.append(f"it ranks by {run.metric}, not by {study.objective.metric}")
    widths = run.rounds["width"]
    return StartingPoint(
        source=source,
        study=str(run.study["name"]),
        digest=_digest(run),
        elite=tuple(elite),
        trained_first=max(1, min(TRAINED_FIRST, study.search_trials // 10, len(elite))),
        width=float(widths.iloc[-1]) if len(widths) and widths.iloc[-1] < 1 else rule.width,
        notes=tuple(notes),
    )


def score_words(metric: str, value: float, interval: tuple[float, float] | None) -> str:
    """Return the value of a metric with its confidence interval, which lies between 0 and 1 for an accuracy."""
    if interval is None:
        return f"{value:.4g}"
    is_share = metric.endswith("accuracy")
    low, high = (min(max(end, 0.0), 1.0) for end in interval) if is_share else interval
    return f"{value:.4g} (95% interval {low:.4g} .. {high:.4g})"


def _is_possible(study: Study, params: Mapping[str, Value]) -> bool:
    """Return whether the constraints of the space and the objective allow params."""
    try:
        study.objective.check(complete(study.space, params, Random(0), "start_from"))
    except StudyError:
        return False
    return True


def fit_into(
    space: Space, configurations: list[dict[str, Value]]
) -> tuple[list[Mapping[str, Value]], list[str]]:
    """Return configurations without what a space does not hold, and sentences about what was left out."""
    fitting: list[Mapping[str, Value]] = []
    outside: Counter[str] = Counter()
    for params in configurations:
        kept: dict[str, Value] = {}
        for name in (name for name in space if name in params):
            domain, value = space[name].domain, plain_value(params[name])
            if (
                isinstance(domain, Interval)
                and isinstance(value, int | float)
                and not isinstance(value, bool)
            ):
                value = int(value) if domain.integer and float(value).is_integer() else value
            if value in domain:
                kept[name] = value
            else:
                outside[name] += 1
        # A parameter whose condition does not hold, or is not known, is left out
        fitting.append({name: v for name, v in kept.items() if space[name].applies(kept)})
    there = {name for params in configurations for name in params}
    notes = [f"{name} is only in the other space" for name in sorted(there - set(space))]
    notes += [
        f"{name} is only in this space, and is drawn from all of it" for name in space if name not in there
    ]
    notes += [
        f"{count} of {len(configurations)} values of {name} are not in this space ({space[name].domain})"
        for name, count in outside.items()
    ]
    return fitting, notes


def _digest(run: Run) -> str:
    """Return a digest of a run's study and of the results of its trials."""
    rows = run.trials[["trial", "outcome", "value", "seed"]].to_json(orient="values", double_precision=15)
    text = json.dumps(run.study, sort_keys=True) + rows
    return hashlib.sha256(text.encode()).hexdigest()[:16]
