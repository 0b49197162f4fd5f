"""Workers that are asked for: counts that make no sense are refused before anything starts."""

from pathlib import Path

import pytest

import caviar as cv
from caviar.errors import RunError
from caviar.operations.worker_choice import require_workers

STUDY = cv.Study(
    name="square",
    objective=cv.Function(lambda params: params["x"] ** 2),
    space=cv.Space(x=cv.linear(-1, 1)),
    rounds=[cv.Round(4, epochs=1)],
)


@pytest.mark.parametrize("address", ["local", "10.0.0.1:6379", "here"])
def test_gpus_that_no_trial_would_use_are_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(RunError, match="--gpus 1: the trials of square take no GPU"):
        STUDY.run(gpus=1, address=address, runs=tmp_path / "runs", progress=False)
    assert not (tmp_path / "runs").exists()


def test_gpus_that_trials_use_are_accepted() -> None:
    require_workers(STUDY, workers=0, gpus=None)
    require_workers(STUDY, workers=2, gpus=0)
    classifier = cv.Study(
        name="iris",
        objective=cv.Classifier(data="sklearn:iris"),
        space=cv.Space(learning_rate=cv.log(1e-3, 1.0)),
        rounds=[cv.Round(4, epochs=2)],
    )
    require_workers(classifier, workers=0, gpus=1)


@pytest.mark.parametrize("counts", [(-1, None), (True, None), (None, -1), (1.5, None), (0, 0)])
def test_counts_that_make_no_sense_are_refused(counts: tuple[int | None, int | None]) -> None:
    with pytest.raises(RunError, match="--"):
        require_workers(STUDY, *counts)
