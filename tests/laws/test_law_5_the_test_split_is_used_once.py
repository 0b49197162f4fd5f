"""Law 5: the test split is used once, by confirmation.

Ranking uses the dev split alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_wine

from caviar.backends.inline import InlineBackend
from caviar.data.splits import Dataset, Split
from caviar.engine import Checkpoint, Engine, Part, PartDone, Progress
from caviar.errors import DataError, StudyError
from caviar.operations.resume import extend_study
from caviar.operations.run import run_study
from caviar.records.frames import load, reproducible
from caviar.rounds import Confirmation, Round
from caviar.space import Space, integer, log
from caviar.study import Study
from caviar.training.classifier import Classifier
from caviar.training.native.engine import NativeEngine
from caviar.training.reference import ReferenceEngine
from caviar.trial import Outcome, Stage, Trial
from tests.panda.sessions import run_script
from tests.runs import inline, resume_inline, run_inline
from tests.training.module.modules import numbers, numbers_objective


class OtherTestRows(Classifier):
    """The same train and dev rows, but false test rows."""

    def load(self) -> Dataset:
        dataset = super().load()
        assert dataset.test is not None
        garbage = Split(-dataset.test.x, (dataset.test.y + 1) % len(dataset.classes))
        return replace(dataset, test=garbage)


def make_study(objective: Classifier) -> Study:
    return Study(
        name="iris",
        objective=objective,
        space=Space(learning_rate=log(1e-3, 1.0), units=integer(4, 16)),
        rounds=[Round(8, 3), Round(6, 3), Confirmation(2, 2)],
    )


def test_other_test_rows_change_only_the_test_score(tmp_path: Path) -> None:
    one = run_inline(make_study(Classifier(data="sklearn:iris")), tmp_path)
    other = run_inline(make_study(OtherTestRows(data="sklearn:iris")), tmp_path)
    score = ["test_accuracy", "test_loss"]
    pd.testing.assert_frame_equal(
        reproducible(one.trials).drop(columns=score), reproducible(other.trials).drop(columns=score)
    )
    pd.testing.assert_frame_equal(one.curves, other.curves)
    assert one.best is not None
    assert other.best is not None
    assert one.best.test_accuracy != other.best.test_accuracy


def test_extensions_choose_without_the_test_rows(tmp_path: Path) -> None:
    trials = []
    for kind in (Classifier, OtherTestRows):
        study = make_study(kind(data="sklearn:iris"))
        run = run_inline(study, tmp_path)
        extended = extend_study(study, run.path, 6, progress=False, backend=inline(study, 1))
        trials.append(reproducible(extended.trials).drop(columns=["test_accuracy", "test_loss"]))
    pd.testing.assert_frame_equal(trials[0], trials[1])


def test_sessions_touch_the_test_rows_at_their_end_alone(tmp_path: Path) -> None:
    curves, scores = [], []
    for kind in (Classifier, OtherTestRows):
        study = make_study(kind(data="sklearn:iris"))
        run = run_script("at epoch 2: learning_rate /3\nat end: finish\n", tmp_path, study, epochs=4)
        curves.append(run.curves)
        assert run.best is not None
        scores.append(run.best.test_accuracy)
        assert run.trials["test_accuracy"].notna().sum() <= 1
    pd.testing.assert_frame_equal(curves[0], curves[1])
    assert scores[0] != scores[1]


def test_workers_get_no_test_split(tmp_path: Path) -> None:
    received: list[Dataset | None] = []

    def backend(dataset: Dataset | None) -> InlineBackend:
        received.append(dataset)
        return InlineBackend(study.objective, dataset)

    study = make_study(Classifier(data="sklearn:iris"))
    run_study(study, runs=tmp_path, progress=False, backend=backend)
    assert [dataset.test for dataset in received if dataset is not None] == [None]


@pytest.mark.parametrize("engine", [ReferenceEngine, NativeEngine])
def test_only_the_final_trial_is_scored_on_test_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: type[Engine]
) -> None:
    evaluate = engine.evaluate
    scored: list[Trial] = []

    def counted(self: Engine, trial: Trial, checkpoint: Checkpoint, split: Split) -> Mapping[str, float]:
        scored.append(trial)
        return evaluate(self, trial, checkpoint, split)

    monkeypatch.setattr(engine, "evaluate", counted)
    name = "reference" if engine is ReferenceEngine else "native"
    trials = run_inline(make_study(Classifier(data="sklearn:iris", engine=name)), tmp_path).trials
    assert [trial.stage for trial in scored] == [Stage.FINAL]
    assert set(trials.loc[trials["test_accuracy"].notna(), "stage"]) == {Stage.FINAL}


def test_the_winning_network_has_the_reported_score(tmp_path: Path) -> None:
    study = make_study(Classifier(data="sklearn:iris"))
    best = run_inline(study, tmp_path).best
    test = study.objective.load().test  # type: ignore[union-attr]
    assert best is not None
    assert test is not None
    z_NC = best.network()(torch.from_numpy(test.x))
    assert float((z_NC.argmax(dim=1).numpy() == test.y).mean()) == best.test_accuracy
    assert np.isfinite(z_NC.detach().numpy()).all()


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_refitted_network_learns_from_dev_rows_after_they_chose_it(tmp_path: Path, engine: str) -> None:
    objective = Classifier(data="sklearn:iris", engine=engine)
    plain = run_inline(make_study(objective), tmp_path / "plain")
    refit = run_inline(make_study(replace(objective, refit=True)), tmp_path / "refit")
    one, other = (reproducible(run.trials).iloc[:-1] for run in (plain, refit))
    pd.testing.assert_frame_equal(one, other)
    final = refit.trials.iloc[-1]
    assert final["outcome"] == Outcome.COMPLETED
    assert final[["value", "dev_loss", "dev_accuracy"]].isna().all()
    assert plain.best is not None
    assert refit.best is not None
    assert (refit.best.params, refit.best.value) == (plain.best.params, plain.best.value)
    assert refit.best.refit
    assert not plain.best.refit
    curves = []
    for run, dataset in ((plain, objective.load()), (refit, objective.load().with_dev_in_train())):
        trial = Trial(number=0, round=1, params=plain.best.params, epochs=3, seed=plain.best.seed)
        parts = objective.make_engine(dataset, "cpu").train([Part(trial=trial)])
        curves.append([p.measurement.metrics["train_loss"] for p in parts if isinstance(p, Progress)])
        recorded = run.curves[run.curves["trial"] == run.trials["trial"].max()]
        assert recorded["train_loss"].tolist() == curves[-1]
    assert curves[0] != curves[1]
    test = objective.load().test
    assert test is not None
    z_NC = refit.best.network()(torch.from_numpy(test.x))
    assert float((z_NC.argmax(dim=1).numpy() == test.y).mean()) == refit.best.test_accuracy


def test_predict_returns_the_classes_of_the_data(tmp_path: Path) -> None:
    x, y = load_wine(return_X_y=True)
    study = make_study(Classifier(data=(x, y)))
    best = run_inline(study, tmp_path).best
    assert best is not None
    assert best.predict(x).dtype == y.dtype
    assert (best.predict(x) == y).mean() > 0.8
    with pytest.raises(DataError, match="rows must have 13 features"):
        best.predict(x[0])


def test_a_failed_final_training_is_retried_on_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(Classifier(data="sklearn:iris"))
    train = NativeEngine.train

    def failing(self: NativeEngine, parts: Sequence[Part]) -> Iterator[Progress | PartDone]:
        if parts[0].keep_checkpoint:
            return iter([PartDone(trial=parts[0].trial.number, outcome=Outcome.FAILED, failure="no memory")])
        return train(self, parts)

    with monkeypatch.context() as patch:
        patch.setattr(NativeEngine, "train", failing)
        with pytest.raises(StudyError, match=r"its final training failed \(no memory\)"):
            run_inline(study, tmp_path)
    assert not load(tmp_path / "iris").finished
    best = resume_inline(study, tmp_path / "iris").best
    assert best is not None
    assert best.test_accuracy is not None


def test_other_test_rows_change_only_the_score_of_a_module(tmp_path: Path) -> None:
    x, y = numbers()
    splits = (x[:70], y[:70]), (x[70:95], y[70:95])
    runs = []
    for number, test in enumerate(((x[95:], y[95:]), (x[95:], -y[95:]))):
        objective = replace(numbers_objective(), data=(*splits, test))
        study = Study(
            name=f"numbers{number}",
            objective=objective,
            space=Space(learning_rate=log(1e-4, 1e-2), units=integer(2, 8)),
            rounds=[Round(4, 2), Confirmation(2, 1)],
        )
        runs.append(run_inline(study, tmp_path))
    one, other = (reproducible(run.trials) for run in runs)
    pd.testing.assert_frame_equal(one.drop(columns="test_loss"), other.drop(columns="test_loss"))
    assert set(one.loc[one["test_loss"].notna(), "stage"]) == {Stage.FINAL}
    assert one["test_loss"].iloc[-1] != other["test_loss"].iloc[-1]
