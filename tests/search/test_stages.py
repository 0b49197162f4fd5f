"""Each stage follows from the study and the trials recorded before."""

from dataclasses import replace

import pandas as pd

from caviar.columns import param_column, to_cell
from caviar.search.stages import open_stage, stage_count, trial_seed
from caviar.trial import Outcome, Stage, Trial
from tests.objectives import bowl_study

STUDY = bowl_study(rounds=(10,))


def row(trial: Trial) -> dict[str, object]:
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
            param_column(name): to_cell(STUDY.space[name].domain, trial.params[name])
            if name in trial.params
            else None
            for name in STUDY.space
        },
    }


def test_confirmation_steps_use_fresh_seeds_and_consecutive_numbers() -> None:
    frame, region, drawn = pd.DataFrame(), None, list[Trial]()
    for number in range(1, stage_count(STUDY) + 1):
        plan = open_stage(STUDY, number, frame, region)
        region = plan.region or region
        if plan.stage is not Stage.FINAL:
            drawn += plan.trials
            frame = pd.DataFrame([row(trial) for trial in drawn])
    (final,) = plan.trials
    assert [trial.number for trial in drawn] == list(range(10 + STUDY.confirmation.trials))
    seeds = [trial.seed for trial in drawn]
    assert len(set(seeds)) == len(seeds)
    assert final.number == len(drawn)
    assert final.seed in seeds


def test_training_seed_depends_on_the_place_in_the_study() -> None:
    places = [(number, index, again) for number in (1, 2, 3) for index in range(20) for again in range(3)]
    seeds = [trial_seed(STUDY, *place) for place in places]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds == [trial_seed(replace(STUDY, sampler="tpe"), *place) for place in places]
    assert not set(seeds) & {trial_seed(replace(STUDY, seed=1), *place) for place in places}
