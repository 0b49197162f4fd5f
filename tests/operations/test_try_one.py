"""Tests of caviar/operations/try_one.py: one trial in this process, before anything is distributed."""

import contextlib
import threading
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import caviar as cv
from caviar.errors import StudyError
from caviar.trial import Outcome
from tests.runs import run_inline

Params = dict[str, Any]


def study(
    fn: Callable[..., Any], space: cv.Space | None = None, halving: cv.Halving | None = None
) -> cv.Study:
    return cv.Study(
        name="tried",
        objective=cv.Function(fn, metric="loss"),
        space=space or cv.Space(rate=cv.log(1e-3, 0.5)),
        rounds=[cv.Round(9, 9, halving), cv.Confirmation(1)],
    )


def descend(params: Params, trial: cv.TrialContext) -> None:
    """Descend with momentum, and save all of it."""
    x, velocity = trial.restore() or (0.0, 0.0)
    for epoch in trial.remaining():
        velocity = 0.5 * velocity - params["rate"] * 2 * (x - 3)
        x += velocity
        trial.report(epoch, loss=(x - 3) ** 2)
        trial.save((x, velocity))


def forgets(params: Params, trial: cv.TrialContext) -> None:
    """Descend likewise, but save no momentum."""
    x, velocity = trial.restore() or 0.0, 0.0
    for epoch in trial.remaining():
        velocity = 0.5 * velocity - params["rate"] * 2 * (x - 3)
        x += velocity
        trial.report(epoch, loss=(x - 3) ** 2)
        trial.save(x)


def never_saves(params: Params, trial: cv.TrialContext) -> None:
    for epoch in range(1, trial.until + 1):
        if epoch > trial.trained:
            trial.report(epoch, loss=params["rate"] / epoch)


def test_a_function_is_tried_with_its_curve() -> None:
    tried = study(descend).try_one({"rate": 0.25}, epochs=3)
    assert tried.outcome is Outcome.COMPLETED
    assert tried.params == {"rate": 0.25}
    assert tried.curve["epoch"].tolist() == [1, 2, 3]
    assert tried.curve["loss"].iloc[-1] == tried.value
    assert len(study(descend).try_one().curve) == 9
    assert str(tried).startswith(f"completed: value {tried.value:.6g} after 3 epochs in ")


def test_a_classifier_is_tried_without_its_test_split() -> None:
    tried = cv.Study(
        name="iris",
        objective=cv.Classifier(data="sklearn:iris", engine="reference"),
        space=cv.Space(learning_rate=cv.log(1e-3, 1.0), units=cv.integer(4, 8)),
        rounds=cv.coarse_to_fine(trials=20, epochs=3),
    ).try_one({"learning_rate": 0.1})
    assert tried.outcome is Outcome.COMPLETED
    assert tried.value == tried.curve["dev_accuracy"].iloc[-1]
    assert 4 <= int(tried.params["units"]) <= 8  # type: ignore[arg-type]


def test_the_default_is_the_first_trial_of_the_study() -> None:
    def reports_seed(params: Params, trial: cv.TrialContext) -> float:
        return float(trial.seed)

    from caviar.search.stages import trial_seed

    declared = study(reports_seed)
    assert declared.try_one().value == trial_seed(declared, 1, 0) % 2**32
    assert declared.try_one().params == declared.try_one({}).params


def test_exceptions_pass_with_their_traceback() -> None:
    def divides(params: Params, trial: cv.TrialContext) -> float:
        assert threading.current_thread() is threading.main_thread()
        return 1 / 0

    with pytest.raises(ZeroDivisionError) as raised:
        study(divides).try_one()
    assert traceback.extract_tb(raised.value.__traceback__)[-1].name == "divides"


def test_wrong_metrics_are_refused_even_if_caught() -> None:
    def catches(params: Params, trial: cv.TrialContext) -> float:
        with contextlib.suppress(ValueError):
            trial.report(1, los=1.0)
        return 1.0

    with pytest.raises(StudyError, match="the metric 'loss', which ranks trials, is missing"):
        study(catches).try_one()


def test_a_value_that_is_not_finite_diverges() -> None:
    tried = study(lambda params: float("nan")).try_one()
    assert tried.outcome is Outcome.DIVERGED
    assert tried.failure == "loss is not finite"
    assert str(tried).startswith("diverged (loss is not finite): value nan after 1 epoch in ")


def test_unknown_and_idle_params_are_refused() -> None:
    space = cv.Space(
        rate=cv.log(1e-3, 0.5),
        kind=cv.choice("plain", "heavy"),
        momentum=cv.when(cv.linear(0, 0.9), kind="heavy"),
    )
    conditional = study(lambda params: params.get("momentum", -1.0), space)
    assert conditional.try_one({"kind": "plain"}).value == -1.0
    assert conditional.try_one({"kind": "heavy", "momentum": 0.5}).value == 0.5
    assert 0 <= conditional.try_one({"kind": "heavy"}).value <= 0.9
    with pytest.raises(StudyError, match="no parameter 'rte'; it has rate, kind, momentum"):
        conditional.try_one({"rte": 0.1})
    with pytest.raises(StudyError, match="momentum does not apply"):
        conditional.try_one({"kind": "plain", "momentum": 0.5})
    assert 0 <= conditional.try_one({"momentum": 0.5}).value <= 0.9, "kind is drawn so that momentum applies"
    with pytest.raises(StudyError, match="epochs"):
        conditional.try_one(epochs=0)


def test_params_keep_the_constraints() -> None:
    space = cv.Space(low=cv.linear(0, 1), high=cv.linear(0, 1), where=lambda p: p["low"] < p["high"])
    constrained = study(lambda params: params["high"] - params["low"], space)
    assert constrained.try_one({"low": 0.9}).value > 0, (
        "what is left out is drawn so that the constraints hold"
    )
    with pytest.raises(StudyError, match="the constraints refuse"):
        constrained.try_one({"low": 0.5, "high": 0.2})


def test_functions_that_cannot_be_sent_are_refused() -> None:
    lock = threading.Lock()
    with pytest.raises(StudyError, match="cannot be sent to workers"):
        study(lambda params: float(lock.locked())).try_one()


def test_a_checkpoint_that_cannot_be_pickled_is_refused() -> None:
    def saves(params: Params, trial: cv.TrialContext) -> float:
        trial.save(threading.Lock())
        return 1.0

    with pytest.raises(Exception, match="cannot pickle"):
        study(saves).try_one()


def test_an_incomplete_checkpoint_is_warned_of_with_both_values() -> None:
    with pytest.warns(
        UserWarning, match=r"loss after epoch 9 is .* in one part, and .* after epoch 1"
    ) as warned:
        whole = study(forgets, halving=cv.Halving()).try_one({"rate": 0.1})
    assert f"{whole.value:.6g}" in str(warned[0].message)
    assert warned[0].filename == __file__
    with pytest.warns(UserWarning, match="saves no checkpoint"):
        study(never_saves, halving=cv.Halving()).try_one()


def adam(params: Params, trial: cv.TrialContext) -> None:
    """Train a network with dropout, in mini-batches of a random order, by torch's global generator."""
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=params["rate"])
    if state := trial.restore():
        model, optimizer = state
    x = torch.linspace(-1, 1, 80).reshape(20, 4)
    for epoch in trial.remaining():
        for rows in torch.randperm(len(x)).reshape(4, 5):
            loss = ((model(x[rows]) - x[rows].sum(1, keepdim=True) ** 2) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        trial.report(epoch, loss=float(loss.detach()))
        trial.save((model, optimizer))


def adam_forgets(params: Params, trial: cv.TrialContext) -> None:
    """Train likewise, but save the model alone."""
    save, restore = trial.save, trial.restore
    trial.save = lambda state: save(state[0])  # type: ignore[index, method-assign]

    def restored() -> Any:
        model = restore()
        return model and (model, torch.optim.Adam(model.parameters(), lr=params["rate"]))

    trial.restore = restored  # type: ignore[method-assign]
    adam(params, trial)


def test_adam_continues_with_its_averages_and_its_order() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study(adam, halving=cv.Halving()).try_one({"rate": 0.03})
    with pytest.warns(UserWarning, match="halving changes what the trial learns"):
        study(adam_forgets, halving=cv.Halving()).try_one({"rate": 0.03})


def test_trials_that_lose_by_pauses_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for fn, warned in ((descend, False), (forgets, True)):
        caplog.clear()
        halved = study(fn, cv.Space(rate=cv.log(1e-3, 0.03)), halving=cv.Halving())
        run_inline(replace(halved, rounds=[cv.Round(60, 9, cv.Halving()), cv.Confirmation(6)]), tmp_path)
        assert ("halving seems to change" in caplog.text) == warned


def test_a_complete_checkpoint_continues_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study(descend, halving=cv.Halving()).try_one({"rate": 0.1})
        study(descend, halving=cv.Halving()).try_one({"rate": 0.1}, epochs=1)
        study(forgets).try_one({"rate": 0.1})  # its trials are never paused
