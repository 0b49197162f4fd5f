"""The objective that can be anything: a Python function."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from caviar.columns import RESERVED, is_param
from caviar.data.splits import Dataset
from caviar.engine import Engine
from caviar.errors import StudyError
from caviar.fingerprint import fingerprint
from caviar.objective import Objective
from caviar.resources import Resources
from caviar.space import Space
from caviar.training.function.engine import CallSignature, FunctionEngine
from caviar.trial import Value

_A_CORE = Resources(cpus=1)


@dataclass(frozen=True)
class Function(Objective):
    """A trial is a call of a Python function, ranked by what it returns or reports.

    The function is called as `fn(params)`, with a dict of its own, and returns a number, or a dict of metrics.
    Where it has a parameter named `trial`, that is given a `TrialContext`: `fn(params, trial)`, or `fn(trial)` with
    `trial.params`. Then it may report each epoch while it runs:

        def train(params, trial):
            model = build(params, trial.seed)
            for epoch in trial.remaining():
                model.fit_one_epoch()
                trial.report(epoch, dev_loss=model.dev_loss())

    The last measurement counts. A function that has reported returns None; a number or dict that it returns as
    well belongs to its last epoch. A value that is not finite makes the trial `diverged`, an exception or
    anything else that it returns `failed`, with the reason in its row.

    A function that takes the trial runs in a thread of its own, any other in its worker's main thread.

    Lambdas, closures, functions of a script, a notebook or a package: each worker is sent the function once,
    with what it refers to. Arrays among that are shared by all workers of a machine and cannot be written to.

    The same study leaves the same frames where the function's numbers follow from its params and `trial.seed`;
    Python's, NumPy's and, once it is imported, torch's global generators are seeded with that for each trial, and each
    part of one where a round halves: import torch outside the function. What a trial changes of its process, such as
    the working directory, the environment or torch's threads, is put back after it.

    Args:
        fn: the function.
        metric: what ranks trials, and the name of a plain number that is returned.
        maximize: whether more of it is better.
        metrics: all metrics that it measures, one column each; just the ranking one by default.
        resources: what each worker is given; a core by default.
        time_limit_s: a trial that takes longer is `failed`, and killed if it does not end soon; its worker is then
            replaced, which takes about a second. Workers in this process (`InlineBackend`) cannot be killed: there a
            trial that never ends is waited for.

    Raises:
        StudyError: what cannot be called, named or met.

    Example:
        >>> Function(lambda params: (params["x"] - 1) ** 2).metric
        'value'
    """

    fn: Callable[..., Any]
    _: KW_ONLY
    metric: str = "value"
    maximize: bool = False
    metrics: tuple[str, ...] = ()
    resources: Resources = _A_CORE
    time_limit_s: float | None = None

    def __post_init__(self) -> None:
        CallSignature.of(self.fn)
        object.__setattr__(self, "metrics", _checked_metrics(self.metric, self.metrics))
        if not isinstance(self.maximize, bool):
            raise StudyError(f"Function(maximize={self.maximize!r}): must be True or False")
        if not isinstance(self.resources, Resources):
            raise StudyError(f"Function(resources={self.resources!r}): use cv.Resources(cpus=..., gpus=...)")
        limit = self.time_limit_s
        if limit is not None and not (_is_number(limit) and math.isfinite(limit) and limit > 0):
            raise StudyError(f"Function(time_limit_s={limit!r}): must be seconds above 0, or None")

    @property
    def has_checkpoints(self) -> bool:
        return CallSignature.of(self.fn).trial

    def adapt(self, space: Space) -> Space:
        return space

    def load(self) -> Dataset | None:
        return None

    def make_engine(self, dataset: Dataset | None, device: str) -> Engine:
        del dataset, device
        return FunctionEngine(self.fn, self.metric, self.metrics)

    def costs(self, params: Mapping[str, Value], epochs: int, dataset: Dataset | None) -> Mapping[str, float]:
        del params, dataset
        return {"cpu": 1e-3 * epochs, "cuda": 1e-3 * epochs}

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


def _checked_metrics(metric: str, declared: Sequence[str]) -> tuple[str, ...]:
    """All metrics, each once, the ranking one among them."""
    if isinstance(declared, str):
        raise StudyError(f"Function(metrics={declared!r}): give several names, such as ({declared!r},)")
    if not isinstance(declared, Sequence):
        raise StudyError(f"Function(metrics={declared!r}): give names, such as ('dev_loss', 'dev_accuracy')")
    names = tuple(dict.fromkeys(declared if metric in declared else (metric, *declared)))
    for name in names:
        if not isinstance(name, str) or not name or is_param(name):
            raise StudyError(
                f"Function(metrics=...): {name!r} cannot name a metric; use a word like 'dev_loss'"
            )
        if name in RESERVED:
            raise StudyError(
                f"Function(metrics=...): the frames have a column {name} of their own; use another name"
            )
    return names


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
