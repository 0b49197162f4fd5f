"""Objective that trains the user's own torch module."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any

from caviar.data.splits import Dataset, Preprocess
from caviar.data.tensors import Targets, data_name, load_tensors, require_data
from caviar.engine import EXPLODED_LOSS, Engine
from caviar.errors import StudyError
from caviar.fingerprint import fingerprint_with_uses
from caviar.frame_columns import RESERVED
from caviar.objective import Objective
from caviar.resources import Resources
from caviar.space import Interval, Parameter, Space
from caviar.space_draws import draw
from caviar.training.function.fresh_function import FreshCopies
from caviar.training.module.user_code import takes_params
from caviar.training.recipe import TRAINING, changeable, check_value, conditions_of_use, used_hyperparameters
from caviar.trial import Value
from caviar.validation import number, require_name, require_type, set_fields

if TYPE_CHECKING:
    from torch import nn, optim

_BY_LOSS: Any = None
"""Default of fields that follow from the loss."""
_LOSSES = ("cross_entropy", "mse")
LANES = 256
"""Largest number of modules that a GPU worker trains at once."""
_STEP_S, _NUMBER_S = 1e-3, 1e-8
"""First guess of a module's cost, for a mini-batch and for a number in x; finished trials correct it."""


@dataclass(frozen=True)
class Module(Objective):
    """An objective that trains a torch module of your own as each trial, without a loop of yours.

    `build(params)` returns a `torch.nn.Module`. caviar trains it by mini-batch gradient descent, measures each epoch on
    the dev split, pauses and continues it, and hands over the best one with its score on the test split.

    **Metrics.** Each epoch has train_loss and dev_loss, the mean loss on both splits; dev_accuracy if y holds classes;
    for a loss of several terms train_NAME and dev_NAME of each; dev_NAME for each function in `metrics`; and
    learning_rate. The last epoch ranks the trial. A loss that is not finite, or a cross-entropy above 1000, makes a
    trial `diverged`. An error in your code makes it `failed`, with the cause in its row. Errors that all trials would
    have are found before the first one: the driver trains on two rows, in the middle of the space.

    **Hyperparameters.** These train the module and mean the same as for `Classifier` (see `caviar params`): optimizer,
    learning_rate, momentum, beta1, beta2, epsilon, decay, decay_rate, decay_factor, decay_epochs, l2, batch_size. They
    have the same defaults and limits, and l2 applies to parameters with two or more dimensions. All other names are
    yours. `params` holds all of a trial: searched, fixed, and the defaults of training.

    **Randomness.** A trial's numbers depend on its params and seed alone. Global generators of Python, NumPy and torch
    begin the build and each epoch with seeds of the trial. Layers `nn.Dropout`, 1d, 2d and 3d draw from a stream of the
    trial that is the same on every device; all else that draws in `forward` uses torch's generator.

    **Sending to workers.** Your functions are pickled as those of `Function` are, and each trial gets a fresh copy of
    them and of the variables that they use: no trial sees what another one changed. The settings of the process that
    your code changes are put back after the build and after each epoch. What training changes must be parameters or
    buffers of the module (`register_buffer`), so that a paused trial continues as if it had never stopped.

    **GPUs.** Trials whose modules have the same structure, batch size and optimizer train together on a GPU worker, by
    `torch.func.vmap`, each as if it were alone. A module that `vmap` cannot run, that draws from a global generator in
    `forward`, or with an optimizer or schedule of your own trains alone; so do all if you declare `resources` or a time
    limit. What differs between such trials may be in parameters, buffers and dropout's probability.

    **The winner.** `run.best.network(build)` is the trained module, `run.best.predict(x, build)` predicts from rows as
    they are in the data. `best/module.pt` is its state dict, for `torch.load(..., weights_only=True)`.

    Args:
        build: a function of the trial's hyperparameters, a dict, that returns a module; also a class. Lazy layers such
            as `nn.LazyLinear` get their shapes from the data.
        data: "sklearn:digits" or a path, as for `Classifier`; a pair (x, y) of arrays or tensors; a map-style
            `torch.utils.data.Dataset` of such pairs; or (train, dev, test) given apart, each a pair or a Dataset. x has
            rows of any shape, which the module gets as (batch, ...): float32, or int64 if it holds whole numbers and
            `preprocess` is "none". A Dataset is read once, so draw augmentations in the module's `forward`.
        loss: "cross_entropy", for outputs (batch, classes); "mse"; or a function loss(outputs, y) that returns the mean
            over the rows, a tensor; or a dict of such functions by name, whose sum is minimised.
        metrics: more metrics on the dev split: functions of (outputs, y) by name, which return a number. They get the
            outputs of all rows, on the CPU. The metric's column is called dev_NAME. A metric or loss with a third
            parameter named params gets the hyperparameters, such as the weight of a term.
        metric: the metric that ranks trials: by default dev_accuracy with cross_entropy, else dev_loss.
        maximize: True if larger values of the metric are better; by default for dev_accuracy, not for losses. A metric
            of your own needs it.
        targets: "classes", (rows,) of any type, which the module gets as numbers from 0; or "numbers", (rows, ...),
            int64 or float32. By default classes with cross_entropy, else numbers. With classes, the outputs, or the
            first of a tuple of outputs, are logits (batch, classes).
        optimizer: a function (params, module) that returns a `torch.optim.Optimizer`. Of the names above, caviar then
            uses batch_size alone, and the others are yours.
        schedule: a function (params, optimizer, epochs) that returns a scheduler of `torch.optim.lr_scheduler`, stepped
            after each epoch; it takes the place of decay.
        fixed: hyperparameters that all trials share, by name.
        target: as for `Classifier`.
        split: as for `Classifier`. Classes are split in equal shares, numbers at random.
        split_seed: as for `Classifier`.
        preprocess: "none" leaves x as it is; "standardize" and "scale" as for `Classifier`.
        refit: as for `Classifier`.
        resources: the resources of each worker; one core, or one whole GPU, by default.
        time_limit_s: seconds after which a trial is killed and `failed`.

    Raises:
        StudyError: a function, a name or another argument is invalid.

    Example:
        >>> from torch import nn
        >>> import caviar as cv
        >>> def build(params):
        ...     channels = params["channels"]
        ...     return nn.Sequential(
        ...         nn.Unflatten(1, (1, 8, 8)),
        ...         nn.Conv2d(1, channels, 3),
        ...         nn.BatchNorm2d(channels),
        ...         nn.ReLU(),
        ...         nn.Flatten(),
        ...         nn.LazyLinear(10),
        ...     )
        >>> study = cv.Study(
        ...     name="convolutions",
        ...     objective=cv.Module(build, data="sklearn:digits", preprocess="scale"),
        ...     space=cv.Space(learning_rate=cv.log(1e-3, 1.0), channels=cv.integer(4, 32, scale="log")),
        ...     rounds=cv.coarse_to_fine(trials=60, epochs=10),
        ... )
        >>> study.try_one({"channels": 8, "learning_rate": 0.05}, epochs=2).value > 0.8
        True

        Two losses, and numbers to predict from token ids:

        >>> import numpy as np
        >>> from torch.nn import functional as F
        >>> ids = np.random.default_rng(0).integers(0, 9, size=(60, 5))
        >>> objective = cv.Module(
        ...     lambda params: nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 1), nn.Flatten(0)),
        ...     data=(ids, ids.mean(axis=1)),
        ...     loss={"squared": F.mse_loss, "absolute": F.l1_loss},
        ... )
        >>> objective.metric, objective.metric_names[:3]
        ('dev_loss', ('train_loss', 'train_squared', 'train_absolute'))
    """

    build: "Callable[[dict[str, Any]], nn.Module]"
    _: KW_ONLY
    data: Any
    loss: str | Callable[..., Any] | Mapping[str, Callable[..., Any]] = "cross_entropy"
    metrics: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    metric: str = _BY_LOSS
    maximize: bool = _BY_LOSS
    targets: Targets = _BY_LOSS
    optimizer: "Callable[[dict[str, Any], nn.Module], optim.Optimizer] | None" = None
    schedule: Callable[..., Any] | None = None
    fixed: Mapping[str, Value] = field(default_factory=dict)
    target: str | None = None
    split: tuple[float, float, float] = (0.6, 0.2, 0.2)
    split_seed: int = 0
    preprocess: Preprocess = "none"
    refit: bool = False
    resources: Resources | None = None
    time_limit_s: float | None = None
    _copies: FreshCopies | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _require_function("build", self.build, "params")
        require_data("Module: data", self.data)
        _require_loss(self.loss)
        for name, function in _mapping("metrics", self.metrics).items():
            _require_function(f"metrics[{name!r}]", function, "outputs, y")
        if self.optimizer is not None:
            _require_function("optimizer", self.optimizer, "params, module")
        if self.schedule is not None:
            _require_function("schedule", self.schedule, "params, optimizer, epochs")
        self._set_by_loss()
        _require_names(self.metric_names)
        if self.metric not in self.metric_names:
            raise StudyError(
                f"Module: metric={self.metric!r} is not measured; there are {', '.join(self.metric_names)}"
            )
        if not self.metric.startswith("dev_"):
            raise StudyError(f"Module: metric={self.metric!r} must be one of the dev split, such as dev_loss")
        require_type("Module: refit", self.refit, bool, "True or False")
        require_type("Module: resources", self.resources, Resources | None, "cv.Resources(...)")
        if self.time_limit_s is not None and number("Module: time_limit_s", self.time_limit_s, 0) == 0:
            raise StudyError("Module: time_limit_s must be above 0 seconds, or None for no limit, not 0")
        for name, value in _mapping("fixed", self.fixed).items():
            if name in self.training_names:
                check_value(name, value)
            elif not isinstance(value, bool | int | float | str | None):
                raise StudyError(
                    f"Module: fixed[{name!r}] must be None, a bool, a number or a string, not {value!r:.200}"
                )

    def _set_by_loss(self) -> None:
        """Set the fields that follow from the loss where the user leaves them out."""
        is_class_loss = self.loss == "cross_entropy"
        if self.targets is _BY_LOSS:
            set_fields(self, targets="classes" if is_class_loss else "numbers")
        if self.targets not in ("classes", "numbers"):
            raise StudyError(f'Module: targets must be "classes" or "numbers", not {self.targets!r}')
        if self.targets != {"cross_entropy": "classes", "mse": "numbers"}.get(str(self.loss), self.targets):
            raise StudyError(f"Module: loss={self.loss!r} does not fit targets={self.targets!r}")
        if self.metric is _BY_LOSS:
            set_fields(self, metric="dev_accuracy" if is_class_loss else "dev_loss")
        if self.maximize is _BY_LOSS:
            if str(self.metric).removeprefix("dev_") in self.metrics:
                raise StudyError(
                    f"Module: metric={self.metric!r} is a function of yours: give maximize=True if larger is better, "
                    "else maximize=False"
                )
            set_fields(self, maximize=self.metric == "dev_accuracy")
        require_type("Module: maximize", self.maximize, bool, "True or False")

    @property
    def metric_names(self) -> tuple[str, ...]:
        terms = tuple(self.loss) if isinstance(self.loss, Mapping) else ()
        accuracy = ("accuracy",) if self.targets == "classes" else ()
        trained = [f"train_{name}" for name in ("loss", *terms)]
        scored = [f"dev_{name}" for name in ("loss", *terms, *accuracy, *self.metrics)]
        return (*trained, *scored, "learning_rate")

    @property
    def training_names(self) -> tuple[str, ...]:
        """The names of hyperparameters that caviar uses; all others are the user's."""
        if self.optimizer is not None:
            return ("batch_size",)
        is_decay = self.schedule is not None
        return tuple(name for name in TRAINING if not (is_decay and name.startswith("decay")))

    @property
    def max_loss(self) -> float:
        """The training loss above which a trial has diverged. Only a cross-entropy has a scale that is known."""
        return EXPLODED_LOSS if self.loss == "cross_entropy" else math.inf

    @property
    def has_checkpoints(self) -> bool:
        return True

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self._copies.warnings) if self._copies is not None else ()

    def adapt(self, space: Space) -> Space:
        names = self.training_names
        for name in space:
            if name in self.fixed and name not in names:
                raise StudyError(
                    f"{name} is in the space and fixed to {self.fixed[name]!r}; remove one of the two"
                )
        conditions = {
            name: conditions_of_use(name, space, self.fixed) if name in names else parameter.when
            for name, parameter in space.items()
        }
        return space.with_parameters(
            {name: Parameter(p.domain, conditions[name]) for name, p in space.items()}
        )

    def recipe(self, params: Mapping[str, Value]) -> Mapping[str, Value]:
        given = {**self.fixed, **params}
        trained = used_hyperparameters({n: v for n, v in given.items() if n in self.training_names})
        return {**{name: trained[name] for name in self.training_names if name in trained}, **given}

    def changeable(self, space: Space, params: Mapping[str, Value]) -> Mapping[str, Parameter]:
        given = {**self.fixed, **params}
        ours = changeable({name: value for name, value in given.items() if name in self.training_names})
        own = {name: parameter for name, parameter in space.items() if name not in self.training_names}
        return {**{name: ours[name] for name in self.training_names if name in ours}, **own}

    def load(self) -> Dataset:
        return load_tensors(
            self.data,
            target=self.target,
            targets=self.targets,
            shares=self.split,
            seed=self.split_seed,
            preprocess=self.preprocess,
        )

    def rehearse(self, space: Space, dataset: Dataset | None) -> None:
        assert dataset is not None, "a module is trained on data"
        from caviar.training.module.rehearsal import rehearse

        device = "cuda" if self.resources is not None and self.resources.gpus else "cpu"
        points = list(filter(space.allows, _points(space))) or [draw(space, Random(0))]
        rehearse(self.for_workers(), points, dataset, device)

    def for_workers(self) -> "Module":
        return replace(self, data=data_name(self.data))

    def with_copies(self, copies: FreshCopies) -> "Module":
        """Return this objective, whose engine takes a fresh copy of it for each trial."""
        set_fields(self, _copies=copies)
        return self

    def make_engine(self, dataset: Dataset | None, device: str) -> Engine:
        assert dataset is not None, "a module is trained on data"
        from caviar.training.module.engine import ModuleEngine

        threads = max(int(self.resources.cpus), 1) if self.resources is not None else 1
        copies, lanes = self._copies, self.lanes(device)
        if copies is None:
            return ModuleEngine(lambda: nullcontext(self), dataset, device, threads, lanes=lanes)
        return ModuleEngine(copies.copy, dataset, device, threads, lambda: copies.damage, lanes)

    def explain(self, draws: Sequence[Mapping[str, Value]], dataset: Dataset | None) -> tuple[str, str]:
        assert dataset is not None, "a module is trained on data"
        on_cpu = "one module at a time, by eager torch"
        if self.resources is not None or self.time_limit_s is not None:
            declared = "resources are declared" if self.resources is not None else "there is a time limit"
            return on_cpu, f"one module at a time, because {declared}"
        from caviar.training.module.explanation import explain_stacks

        return on_cpu, explain_stacks(self.for_workers(), draws, dataset, LANES)

    def lanes(self, device: str) -> int:
        """Return the largest number of modules that a whole GPU trains at once; with a time limit, one at a time."""
        has_whole_gpu = device == "cuda" and self.resources is None
        return LANES if has_whole_gpu and self.time_limit_s is None else 1

    def costs(self, params: Mapping[str, Value], epochs: int, dataset: Dataset | None) -> Mapping[str, float]:
        assert dataset is not None, "a module is trained on data"
        rows, size = len(dataset.train.y), {**self.fixed, **params}.get("batch_size", 64)
        steps = rows / size if isinstance(size, int) and size > 0 else rows
        seconds = epochs * (steps * _STEP_S + rows * dataset.features * _NUMBER_S)
        return {"cpu": seconds, "cuda": seconds}

    def describe(self) -> dict[str, Any]:
        loss = self.loss
        named = (
            {name: fingerprint_with_uses(f) for name, f in loss.items()}
            if isinstance(loss, Mapping)
            else None
        )
        return {
            "kind": "module",
            "data": data_name(self.data),
            "target": self.target,
            "targets": self.targets,
            "split": list(self.split),
            "split_seed": self.split_seed,
            "preprocess": self.preprocess,
            "metric": self.metric,
            "maximize": self.maximize,
            "refit": self.refit,
            "time_limit_s": self.time_limit_s,
            "fixed": dict(self.fixed),
            "function": {
                "build": fingerprint_with_uses(self.build),
                "loss": named or (loss if isinstance(loss, str) else fingerprint_with_uses(loss)),  # type: ignore[arg-type]
                "metrics": {name: fingerprint_with_uses(function) for name, function in self.metrics.items()},
                "optimizer": None if self.optimizer is None else fingerprint_with_uses(self.optimizer),
                "schedule": None if self.schedule is None else fingerprint_with_uses(self.schedule),
            },
        }

    def __str__(self) -> str:
        return f"the module of {getattr(self.build, '__name__', type(self.build).__name__)}"


def _points(space: Space) -> Iterator[Mapping[str, Value]]:
    """Yield params from the middle of a space, then from both its ends."""
    for share in (0.5, 0.0, 1.0):
        values: dict[str, Value] = {}
        for name, parameter in space.items():
            if isinstance(domain := parameter.domain, Interval):
                low, high = domain.ends
                values[name] = domain.value(low + share * (high - low))
            else:
                values[name] = domain.options[round(share * (len(domain.options) - 1))]
        yield space.active(values)


def _mapping(name: str, given: Any) -> Mapping[str, Any]:
    require_type(f"Module: {name}", given, Mapping, "a dict with names")
    return given  # type: ignore[no-any-return]


def _require_loss(loss: object) -> None:
    if isinstance(loss, Mapping):
        if not loss:
            raise StudyError("Module: loss is an empty dict: give functions by name")
        for name, function in loss.items():
            _require_function(f"loss[{name!r}]", function, "outputs, y")
    elif callable(loss):
        _require_function("loss", loss, "outputs, y")
    elif loss not in _LOSSES:
        raise StudyError(
            f"Module: loss must be one of {', '.join(map(repr, _LOSSES))}, a function loss(outputs, y), or a dict of "
            f"such functions, not {loss!r}"
        )


def _require_function(what: str, function: object, parameters: str) -> None:
    """Refuse what cannot be called with so many arguments."""
    if not callable(function):
        raise StudyError(f"Module: {what} must be a function of ({parameters}), not {function!r:.200}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a built-in function may have none
        return
    try:
        params: dict[str, Any] = (
            {"params": {}} if takes_params(function) and "params" not in parameters else {}
        )
        signature.bind(*parameters.split(", "), **params)
    except TypeError as error:
        raise StudyError(
            f"Module: {what} is called with ({parameters}), and has the parameters {signature}; "
            "bind others with functools.partial"
        ) from error


def _require_names(names: tuple[str, ...]) -> None:
    """Refuse metrics whose columns would have equal or invalid names."""
    for name in names:
        require_name("Module: metrics", name)
    if double := {name for name in names if names.count(name) > 1 or name in RESERVED}:
        raise StudyError(
            f"Module: the column {min(double)} would be there twice: rename that metric or term of the loss"
        )
