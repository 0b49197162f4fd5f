"""Searches with a user's Optuna sampler: it knows which trials are in flight, and continues where it was."""

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, BruteForceSampler, GridSampler, RandomSampler, TPESampler

from caviar.errors import InterruptedStudy
from caviar.records.frames import Run
from caviar.rounds import Confirmation, Search
from caviar.space import Space, choice
from caviar.study import SamplerFactory, Study
from caviar.trial import Stage
from tests.laws.test_law_1_reproducible import Interrupted, run_on
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, resume_inline, run_inline

RATES, METHODS, BETAS = [0.001, 0.01, 0.1, 1.0], ["plain", "heavy"], [0.1, 0.5, 0.9]
POINTS = 24


def quiet(make: SamplerFactory) -> SamplerFactory:
    def factory(seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return make(seed)  # type: ignore[no-any-return]

    return factory


SAMPLERS: dict[str, SamplerFactory] = {
    "grid": lambda seed: GridSampler({"rate": RATES, "method": METHODS, "beta": BETAS}, seed=seed),
    "brute force": quiet(lambda seed: BruteForceSampler(seed=seed)),
}


def make_study(sampler: SamplerFactory) -> Study:
    """Return a study of as many trials as there are points, a quarter of them in flight."""
    return replace(
        bowl_study(rounds=(Search(POINTS, 1, in_flight=6),), confirmation=Confirmation(2, 1)),
        space=Space(rate=choice(*RATES), method=choice(*METHODS), beta=choice(*BETAS)),
        sampler=sampler,
    )


def points(run: Run) -> list[tuple[object, ...]]:
    """Return the points of the search."""
    search = run.trials[run.trials["stage"] == Stage.SEARCH]
    return [tuple(row) for row in search.filter(like="params_").to_numpy()]


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_point_is_trained_once(tmp_path: Path, name: str) -> None:
    study = make_study(SAMPLERS[name])
    whole = run_inline(study, tmp_path / "whole", workers=3)
    assert len(points(whole)) == len(set(points(whole))) == POINTS
    with pytest.raises(InterruptedStudy):
        run_on(Interrupted(study, 8), study, tmp_path)
    assert_same_frames(whole, resume_inline(study, tmp_path / "bowl"))


def test_a_sampler_is_not_begun_anew_at_each_step(tmp_path: Path) -> None:
    seeds: list[int] = []

    def sampler(seed: int) -> BaseSampler:
        seeds.append(seed)
        return RandomSampler(seed=0)  # it would repeat its draws at each step

    study = bowl_study(rounds=(Search(20, 1, in_flight=4),), confirmation=Confirmation(2, 1))
    run = run_inline(replace(study, sampler=lambda seed: TPESampler(seed=seed, constant_liar=True)), tmp_path)
    assert len(set(points(run))) == 20
    run = run_inline(replace(study, sampler=sampler), tmp_path)
    assert len(set(points(run))) == 20
