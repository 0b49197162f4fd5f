"""A network with no hidden layer is softmax regression, and with two classes logistic regression, in every engine.

The loss is convex, so that scikit-learn's solution is also that of an engine if the gradient there is zero.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from caviar.data.splits import Dataset
from caviar.engine import Engine, Part
from caviar.training.fused.engine import FusedEngine
from caviar.training.fused.pack import Tiles
from caviar.training.native.engine import NativeEngine
from caviar.training.reference import ReferenceEngine
from caviar.trial import Trial
from tests.training.networks import blobs, checkpoint_of, run, run_part, trial

TILES = Tiles(rows=16, units=16, inputs=16)
ENGINES: dict[str, Callable[[Dataset], Engine]] = {
    "reference": lambda data: ReferenceEngine(data, dtype=torch.float64),
    "native": lambda data: NativeEngine(data, dtype=np.float64),
    "fused": lambda data: FusedEngine(data, device="cpu", dtype=torch.float64, lanes=1, tiles=TILES),
}
L2 = 0.02
engines = pytest.mark.parametrize("make", ENGINES.values(), ids=ENGINES)


def regression(l2: float, **options: Any) -> Trial:
    """Return softmax regression on whole batches."""
    settings = {"optimizer": "sgd", "learning_rate": 0.5, "epochs": 1, **options}
    return trial(layers=0, l2=l2, batch_size=1000, **settings)


def solution(data: Dataset, weight: npt.NDArray[Any], bias: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Return the checkpoint of a regression with these weights (D, C) and biases (C,)."""
    untrained = Part(trial=regression(0.0), until=0, keep_checkpoint=True)
    _, end = run_part(ReferenceEngine(data, dtype=torch.float64), untrained)
    return {**checkpoint_of(end), "output.weight": weight, "output.bias": bias}


@engines
def test_softmax_regression_is_that_of_scikit_learn(make: Callable[[Dataset], Engine]) -> None:
    data = blobs(rows=100, classes=4)
    model = LogisticRegression(
        C=1 / (L2 * len(data.train.y)), tol=1e-12, max_iter=10_000, solver="newton-cholesky"
    )
    model.fit(data.train.x.astype(float), data.train.y)
    start = solution(data, model.coef_.T, model.intercept_)
    curve, end = run(make(data), regression(L2), checkpoint=start)
    after = checkpoint_of(end)
    for name in ("output.weight", "output.bias"):
        np.testing.assert_allclose(after[name], start[name], atol=1e-5)
    p_NC = model.predict_proba(data.train.x)
    expected = -np.log(p_NC[np.arange(len(p_NC)), data.train.y]).mean()
    assert curve[0]["train_loss"] == pytest.approx(expected, rel=1e-9)
    assert curve[0]["dev_accuracy"] == pytest.approx(model.score(data.dev.x, data.dev.y))


@engines
def test_two_classes_are_logistic_regression(make: Callable[[Dataset], Engine]) -> None:
    data = blobs(rows=100, classes=2)
    # both classes have weights here, which differ by those of scikit-learn: half of the squares
    model = LogisticRegression(
        C=2 / (L2 * len(data.train.y)), tol=1e-12, max_iter=10_000, solver="newton-cholesky"
    )
    model.fit(data.train.x.astype(float), data.train.y)
    w_D, b = model.coef_[0], model.intercept_[0]
    start = solution(data, np.stack([-w_D, w_D], axis=1) / 2, np.array([-b, b]) / 2)
    engine = make(data)
    _, end = run(engine, regression(L2), checkpoint=start)
    after = checkpoint_of(end)
    for name in ("output.weight", "output.bias"):
        np.testing.assert_allclose(after[name], start[name], atol=1e-5)
    p_NC = engine.predict(regression(L2), after, data.dev)
    assert p_NC is not None
    np.testing.assert_allclose(p_NC, model.predict_proba(data.dev.x), atol=1e-5)


def test_training_finds_logistic_regression() -> None:
    data = blobs(rows=100, classes=2)
    model = LogisticRegression(C=2 / (L2 * len(data.train.y)), tol=1e-10).fit(data.train.x, data.train.y)
    engine = NativeEngine(data)
    what = regression(L2, optimizer="momentum", epochs=500)
    _, end = run(engine, what)
    p_NC = engine.predict(what, checkpoint_of(end), data.dev)
    np.testing.assert_allclose(p_NC, model.predict_proba(data.dev.x), atol=1e-4)
