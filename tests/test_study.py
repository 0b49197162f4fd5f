"""A study checks its parts when it is declared, and describes itself in plain form."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optuna.samplers import TPESampler

import caviar as cv
from caviar.errors import SpaceError, StudyError
from caviar.rounds import Confirmation, Narrowing, Round
from caviar.space import Space, choice, integer, linear, log, reverse_log, when
from caviar.study import Study, check_name
from caviar.training.classifier import Classifier


def study(**changes: Any) -> Study:
    """Return a small study with some fields changed."""
    plain: dict[str, Any] = {
        "name": "small",
        "objective": Classifier(data="sklearn:iris"),
        "space": Space(learning_rate=log(1e-4, 1.0)),
        "rounds": [Round(8, 2), Round(4, 2), Confirmation(2, 2)],
    }
    return Study(**{**plain, **changes})


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "/tmp", "a\\b", ".hidden", "-x", "a b", "a\n", "é", "a" * 101, None, 3],
)
def test_unsafe_name_is_refused(name: Any) -> None:
    with pytest.raises(StudyError, match="cannot name a run directory"):
        study(name=name)


@pytest.mark.parametrize("name", ["digits", "digits-2", "a", "7", "my_run.v1..2", "a" * 100])
def test_plain_names_are_allowed(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("rounds", [[], (), [Confirmation()]])
def test_study_without_rounds_is_refused(rounds: Any) -> None:
    with pytest.raises(StudyError, match="Study small: rounds is empty"):
        study(rounds=rounds)


@pytest.mark.parametrize(
    "rounds",
    [
        [Confirmation(), Round(4, 1)],
        [Round(4, 1), Confirmation(), Confirmation()],
        [5],
        "rounds",
        {"trials": 5},
    ],
)
def test_rounds_of_another_type_are_refused(rounds: Any) -> None:
    with pytest.raises(StudyError, match="is not a Round"):
        study(rounds=rounds)


def test_confirmation_is_added_if_none_is_declared() -> None:
    assert study(rounds=[Round(8, 2)]).rounds == (Round(8, 2), Confirmation(1))
    assert study(rounds=Round(8, 2)).rounds == (Round(8, 2), Confirmation(1))
    assert study(rounds=[Round(300, 2), Round(100, 2)]).confirmation == Confirmation(64, divisor=4)
    assert study(rounds=[Round(400, 2), Round(100, 20)]).confirmation == Confirmation(10), (
        "short trainings count for less"
    )
    assert study(rounds=[Round(8, 2), Confirmation(1, 1)]).rounds == (Round(8, 2), Confirmation(1, 1))


def test_search_rounds_exclude_the_confirmation() -> None:
    assert study().search_rounds == (Round(8, 2), Round(4, 2))
    assert study().confirmation == Confirmation(2, 2)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 1.0}, "seed"),
        ({"seed": True}, "seed"),
        ({"sampler": "annealing"}, "sampler='annealing'"),
        ({"sampler": TPESampler}, "use lambda seed: TPESampler(seed=seed)"),
        ({"narrowing": 0.5}, "cv.Narrowing"),
        ({"retries": 3}, "cv.Retries"),
        ({"objective": "classifier"}, "objective"),
        ({"space": {"learning_rate": log(1e-4, 1.0)}}, "cv.Space"),
    ],
)
def test_invalid_study_is_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(StudyError, match="Study small") as refused:
        study(**changes)
    assert word in str(refused.value)


def test_objective_checks_the_space_at_declaration() -> None:
    with pytest.raises(StudyError, match="did you mean learning_rate"):
        study(space=Space(learning_rte=log(1e-4, 1.0)))
    with pytest.raises(SpaceError):
        study(space=Space(layers=integer(1, 2), units=when(integer(4, 8), layers=5)))
    space = study(space=Space(optimizer=choice("sgd", "momentum"), momentum=reverse_log(0.8, 0.99))).space
    assert space["momentum"].when == {"optimizer": ("momentum",)}


def _by_square(seed: int) -> object:
    return seed**2


CHANGES: list[dict[str, Any]] = [
    {"name": "other"},
    {"seed": 1},
    {"sampler": "tpe"},
    {"sampler": _by_square},
    {"narrowing": Narrowing(shrink=0.4)},
    {"rounds": [Round(8, 2), Round(5, 2), Confirmation(2, 2)]},
    {"rounds": [Round(8, 2), Round(4, 3), Confirmation(2, 2)]},
    {"rounds": [Round(8, 2), Round(4, 2), Confirmation(2, 3)]},
    {"space": Space(learning_rate=log(1e-4, 0.5))},
    {"space": Space(learning_rate=linear(1e-4, 1.0))},
    {"space": Space(learning_rate=log(1e-4, 1.0), layers=integer(1, 2))},
    {"space": Space(learning_rate=choice(1e-4, 1.0))},
    {"objective": Classifier(data="sklearn:wine")},
    {"objective": Classifier(data="sklearn:iris", metric="dev_loss")},
    {"objective": Classifier(data="sklearn:iris", split_seed=1)},
    {"objective": Classifier(data="sklearn:iris", split=(0.5, 0.25, 0.25))},
    {"objective": Classifier(data="sklearn:iris", preprocess="scale")},
    {"objective": Classifier(data="sklearn:iris", fixed={"layers": 1})},
    {"objective": Classifier(data="sklearn:iris", engine="reference")},
    {"objective": Classifier(data="sklearn:iris", target="species")},
]


@pytest.mark.parametrize("changes", CHANGES, ids=[str(n) for n in range(len(CHANGES))])
def test_different_studies_have_different_plain_forms(changes: dict[str, Any]) -> None:
    assert study(**changes).to_json() != study().to_json()


@pytest.mark.parametrize("changes", [{}, *CHANGES], ids=[str(n) for n in range(len(CHANGES) + 1)])
def test_plain_form_survives_json(changes: dict[str, Any]) -> None:
    plain = study(**changes).to_json()
    assert plain == study(**changes).to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_numpy_numbers_make_the_same_study() -> None:
    def fixing(**fixed: Any) -> Study:
        return study(objective=Classifier(data="sklearn:iris", fixed=fixed), seed=fixed["layers"])

    numpy = fixing(
        layers=np.int64(2), dropout=np.float64(0.5), l2=np.float32(0.25), batch_norm=np.bool_(True)
    )
    assert json.dumps(numpy.to_json()) == json.dumps(
        fixing(layers=2, dropout=0.5, l2=0.25, batch_norm=True).to_json()
    )


def test_study_is_immutable() -> None:
    assert replace(study(), seed=3).seed == 3
    with pytest.raises(AttributeError):
        study().seed = 5  # type: ignore[misc]


def test_halving_refuses_functions_without_checkpoints() -> None:
    def whole(params: dict[str, float]) -> float:
        return params["x"]

    def with_checkpoints(trial: cv.TrialContext) -> None:
        for epoch in trial.remaining():
            trial.report(epoch, value=float(epoch))

    def halved(fn: Any) -> cv.Study:
        rounds = cv.coarse_to_fine(trials=30, epochs=9, halving=cv.Halving())
        return cv.Study(name="x", objective=cv.Function(fn), space=cv.Space(x=cv.linear(0, 1)), rounds=rounds)

    assert halved(with_checkpoints).to_json()["rounds"][0]["halving"]["rungs"] == [1, 3]
    with pytest.raises(StudyError, match="def train\\(params, trial\\)"):
        halved(whole)
