import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.samplers import TPESampler

import caviar as cv
from caviar.errors import SpaceError, StudyError
from caviar.rounds import Confirmation, Narrowing, Round, coarse_to_fine
from caviar.search.stages import trial_seed
from caviar.space import Space, choice, integer, linear, log, reverse_log, when
from caviar.study import Study, check_name
from caviar.training.classifier import Classifier


def study(**changes: Any) -> Study:
    """A small study, with changes."""
    plain: dict[str, Any] = {
        "name": "small",
        "objective": Classifier(data="sklearn:iris"),
        "space": Space(learning_rate=log(1e-4, 1.0)),
        "rounds": [Round(8, 2), Round(4, 2), Confirmation(2, 2)],
    }
    return Study(**{**plain, **changes})


@given(st.data())
def test_coarse_to_fine_spends_exactly_its_budget(data: st.DataObject) -> None:
    rounds = data.draw(st.integers(1, 60))
    trials = data.draw(st.integers(4 * rounds, 20_000))
    *search, confirmation = coarse_to_fine(trials, epochs=7, rounds=rounds)
    assert isinstance(confirmation, Confirmation)
    assert len(search) == rounds
    counts = [stage.trials for stage in search if isinstance(stage, Round)]
    assert sum(counts) + confirmation.trials == trials
    assert all(stage == Round(count, 7) for stage, count in zip(search, counts, strict=True))


@given(st.data())
def test_the_first_round_has_twice_the_share_of_each_later_one(data: st.DataObject) -> None:
    rounds = data.draw(st.integers(2, 60))
    *search, _ = coarse_to_fine(data.draw(st.integers(4 * rounds, 20_000)), epochs=1, rounds=rounds)
    first, *later = [stage.trials for stage in search if isinstance(stage, Round)]
    assert len(set(later)) == 1
    assert 0 <= first - 2 * later[0] <= rounds  # what cannot be divided goes to the first


@given(st.integers(4, 100_000))
def test_confirmation_never_takes_much_of_the_budget(trials: int) -> None:
    confirmation = coarse_to_fine(trials, epochs=1, rounds=1)[-1]
    assert isinstance(confirmation, Confirmation)
    assert confirmation.trials <= max(2, 0.2 * trials)
    assert confirmation.top >= 6 or trials < 100


@pytest.mark.parametrize(
    ("budget", "word"),
    [
        ({"trials": 0}, "trials must be a whole number between 1 and"),
        ({"trials": -3}, "trials must be a whole number between 1 and"),
        ({"trials": 100.0}, "trials must be a whole number between 1 and"),
        ({"trials": True}, "trials must be a whole number between 1 and"),
        ({"trials": 10**9}, "trials must be a whole number between 1 and"),
        ({"epochs": 0}, "epochs must be a whole number between 1 and"),
        ({"epochs": 2.5}, "epochs must be a whole number between 1 and"),
        ({"rounds": 0}, "rounds must be a whole number between 1 and"),
        ({"trials": 15, "rounds": 4}, "at least 16 trials"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(budget: dict[str, Any], word: str) -> None:
    with pytest.raises(StudyError) as refused:
        coarse_to_fine(**{"trials": 100, "epochs": 2, **budget})
    assert word in str(refused.value)


@pytest.mark.parametrize("count", [0, -1, 1.0, "3", None, False])
def test_counts_of_rounds_and_confirmations_are_whole_numbers_from_one(count: Any) -> None:
    for make in (
        lambda: Round(count, 1),
        lambda: Round(1, count),
        lambda: Confirmation(count, 1),
        lambda: Confirmation(1, count),
    ):
        with pytest.raises(StudyError):
            make()


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "/tmp", "a\\b", ".hidden", "-x", "a b", "a\n", "é", "a" * 101, None, 3],
)
def test_a_name_that_could_leave_the_folder_or_trouble_a_shell_is_refused(name: Any) -> None:
    with pytest.raises(StudyError, match="cannot name a run directory"):
        study(name=name)


@pytest.mark.parametrize("name", ["digits", "digits-2", "a", "7", "my_run.v1..2", "a" * 100])
def test_plain_names_are_allowed(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("rounds", [[], (), [Confirmation()]])
def test_a_study_without_rounds_is_refused(rounds: Any) -> None:
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
def test_what_is_no_round_is_refused(rounds: Any) -> None:
    with pytest.raises(StudyError, match="is not a Round"):
        study(rounds=rounds)


def test_a_confirmation_is_added_where_there_is_none() -> None:
    assert study(rounds=[Round(8, 2)]).rounds == (Round(8, 2), Confirmation(1))
    assert study(rounds=Round(8, 2)).rounds == (Round(8, 2), Confirmation(1))
    assert study(rounds=[Round(300, 2), Round(100, 2)]).confirmation == Confirmation(16)
    assert study(rounds=[Round(400, 2), Round(100, 20)]).confirmation == Confirmation(8), (
        "short ones count for less"
    )
    assert study(rounds=[Round(8, 2), Confirmation(1, 1)]).rounds == (Round(8, 2), Confirmation(1, 1))


def test_rounds_and_confirmation_are_told_apart() -> None:
    assert study().search_rounds == (Round(8, 2), Round(4, 2))
    assert study().confirmation == Confirmation(2, 2)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 1.0}, "seed"),
        ({"seed": True}, "seed"),
        ({"sampler": "grid"}, "sampler='grid'"),
        ({"sampler": TPESampler}, "use lambda seed: TPESampler(seed=seed)"),
        ({"narrowing": 0.5}, "cv.Narrowing"),
        ({"retries": 3}, "cv.Retries"),
        ({"objective": "classifier"}, "objective"),
        ({"space": {"learning_rate": log(1e-4, 1.0)}}, "cv.Space"),
    ],
)
def test_what_is_no_study_is_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(StudyError, match="Study small") as refused:
        study(**changes)
    assert word in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"elite": 0.0},
        {"elite": 1.5},
        {"shrink": 0.0},
        {"crossover": -0.1},
        {"explore": 2},
        {"choice_mutation": float("nan")},
        {"min_elite": 1},
        {"candidates": 0},
        {"n_neighbors": 2.5},
    ],
)
def test_a_narrowing_outside_its_limits_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match=next(iter(changes))):
        Narrowing(**changes)


def test_the_objective_looks_at_the_space_before_any_work() -> None:
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
def test_another_study_has_another_plain_form(changes: dict[str, Any]) -> None:
    assert study(**changes).to_json() != study().to_json()


@pytest.mark.parametrize("changes", [{}, *CHANGES], ids=[str(n) for n in range(len(CHANGES) + 1)])
def test_the_same_study_has_the_same_plain_form_after_json_too(changes: dict[str, Any]) -> None:
    plain = study(**changes).to_json()
    assert plain == study(**changes).to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_the_seed_of_a_training_depends_on_its_place_alone() -> None:
    places = [(number, index, again) for number in (1, 2, 3) for index in range(20) for again in range(3)]
    seeds = [trial_seed(study(), *place) for place in places]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds == [trial_seed(study(sampler="tpe"), *place) for place in places]
    assert not set(seeds) & {trial_seed(study(seed=1), *place) for place in places}


def test_numpy_numbers_make_the_same_study_as_python_numbers() -> None:
    def fixing(**fixed: Any) -> Study:
        return study(objective=Classifier(data="sklearn:iris", fixed=fixed), seed=fixed["layers"])

    numpy = fixing(
        layers=np.int64(2), dropout=np.float64(0.5), l2=np.float32(0.25), batch_norm=np.bool_(True)
    )
    assert json.dumps(numpy.to_json()) == json.dumps(
        fixing(layers=2, dropout=0.5, l2=0.25, batch_norm=True).to_json()
    )


def test_a_study_cannot_be_changed_but_replaced() -> None:
    assert replace(study(), seed=3).seed == 3
    with pytest.raises(AttributeError):
        study().seed = 5  # type: ignore[misc]


def test_numpy_counts_make_the_same_rounds_as_python_counts() -> None:
    counts = np.array([40, 9])
    assert cv.Round(counts[0], counts[1]) == cv.Round(40, 9)
    assert type(cv.Round(counts[0], counts[1]).trials) is int
    assert cv.Halving(rungs=(np.int64(1), np.int64(3))) == cv.Halving(rungs=(1, 3))  # type: ignore[arg-type]
    assert cv.coarse_to_fine(trials=counts[0], epochs=counts[1]) == cv.coarse_to_fine(trials=40, epochs=9)
    with pytest.raises(StudyError, match="must be a whole number"):
        cv.Round(np.float64(3.5), 1)  # type: ignore[arg-type]


def test_a_function_that_cannot_go_on_is_not_halved() -> None:
    def whole(params: dict[str, float]) -> float:
        return params["x"]

    def in_parts(trial: cv.TrialContext) -> None:
        for epoch in trial.remaining():
            trial.report(epoch, value=float(epoch))

    def halved(fn: Any) -> cv.Study:
        rounds = cv.coarse_to_fine(trials=30, epochs=9, halving=cv.Halving())
        return cv.Study(name="x", objective=cv.Function(fn), space=cv.Space(x=cv.linear(0, 1)), rounds=rounds)

    assert halved(in_parts).to_json()["rounds"][0]["halving"]["rungs"] == [1, 3]
    with pytest.raises(StudyError, match="def train\\(params, trial\\)"):
        halved(whole)
