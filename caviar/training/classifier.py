"""The objective that caviar is fastest at: a batch-norm/softmax classifier."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caviar.data import sources
from caviar.data.splits import Dataset, Preprocess, split
from caviar.engine import Engine
from caviar.errors import StudyError
from caviar.objective import Objective
from caviar.space import Space
from caviar.training import cost
from caviar.training.recipe import adapt, check_value, recipe_from
from caviar.trial import Value

METRICS = ("train_loss", "dev_loss", "dev_accuracy", "learning_rate")
ENGINES = ("auto", "native", "reference")


@dataclass(frozen=True, kw_only=True)
class Classifier(Objective):
    """Trains a batch-norm/softmax network (`Recipe`) and ranks it by its dev split.

    Args:
        data: "sklearn:digits" (or iris, wine, breast_cancer), a path to a .csv, .parquet or .npz file,
            or a pair of arrays (x, y); x may be a DataFrame.
        target: the class column of a table.
        split: shares of train, dev and test.
        split_seed: of the split alone.
        preprocess: "standardize", "scale" or "none" (`caviar.data.splits.split`).
        metric: what ranks trials: "dev_accuracy" or "dev_loss", after the last epoch.
        engine: how workers train: "native" (compiled, for CPUs), "reference" (plain torch), or "auto":
            native on CPU workers, reference on GPUs.
        fixed: hyperparameters that are not searched, such as {"optimizer": "adam"}.

    Raises:
        StudyError: an unknown metric or engine, or a hyperparameter outside its limits.

    Example:
        >>> Classifier(data="sklearn:digits", fixed={"layers": 2}).metric
        'dev_accuracy'
    """

    data: str | Path | tuple[Any, Any]
    target: str | None = None
    split: tuple[float, float, float] = (0.6, 0.2, 0.2)
    split_seed: int = 0
    preprocess: Preprocess = "standardize"
    metric: str = "dev_accuracy"
    engine: str = "auto"
    fixed: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.metric not in ("dev_accuracy", "dev_loss"):
            raise StudyError(f'Classifier(metric={self.metric!r}): use "dev_accuracy" or "dev_loss"')
        if self.engine not in ENGINES:
            raise StudyError(f"Classifier(engine={self.engine!r}): there are {', '.join(ENGINES)}")
        if not isinstance(self.fixed, Mapping):
            raise StudyError(
                f'Classifier(fixed={self.fixed!r}): give a dict, such as {{"optimizer": "adam"}}'
            )
        for name, value in self.fixed.items():
            check_value(name, value)

    @property
    def maximize(self) -> bool:
        return self.metric == "dev_accuracy"

    @property
    def has_checkpoints(self) -> bool:
        return True

    @property
    def metrics(self) -> tuple[str, ...]:
        return METRICS

    def adapt(self, space: Space) -> Space:
        return adapt(space, self.fixed)

    def load(self) -> Dataset:
        if isinstance(self.data, tuple):
            rows = sources.from_memory(self.data[0], self.data[1])
        else:
            rows = sources.read_source(self.data, self.target)
        return split(
            self._data_name,
            *rows,
            shares=self.split,
            seed=self.split_seed,
            preprocess=self.preprocess,
        )

    def make_engine(self, dataset: Dataset | None, device: str) -> Engine:
        assert dataset is not None, "a classifier learns from data"
        if self.engine == "native" or (self.engine == "auto" and device == "cpu"):
            from caviar.training.native.engine import NativeEngine

            return NativeEngine(dataset, self.fixed)
        from caviar.training.reference import ReferenceEngine

        return ReferenceEngine(dataset, self.fixed, device)

    def costs(self, params: Mapping[str, Value], epochs: int, dataset: Dataset | None) -> Mapping[str, float]:
        assert dataset is not None, "a classifier learns from data"
        try:
            recipe = recipe_from({**self.fixed, **params})
        except StudyError:
            return {"cpu": 0.0, "cuda": 0.0}  # it cannot be trained: the worker says so in its row
        shape = dataset.features, len(dataset.classes), len(dataset.train.y), epochs
        on_cpu = cost.REFERENCE if self.engine == "reference" else cost.NATIVE
        on_gpu = cost.NATIVE if self.engine == "native" else cost.REFERENCE_ON_GPU
        return {"cpu": on_cpu.seconds(recipe, *shape), "cuda": on_gpu.seconds(recipe, *shape)}

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "classifier",
            "data": self._data_name,
            "target": self.target,
            "split": list(self.split),
            "split_seed": self.split_seed,
            "preprocess": self.preprocess,
            "metric": self.metric,
            "engine": self.engine,
            "fixed": dict(self.fixed),
        }

    @property
    def _data_name(self) -> str:
        return "arrays" if isinstance(self.data, tuple) else str(self.data)
