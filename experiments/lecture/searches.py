"""Short searches that several experiments of the lecture share."""

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import caviar as cv
from caviar.engine import Part, PartDone
from caviar.records.frames import Run
from caviar.trial import Trial, derive_seed

_FOLDER = tempfile.TemporaryDirectory(prefix="caviar-lecture-")
MAX_LOSS = 10.0
"""Loss of a training that diverged."""


def classifier(data: Any, split_seed: int = 0, fixed: Mapping[str, Any] | None = None) -> cv.Classifier:
    """Return an objective that is ranked by the dev loss, which tells close configurations apart."""
    return cv.Classifier(data=data, metric="dev_loss", split_seed=split_seed, fixed=fixed or {})


def search(
    objective: cv.Classifier, space: cv.Space, rounds: Sequence[Any], seed: int, **declared: Any
) -> Run:
    """Run a search in this process, as `run_here`."""
    study = cv.Study(name="lecture", objective=objective, space=space, rounds=rounds, seed=seed, **declared)
    return run_here(study)


def run_here(study: cv.Study) -> Run:
    """Run a study in this process, without progress, in a folder that is removed when the process ends."""
    runs = tempfile.mkdtemp(dir=_FOLDER.name)
    return study.run(address="here", runs=runs, progress=False)


def fresh_loss(objective: cv.Classifier, params: Mapping[str, Any], epochs: int, trainings: int = 5) -> float:
    """Return the mean loss on the test split of a configuration that is trained afresh several times."""
    dataset = objective.load()
    engine = objective.make_engine(dataset.without_test(), "cpu")
    losses = []
    for seed in range(trainings):
        trial = Trial(number=0, round=1, params=params, epochs=epochs, seed=derive_seed("fresh", seed))
        end = engine.train_openly(Part(trial=trial, keep_checkpoint=True))[-1]
        assert isinstance(end, PartDone)
        if end.checkpoint is None:
            losses.append(MAX_LOSS)
        else:
            losses.append(min(engine.score_winner(trial, end.checkpoint, dataset.test)["loss"], MAX_LOSS))
    return float(np.mean(losses))
