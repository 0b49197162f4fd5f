"""The hyperparameters of a batch-norm/softmax network: what each means, its default, its limits.

The network has `layers` hidden layers and a softmax over the classes. A hidden layer computes

    z = x W                            no bias: batch norm would take it away again
    z_norm = (z - mu) / sqrt(var + eps)     mu and var over the mini-batch; running averages at test time
    a = activation(gamma z_norm + beta)     then dropout

and, with batch norm off, a = activation(x W + b). It learns by mini-batch gradient descent on the
cross-entropy; each optimizer is that of torch.optim, so a winner's numbers can be carried to any torch code.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from caviar.errors import StudyError
from caviar.space import Interval, Parameter, Space
from caviar.trial import Value
from caviar.validation import plain_value

MAX_LAYERS = 20
OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam")
ACTIVATIONS = ("relu", "tanh")
DECAYS = ("constant", "step", "exponential", "cosine", "inverse")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one network is built and trained. Make it with `recipe_from`, which checks it."""

    layers: int = 2
    """Hidden layers; 0 is softmax regression."""
    units: int = 64
    """Width of every hidden layer."""
    widths: tuple[int, ...] | None = None
    """Width of each hidden layer, where `units_1`, `units_2`, ... are given instead of `units`."""
    activation: str = "relu"
    """"relu" or "tanh"."""
    batch_norm: bool = True
    """Normalise z before the activation."""
    batch_norm_momentum: float = 0.1
    """Weight of the newest mini-batch in the running averages (torch's meaning; 0.1 averages ~10)."""
    batch_norm_epsilon: float = 1e-5
    """Added to the variance, so that nothing is divided by zero."""
    optimizer: str = "momentum"
    """"sgd", "momentum", "rmsprop" or "adam"."""
    learning_rate: float = 0.1
    """Step size of the first epoch."""
    momentum: float = 0.9
    """For "momentum": v = momentum v + gradient; w = w - learning_rate v (torch.optim.SGD)."""
    beta1: float = 0.9
    """For "adam": the average of gradients."""
    beta2: float = 0.999
    """For "adam" and "rmsprop": the average of squared gradients."""
    epsilon: float = 1e-8
    """For "adam" and "rmsprop": added to the root of the average of squares."""
    decay: str = "constant"
    """How the learning rate falls from epoch to epoch; see `learning_rate_at`."""
    decay_rate: float = 0.1
    """For "inverse": how fast."""
    decay_factor: float = 0.5
    """For "step" and "exponential": what it is multiplied by."""
    decay_epochs: int = 10
    """For "step": after how many epochs each time."""
    l2: float = 0.0
    """Adds l2/2 |W|^2 to the cost, for weights only (not biases, gamma, beta)."""
    dropout: float = 0.0
    """Share of each hidden layer's outputs that is set to zero in training."""
    batch_size: int = 64
    """Rows of a mini-batch. The last one of an epoch may be smaller (see `batches`)."""

    @property
    def hidden(self) -> tuple[int, ...]:
        """Width of each hidden layer."""
        return self.widths if self.widths is not None else (self.units,) * self.layers


_LIMITS: dict[str, tuple[float, float]] = {
    "layers": (0, MAX_LAYERS),
    "units": (1, 65_536),
    "batch_norm_momentum": (0.0, 1.0),
    "batch_norm_epsilon": (1e-12, 1.0),
    "learning_rate": (0.0, 1e6),
    "momentum": (0.0, 0.999999),
    "beta1": (0.0, 0.999999),
    "beta2": (0.0, 0.99999999),
    "epsilon": (1e-16, 1.0),
    "decay_rate": (0.0, 1e6),
    "decay_factor": (1e-6, 1.0),
    "decay_epochs": (1, 1_000_000),
    "l2": (0.0, 1e6),
    "dropout": (0.0, 0.99),
    "batch_size": (1, 10_000_000),
}
_OPTIONS: dict[str, tuple[Value, ...]] = {
    "activation": ACTIVATIONS,
    "optimizer": OPTIMIZERS,
    "decay": DECAYS,
    "batch_norm": (True, False),
}
_USED_WHEN: dict[str, tuple[str, Sequence[Value]]] = {
    "momentum": ("optimizer", ("momentum",)),
    "beta1": ("optimizer", ("adam",)),
    "beta2": ("optimizer", ("adam", "rmsprop")),
    "epsilon": ("optimizer", ("adam", "rmsprop")),
    "decay_rate": ("decay", ("inverse",)),
    "decay_factor": ("decay", ("step", "exponential")),
    "decay_epochs": ("decay", ("step",)),
    "batch_norm_momentum": ("batch_norm", (True,)),
    "batch_norm_epsilon": ("batch_norm", (True,)),
    **{
        name: ("layers", range(1, MAX_LAYERS + 1))
        for name in ("units", "activation", "batch_norm", "dropout")
    },
}
"""Which parameter decides whether one is used, and at which of its values."""
_INTEGERS = {"layers", "units", "decay_epochs", "batch_size"}
_DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(Recipe) if f.name != "widths"}


def recipe_from(params: Mapping[str, Value]) -> Recipe:
    """The recipe of a trial; what is not given has its default.

    Args:
        params: names of `Recipe`'s fields, and `units_1` .. `units_L` for a width a layer.

    Raises:
        StudyError: an unknown name, a value outside its limits, or values that do not go together.

    Example:
        >>> recipe_from({"layers": 2, "units_1": 100, "units_2": 50}).hidden
        (100, 50)
    """
    params = {name: plain_value(value) for name, value in params.items()}
    for name, value in params.items():
        check_value(name, value)
    plain: dict[str, Any] = {name: value for name, value in params.items() if name in _DEFAULTS}
    layers = plain.get("layers", _DEFAULTS["layers"])
    given = {name: value for name, value in params.items() if _layer_of(name) is not None}
    if given:
        if "units" in plain:
            raise StudyError("units and units_1, units_2, ... are given: use one width or one a layer")
        missing = [f"units_{k}" for k in range(1, layers + 1) if f"units_{k}" not in given]
        if missing:
            raise StudyError(f"layers={layers}, but {', '.join(missing)} is not given")
        plain["widths"] = tuple(int(given[f"units_{k}"]) for k in range(1, layers + 1))  # type: ignore[arg-type]
    recipe = Recipe(**plain)
    if recipe.batch_norm and recipe.layers > 0 and recipe.batch_size < 2:
        raise StudyError(
            "batch_size=1 with batch norm: one row has no variance; use batch_size >= 2 or batch_norm=False"
        )
    return recipe


def check_value(name: str, value: object) -> None:
    """Refuse a value that no recipe can have.

    Raises:
        StudyError: an unknown name, a wrong type, or a value outside its limits.
    """
    value = plain_value(value)
    kind = "units" if _layer_of(name) is not None else name
    if kind in _OPTIONS:
        if not any(type(value) is type(option) and value == option for option in _OPTIONS[kind]):
            raise StudyError(f"{name}={value!r}: must be one of {', '.join(map(repr, _OPTIONS[kind]))}")
        return
    if kind not in _LIMITS:
        close = difflib.get_close_matches(name, _DEFAULTS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(_DEFAULTS))}"
        raise StudyError(f"{name} is not a hyperparameter of the batch-norm/softmax network: {hint}")
    low, high = _LIMITS[kind]
    integer = kind in _INTEGERS
    if isinstance(value, bool) or not isinstance(value, int if integer else int | float):
        raise StudyError(f"{name}={value!r}: must be a {'whole ' if integer else ''}number")
    if not low <= value <= high:
        raise StudyError(f"{name}={value!r}: must be between {low:.10g} and {high:.10g}")


def adapt(space: Space, fixed: Mapping[str, Value]) -> Space:
    """The space with the conditions that the recipe knows: momentum exists only with "momentum", and so on.

    Args:
        space: what may vary.
        fixed: the hyperparameters that the objective fixes.

    Raises:
        StudyError: an unknown name, a range or option outside the limits, a parameter both fixed and
            searched, or one that no trial of this space would use.
    """
    for name, value in fixed.items():
        check_value(name, value)
    conditions: dict[str, dict[str, tuple[Value, ...]]] = {}
    for name, parameter in space.items():
        if name in fixed:
            raise StudyError(f"{name} is in the space and fixed to {fixed[name]!r}: keep one of the two")
        for value in _extremes(parameter):
            check_value(name, value)
        if (
            isinstance(parameter.domain, Interval)
            and _kind(name) in _INTEGERS
            and not parameter.domain.integer
        ):
            raise StudyError(f"{name} is a whole number: use cv.integer(...) or cv.choice(...)")
        conditions[name] = dict(parameter.when)
        other, used = _use_of(name)
        if other is None:
            continue
        if other in space:
            asked = conditions[name].get(other)  # the user's own condition is cut to where it is used
            wanted = used if asked is None else tuple(value for value in asked if value in used)
            possible = tuple(value for value in wanted if value in space[other].domain)
            always = all(value in used for value in _extremes(space[other]))
            if possible and (asked is not None or not always):
                conditions[name][other] = possible
        else:
            setting = fixed.get(other, _DEFAULTS[other])
            possible = tuple(value for value in used if value == setting)
        if not possible:
            values = f"{used[0]} or more" if isinstance(used, range) else " or ".join(map(repr, used))
            raise StudyError(
                f"{name} would change nothing: it is used only when {other} is {values}; "
                f"search or fix {other} too, or leave {name} out"
            )
    _check_widths(space, fixed)
    decisive = ("layers", "batch_norm", "batch_size")
    if not any(name in space for name in decisive):  # else a trial may find a way out
        recipe_from({name: fixed[name] for name in decisive if name in fixed})
    return Space(**{name: Parameter(p.domain, conditions[name]) for name, p in space.items()})


def learning_rate_at(recipe: Recipe, epoch: int, epochs: int) -> float:
    """The learning rate of an epoch.

    constant:     a0
    step:         a0 factor^(floor(epoch / decay_epochs))
    exponential:  a0 factor^epoch
    cosine:       a0 (1 + cos(pi epoch / epochs)) / 2
    inverse:      a0 / (1 + rate epoch)

    Args:
        recipe: with a0 = learning_rate.
        epoch: epochs trained before it, from 0.
        epochs: how many the trial trains in all.
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
    """First and last + 1 row of each mini-batch, in the epoch's order; the same in every engine.

    The last mini-batch may be smaller and counts like any other. Where it would be a single row, a network
    with batch norm leaves it out (one row has no variance; the next epoch's order brings another).
    """
    size = min(recipe.batch_size, rows)
    found = [(start, min(start + size, rows)) for start in range(0, rows, size)]
    if recipe.batch_norm and recipe.layers > 0 and len(found) > 1 and found[-1][1] - found[-1][0] == 1:
        found.pop()
    return found


def _layer_of(name: str) -> int | None:
    """3 for "units_3"."""
    stem, _, number = name.rpartition("_")
    return int(number) if stem == "units" and number.isdigit() and 1 <= int(number) <= MAX_LAYERS else None


def _kind(name: str) -> str:
    return "units" if _layer_of(name) is not None else name


def _use_of(name: str) -> tuple[str | None, Sequence[Value]]:
    """The parameter that decides whether this one is used, and the values at which it is."""
    layer = _layer_of(name)
    if layer is not None:
        return "layers", range(layer, MAX_LAYERS + 1)
    return _USED_WHEN.get(name, (None, ()))


def _extremes(parameter: Parameter) -> Sequence[Value]:
    domain = parameter.domain
    return (domain.low, domain.high) if isinstance(domain, Interval) else domain.options


def _check_widths(space: Space, fixed: Mapping[str, Value]) -> None:
    """One width, or one for every layer that a trial may have."""
    layered = {k for name in (*space, *fixed) if (k := _layer_of(name)) is not None}
    if not layered:
        return
    if "units" in space or "units" in fixed:
        raise StudyError("units and units_1, units_2, ... are given: use one width or one a layer")
    most = _extremes(space["layers"]) if "layers" in space else (fixed.get("layers", _DEFAULTS["layers"]),)
    deepest = max(int(value) for value in most)  # type: ignore[arg-type]
    missing = [f"units_{k}" for k in range(1, deepest + 1) if k not in layered]
    if missing:
        raise StudyError(f"up to {deepest} layers, but {', '.join(missing)} is not given")
