"""Objective that trains a batch-norm/softmax classifier."""

import inspect
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caviar.data import sources
from caviar.data.splits import Dataset, Preprocess, split
from caviar.engine import Engine
from caviar.errors import ClusterError, StudyError, one_line
from caviar.objective import Objective
from caviar.space import Parameter, Space
from caviar.training import cost
from caviar.training.layer_statistics import LayerStatistics, Observe, statistic_names
from caviar.training.recipe import (
    MAX_LAYERS,
    adapt,
    changeable,
    check_value,
    hyperparameter_table,
    most_layers,
    recipe_from,
    used_hyperparameters,
)
from caviar.trial import Value
from caviar.validation import require_type, whole_number

METRICS = ("train_loss", "dev_loss", "dev_accuracy", "learning_rate")
RANKING_METRICS = ("dev_accuracy", "dev_loss")
FUSED_LANES = {"cuda": 4096, "cpu": 4}
"""Largest number of trials that the fused engine trains at once. A GPU worker measures how many train fastest; on a CPU
the engine is interpreted, for tests alone."""
ENGINES = ("auto", "native", "fused", "reference")


@dataclass(frozen=True, kw_only=True)
class Classifier(Objective):
    """An objective that trains a fully connected network with batch norm and softmax on a classification problem.

    Each epoch of a trial is measured by the mean loss on the train split, and the mean loss and the accuracy on the
    dev split (metrics train_loss, dev_loss, dev_accuracy; losses are cross-entropies in nats). The last epoch ranks
    the trial. A trial whose loss is not finite, or above 1000 nats, ends as `diverged`. The test split is used once,
    for the winner.

    Args:
        data: "sklearn:digits" (or iris, wine, breast_cancer); the path of a .csv or .parquet table, or of an .npz file
            with arrays x and y; or a pair of arrays (x, y), with features (rows, ...) and classes (rows,). x may be a
            DataFrame. All features must be numbers.
        target: the column of a table that holds the class; by default the one called "target", "label" or "class".
        split: shares of the train, dev and test splits, which sum to 1. Each class is split in these shares.
        split_seed: seed of the split. It is not the seed of the study, so that studies can be compared.
        preprocess: "standardize" (each feature gets mean 0 and standard deviation 1 on the train split), "scale"
            (all features are divided by the largest magnitude, which suits images), or "none".
        metric: the metric that ranks trials: "dev_accuracy", which is maximised, or "dev_loss", which is minimised.
        engine: "native", compiled kernels for CPUs; "fused", which trains many trials at once on a GPU; "reference",
            plain torch for CPUs and GPUs; or "auto", native on CPU workers and fused on GPU workers, or reference on
            GPUs where fused fails. Engines give the same metrics up to rounding.
        refit: True trains the network that is handed over on the train and dev rows together. Which params win is
            decided before, on the dev split, and the test score is that of this network. Features stay preprocessed
            as the train split asks.
        fixed: hyperparameters that all trials share, by name. Those neither fixed nor in the space have their defaults.
        layer_statistics: number of first hidden layers whose statistics are recorded after each epoch, as further
            metrics: for layer 1 z_mean_1 and z_std_1 (of z, before batch norm), z_tilde_mean_1 and z_tilde_std_1 (of
            what the activation receives), both on the dev split, and batch_mean_noise_1 and batch_std_noise_1 (noise
            of the mean and the standard deviation of a mini-batch, relative to the standard deviation of z). They
            change no other number, and they take time and a copy of the data in float64. 0 for none.

    Raises:
        StudyError: the metric, the engine, `refit`, a fixed hyperparameter or `layer_statistics` is invalid.

    Example:
        >>> import caviar as cv
        >>> study = cv.Study(
        ...     name="digits",
        ...     objective=cv.Classifier(data="sklearn:digits", fixed={"optimizer": "adam", "decay": "cosine"}),
        ...     space=cv.Space(learning_rate=cv.log(1e-4, 0.1), units=cv.integer(16, 256, scale="log")),
        ...     rounds=cv.coarse_to_fine(trials=200, epochs=20),
        ... )

        From arrays, ranked by the dev loss:

        >>> import numpy as np
        >>> x, y = np.random.default_rng(0).normal(size=(60, 5)), np.arange(60) % 3
        >>> dataset = cv.Classifier(data=(x, y), metric="dev_loss", split=(0.5, 0.25, 0.25)).load()
        >>> dataset.train.x.shape, dataset.classes
        ((30, 5), ('0', '1', '2'))
    """

    data: str | Path | tuple[Any, Any]
    target: str | None = None
    split: tuple[float, float, float] = (0.6, 0.2, 0.2)
    split_seed: int = 0
    preprocess: Preprocess = "standardize"
    metric: str = "dev_accuracy"
    engine: str = "auto"
    refit: bool = False
    fixed: Mapping[str, Value] = field(default_factory=dict)
    layer_statistics: int = 0

    def __post_init__(self) -> None:
        for field_name, options in (("metric", RANKING_METRICS), ("engine", ENGINES)):
            if (given := getattr(self, field_name)) not in options:
                raise StudyError(
                    f"Classifier: {field_name} must be one of {', '.join(options)}, not {given!r}"
                )
        require_type("Classifier: refit", self.refit, bool, "True or False")
        require_type("Classifier: fixed", self.fixed, Mapping, 'a dict such as {"optimizer": "adam"}')
        for name, value in self.fixed.items():
            check_value(name, value)
        whole_number("Classifier: layer_statistics", self.layer_statistics, 0, MAX_LAYERS)

    @property
    def maximize(self) -> bool:
        return self.metric == "dev_accuracy"

    @property
    def has_checkpoints(self) -> bool:
        return True

    @property
    def metric_names(self) -> tuple[str, ...]:
        return METRICS + statistic_names(self.layer_statistics)

    def adapt(self, space: Space) -> Space:
        adapted = adapt(space, self.fixed)
        if self.layer_statistics > (deepest := most_layers(space, self.fixed)):
            raise StudyError(
                f"Classifier: layer_statistics must be at most {deepest}, the most hidden layers that a trial has, "
                f"not {self.layer_statistics}"
            )
        return adapted

    def check(self, params: Mapping[str, Value]) -> None:
        recipe_from({**self.fixed, **params})

    def recipe(self, params: Mapping[str, Value]) -> Mapping[str, Value]:
        return used_hyperparameters({**self.fixed, **params})

    def changeable(self, space: Space, params: Mapping[str, Value]) -> Mapping[str, Parameter]:
        return changeable({**self.fixed, **params})

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
        assert dataset is not None, "a classifier is trained on data"
        observe = self._observe(dataset)
        if self._engine_on(device) == "native":
            from caviar.training.native.engine import NativeEngine

            return NativeEngine(dataset, self.fixed, observe=observe)
        warnings: tuple[str, ...] = ()
        if self._engine_on(device) == "fused":
            try:
                from caviar.training.fused.engine import FusedEngine, try_out

                try_out(dataset, device)
                fused = FusedEngine(dataset, self.fixed, device, lanes=FUSED_LANES[device], observe=observe)
                if device == "cuda":
                    fused.choose_lanes()
            except Exception as error:
                if self.engine == "fused":
                    raise ClusterError(f"the fused engine cannot be used: {one_line(error)}") from error
                failure = f"the fused engine failed: {one_line(error)}"
                warnings = (f"GPU workers train one trial at a time, because {failure}",)
            else:
                return fused
        from caviar.training.reference import ReferenceEngine

        reference = ReferenceEngine(dataset, self.fixed, device, observe=observe)
        reference.warnings = warnings
        return reference

    def _observe(self, dataset: Dataset) -> Observe | None:
        if self.layer_statistics == 0:
            return None
        return LayerStatistics(dataset, self.fixed, self.layer_statistics)

    def lanes(self, device: str) -> int:
        return FUSED_LANES[device] if self._engine_on(device) == "fused" else 1

    def explain(self, draws: Sequence[Mapping[str, Value]], dataset: Dataset | None) -> tuple[str, str]:
        ways = {
            "native": "one network at a time, by compiled kernels on one core",
            "reference": "one network at a time, by eager torch",
            "fused": "as many networks at a time as the GPU trains fastest, whatever their sizes and optimizers",
        }
        on_cpu, on_gpu = (ways[self._engine_on(device)] for device in ("cpu", "cuda"))
        return on_cpu, on_gpu

    def _engine_on(self, device: str) -> str:
        """Return the engine that is wanted on a device."""
        if self.engine != "auto":
            return self.engine
        return "native" if device == "cpu" else "fused"

    def costs(self, params: Mapping[str, Value], epochs: int, dataset: Dataset | None) -> Mapping[str, float]:
        assert dataset is not None, "a classifier is trained on data"
        try:
            recipe = recipe_from({**self.fixed, **params})
        except StudyError:
            return {"cpu": 0.0, "cuda": 0.0}  # it will fail at once, with the error in its row
        shape = dataset.features, len(dataset.classes), len(dataset.train.y), epochs
        models = cost.MODELS
        return {
            device: models[self._engine_on(device), device].seconds(recipe, *shape)
            for device in ("cpu", "cuda")
        }

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
            "refit": self.refit,
            "fixed": dict(self.fixed),
            **({"layer_statistics": self.layer_statistics} if self.layer_statistics else {}),
        }

    @property
    def _data_name(self) -> str:
        return "arrays" if isinstance(self.data, tuple) else str(self.data)


if Classifier.__doc__:  # python -OO removes docstrings
    Classifier.__doc__ = (
        inspect.cleandoc(Classifier.__doc__)
        + "\n\nHyperparameters with their defaults, for `space` and `fixed`; also printed by `caviar params`:\n\n"
        + textwrap.indent(hyperparameter_table(), "    ")
    )
