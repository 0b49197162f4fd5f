"""Objective that calls any Python function."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from caviar.columns import is_param
from caviar.data.splits import Dataset
from caviar.engine import Engine
from caviar.errors import StudyError
from caviar.fingerprint import fingerprint
from caviar.frame_columns import RESERVED
from caviar.objective import Objective
from caviar.resources import Resources
from caviar.space import Space
from caviar.training.function.engine import CallSignature, FunctionEngine
from caviar.trial import Value
from caviar.validation import number, require_name, require_type, set_fields

_ONE_CORE = Resources(cpus=1)
_SECONDS_PER_EPOCH = 1e-3
"""First guess of a function's cost; finished trials correct it."""


@dataclass(frozen=True)
class Function(Objective):
    """An objective that calls a Python function for each trial and ranks trials by what it returns or reports.

    The function is called as `fn(params)`, with the hyperparameters in a dict. It returns a number, or a dict of
    metrics. If it has a parameter named `trial`, it is called as `fn(params, trial)` or `fn(trial)`, with a
    `TrialContext`, and may report metrics after each epoch. The last measurement of a trial counts. What a
    function returns after it has reported belongs to its last epoch; None adds nothing.

    An exception, or a result that is no number, makes a trial `failed`, with the cause in its row. A value of the
    ranking metric that is not finite makes it `diverged`.

    **The winner.** The best trial is trained once more at the end, with `trial.stage` "final". What it saves last with
    `trial.save` is what `run.best.restore()` returns.

    **Sending to workers.** Any function works: a lambda, a closure, a function of a script, a notebook or a package.
    It is pickled once, with all objects that it refers to. Arrays among these are shared by the workers of a machine,
    and read-only. Each trial on a worker gets a copy of all others, and the modules beside the script are put back
    after each trial, so no trial sees what another one changed. A function under `functools.cache` keeps its results
    for all trials of its worker: load data there, and do not change them.

    **Threads.** A function that takes the trial runs in a thread of its own, any other function in the main thread of
    its worker.

    **Reproducibility.** Two runs of a study agree if the function's metrics depend only on its params and
    `trial.seed`. The global generators of Python, NumPy and torch are seeded before each call; torch is seeded if it
    is imported, so import it outside the function. Other changes to the process are undone after each call: working
    directory, environment variables, import path, NumPy's and torch's settings, resource limits, umask, locale, time
    zone, decimal context, root logger, signal handlers and mask, standard streams. If one cannot be undone, or after a
    CUDA error, the worker is replaced.

    Args:
        fn: the function.
        metric: the metric that ranks trials; also the name of a number that the function returns.
        maximize: True if larger values of the metric are better.
        metrics: all metrics that the function may report or return, each a column of the frames; by default only the
            ranking metric.
        resources: the resources of each worker; one core by default.
        time_limit_s: seconds after which a trial is `failed`. Its worker is killed if the function does not end soon,
            and replaced, which takes about a second. A worker in the driver's process (`address="here"`) cannot be
            killed and waits for the function.
        test: a function that scores the winner on data that nothing else has used. It is called once, as `fn` is: as
            `test(params)`, `test(params, trial)` or `test(trial)`, where `trial.restore()` returns what the winner's
            final training saved. Its number is `run.best.test_value`.

    Raises:
        StudyError: fn cannot be called in one of these ways, a metric's name is taken or invalid, or an argument has
            the wrong type.

    Example:
        >>> def bowl(params):
        ...     return (params["x"] - 1) ** 2
        >>> import caviar as cv
        >>> study = cv.Study(
        ...     name="bowl",
        ...     objective=cv.Function(bowl),
        ...     space=cv.Space(x=cv.linear(-5, 5)),
        ...     rounds=cv.coarse_to_fine(trials=100, epochs=1),
        ... )

        A function that trains for several epochs, on half a GPU:

        >>> def train(params, trial):
        ...     for epoch in trial.remaining():
        ...         trial.report(epoch, dev_loss=params["learning_rate"] / epoch)
        >>> resources = cv.Resources(gpus=0.5)
        >>> cv.Function(train, metric="dev_loss", resources=resources, time_limit_s=3600).metrics
        ('dev_loss',)
    """

    fn: Callable[..., Any]
    _: KW_ONLY
    metric: str = "value"
    maximize: bool = False
    metrics: tuple[str, ...] = ()
    resources: Resources = _ONE_CORE
    time_limit_s: float | None = None
    test: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        CallSignature.of(self.fn)
        if self.test is not None:
            CallSignature.of(self.test)
        set_fields(self, metrics=_check_metrics(self.metric, self.metrics))
        require_type("Function: maximize", self.maximize, bool, "True or False")
        require_type("Function: resources", self.resources, Resources, "cv.Resources(...)")
        if self.time_limit_s is not None and number("Function: time_limit_s", self.time_limit_s, 0) == 0:
            raise StudyError("Function: time_limit_s must be above 0 seconds, or None for no limit, not 0")

    @property
    def metric_names(self) -> tuple[str, ...]:
        return self.metrics

    @property
    def has_checkpoints(self) -> bool:
        return CallSignature.of(self.fn).has_trial

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(getattr(self.fn, "warnings", ()))

    def adapt(self, space: Space) -> Space:
        return space

    def load(self) -> Dataset | None:
        return None

    def make_engine(self, dataset: Dataset | None, device: str) -> Engine:
        del dataset, device
        return FunctionEngine(self.fn, self.metric, self.metrics, self.test)

    def explain(self, draws: Sequence[Mapping[str, Value]], dataset: Dataset | None) -> tuple[str, str]:
        del draws, dataset
        way = "one call of the function at a time"
        if self.resources.gpus == 0:
            return way, "not at all: declare resources=cv.Resources(gpus=1), or a share of a GPU"
        return "not at all: its resources ask for a GPU", way

    def costs(self, params: Mapping[str, Value], epochs: int, dataset: Dataset | None) -> Mapping[str, float]:
        del params, dataset
        return {"cpu": _SECONDS_PER_EPOCH * epochs, "cuda": _SECONDS_PER_EPOCH * epochs}

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "function",
            "function": fingerprint(self.fn),
            "metric": self.metric,
            "metrics": list(self.metrics),
            "maximize": self.maximize,
            "time_limit_s": self.time_limit_s,
        }

    def __str__(self) -> str:
        return f"the function {getattr(self.fn, '__name__', type(self.fn).__name__)}"


def _check_metrics(metric: str, metrics: Sequence[str]) -> tuple[str, ...]:
    """Return all metrics, each once, with the ranking metric among them."""
    if isinstance(metrics, str) or not isinstance(metrics, Sequence):
        raise StudyError(
            f"Function: metrics must be a tuple of names, such as ('dev_loss', 'dev_accuracy'), not {metrics!r}"
        )
    names = tuple(dict.fromkeys(metrics if metric in metrics else (metric, *metrics)))
    for name in names:
        if not isinstance(name, str) or not name or is_param(name):
            raise StudyError(
                f"Function: {name!r} cannot name a metric; use a word such as 'dev_loss', without the prefix params_"
            )
        require_name("Function: metrics", name)
        if name in RESERVED:
            raise StudyError(
                f"Function: the metric {name} has the name of another column of the frames; rename it"
            )
    return names
