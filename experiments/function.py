"""A search over a Python function: support vector machines on scikit-learn's digits, by cross-validation.

caviar run experiments/function.py        or        python experiments/function.py
"""

from typing import Any

from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import caviar as cv

ROWS = 600
"""Number of images used, of 1,797, so that a trial takes a tenth of a second."""
x, y = load_digits(return_X_y=True)


def cross_validated(params: dict[str, Any], trial: cv.TrialContext) -> dict[str, float]:
    """Return mean accuracy on held-out and on training rows over three folds, drawn with the trial's seed."""
    model = make_pipeline(StandardScaler(), SVC(**params))
    folds = StratifiedKFold(3, shuffle=True, random_state=trial.seed)
    scores = cross_validate(model, x[:ROWS], y[:ROWS], cv=folds, return_train_score=True)
    return {"accuracy": scores["test_score"].mean(), "train_accuracy": scores["train_score"].mean()}


study = cv.Study(
    name="function",
    objective=cv.Function(
        cross_validated,
        metric="accuracy",
        maximize=True,
        metrics=("accuracy", "train_accuracy"),
        time_limit_s=30,
    ),
    space=cv.Space(
        C=cv.log(1e-3, 1e3),
        kernel=cv.choice("linear", "poly", "rbf"),
        gamma=cv.when(cv.log(1e-5, 1.0), kernel=("poly", "rbf")),
        degree=cv.when(cv.integer(2, 4), kernel="poly"),
    ),
    rounds=cv.coarse_to_fine(trials=100, epochs=1),
    seed=0,
)

if __name__ == "__main__":
    run = study.run()
    print(run.trials.nlargest(5, "value")[["trial", "value", "train_accuracy", "params_kernel", "params_C"]])
