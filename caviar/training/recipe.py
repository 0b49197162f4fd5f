"""Recipe of a batch-norm/softmax network: its hyperparameters, with meaning, default, limits and use.

A network has `layers` hidden layers and a softmax over the classes. A hidden layer computes

    z = x W                                     no bias, which batch norm would cancel
    z_norm = (z - mean) / sqrt(var + epsilon)   over the mini-batch; running averages in evaluation
    a = activation(gamma z_norm + beta)         then dropout

(batch norm: Ioffe & Szegedy 2015; dropout: Srivastava et al. 2014), and a = activation(x W + b) without batch norm. It
is trained by mini-batch gradient descent on the cross-entropy. The optimizers compute the same as those of
torch.optim, so that hyperparameters found here can be used in any torch code.
"""

import difflib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from caviar.errors import StudyError
from caviar.space import Choice, Interval, Parameter, Space
from caviar.trial import Value
from caviar.validation import number, plain_value, whole_number

MAX_LAYERS = 20
OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam")
ACTIVATIONS = ("relu", "tanh")
DECAYS = ("constant", "step", "exponential", "cosine", "inverse")
UNITS_OF_LAYER = "units_K"
"""Name in the table that stands for units_1, units_2, ..., units_20."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HyperParameter:
    """One row of the table of hyperparameters."""

    name: str
    default: Value
    meaning: str
    limits: tuple[float, float] | None = None
    """Smallest and largest value of a number; both int for a whole number."""
    options: tuple[Value, ...] | None = None
    """Values of anything else."""
    used_when: tuple[str, Sequence[Value]] | None = None
    """Hyperparameter that decides whether this one is used, and the values with which it is; None for always."""

    @property
    def is_integer(self) -> bool:
        """True if the values are whole numbers."""
        return self.limits is not None and isinstance(self.limits[0], int)

    @property
    def values(self) -> str:
        """The values that it can have, in words."""
        if self.limits is not None:
            low, high = (f"{limit:,.10g}" for limit in self.limits)
            return f"{'integer' if self.is_integer else 'number'} from {low} to {high}"
        return _join(self.options or ())

    @property
    def use(self) -> str:
        """The condition under which it is used, in words; empty for always."""
        if self.used_when is None:
            return ""
        other, used = self.used_when
        if isinstance(used, range):
            return f"{other} is {'K' if self.name == UNITS_OF_LAYER else used[0]} or more"
        return f"{other} is {_join(used)}"


_Use = tuple[str, Sequence[Value]] | None


def _number(default: Any, low: float, high: float, meaning: str, used_when: _Use = None) -> Any:
    """Return a field of `Recipe` for a number between two limits; a whole number if these are int."""
    row = {"default": default, "limits": (low, high), "meaning": meaning, "used_when": used_when}
    return field(default=default, metadata=row)


def _choice(default: Value, options: tuple[Value, ...], meaning: str, used_when: _Use = None) -> Any:
    """Return a field of `Recipe` for one of several options."""
    row = {"default": default, "options": options, "meaning": meaning, "used_when": used_when}
    return field(default=default, metadata=row)


_HIDDEN = ("layers", range(1, MAX_LAYERS + 1))
_NORM = ("batch_norm", (True,))
_MOMENTUM = ("optimizer", ("momentum",))
_ADAM = ("optimizer", ("adam",))
_SQUARES = ("optimizer", ("adam", "rmsprop"))
_INVERSE, _STEP, _FACTOR = ("decay", ("inverse",)), ("decay", ("step",)), ("decay", ("step", "exponential"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Complete description of how one network is built and trained. Make it with `recipe_from`, which checks it.

    The metadata of the fields make the table `HYPERPARAMETERS`.
    """

    layers: int = _number(2, 0, MAX_LAYERS, "Number of hidden layers; 0 for softmax regression")
    units: int = _number(64, 1, 65_536, "Units of every hidden layer", _HIDDEN)
    widths: tuple[int, ...] | None = _number(
        None, 1, 65_536, "Units of hidden layer K; give it for each layer instead of units", _HIDDEN
    )
    activation: str = _choice("relu", ACTIVATIONS, "Activation of the hidden layers", _HIDDEN)
    batch_norm: bool = _choice(True, (True, False), "Batch normalisation before the activation", _HIDDEN)
    batch_norm_momentum: float = _number(
        0.1, 0.0, 1.0, "Weight of the newest mini-batch in the running averages", _NORM
    )
    batch_norm_epsilon: float = _number(
        1e-5, 1e-12, 1.0, "Added to the variance, so that it is not zero", _NORM
    )
    optimizer: str = _choice("momentum", OPTIMIZERS, "Optimizer, as in torch.optim")
    learning_rate: float = _number(0.1, 0.0, 1e6, "Learning rate of the first epoch")
    momentum: float = _number(
        0.9, 0.0, 0.999999, "Weight of the previous step: v = momentum v + gradient", _MOMENTUM
    )
    beta1: float = _number(0.9, 0.0, 0.999999, "Decay of the running average of gradients", _ADAM)
    beta2: float = _number(
        0.999, 0.0, 0.99999999, "Decay of the running average of squared gradients", _SQUARES
    )
    epsilon: float = _number(1e-8, 1e-16, 1.0, "Added to the root of the average of squares", _SQUARES)
    decay: str = _choice("constant", DECAYS, "Schedule of the learning rate over the epochs")
    decay_rate: float = _number(
        0.1, 0.0, 1e6, "Speed of decay: learning_rate / (1 + decay_rate epoch)", _INVERSE
    )
    decay_factor: float = _number(0.5, 1e-6, 1.0, "Factor of the learning rate at each decay", _FACTOR)
    decay_epochs: int = _number(10, 1, 1_000_000, "Epochs from one decay to the next", _STEP)
    l2: float = _number(0.0, 0.0, 1e6, "Adds l2/2 times the sum of squared weights to the loss")
    dropout: float = _number(0.0, 0.0, 0.99, "Share of each hidden layer's outputs set to zero", _HIDDEN)
    batch_size: int = _number(64, 1, 10_000_000, "Rows of a mini-batch")

    @property
    def hidden(self) -> tuple[int, ...]:
        """The number of units of each hidden layer."""
        return self.widths if self.widths is not None else (self.units,) * self.layers


HYPERPARAMETERS = tuple(
    HyperParameter(name=UNITS_OF_LAYER if f.name == "widths" else f.name, **f.metadata)
    for f in fields(Recipe)
)
"""Table of all hyperparameters, made from the fields of `Recipe`, for `help(cv.Classifier)` and `caviar params`."""

_ROWS = {row.name: row for row in HYPERPARAMETERS if row.name != UNITS_OF_LAYER}
_NAMES = sorted(_ROWS)
_WIDTHS = [f"units_{k}" for k in range(1, MAX_LAYERS + 1)]
for _k, _name in enumerate(_WIDTHS, start=1):
    _ROWS[_name] = replace(_ROWS["units"], name=_name, used_when=("layers", range(_k, MAX_LAYERS + 1)))


def hyperparameter_table() -> str:
    """Return the table of hyperparameters as text, at most 75 columns wide.

    Example:
        >>> print(hyperparameter_table()[:104])
        layers = 2                   integer from 0 to 20
            Number of hidden layers; 0 for softmax regression.
    """
    lines = []
    for row in HYPERPARAMETERS:
        default = "" if row.default is None else f" = {row.default}"
        lines += [f"{row.name + default:28} {row.values}", f"    {row.meaning}."]
        if row.use:
            lines.append(f"    Used if {row.use}.")
    return "\n".join(lines)


TRAINING = (
    "optimizer", "learning_rate", "momentum", "beta1", "beta2", "epsilon", "decay", "decay_rate", "decay_factor",
    "decay_epochs", "l2", "batch_size",
)  # fmt: skip
"""Names of the hyperparameters of training, which a network of the user's has as well; the others build a network."""


STRUCTURE = ("layers", "units", *_WIDTHS, "activation", "batch_norm", "optimizer")
"""Names of the hyperparameters that a network keeps while it trains: its structure, and the optimizer's averages."""


def changeable(params: Mapping[str, Value]) -> dict[str, Parameter]:
    """Return the hyperparameters that may change between two epochs of one training, with their limits and conditions.

    Args:
        params: as for `recipe_from`, with the same errors.

    Example:
        >>> list(changeable({"layers": 0, "optimizer": "sgd"}))[:3]
        ['learning_rate', 'decay', 'decay_rate']
    """
    used, found = used_hyperparameters(params), {}
    for row in HYPERPARAMETERS:
        if row.name in (*STRUCTURE, UNITS_OF_LAYER):
            continue
        when: dict[str, tuple[Value, ...]] = {}
        if row.used_when is not None:
            other, values = row.used_when
            if other not in STRUCTURE:
                when = {other: tuple(values)}
            elif row.name not in used:
                continue
        low, high = row.limits or (0, 1)
        domain = Choice(row.options) if row.options else Interval(low, high, integer=row.is_integer)
        found[row.name] = Parameter(domain, when)
    return found


def recipe_from(params: Mapping[str, Value]) -> Recipe:
    """Return the recipe of a trial, with defaults for hyperparameters that are not given.

    Args:
        params: hyperparameters by their names in `HYPERPARAMETERS`; units_1, units_2, ... are the widths of layers.

    Raises:
        StudyError: a name is unknown, a value is outside its limits, or values contradict each other.

    Example:
        >>> recipe_from({"layers": 2, "units_1": 100, "units_2": 50}).hidden
        (100, 50)
    """
    params = {name: check_value(name, value) for name, value in params.items()}
    widths = [name for name in _WIDTHS if name in params]
    values: dict[str, Any] = {name: value for name, value in params.items() if name not in widths}
    if widths:
        layers: Any = _setting("layers", params)
        _check_widths(params, layers)
        values["widths"] = tuple(params[name] for name in _WIDTHS[:layers])
    recipe = Recipe(**values)
    if recipe.batch_norm and recipe.layers > 0 and recipe.batch_size < 2:
        raise StudyError(
            "batch_size must be at least 2 with batch norm, not 1, because one row has no variance; "
            "use a larger batch_size or batch_norm=False"
        )
    return recipe


def used_hyperparameters(params: Mapping[str, Value]) -> dict[str, Value]:
    """Return every hyperparameter that a trial uses, with defaults for those that are not given.

    Args:
        params: as for `recipe_from`, with the same errors.

    Example:
        >>> used = used_hyperparameters({"layers": 0, "optimizer": "adam"})
        >>> used["beta2"], "momentum" in used, "units" in used
        (0.999, False, False)
    """
    recipe = recipe_from(params)
    values: dict[str, Value] = {name: getattr(recipe, name) for name in _ROWS if name not in _WIDTHS}
    if recipe.widths is not None:
        del values["units"]
        values |= dict(zip(_WIDTHS, recipe.widths, strict=False))
    used: dict[str, Value] = {}
    for name, value in values.items():
        condition = _ROWS[name].used_when
        if condition is None or used.get(condition[0]) in condition[1]:
            used[name] = value
    return used


def check_value(name: str, value: Value) -> Value:
    """Return a value if a recipe can have it, as a Python number if it is a NumPy scalar.

    Args:
        name: the name of a hyperparameter.
        value: its value.

    Raises:
        StudyError: the name is unknown, or the value has the wrong type or is outside its limits.
    """
    if name not in _ROWS:
        similar = difflib.get_close_matches(name, _NAMES, n=1)
        hint = f"did you mean {similar[0]}?" if similar else f"there are {', '.join(_NAMES)}"
        raise StudyError(f"{name} is not a hyperparameter of cv.Classifier; {hint}")
    row = _ROWS[name]
    if row.limits is not None:
        return whole_number(name, value, *row.limits) if row.is_integer else number(name, value, *row.limits)
    value = plain_value(value)
    options = row.options or ()
    if not any(type(value) is type(option) and value == option for option in options):  # 1 is not True
        raise StudyError(f"{name} must be {_join(map(repr, options))}, not {value!r}")
    return value


def adapt(space: Space, fixed: Mapping[str, Value]) -> Space:
    """Return the space with the conditions under which each hyperparameter is used, such as momentum's optimizer.

    Args:
        space: the hyperparameters to search.
        fixed: the hyperparameters that are the same in all trials.

    Raises:
        StudyError: a name is unknown, a value can be outside its limits, a hyperparameter is both fixed and searched,
            or no trial of this space would use it.
    """
    for name, value in fixed.items():
        check_value(name, value)
    conditions = {name: conditions_of_use(name, space, fixed) for name in space}
    names = {*space, *fixed}
    if not names.isdisjoint(_WIDTHS):
        _check_widths(names, most_layers(space, fixed))
    contradictory = ("layers", "batch_norm", "batch_size")
    if not any(name in space for name in contradictory):  # else some trials may have values that agree
        recipe_from({name: fixed[name] for name in contradictory if name in fixed})
    return space.with_parameters({name: Parameter(p.domain, conditions[name]) for name, p in space.items()})


def most_layers(space: Space, fixed: Mapping[str, Value]) -> int:
    """Return the largest number of hidden layers that a trial has.

    Args:
        space: the hyperparameters to search.
        fixed: the hyperparameters that are the same in all trials.
    """
    layers = _extremes(space["layers"]) if "layers" in space else [_setting("layers", fixed)]
    return max(int(value) for value in layers)  # type: ignore[arg-type]


def conditions_of_use(name: str, space: Space, fixed: Mapping[str, Value]) -> dict[str, tuple[Value, ...]]:
    """Return the values of other parameters with which a parameter exists: the user's conditions, and its use.

    Args:
        name: the name of a hyperparameter in the space.
        space: the hyperparameters to search.
        fixed: the hyperparameters that are the same in all trials.

    Raises:
        StudyError: as for `adapt`.
    """
    parameter = space[name]
    if name in fixed:
        raise StudyError(f"{name} is in the space and fixed to {fixed[name]!r}; remove one of the two")
    for value in _extremes(parameter):
        check_value(name, value)
    if _ROWS[name].is_integer and isinstance(parameter.domain, Interval) and not parameter.domain.integer:
        raise StudyError(f"{name} must be a whole number; use cv.integer(...) or cv.choice(...)")
    conditions = dict(parameter.when)
    if (used_when := _ROWS[name].used_when) is None:
        return conditions
    other, used = used_when
    if other in space:
        asked = conditions.get(other)
        wanted = used if asked is None else tuple(value for value in asked if value in used)
        possible = tuple(value for value in wanted if value in space[other].domain)
        is_always_used = all(value in used for value in _extremes(space[other]))
        if possible and (asked is not None or not is_always_used):
            conditions[other] = possible
    else:
        possible = tuple(value for value in used if value == _setting(other, fixed))
    if not possible:
        values = f"{used[0]} or more" if isinstance(used, range) else _join(map(repr, used))
        raise StudyError(
            f"{name} has no effect: it is used only if {other} is {values}; "
            f"search or fix {other} too, or remove {name}"
        )
    return conditions


def learning_rate_at(recipe: Recipe, epoch: int, epochs: int) -> float:
    """Return the learning rate of an epoch.

    With a0 = learning_rate, the schedules are:

    constant:     a0
    step:         a0 decay_factor^floor(epoch / decay_epochs)
    exponential:  a0 decay_factor^epoch
    cosine:       a0 (1 + cos(pi epoch / epochs)) / 2          (Loshchilov & Hutter 2017, without restarts)
    inverse:      a0 / (1 + decay_rate epoch)

    Args:
        recipe: the recipe, with the schedule in `decay`.
        epoch: epochs trained before this one, from 0.
        epochs: epochs that the trial trains in all.

    Example:
        >>> learning_rate_at(Recipe(learning_rate=0.4, decay="inverse", decay_rate=1.0), epoch=3, epochs=10)
        0.1
    """
    a0 = recipe.learning_rate
    if recipe.decay == "step":
        return a0 * recipe.decay_factor ** (epoch // recipe.decay_epochs)
    if recipe.decay == "exponential":
        return float(a0 * recipe.decay_factor**epoch)
    if recipe.decay == "cosine":
        return a0 * 0.5 * (1.0 + math.cos(math.pi * epoch / epochs))
    if recipe.decay == "inverse":
        return a0 / (1.0 + recipe.decay_rate * epoch)
    return a0


def batches(rows: int, recipe: Recipe) -> list[tuple[int, int]]:
    """Return the mini-batches of an epoch; they are the same in every engine.

    The last mini-batch may be smaller and counts like any other. If it would be a single row, a network with batch
    norm leaves it out, because one row has no variance. The order of the next epoch leaves out another row.

    Args:
        rows: rows of the train split.
        recipe: the recipe.

    Returns:
        First place and the place after the last of each mini-batch, in the epoch's order of rows.

    Example:
        >>> batches(10, Recipe(batch_size=4))
        [(0, 4), (4, 8), (8, 10)]
    """
    size = min(recipe.batch_size, rows)
    found = [(start, min(start + size, rows)) for start in range(0, rows, size)]
    if recipe.batch_norm and recipe.layers > 0 and len(found) > 1 and found[-1][1] - found[-1][0] == 1:
        found.pop()
    return found


def _setting(name: str, params: Mapping[str, Value]) -> Value:
    """Return the value of a hyperparameter, or its default if it is not given."""
    return params.get(name, _ROWS[name].default)


def _extremes(parameter: Parameter) -> Sequence[Value]:
    """Return the bounds of an interval, or all options."""
    domain = parameter.domain
    return (domain.low, domain.high) if isinstance(domain, Interval) else domain.options


def _check_widths(names: Collection[str], layers: int) -> None:
    """Check that the units of each of up to `layers` layers are given, and units is not given as well."""
    if "units" in names:
        raise StudyError("units and units_1, units_2, ... exclude each other; remove one of the two")
    missing = [name for name in _WIDTHS[:layers] if name not in names]
    if missing:
        raise StudyError(
            f"{', '.join(missing)} missing: with up to {layers} layers, give units_1 to units_{layers}"
        )


def _join(words: Iterable[object]) -> str:
    """Return words as "a, b or c"."""
    *first, last = map(str, words)
    return f"{', '.join(first)} or {last}" if first else last
