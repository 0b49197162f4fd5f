"""The stages of a study: in each phase the steps of the search, those of the confirmation, then the final trial.

In an extension, the winner so far is a contender of the confirmation. If it wins again, the final trial is left out:
its network and its score on the test split are there.

If the first step of the confirmation shows that training has no noise, its other steps are search rounds of the same
cost, because nothing is left to confirm. Trials of the confirmation that are certain can start before their step opens
(`certain_trials`).

Each stage follows from the study and from the trials that it learns from (`caviar.search.schedule`), so an interrupted
study continues exactly where it was.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from caviar.columns import params_from_row, params_from_rows
from caviar.errors import StudyError
from caviar.rounds import Narrowing
from caviar.search.confirmation import (
    Winner,
    best_of_search,
    certain_contenders,
    certain_to_continue,
    choose_contenders,
    choose_winner,
    is_deterministic,
    last_winner,
    next_contenders,
)
from caviar.search.grid import grid_trials
from caviar.search.halving import Race
from caviar.search.narrowing import Decision, narrow, start_region
from caviar.search.region import Region
from caviar.search.sampling import Observation, OptunaSearch, draw_params, explores
from caviar.search.schedule import Phase, Step, extra_round_trials, phase_of, plan_phases
from caviar.starting_point import Origin
from caviar.study import Study
from caviar.trial import Outcome, Stage, Trial, Value, derive_seed

Params = Mapping[str, Value]
"""The params of a trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """A stage that is ready to be trained."""

    stage: Stage
    round: int
    """Number of the stage, from 1."""
    count: int
    """Number of its trials."""
    epochs: int
    """Epochs that each trains for."""
    trials: Iterator[Trial]
    """The trials that are not recorded yet, in the order of their numbers."""
    region: Region | None = None
    """The region that a step of the search draws from."""
    known: int = 0
    """It learns from the trials that are numbered below this: in the search, so many."""
    decisions: tuple[Decision, ...] = ()
    """Changes of the region since the step before, by parameter; none for the first step."""
    race: Race | None = None
    """The halving of a step, if it has one."""
    asked: OptunaSearch | None = None
    """The search with a user's sampler, which the next step continues."""
    winner: Winner | None = None
    """The winner that the final trial trains."""


def stage_needs(phases: Sequence[Phase]) -> tuple[int | None, ...]:
    """Return for each stage the number of first trials that it learns from; None for all trials before it."""
    needs: list[int | None] = []
    for phase in phases:
        waits = phase.search_ended or phase.number > 0
        needs.append(None if waits else 0)
        needs += [None if phase.search_ended else step.known for step in phase.steps[1:]]
        needs += [None] * (len(phase.confirming) + 1)
    return tuple(needs)


def open_stage(
    study: Study,
    number: int,
    trials: pd.DataFrame,
    region: Region | None,
    done: Collection[int] = frozenset(),
    asked: OptunaSearch | None = None,
    under_way: Iterable[Trial] = (),
    phases: Sequence[Phase] = (),
) -> StagePlan:
    """Return the plan of a stage.

    Args:
        study: the declaration.
        number: number of the stage, from 1.
        trials: trials recorded so far. Those that the stage does not learn from change nothing.
        region: the region of the step before; None for the first one.
        done: numbers of the stage's own trials that are recorded already.
        asked: the search with a user's sampler that the step before has left; None to begin one.
        under_way: trials that have been drawn and are not recorded. No search trial before the stage is neither of
            the two.
        phases: the phases of the study; by default what it declares.

    Raises:
        StudyError: no trial completed, so there is nothing to narrow to, to confirm or to hand over.
    """
    phases = phases or plan_phases([study.rounds])
    phase = phase_of(phases, number)
    step = next((step for step in phase.steps if step.number == number), None)
    recorded, trials = trials, _known(trials, number, step)
    if step is None or step.known >= phases[0].steps[0].count:
        _require_success(study, trials, is_search=step is not None)
    if (this := _search_step(study, phases, number, step, trials)) is not None:
        drawn = _drawn_before(study, this.step, recorded, under_way)
        own = _params_by_number(study, recorded[recorded["trial"].isin(done)]) if done else {}
        return _plan_step(study, this, trials, region, drawn, own, asked)
    if number < phase.final:
        plan = _plan_confirmation_step(study, phase, number, trials)
    else:
        plan = _plan_final_trial(study, phase, trials)
    return replace(plan, trials=(trial for trial in plan.trials if trial.number not in done))


def is_complete(study: Study, trials: pd.DataFrame, phases: Sequence[Phase]) -> bool:
    """Return True if no trial of any stage is missing: a repair may have set some aside.

    Args:
        study: the declaration.
        trials: all trials of a run.
        phases: its phases. Trials of a search that the user has ended may be missing.
    """
    recorded = Counter(trials["round"])
    searched = (step for phase in phases if not phase.search_ended for step in phase.steps)
    if any(recorded[step.number] < step.count for step in searched):
        return False
    later = (number for phase in phases for number in (*phase.confirming, phase.final))
    return all(
        recorded[number] == open_stage(study, number, trials, None, phases=phases).count for number in later
    )


def certain_trials(
    study: Study,
    opened: int,
    trials: pd.DataFrame,
    under_way: Sequence[Trial],
    phases: Sequence[Phase] = (),
) -> list[Trial]:
    """Return new trials of confirmation steps that are certain while trials of the stages before are under way.

    They are among those that `open_stage` plans later, whatever comes of the trials that are under way.

    Args:
        study: the declaration.
        opened: number of stages opened. Steps among them are left out.
        trials: trials recorded so far.
        under_way: trials that have been drawn and are not recorded. No search trial is neither of the two.
        phases: the phases of the study; by default what it declares.
    """
    phase = phase_of(phases or plan_phases([study.rounds]), opened)
    planned, maximize = phase.confirmation.steps, study.objective.maximize
    missing = [trial for trial in under_way if trial.stage is Stage.SEARCH]
    if len(missing) >= planned[0].contenders and not (trials["round"] >= phase.confirming.start).any():
        return []  # the missing ones may be the best, and nothing is confirmed yet
    search, confirmed = _search_and_confirmed(trials, phase)
    drawn = {trial.number for trial in under_way}.union(confirmed["trial"])
    certain: list[Trial] = []
    for index, (number, step) in enumerate(zip(phase.confirming, planned, strict=True)):
        before = confirmed[confirmed["round"] < number]
        if number <= opened:
            continue
        if index == 0 and study.start is not None and study.start.is_compared:
            break  # the best of each origin are known once all are
        if index == 0:
            epochs, champion = phase.longest.epochs, _winner_before(trials, phase)
            contenders = certain_contenders(search, step, maximize, epochs, len(missing), champion)
        elif (before["round"] == number - 1).any():
            contenders = certain_to_continue(search, before, planned[index - 1], step, maximize)
        else:
            break
        new = [o for o in contenders if not drawn.issuperset(_numbers_of(phase, index, search, o))]
        certain += _confirming_trials(study, phase, index, search, new)
    twins = {_identity(trial) for trial in missing}
    return [trial for trial in certain if trial.number not in drawn and _identity(trial) not in twins]


def _identity(trial: Trial) -> frozenset[tuple[str, Value]]:
    """Return what trials with the same params share."""
    return frozenset(trial.params.items())


def trial_seed(study: Study, round_number: int, index: int, replicate: int = 0) -> int:
    """Return the seed of a trial's training, which depends only on its place in the study.

    Args:
        study: the declaration.
        round_number: number of the stage, from 1.
        index: index of the trial in its round; in a confirmation step, number of the search trial.
        replicate: number of the training of that trial in the step, from 0.
    """
    return derive_seed(study.seed, "trial", round_number, index, replicate)


def _winner_before(trials: pd.DataFrame, phase: Phase) -> int | None:
    """Return the number of the search trial that has won the phases before; None for the first phase."""
    return last_winner(trials[trials["round"] < phase.first_stage])


def _search_and_confirmed(trials: pd.DataFrame, phase: Phase) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return all search trials, and the confirming trials of a phase."""
    is_confirming = (trials["stage"] == Stage.CONFIRMATION) & (trials["round"] >= phase.first_stage)
    return trials[trials["stage"] == Stage.SEARCH], trials[is_confirming]


def _known(trials: pd.DataFrame, number: int, step: Step | None) -> pd.DataFrame:
    """Return the trials that a stage learns from: those of all stages before, or the first of them."""
    if trials.empty:
        return trials
    before = trials[trials["round"] < number]
    return before if step is None else before[before["trial"] < step.known]


@dataclass(frozen=True, slots=True)
class _SearchStep:
    """A stage that searches: a step of the declared search, or a round in place of a confirmation step."""

    step: Step
    epochs_before: int
    """Epochs of the trials that it learns from: of the step before, or of the same one in an extension."""
    learns_from_other_epochs: bool = False
    """True if the step before learned from trials of other epochs."""
    end_before: int = 0
    """The number after the last trial of the step before."""


def _search_step(
    study: Study, phases: Sequence[Phase], number: int, step: Step | None, trials: pd.DataFrame
) -> _SearchStep | None:
    """Return a stage that searches; None for one that confirms or trains the winner."""
    phase = phase_of(phases, number)
    if step is not None:
        return _declared_step(phases, step)
    if phase.search_ended or number == phase.final or not study.narrows:
        return None
    if not is_deterministic(*_search_and_confirmed(trials, phase)):
        return None
    rule, index = phase.longest, number - phase.confirming.start
    extra = Step(
        number=number,
        first=_next_number(trials),
        count=extra_round_trials(rule, phase.confirmation.steps[index]),
        known=_next_number(trials),
        shrinkages=phase.steps[-1].shrinkages + index + 1,
        rule=rule,
        place=1 + phase.rules.index(rule),
    )
    return _SearchStep(extra, rule.epochs)


def _declared_step(phases: Sequence[Phase], step: Step) -> _SearchStep:
    """Return a stage that searches as the study, or an extension of it, declares."""
    steps = [each for phase in phases for each in phase.steps]
    place = steps.index(step)
    last, twice_before = (steps[max(0, place - back)] for back in (1, 2))
    is_extending = step.number > phases[0].final and step.known == step.first
    before = step.rule.epochs if is_extending else last.rule.epochs
    return _SearchStep(step, before, before != twice_before.rule.epochs, last.first + last.count)


def _drawn_before(
    study: Study, step: Step, recorded: pd.DataFrame, under_way: Iterable[Trial]
) -> list[Params]:
    """Return the params of the trials before a step that it does not learn from; none if draws never repeat."""
    if step.known == step.first or not study.space.can_repeat:
        return []
    latest = recorded[recorded["trial"].between(step.known, step.first, inclusive="left")]
    waited_for = [trial.params for trial in under_way if trial.number < step.first]
    return [*_params_by_number(study, latest).values(), *waited_for]


def _params_by_number(study: Study, trials: pd.DataFrame) -> dict[int, Params]:
    params = params_from_rows(study.space, trials, np.arange(len(trials)))
    return dict(zip(trials["trial"].tolist(), params, strict=True))


def _comparable(study: Study, this: _SearchStep, trials: pd.DataFrame) -> pd.DataFrame:
    """Return the known search trials that trained for as long as those of the step before.

    A search that is compared with another run's best learns nothing from the trials that come from there.
    """
    if trials.empty:
        return trials
    known = trials[(trials["stage"] == Stage.SEARCH) & (trials["epochs"] == this.epochs_before)]
    if study.start is None or not study.start.is_compared:
        return known
    return known[~known["origin"].isin([Origin.START, Origin.NEAR_START])]


def _plan_step(
    study: Study,
    this: _SearchStep,
    trials: pd.DataFrame,
    region: Region | None,
    drawn: Iterable[Params],
    done: Mapping[int, Params],
    asked: OptunaSearch | None,
) -> StagePlan:
    step, decisions = this.step, tuple[Decision, ...]()
    known = _comparable(study, this, trials)
    if step.known == 0 and study.start is not None:
        region, decisions = start_region(study.space, study.start)
    elif known.empty or not study.narrows:
        region = Region(declared=study.space)
    else:
        region, decisions = narrow(
            known,
            region or Region(declared=study.space),
            study.narrowing,
            shrinkages=step.shrinkages,
            maximize=study.objective.maximize,
            weights_options=study.sampler == "random",
        )
    asked = _learn(study, this, trials, asked)
    return StagePlan(
        stage=Stage.SEARCH,
        round=step.number,
        count=step.count,
        epochs=step.rule.epochs,
        trials=_draw_trials(study, this, trials, region, drawn, done, asked),
        known=step.known,
        region=region,
        decisions=decisions,
        race=_race(study, step),
        asked=asked,
    )


def _learn(
    study: Study, this: _SearchStep, trials: pd.DataFrame, asked: OptunaSearch | None
) -> OptunaSearch | None:
    """Return the search with a user's sampler, which knows what the step learns from; None for other samplers.

    It begins anew where the steps begin to learn from trials of another length.
    """
    if isinstance(study.sampler, str):
        return None
    step, known = this.step, _comparable(study, this, trials)
    if asked is None or this.learns_from_other_epochs:
        return OptunaSearch(
            study.space,
            study.sampler,
            derive_seed(study.seed, "sampler", step.number),
            _history(study, known),
            study.objective.maximize,
            step.first,
            study.given_params,
        )
    completed = known["value"].where(known["outcome"] == Outcome.COMPLETED)
    values = {
        int(n): None if pd.isna(v) else float(v) for n, v in zip(known["trial"], completed, strict=True)
    }
    asked.learn(this.end_before, values)
    asked.skip_to(step.first)
    return asked


def _race(study: Study, step: Step) -> Race | None:
    if step.rule.halving is None:
        return None
    return Race(
        rule=step.rule.halving,
        epochs=step.rule.epochs,
        first=step.first,
        count=step.count,
        metric=study.objective.metric,
        maximize=study.objective.maximize,
    )


def _draw_trials(
    study: Study,
    this: _SearchStep,
    trials: pd.DataFrame,
    region: Region,
    drawn: Iterable[Params],
    done: Mapping[int, Params],
    asked: OptunaSearch | None,
) -> Iterator[Trial]:
    step = this.step
    own = {number - step.first: params for number, params in done.items()}
    given = grid_trials(study) if study.sampler == "grid" else study.given_params
    rule = _rule(study, region)
    new = draw_params(
        region,
        rule,
        count=step.count,
        seed=study.seed,
        round_number=step.number,
        sampler=asked or study.sampler,
        history=_history(study, _comparable(study, this, trials)),
        maximize=study.objective.maximize,
        drawn=drawn,
        given={} if asked else dict(enumerate(given[step.first : step.first + step.count])),
        done=own,
    )
    left = (index for index in range(step.count) if index not in own)
    for index, params in zip(left, new, strict=True):
        yield Trial(
            number=step.first + index,
            round=step.number,
            params=params,
            epochs=step.rule.epochs,
            seed=trial_seed(study, step.number, index),
            learned_from=step.known,
            given=step.first + index < len(study.try_first),
            origin=_origin(study, step, index, region, rule),
        )


def _rule(study: Study, region: Region) -> Narrowing:
    """Return the settings of narrowing for draws from a region; more draws near another run's best explore."""
    if study.start is None or not region.elite or region.elite_trials:
        return study.narrowing
    return replace(study.narrowing, explore=study.start.whole_share)


def _origin(study: Study, step: Step, index: int, region: Region, rule: Narrowing) -> str:
    """Return how the params of a trial came about, in a study that starts from another run."""
    number = step.first + index
    if study.start is None:
        return ""
    if number < len(study.given_params):
        return Origin.GIVEN if number < len(study.try_first) else Origin.START
    if not region.elite or explores(study.seed, step.number, index, rule.explore):
        return Origin.WHOLE_SPACE
    return Origin.SEARCH if region.elite_trials else Origin.NEAR_START


def _history(study: Study, trials: pd.DataFrame) -> list[Observation]:
    """Return the completed trials for a sampler that learns; nothing for others."""
    if study.sampler in ("random", "grid") or trials.empty:
        return []
    completed = trials[trials["outcome"] == Outcome.COMPLETED]
    return [
        Observation(params_from_row(study.space, row), float(row["value"]))
        for row in completed.to_dict(orient="records")
    ]


def _plan_confirmation_step(study: Study, phase: Phase, number: int, trials: pd.DataFrame) -> StagePlan:
    """Plan to train the contenders with fresh seeds; no trials if there is nothing more to find out."""
    maximize, index = study.objective.maximize, number - phase.confirming.start
    step = phase.confirmation.steps[index]
    search, confirmed = _search_and_confirmed(trials, phase)
    if index == 0 and study.start is not None and study.start.is_compared:
        contenders = _best_of_each_origin(search, maximize)
    elif index == 0:
        contenders = choose_contenders(search, step.contenders, maximize, _winner_before(trials, phase))
    else:
        contenders = next_contenders(search, confirmed, step, maximize)
    again = list(_confirming_trials(study, phase, index, search, contenders))
    return StagePlan(
        stage=Stage.CONFIRMATION,
        round=number,
        count=len(again),
        epochs=max((trial.epochs for trial in again), default=0),
        trials=iter(again),
        known=phase.first_training(index),
    )


def _best_of_each_origin(search: pd.DataFrame, maximize: bool) -> list[int]:
    """Return the best trials of another run's best, of those near it, and of the study's own search."""
    origins = search["origin"].where(search["origin"].isin([Origin.START, Origin.NEAR_START]), Origin.SEARCH)
    kinds = (search[origins == origin] for origin in (Origin.START, Origin.NEAR_START, Origin.SEARCH))
    return [number for kind in kinds for number in choose_contenders(kind, 1, maximize)]


def _confirming_trials(
    study: Study, phase: Phase, index: int, search: pd.DataFrame, contenders: Iterable[int]
) -> Iterator[Trial]:
    """Yield the trainings of the contenders of a confirmation step.

    Args:
        study: the declaration.
        phase: the phase that the confirmation belongs to.
        index: index of the step in the confirmation.
        search: the search trials.
        contenders: numbers of those that train again.
    """
    number, first = phase.confirming[index], phase.first_training(index)
    rows = search.set_index("trial", drop=False)
    for original in contenders:
        params = params_from_row(study.space, rows.loc[original].to_dict())
        for replicate, trial in enumerate(_numbers_of(phase, index, search, original)):
            yield Trial(
                number=trial,
                round=number,
                params=params,
                epochs=int(rows.loc[original, "epochs"]),  # type: ignore[arg-type]
                seed=trial_seed(study, number, original, replicate),
                stage=Stage.CONFIRMATION,
                confirms=original,
                learned_from=first,
            )


def _numbers_of(phase: Phase, index: int, search: pd.DataFrame, original: int) -> range:
    """Return the numbers of a contender's trainings in a confirmation step.

    They follow from its place among the search trials: those before the phase, all of which are recorded, then those of
    the phase by their numbers.
    """
    is_own = original >= phase.first_trial
    place = phase.searched + original - phase.first_trial if is_own else (search["trial"] < original).sum()
    seeds = phase.confirmation.steps[index].seeds
    first = phase.first_training(index) + int(place) * seeds
    return range(first, first + seeds)


def _next_number(trials: pd.DataFrame) -> int:
    """Return the number after the recorded ones, which have gaps."""
    return int(trials["trial"].max()) + 1


def _plan_final_trial(study: Study, phase: Phase, trials: pd.DataFrame) -> StagePlan:
    """Plan to train the winner once more, with the seed of its best training, to keep and test the network.

    Nothing is left to train if it has won the phases before, too.
    """
    maximize = study.objective.maximize
    search, confirmed = _search_and_confirmed(trials, phase)
    winner = (
        best_of_search(search, maximize)
        if is_deterministic(search, confirmed)
        else choose_winner(search, confirmed, maximize)
    )
    if winner is None:
        raise StudyError(
            f"study {study.name}: none of the {len(confirmed)} confirming trials completed, so there is no winner; "
            "see the column failure of its trials"
        )
    row = trials.set_index("trial", drop=False).loc[winner.best_training].to_dict()
    number = _next_number(trials)
    trial = Trial(
        number=number,
        round=phase.final,
        params=params_from_row(study.space, row),
        epochs=int(row["epochs"]),
        seed=int(row["seed"]),
        stage=Stage.FINAL,
        confirms=winner.trial,
        learned_from=number,
    )
    new = [] if winner.trial == _winner_before(trials, phase) else [trial]
    return StagePlan(
        stage=Stage.FINAL,
        round=trial.round,
        count=len(new),
        epochs=trial.epochs,
        trials=iter(new),
        known=number,
        winner=winner,
    )


def _require_success(study: Study, trials: pd.DataFrame, is_search: bool) -> None:
    """Refuse to continue without a completed trial; a round can also narrow to trials that were stopped."""
    outcomes = trials["outcome"]
    if (outcomes == Outcome.COMPLETED).any() or (is_search and (outcomes == Outcome.STOPPED).any()):
        return
    causes = trials["failure"].dropna()
    cause = f"; the most frequent cause: {causes.mode().iloc[0]}" if len(causes) else ""
    stopped = int((outcomes == Outcome.STOPPED).sum())
    halved = f" ({stopped} were stopped early by halving)" if stopped else ""
    raise StudyError(
        f"study {study.name}: none of its {len(trials)} trials completed{halved}, so it cannot continue{cause}"
    )
