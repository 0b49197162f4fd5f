"""Each stage follows from the study and the trials recorded before."""

from dataclasses import replace
from random import Random
from typing import Any

import pandas as pd
from hypothesis import event, given, reject
from hypothesis import strategies as st

from caviar.columns import param_column, to_cell
from caviar.errors import StudyError
from caviar.rounds import Confirmation, Halving, Round, Search, extension_stages
from caviar.search.schedule import plan_phases
from caviar.search.stages import certain_trials, open_stage, trial_seed
from caviar.space import Space, choice
from caviar.study import Study
from caviar.trial import Outcome, Stage, Trial
from tests.objectives import Bowl, bowl_study

STUDY = bowl_study(rounds=(10,))


def row(trial: Trial, study: Study = STUDY) -> dict[str, object]:
    """Return the row of a completed trial with a noisy value."""
    return {
        "trial": trial.number,
        "round": trial.round,
        "stage": trial.stage.value,
        "outcome": Outcome.COMPLETED.value,
        "value": float(trial.seed % 1_000),
        "epochs": trial.epochs,
        "seed": trial.seed,
        "confirms": trial.confirms,
        **{
            param_column(name): to_cell(study.space[name].domain, trial.params[name])
            if name in trial.params
            else None
            for name in study.space
        },
    }


def test_confirmation_steps_use_fresh_seeds_and_new_numbers() -> None:
    frame, region, drawn = pd.DataFrame(), None, list[Trial]()
    for number in range(1, plan_phases([STUDY.rounds])[0].final + 1):
        plan = open_stage(STUDY, number, frame, region)
        region = plan.region or region
        if plan.stage is not Stage.FINAL:
            drawn += plan.trials
            frame = pd.DataFrame([row(trial) for trial in drawn])
    (final,) = plan.trials
    assert [trial.number for trial in drawn[:10]] == list(range(10))
    assert len({trial.number for trial in drawn}) == len(drawn) == 10 + STUDY.confirmation.trials
    seeds = [trial.seed for trial in drawn]
    assert len(set(seeds)) == len(seeds)
    assert final.number > max(trial.number for trial in drawn)
    assert final.seed in seeds


def test_training_seed_depends_on_the_place_in_the_study() -> None:
    places = [(number, index, again) for number in (1, 2, 3) for index in range(20) for again in range(3)]
    seeds = [trial_seed(STUDY, *place) for place in places]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds == [trial_seed(replace(STUDY, sampler="tpe"), *place) for place in places]
    assert not set(seeds) & {trial_seed(replace(STUDY, seed=1), *place) for place in places}


COARSE = Space(x=choice(*range(20)))
"""A space with few points, so that many trials are equal."""
studies = st.builds(
    lambda search, confirmation: Study(
        name="coarse", objective=Bowl(), space=COARSE, rounds=(*search, confirmation)
    ),
    st.sampled_from(
        [
            (Search(12, 9, in_flight=4),),
            (Search(20, 9, in_flight=8, halving=Halving(cohort=4)),),
            (Round(8, 3), Round(8, 9)),
        ]
    ),
    st.builds(Confirmation, top=st.integers(1, 9), seeds=st.integers(1, 2), divisor=st.integers(2, 4)),
)


@given(
    study=studies,
    extensions=st.integers(0, 2),
    noise=st.sampled_from([0, 1, 5]),
    failures=st.integers(0, 6),
    seed=st.integers(0, 10**6),
)
def test_certain_trials_are_planned_later(
    study: Study, extensions: int, noise: int, failures: int, seed: int
) -> None:
    """Whatever is recorded, and whatever comes of the others: equal params, equal values, failures, no noise."""
    random = Random(seed)
    phases = plan_phases([study.rounds, *[extension_stages(study.rounds, 7)] * extensions])
    phase = phases[-1]

    def finish(trial: Trial) -> dict[str, object]:
        value = Random(trial.params["x"]).randrange(5) + random.randint(0, noise)
        lost = random.randrange(10) < failures
        outcomes = [Outcome.DIVERGED, Outcome.STOPPED if trial.stage is Stage.SEARCH else Outcome.FAILED]
        outcome = random.choice(outcomes) if lost else Outcome.COMPLETED
        return row(trial, study) | {"outcome": outcome.value, "value": value, "epochs_trained": 3}

    planned, recorded, region = dict[int, Trial](), list[Any](), None
    try:
        for number in range(1, phase.final + 1):
            plan = open_stage(study, number, pd.DataFrame(recorded), region, phases=phases)
            region = plan.region or region
            trials = list(plan.trials)
            assert planned.keys().isdisjoint(trial.number for trial in trials)
            planned |= {trial.number: trial for trial in trials}
            recorded += map(finish, trials)
    except StudyError:
        reject()
    opened = random.randrange(phase.steps[-1].number, phase.final)
    share = random.random() ** 0.2
    back, under_way = dict[int, Any](), list[Trial]()
    for trial, finished in zip(planned.values(), recorded, strict=True):
        is_open = trial.round <= opened
        may_be_back = is_open or (trial.stage is Stage.CONFIRMATION and trial.confirms in back)
        must_be_back = trial.round < (opened if opened in phase.confirming else phase.first_stage)
        if must_be_back or (may_be_back and random.random() < share):
            back[trial.number] = finished
        elif is_open:
            under_way.append(trial)
    if back:
        certain = certain_trials(study, opened, pd.DataFrame([*back.values()]), under_way, phases)
        event("some are certain" if certain else "none is certain")
        assert all(planned[trial.number] == trial for trial in certain)
