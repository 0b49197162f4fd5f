"""The convolutional networks of digits_conv.py trained by skorch, as an example of another library in a cv.Function.

pip install skorch
caviar run experiments/skorch_digits.py        or        python experiments/skorch_digits.py

A trial takes 1.5 times as long as that of cv.Module (0.38 s against 0.26 s for 5 epochs of two convolutions with 16 and
32 channels, batch 64; medians of seven interleaved runs on one core of an AMD EPYC), and its schedule, if there is one,
is for us to write.
"""

import functools
from typing import Any

import digits_conv
import torch
from torch import nn

import caviar as cv
from caviar.data.splits import Dataset

try:
    from skorch import NeuralNetClassifier
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("this experiment needs skorch: pip install skorch", name="skorch") from error


@functools.cache
def digits() -> Dataset:
    """Return the splits that cv.Module makes, read once by each worker."""
    objective = digits_conv.study.objective
    assert isinstance(objective, cv.Module)
    return objective.load()


def train(params: dict[str, Any], trial: cv.TrialContext) -> None:
    """Train a network and report its accuracy on the dev split after each epoch."""
    data = digits()
    classifier = trial.restore() or NeuralNetClassifier(
        digits_conv.Convolutions,
        module__params=params,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        optimizer__betas=(params["beta1"], 0.999),
        optimizer__weight_decay=params["l2"],
        lr=params["learning_rate"],
        batch_size=params["batch_size"],
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    for epoch in trial.remaining():
        classifier.partial_fit(data.train.x, data.train.y, epochs=1)
        trial.report(epoch, dev_accuracy=classifier.score(data.dev.x, data.dev.y))
        trial.save(classifier)


def score(params: dict[str, Any], trial: cv.TrialContext) -> float:
    """Return the accuracy of the winner on the test split."""
    del params
    test = digits().test
    assert test is not None
    return float(trial.restore().score(test.x, test.y))


study = cv.Study(
    name="skorch_digits",
    objective=cv.Function(train, metric="dev_accuracy", maximize=True, test=score),
    space=digits_conv.study.space,
    rounds=digits_conv.study.rounds,
    seed=0,
)

if __name__ == "__main__":
    study.run()
