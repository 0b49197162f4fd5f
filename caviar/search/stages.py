"""What each stage of a study trains: the rounds, then the heats of the confirmation, then the final trial.

All of it follows from the study and the trials recorded so far, so an interrupted study goes on exactly where
it was.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import pandas as pd

from caviar.columns import params_from_row
from caviar.errors import StudyError
from caviar.search.confirmation import Winner, next_heat, to_confirm, winner
from caviar.search.halving import Race
from caviar.search.narrowing import Decision, narrow
from caviar.search.region import Region
from caviar.search.sampling import Observation, draws
from caviar.study import Study
from caviar.trial import Outcome, Stage, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """A stage, ready to be trained."""

    stage: Stage
    round: int
    count: int
    """How many trials it has."""
    epochs: int
    trials: Iterator[Trial]
    """Those that are left, in the order of their numbers."""
    region: Region | None = None
    """Where a round draws."""
    decisions: tuple[Decision, ...] = ()
    """How the region came from that of the round before; none for the first."""
    race: Race | None = None
    """How its trials are halved, where they are."""
    winner: Winner | None = None
    """Whom the final trial trains."""


def stage_count(study: Study) -> int:
    """Rounds, heats of the confirmation, final trial."""
    return len(study.search_rounds) + len(study.confirmation.heats) + 1


def open_stage(
    study: Study,
    number: int,
    trials: pd.DataFrame,
    region: Region | None,
    done: Collection[int] = frozenset(),
) -> StagePlan:
    """The next stage.

    Args:
        study: what was asked.
        number: of the stage, from 1.
        trials: everything recorded in the stages before.
        region: of the round before; None for the first.
        done: its own trials that are recorded already.

    Raises:
        StudyError: no trial completed, so that there is nothing to narrow to, confirm or hand over.
    """
    rounds = study.search_rounds
    if number > 1:
        _require_success(study, trials, searching=number <= len(rounds))
    if number <= len(rounds):
        return _round(study, number, trials, region, done)
    plan = _heat(study, number, trials) if number < stage_count(study) else _final(study, trials)
    return replace(plan, trials=(trial for trial in plan.trials if trial.number not in done))


def next_region(
    study: Study, number: int, trials: pd.DataFrame, region: Region
) -> tuple[Region, tuple[Decision, ...]]:
    """Where round `number` draws, by the trials so far that trained as long as those of the last round."""
    maximize = study.objective.maximize
    comparable = _comparable(study, number, trials)
    weighs = study.sampler == "random"
    rule = study.narrowing
    return narrow(comparable, region, rule, round_number=number, maximize=maximize, weighs=weighs)


def _comparable(study: Study, number: int, trials: pd.DataFrame) -> pd.DataFrame:
    """Of the trials before round `number`, those that trained as long as the last round's."""
    if number == 1:
        return trials
    before = trials[trials["round"] < number]
    return before[before["epochs"] == study.search_rounds[number - 2].epochs]


def _round(
    study: Study, number: int, trials: pd.DataFrame, region: Region | None, done: Collection[int]
) -> StagePlan:
    decisions: tuple[Decision, ...] = ()
    if region is None:
        region = Region(whole=study.space)
    else:
        region, decisions = next_region(study, number, trials, region)
    this = study.search_rounds[number - 1]
    return StagePlan(
        stage=Stage.SEARCH,
        round=number,
        count=this.trials,
        epochs=this.epochs,
        trials=_drawn(study, number, trials, region, done),
        region=region,
        decisions=decisions,
        race=_race(study, number),
    )


def _race(study: Study, number: int) -> Race | None:
    this = study.search_rounds[number - 1]
    if this.halving is None:
        return None
    return Race(
        rule=this.halving,
        epochs=this.epochs,
        first=_offset(study, number),
        count=this.trials,
        metric=study.objective.metric,
        maximize=study.objective.maximize,
    )


def _offset(study: Study, number: int) -> int:
    """The number of a round's first trial."""
    return sum(r.trials for r in study.search_rounds[: number - 1])


def _drawn(
    study: Study, number: int, trials: pd.DataFrame, region: Region, done: Collection[int]
) -> Iterator[Trial]:
    this = study.search_rounds[number - 1]
    offset = _offset(study, number)
    skip = {trial - offset for trial in done}
    params = draws(
        region,
        study.narrowing,
        count=this.trials,
        seed=study.seed,
        round_number=number,
        sampler=study.sampler,
        history=_history(study, _comparable(study, number, trials)),
        maximize=study.objective.maximize,
        skip=skip,
    )
    left = (index for index in range(this.trials) if index not in skip)
    for index, drawn in zip(left, params, strict=True):
        seed = study.trial_seed(number, index)
        yield Trial(number=offset + index, round=number, params=drawn, epochs=this.epochs, seed=seed)


def _heat(study: Study, number: int, trials: pd.DataFrame) -> StagePlan:
    """The best of the search, or of the heat before, with fresh seeds; nobody, where there is nothing to find out."""
    heats, maximize = study.confirmation.heats, study.objective.maximize
    place = number - len(study.search_rounds) - 1
    heat = heats[place]
    search = trials[trials["stage"] == Stage.SEARCH]
    if place == 0:
        contenders, seeds = to_confirm(search, heat.contenders, maximize), heat.seeds
    else:
        confirmed = trials[trials["stage"] == Stage.CONFIRMATION]
        contenders, seeds = next_heat(search, confirmed, heat, maximize)
    rows = search.set_index("trial", drop=False)
    again = [
        Trial(
            number=len(trials) + rung * seeds + replicate,
            round=number,
            params=params_from_row(study.space, rows.loc[original].to_dict()),
            epochs=int(rows.loc[original, "epochs"]),  # type: ignore[arg-type]
            seed=study.trial_seed(number, original, replicate),
            stage=Stage.CONFIRMATION,
            confirms=original,
        )
        for rung, original in enumerate(contenders)
        for replicate in range(seeds)
    ]
    return StagePlan(
        stage=Stage.CONFIRMATION,
        round=number,
        count=len(again),
        epochs=max((trial.epochs for trial in again), default=0),
        trials=iter(again),
    )


def _final(study: Study, trials: pd.DataFrame) -> StagePlan:
    """The winner once more, with the seed of its best fresh training, to be kept and scored on the test split."""
    confirmed = trials[trials["stage"] == Stage.CONFIRMATION]
    best = winner(confirmed, study.objective.maximize)
    if best is None:
        raise StudyError(
            f"study {study.name}: none of the {len(confirmed)} confirming trials completed, so there is no winner; "
            "see the column failure of its trials"
        )
    row = confirmed.set_index("trial", drop=False).loc[best.handed_over].to_dict()
    trial = Trial(
        number=len(trials),
        round=stage_count(study),
        params=params_from_row(study.space, row),
        epochs=int(row["epochs"]),
        seed=int(row["seed"]),
        stage=Stage.FINAL,
        confirms=best.trial,
    )
    return StagePlan(
        stage=Stage.FINAL, round=trial.round, count=1, epochs=trial.epochs, trials=iter([trial]), winner=best
    )


def _history(study: Study, trials: pd.DataFrame) -> list[Observation]:
    """What samplers that learn are told; nothing for the random one, which would not listen."""
    if study.sampler == "random" or trials.empty:
        return []
    completed = trials[trials["outcome"] == Outcome.COMPLETED]
    return [
        Observation(params_from_row(study.space, row), float(row["value"]))
        for row in completed.to_dict(orient="records")
    ]


def _require_success(study: Study, trials: pd.DataFrame, searching: bool) -> None:
    """Narrowing can go on from trials that were stopped; confirmation cannot."""
    outcomes = trials["outcome"]
    if (outcomes == Outcome.COMPLETED).any() or (searching and (outcomes == Outcome.STOPPED).any()):
        return
    causes = trials["failure"].dropna()
    example = f"; the most frequent cause: {causes.mode().iloc[0]}" if len(causes) else ""
    stopped = int((outcomes == Outcome.STOPPED).sum())
    halved = f" ({stopped} were stopped early by halving)" if stopped else ""
    raise StudyError(
        f"study {study.name}: none of its {len(trials)} trials completed{halved}, so there is nothing to go on "
        f"from{example}"
    )
