import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.errors import StudyError
from caviar.space import Space, choice, integer, linear, log, reverse_log, when
from caviar.training.recipe import (
    DECAYS,
    HYPERPARAMETERS,
    MAX_LAYERS,
    UNITS_OF_LAYER,
    Recipe,
    adapt,
    batches,
    changeable,
    learning_rate_at,
    recipe_from,
    used_hyperparameters,
)
from caviar.trial import Value


def refused(params: Mapping[str, Any]) -> str:
    """Return the error for these params."""
    with pytest.raises(StudyError) as error:
        recipe_from(params)
    return str(error.value)


def refused_space(space: Space, fixed: Mapping[str, Any] | None = None) -> str:
    """Return the error for this space."""
    with pytest.raises(StudyError) as error:
        adapt(space, fixed or {})
    return str(error.value)


def test_numpy_scalars_become_python_numbers() -> None:
    recipe = recipe_from({"layers": np.int64(3), "dropout": np.float32(0.5), "batch_norm": np.bool_(False)})  # type: ignore[dict-item]
    assert repr(recipe) == repr(recipe_from({"layers": 3, "dropout": 0.5, "batch_norm": False}))
    assert "layers must be a whole number between 0 and 20, not 21" in refused({"layers": np.int64(21)})


def test_hyperparameters_have_defaults() -> None:
    assert recipe_from({}) == Recipe()
    assert recipe_from({"layers": 3, "dropout": 0.5}) == Recipe(layers=3, dropout=0.5)
    assert Recipe().hidden == (64, 64)
    assert recipe_from({"layers": 0}).hidden == ()


@pytest.mark.parametrize(
    ("name", "least", "most", "below", "above"),
    [
        ("layers", 0, 20, -1, 21),
        ("units", 1, 65_536, 0, 65_537),
        ("units_1", 1, 65_536, 0, 65_537),
        ("batch_norm_momentum", 0.0, 1.0, -0.1, 1.1),
        ("batch_norm_epsilon", 1e-12, 1.0, 0.0, 1.5),
        ("learning_rate", 0.0, 1e6, -1e-9, 1.1e6),
        ("momentum", 0.0, 0.999999, -0.1, 1.0),
        ("beta1", 0.0, 0.999999, -0.1, 1.0),
        ("beta2", 0.0, 0.99999999, -0.1, 1.0),
        ("epsilon", 1e-16, 1.0, 0.0, 2.0),
        ("decay_rate", 0.0, 1e6, -1.0, 1.1e6),
        ("decay_factor", 1e-6, 1.0, 0.0, 1.1),
        ("decay_epochs", 1, 1_000_000, 0, 1_000_001),
        ("l2", 0.0, 1e6, -1e-9, 1.1e6),
        ("dropout", 0.0, 0.99, -0.1, 1.0),
        ("batch_size", 1, 10_000_000, 0, 10_000_001),
    ],
)
def test_numbers_have_limits(name: str, least: float, most: float, below: float, above: float) -> None:
    around: dict[str, Any] = {"layers": 1, "batch_norm": False}
    value: Any
    for value in (least, most):
        recipe = recipe_from({**around, name: value})
        assert (recipe.widths == (value,)) if name == "units_1" else (getattr(recipe, name) == value)
    for value in (below, above, math.nan, math.inf, "1", None, True):
        assert refused({**around, name: value}).startswith(f"{name} must be a")


@pytest.mark.parametrize("name", ["layers", "units", "units_2", "decay_epochs", "batch_size"])
def test_counts_are_whole_numbers(name: str) -> None:
    assert "must be a whole number" in refused({name: 2.0})


@pytest.mark.parametrize(
    ("name", "value"), [("activation", "gelu"), ("optimizer", "Adam"), ("decay", None), ("batch_norm", 1)]
)
def test_other_values_are_one_of_several_options(name: str, value: Any) -> None:
    message = refused({name: value})
    assert f"{name} must be" in message
    assert f"not {value!r}" in message
    assert repr(getattr(Recipe(), name)) in message


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("learning_rte", "did you mean learning_rate?"),
        ("batchsize", "did you mean batch_size?"),
        ("Momentum", "did you mean momentum?"),
        ("zzz", "activation, batch_norm"),
        ("widths", "is not a hyperparameter"),
        ("units_0", "did you mean units?"),
        ("units_21", "did you mean units?"),
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(name: str, hint: str) -> None:
    message = refused({name: 1})
    assert message.startswith(f"{name} is not a hyperparameter")
    assert hint in message


def test_each_layer_may_have_its_own_units() -> None:
    assert recipe_from({"layers": 3, "units_2": 20, "units_1": 10, "units_3": 30}).hidden == (10, 20, 30)
    assert recipe_from({"layers": 1, "units_1": 10, "units_2": 20}).hidden == (10,)
    assert "units_2, units_4 missing" in refused({"layers": 4, "units_1": 8, "units_3": 8})
    assert "exclude each other" in refused({"layers": 1, "units": 8, "units_1": 8})


def test_batch_norm_needs_at_least_two_rows() -> None:
    assert "one row has no variance" in refused({"batch_size": 1})
    assert recipe_from({"batch_size": 1, "batch_norm": False}).batch_size == 1
    assert recipe_from({"batch_size": 1, "layers": 0}).batch_size == 1


OPTIMIZER = choice("sgd", "momentum", "rmsprop", "adam")


@pytest.mark.parametrize(
    ("space", "name", "condition"),
    [
        (Space(optimizer=OPTIMIZER, momentum=linear(0, 0.9)), "momentum", {"optimizer": ("momentum",)}),
        (Space(optimizer=OPTIMIZER, beta1=linear(0, 0.9)), "beta1", {"optimizer": ("adam",)}),
        (Space(optimizer=OPTIMIZER, beta2=linear(0, 0.9)), "beta2", {"optimizer": ("adam", "rmsprop")}),
        (Space(optimizer=OPTIMIZER, epsilon=log(1e-9, 0.1)), "epsilon", {"optimizer": ("adam", "rmsprop")}),
        (Space(optimizer=choice("sgd", "adam"), beta2=linear(0, 0.9)), "beta2", {"optimizer": ("adam",)}),
        (Space(optimizer=choice("rmsprop", "adam"), beta2=linear(0, 0.9)), "beta2", {}),
        (Space(decay=choice(*DECAYS), decay_rate=linear(0, 1)), "decay_rate", {"decay": ("inverse",)}),
        (
            Space(decay=choice(*DECAYS), decay_factor=linear(0.1, 1)),
            "decay_factor",
            {"decay": ("step", "exponential")},
        ),
        (Space(decay=choice(*DECAYS), decay_epochs=integer(1, 9)), "decay_epochs", {"decay": ("step",)}),
        (
            Space(batch_norm=choice(True, False), batch_norm_momentum=linear(0, 1)),
            "batch_norm_momentum",
            {"batch_norm": (True,)},
        ),
        (Space(momentum=linear(0, 0.9)), "momentum", {}),  # the default optimizer uses it
        (Space(learning_rate=log(1e-4, 1), optimizer=OPTIMIZER), "learning_rate", {}),
    ],
)
def test_parameters_exist_only_when_used(space: Space, name: str, condition: dict[str, Any]) -> None:
    assert adapt(space, {})[name].when == condition
    assert adapt(space, {})[name].domain == space[name].domain


def test_units_of_a_layer_exist_only_with_that_layer() -> None:
    space = adapt(
        Space(layers=integer(1, 3), units_1=integer(4, 8), units_2=integer(4, 8), units_3=integer(4, 8)), {}
    )
    for layers in (1, 2, 3):
        params = space.active({"layers": layers, "units_1": 4, "units_2": 5, "units_3": 6})
        assert recipe_from(params).hidden == (4, 5, 6)[:layers]
        assert len(params) == 1 + layers


def test_the_users_conditions_are_kept() -> None:
    space = Space(
        optimizer=OPTIMIZER,
        layers=integer(1, 3),
        momentum=when(linear(0, 0.9), layers=(2, 3)),
        dropout=linear(0, 0.5),
    )
    assert adapt(space, {})["momentum"].when == {"layers": (2, 3), "optimizer": ("momentum",)}
    own = Space(optimizer=OPTIMIZER, beta2=when(linear(0, 0.9), optimizer="adam"))
    assert adapt(own, {})["beta2"].when == {"optimizer": ("adam",)}


def test_the_users_conditions_are_cut_to_the_parameters_use() -> None:
    """Check a past bug: a condition on the deciding parameter was taken as it was."""
    space = Space(optimizer=OPTIMIZER, beta1=when(linear(0, 0.9), optimizer=("sgd", "adam")))
    assert adapt(space, {})["beta1"].when == {"optimizer": ("adam",)}


@pytest.mark.parametrize(
    ("space", "fixed", "words"),
    [
        (Space(momentum=linear(0, 0.9)), {"optimizer": "adam"}, "momentum has no effect"),
        (Space(beta1=linear(0, 0.9)), {}, "beta1 has no effect"),
        (Space(decay_rate=linear(0, 1)), {}, "used only if decay is 'inverse'"),
        (
            Space(batch_norm_epsilon=log(1e-9, 0.1)),
            {"batch_norm": False},
            "used only if batch_norm is True",
        ),
        (
            Space(optimizer=choice("sgd", "adam"), momentum=linear(0, 0.9)),
            {},
            "momentum has no effect",
        ),
        (Space(units_1=integer(2, 4)), {"layers": 0}, "units_1 has no effect"),
        (
            Space(optimizer=OPTIMIZER, momentum=when(linear(0, 0.9), optimizer="adam")),
            {},
            "momentum has no effect",
        ),
        (
            Space(**{f"units_{k}": integer(2, 4) for k in (1, 2, 3)}, layers=integer(1, 2)),
            {},
            "units_3 has no effect: it is used only if layers is 3 or more;",
        ),
    ],
)
def test_parameters_without_effect_are_refused(space: Space, fixed: dict[str, Any], words: str) -> None:
    assert words in refused_space(space, fixed)


def test_fixed_values_decide_which_parameters_are_used() -> None:
    assert adapt(Space(momentum=linear(0, 0.9)), {"optimizer": "momentum"})["momentum"].when == {}
    assert adapt(Space(decay_rate=linear(0, 1)), {"decay": "inverse"})["decay_rate"].when == {}


@pytest.mark.parametrize(
    ("space", "fixed", "words"),
    [
        (Space(learning_rat=log(1e-4, 1)), {}, "did you mean learning_rate"),
        (Space(learning_rate=log(1e-4, 1e9)), {}, "learning_rate must be a finite number between"),
        (
            Space(dropout=linear(-0.5, 0.5)),
            {},
            "dropout must be a finite number between 0 and 0.99, not -0.5",
        ),
        (
            Space(optimizer=choice("adam", "lion")),
            {},
            "optimizer must be 'sgd', 'momentum', 'rmsprop' or 'adam', not 'lion'",
        ),
        (Space(activation=linear(0, 1)), {}, "activation must be 'relu' or 'tanh', not 0"),
        (Space(layers=linear(1, 4)), {}, "layers must be a whole number; use cv.integer"),
        (Space(batch_size=log(16, 64)), {}, "batch_size must be a whole number"),
        (Space(units_1=linear(4, 8)), {"layers": 1}, "units_1 must be a whole number"),
        (
            Space(layers=integer(1, MAX_LAYERS + 1)),
            {},
            "layers must be a whole number between 0 and 20, not 21",
        ),
        (Space(l2=log(1e-5, 1)), {"l2": 0.1}, "l2 is in the space and fixed to 0.1"),
        (Space(l2=log(1e-5, 1)), {"speed": 1}, "speed is not a hyperparameter"),
        (Space(l2=log(1e-5, 1)), {"dropout": 1.5}, "dropout must be a finite number"),
        (Space(units=integer(4, 8), units_1=integer(4, 8)), {"layers": 1}, "exclude each other"),
        (Space(units_1=integer(4, 8)), {"layers": 1, "units": 8}, "exclude each other"),
        (
            Space(layers=integer(1, 3), units_1=integer(4, 8)),
            {},
            "units_2, units_3 missing: with up to 3 layers",
        ),
        (Space(units_1=integer(4, 8)), {}, "units_2 missing: with up to 2 layers"),
        (Space(l2=log(1e-5, 1)), {"batch_size": 1}, "batch_size must be at least 2 with batch norm"),
        (Space(beta2=linear(0.9, 1.0), optimizer=OPTIMIZER), {}, "between 0 and 0.99999999"),
    ],
)
def test_invalid_spaces_are_refused(space: Space, fixed: dict[str, Any], words: str) -> None:
    assert words in refused_space(space, fixed)


def test_some_units_may_be_fixed_and_others_searched() -> None:
    space = adapt(Space(units_1=integer(4, 8)), {"layers": 2, "units_2": 3})
    assert recipe_from({"layers": 2, "units_2": 3, **space.active({"units_1": 5})}).hidden == (5, 3)


def test_adapting_twice_equals_adapting_once() -> None:
    space = adapt(Space(momentum=reverse_log(0.8, 0.99), optimizer=OPTIMIZER, units=integer(4, 8)), {})
    assert adapt(space, {}) == space


@pytest.mark.parametrize("epochs", [1, 7, 20])
def test_schedules_follow_their_formulas(epochs: int) -> None:
    recipes = {
        kind: recipe_from(
            {"learning_rate": 0.4, "decay": kind, "decay_rate": 0.3, "decay_factor": 0.8, "decay_epochs": 3}
        )
        for kind in DECAYS
    }
    for t in range(epochs):
        assert learning_rate_at(recipes["constant"], t, epochs) == 0.4
        assert learning_rate_at(recipes["step"], t, epochs) == pytest.approx(
            0.4 * 0.8 ** [0, 1, 2, 3, 4, 5, 6][t // 3]
        )
        assert learning_rate_at(recipes["exponential"], t, epochs) == pytest.approx(
            0.4 * math.exp(t * math.log(0.8))
        )
        assert learning_rate_at(recipes["cosine"], t, epochs) == pytest.approx(
            0.4 * math.cos(math.pi / 2 * t / epochs) ** 2
        )
        assert learning_rate_at(recipes["inverse"], t, epochs) == pytest.approx(0.4 / (1 + 0.3 * t))


@pytest.mark.parametrize("kind", DECAYS)
def test_schedules_start_at_the_learning_rate_and_never_rise(kind: str) -> None:
    recipe = recipe_from({"learning_rate": 0.4, "decay": kind})
    rates = [learning_rate_at(recipe, epoch, 30) for epoch in range(30)]
    assert rates[0] == 0.4
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates))
    assert rates[-1] > 0
    assert (rates[-1] < 0.4) == (kind != "constant")


@given(st.integers(1, 500), st.integers(2, 600), st.booleans(), st.integers(0, 2))
def test_batches_cover_every_row_once_in_order(rows: int, size: int, norm: bool, layers: int) -> None:
    found = batches(rows, Recipe(batch_size=size, batch_norm=norm, layers=layers))
    visited = [row for start, stop in found for row in range(start, stop)]
    alone = rows % size == 1 and rows > size and norm and layers > 0
    assert visited == list(range(rows - alone))
    sizes = [stop - start for start, stop in found]
    assert all(count == min(size, rows) for count in sizes[:-1])
    assert 1 <= sizes[-1] <= size


def test_batch_norm_leaves_out_a_single_last_row() -> None:
    assert batches(10, Recipe(batch_size=4)) == [(0, 4), (4, 8), (8, 10)]
    assert batches(9, Recipe(batch_size=4)) == [(0, 4), (4, 8)]
    assert batches(9, Recipe(batch_size=4, batch_norm=False)) == [(0, 4), (4, 8), (8, 9)]
    assert batches(9, Recipe(batch_size=4, layers=0)) == [(0, 4), (4, 8), (8, 9)]
    assert batches(3, Recipe(batch_size=64)) == [(0, 3)]
    assert batches(3, Recipe(batch_size=1, batch_norm=False)) == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"layers": 0},
        {"batch_norm": False, "optimizer": "adam"},
        {"layers": 2, "units_1": 5, "units_2": 3, "decay": "step"},
        {"optimizer": "rmsprop", "decay": "inverse"},
    ],
)
def test_used_hyperparameters_make_the_same_recipe(params: dict[str, Value]) -> None:
    used = used_hyperparameters(params)
    assert recipe_from(used) == recipe_from(params)
    assert set(params) <= set(used)
    for name in used:
        adapt(Space(**{name: choice(used[name])}), {n: v for n, v in used.items() if n != name})  # it is used
    unused = {row.name for row in HYPERPARAMETERS} - set(used) - {UNITS_OF_LAYER}
    assert ("momentum" in unused) == ("optimizer" in params)
    assert ("units" in unused) == ("layers" in params)


def test_structure_and_optimizer_cannot_change_while_a_network_trains() -> None:
    found = changeable({"layers": 2, "optimizer": "adam"})
    assert {"learning_rate", "beta1", "dropout", "l2", "batch_size", "decay", "decay_rate"} <= set(found)
    assert not {"layers", "units", "activation", "batch_norm", "optimizer", "momentum"} & set(found)
    assert found["decay_rate"].when == {"decay": ("inverse",)}
    assert 0.5 in found["dropout"].domain
    assert 64.5 not in found["batch_size"].domain


def test_what_is_not_used_cannot_change() -> None:
    assert "dropout" not in changeable({"layers": 0})
    assert "batch_norm_momentum" not in changeable({"batch_norm": False})
