"""Data sets and short searches that several experiments of the lecture share."""

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gallery import mean_and_half
from sklearn.datasets import make_classification

import caviar as cv
from caviar.engine import Part, PartDone
from caviar.records.frames import Run
from caviar.trial import Trial, derive_seed

_FOLDER = tempfile.TemporaryDirectory(prefix="caviar-lecture-")
MAX_LOSS = 10.0
"""Loss of a training that diverged."""
COLORS = ("#2b8cc4", "#d55e00", "#009e73", "#aa44ff")
"""Colours of the arms or data sets of a figure."""


def data_sets(quick: bool) -> dict[str, Any]:
    """Return data for `cv.Classifier` by name; one small set if quick."""
    clusters = make_classification(
        n_samples=150 if quick else 1_500,
        n_features=20,
        n_informative=8,
        n_classes=6,
        n_clusters_per_class=2,
        flip_y=0.02,
        random_state=0,
    )
    if quick:
        return {"clusters": clusters}
    return {"digits": "sklearn:digits", "clusters": clusters, "breast cancer": "sklearn:breast_cancer"}


def classifier(data: Any, split_seed: int = 0, fixed: Mapping[str, Any] | None = None) -> cv.Classifier:
    """Return an objective that is ranked by the dev loss, which tells close configurations apart."""
    return cv.Classifier(data=data, metric="dev_loss", split_seed=split_seed, fixed=fixed or {})


def search(
    objective: cv.Classifier, space: cv.Space, rounds: Sequence[Any], seed: int, **declared: Any
) -> Run:
    """Run a study in this process, without progress, in a folder that is removed when the process ends."""
    study = cv.Study(name="lecture", objective=objective, space=space, rounds=rounds, seed=seed, **declared)
    runs = tempfile.mkdtemp(dir=_FOLDER.name)
    return study.run(address="here", runs=runs, progress=False)


def ratio(these: npt.ArrayLike, those: npt.ArrayLike) -> tuple[float, float, float]:
    """Return the geometric mean of paired ratios of losses, and its 95 % interval.

    Args:
        these: losses, one a repetition.
        those: losses of the same repetitions in another way.
    """
    mean, half = mean_and_half(list(np.log(these) - np.log(those)))
    return float(np.exp(mean)), float(np.exp(mean - half)), float(np.exp(mean + half))


def ratio_text(found: tuple[float, float, float]) -> str:
    """Return a ratio with its interval as text."""
    return "{:.2f} ({:.2f} .. {:.2f})".format(*found)


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
