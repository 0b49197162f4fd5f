"""The network that a session hands over: its trial, and its scores."""

from collections.abc import Mapping
from dataclasses import replace

from caviar.data.splits import Dataset
from caviar.objective import Objective
from caviar.panda.session import Session, trial_of
from caviar.records.winner import Baseline, Best
from caviar.search.confirmation import wilson_interval
from caviar.trial import Stage, Trial


def final_trial(session: Session, seed: int) -> Trial:
    """Return the trial that scores the present state of a session on the test split.

    Args:
        session: a session that has trained an epoch.
        seed: seed of all trainings.
    """
    branch, epoch = session.branch, session.at.epoch
    assert branch is not None
    return replace(
        trial_of(branch, seed),
        number=len(session.branches),
        round=2,
        epochs=epoch,
        stage=Stage.FINAL,
        confirms=branch.number,
        parent=branch.number,
        parent_epoch=epoch,
    )


def handed_over(
    objective: Objective, dataset: Dataset | None, trial: Trial, value: float, scores: Mapping[str, float]
) -> Best:
    """Return the description of the network that is handed over.

    Args:
        objective: the objective of the study.
        dataset: all splits; None if the objective has no data.
        trial: the final trial.
        value: value of the metric that ranks, of one training that was chosen by it.
        scores: scores on the test split, which nothing else has used.
    """
    test, accuracy = dataset.test if dataset is not None else None, scores.get("accuracy")
    assert trial.confirms is not None
    return Best(
        trial=trial.confirms,
        params=trial.params,
        recipe=objective.recipe(trial.params),
        epochs=trial.epochs,
        seed=trial.seed,
        value=value,
        interval=None,
        seeds=1,
        test_accuracy=accuracy,
        test_interval=wilson_interval(accuracy, len(test.y)) if test and accuracy is not None else None,
        test_rows=len(test.y) if test else None,
        test_value=scores.get("value"),
        baseline=Baseline.of(dataset) if dataset is not None and dataset.classes else None,
    )
