"""The winner of a study: `best/` in its run directory.

best.json     the trial, its params, the whole recipe, its confirmed value and test score, the names of the features
network.npz   the network's arrays, named as in `caviar.engine.Checkpoint`, for `np.load`
module.pt     the state dict of a module of the user's, for `torch.load(..., weights_only=True)`
test.npz      for each row of the test split: its class, the predicted class and the probability of that class
inputs.npz    shift and scale of the features, and the names of the classes; of a module also the shape of a row
saved.pickle  what the final training of a function saved last

If an extension of the study finds another winner, its files are in a folder of their own, which best.json names. So the
winner before it can be read until best.json is replaced.
"""

import io
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from caviar.data.features import Columns, as_table, join_names, require_finite, select_columns, table_to_array
from caviar.data.splits import Dataset, Preprocessing
from caviar.errors import DamagedError, DataError, RunError
from caviar.records.json_files import checksum, errors_as_damage, read_checked, write_checked
from caviar.records.run_files import repair_hint
from caviar.storage.location import Location
from caviar.trial import Value
from caviar.validation import require_type

if TYPE_CHECKING:
    import pandas as pd

    from caviar.engine import Checkpoint
    from caviar.training.module.trained import TorchModule

FOLDER: Final = re.compile(r"extension-[0-9]+")
"""Name of the folder of a winner that an extension has found."""
BEST: Final = "best/best.json"
"""Path of the winner's description in a run directory."""
_NUMBER = int | float
_BEST_SHAPE = {
    "trial": int,
    "params": dict,
    "recipe": dict,
    "epochs": int,
    "seed": int,
    "refit": bool,
    "value": _NUMBER,
    "interval": list | None,
    "seeds": int,
    "test_accuracy": _NUMBER | None,
    "test_interval": list | None,
    "test_rows": int | None,
    "baseline": dict | None,
    "test_value": _NUMBER | None,
    "test_uses": int | None,
    "folder": str | None,
    "feature_names": list | None,
    "files": dict,
}
_NETWORK = "network.npz"
_MODULE = "module.pt"
_INPUTS = "inputs.npz"
_SAVED = "saved.pickle"
_TEST = "test.npz"
Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The scores of always predicting the most frequent class of the train split."""

    label: str
    """The name of that class."""
    dev_accuracy: float
    test_accuracy: float | None

    @classmethod
    def of(cls, dataset: Dataset) -> "Baseline":
        """Return the scores on a data set; None for a test split that is not there."""
        frequent, test = dataset.frequent_class, dataset.test
        return cls(
            label=dataset.classes[frequent],
            dev_accuracy=float((dataset.dev.y == frequent).mean()),
            test_accuracy=None if test is None else float((test.y == frequent).mean()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The winner of a study."""

    trial: int
    """Number of the search trial that drew the params."""
    params: Mapping[str, Value]
    """Hyperparameters that were searched."""
    recipe: Mapping[str, Value]
    """All hyperparameters that the final training used: searched, fixed and default ones."""
    epochs: int
    """Epochs of the final training."""
    seed: int
    """Seed of the final training."""
    refit: bool = False
    """True if the final training learned from the train and the dev split together. Before, params and value were
    found with the train split alone."""
    value: float
    """Mean over the trainings of the last confirmation step, by the study's metric on the dev split; the value of the
    search trial if training shows no noise."""
    interval: tuple[float, float] | None
    """95 % confidence interval of that mean."""
    seeds: int
    """Number of those trainings, each with its own seed; 0 if training shows no noise."""
    test_accuracy: float | None = None
    """Accuracy of the trained network on the test split, which is used for nothing else."""
    test_interval: tuple[float, float] | None = None
    """95 % confidence interval of the test accuracy, for this number of test rows."""
    test_rows: int | None = None
    test_value: float | None = None
    """Score that the test function of the study gave the winner (see `Function`), or a module's ranking metric on the
    test split, unless that is its accuracy."""
    test_uses: int = 0
    """Number of winners that have been scored on the test split, or by the test function: more than one if extensions
    of the study found others. Then the score is not independent any more of what was known of the test split before."""
    baseline: Baseline | None = None
    """The scores of always predicting the most frequent class; None if the study has no classes."""
    feature_names: tuple[str, ...] | None = None
    """Names of the columns that are features; None if the data were arrays."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Checksums of the winner's other files, by name."""
    folder: str = ""
    """The folder of these files in `best/`; empty if they are there themselves."""
    location: Location | None = None
    """The folder `best/`."""

    def _repr_html_(self) -> str:
        from caviar.reporting.html_forms import best_html

        return best_html(self)

    @property
    def beats_baseline(self) -> bool | None:
        """True if the whole interval of the test accuracy is above the baseline's; None without a test score."""
        if self.test_interval is None or self.baseline is None or self.baseline.test_accuracy is None:
            return None
        return self.test_interval[0] > self.baseline.test_accuracy

    def network(self, build: "Callable[..., TorchModule] | None" = None) -> "TorchModule":
        """Return the trained torch module in evaluation mode, on the CPU. Its inputs are preprocessed features.

        Args:
            build: the function of the study's `Module`, which builds its network; a classifier's needs none.

        Raises:
            RunError: the objective of the study trains no network, or build is missing or builds another.
            DamagedError: the file holds something else. It is read as numbers; nothing in it is executed.
        """
        if _MODULE in self.files:
            return self._module(build)
        from caviar.training.recipe import recipe_from
        from caviar.training.reference import trained_network

        arrays, inputs = self._arrays(_NETWORK), self._inputs()
        with errors_as_damage(self._file(_NETWORK)):
            recipe = recipe_from(self.recipe)
            return trained_network(recipe, arrays, len(inputs["shift"]), len(inputs["classes"]))

    def restore(self) -> Any:
        """Return what the final training of a function saved last with `trial.save`, such as `(model, optimizer)`.

        It is a pickle, and whoever wrote it decides what loading it executes: a `UserWarning` says so. Restore your own
        runs only.

        Raises:
            RunError: the final training saved nothing.
            DamagedError: the file is not as it was written.

        Example:
            >>> model, optimizer = load("runs/mine").best.restore()  # doctest: +SKIP
        """
        if _SAVED not in self.files:
            raise RunError(
                f"{self.location}: the final training saved nothing; a function that takes the trial saves its model "
                "with trial.save(...), and a classifier's network is best.network()"
            )
        warnings.warn(
            f"{self._file(_SAVED)} is a pickle, which can execute anything: restore only runs of your own",
            stacklevel=2,
        )
        return pickle.loads(self._read(_SAVED))

    def _module(self, build: "Callable[..., TorchModule] | None") -> "TorchModule":
        if build is None:
            raise RunError(
                f"{self.location}: the study trained a module of your own: give the function that builds it, as in "
                "best.network(build) or best.predict(x, build)"
            )
        from caviar.training.module.trained import trained_module

        rows, content = self._inputs()["rows"], self._read(_MODULE)
        few = np.zeros((2, *rows.shape[1:]), rows.dtype)
        with errors_as_damage(self._file(_MODULE)):
            return trained_module(build, self.recipe, content, few)

    def predict(
        self,
        x: "npt.NDArray[np.generic] | pd.DataFrame",
        build: "Callable[..., TorchModule] | None" = None,
        *,
        batch_statistics: bool = False,
    ) -> npt.NDArray[Any]:
        """Predict the class of each row, as the data name it, or the numbers that a module predicts.

        A row's prediction does not depend on the other rows (but for rounding), because batch norm uses its running
        averages.

        Args:
            x: features as in the data, not preprocessed. The columns of a DataFrame are selected by name, in any
                order, and others such as the label are ignored. An array (N, D), or images (N, ...), has its columns
                in the order of the data; so has a DataFrame if the data were arrays.
            build: as for `network`.
            batch_statistics: True to normalise by the mean and the variance of these rows (of a module, of up to
                1,024 rows at a time) instead of the running averages, as training does with each mini-batch. It
                shows why there are averages, and is worse for everything else: predictions depend on the other
                rows, and one row alone gives the same answer for any x.

        Returns:
            Classes (N,), or numbers (N, ...).

        Raises:
            RunError: as for `network`, or batch_statistics is True and the network has no batch norm.
            DataError: a column is missing or not numeric, the rows have another shape than those of the data, or
                values are missing or not finite.
        """
        inputs = self._inputs()
        require_type("predict: batch_statistics", batch_statistics, bool, "True or False", RunError)
        if _MODULE in self.files:
            return self._predict_by_module(x, build, inputs, batch_statistics)
        from caviar.training.reference import predict_classes

        preprocessing = Preprocessing(inputs["shift"], inputs["scale"])
        x_ND = preprocessing.apply(self._features(x, len(inputs["shift"])))
        network = self.network()
        if batch_statistics:
            self._use_batch_statistics(network)
        return np.asarray(inputs["classes"][predict_classes(network, x_ND)])

    def _use_batch_statistics(self, network: "TorchModule") -> None:
        from caviar.training.batch_statistics import use_batch_statistics

        if use_batch_statistics(network) == 0:
            raise RunError(
                f"{self.location}: batch_statistics=True has no effect, because the network has no batch norm"
            )

    def _predict_by_module(
        self, x: Any, build: "Callable[..., TorchModule] | None", inputs: Arrays, batch_statistics: bool
    ) -> npt.NDArray[Any]:
        from caviar.training.module.trained import predict_numbers

        module, rows = self._module(build), inputs["rows"]
        if batch_statistics:
            self._use_batch_statistics(module)
        preprocessing = Preprocessing(inputs["shift"], inputs["scale"], is_whole=rows.dtype.kind == "i")
        x_ND = self._features(x, math.prod(rows.shape[1:]))
        if preprocessing.is_whole and (x_ND != np.floor(x_ND)).any():
            raise DataError("predict: x must hold whole numbers, as the data did")
        outputs = predict_numbers(module, preprocessing.apply(x_ND.reshape(len(x_ND), *rows.shape[1:])))
        return np.asarray(inputs["classes"][outputs.argmax(axis=1)]) if len(inputs["classes"]) else outputs

    def test_predictions(self) -> "pd.DataFrame | None":
        """Return what the trained network predicted for the rows of the test split, from which its test score comes.

        Returns:
            One row a test row, in the order of the split: `actual` and `predicted` class as the data name them, and
            `confidence`, the probability of the predicted class. None if there is no test split, or none of classes.

        Raises:
            DamagedError: the file is not as it was written.

        Example:
            >>> rows = load("runs/digits").best.test_predictions()  # doctest: +SKIP
            >>> pd.crosstab(rows["actual"], rows["predicted"])  # doctest: +SKIP
        """
        import pandas as pd

        if _TEST not in self.files:
            return None
        arrays, classes = self._arrays(_TEST), pd.CategoricalDtype(pd.Index(self._inputs()["classes"]))
        with errors_as_damage(self._file(_TEST)):
            actual, predicted = (
                pd.Categorical.from_codes(arrays[name], dtype=classes) for name in ("actual", "predicted")
            )
            return pd.DataFrame(
                {"actual": actual, "predicted": predicted, "confidence": arrays["confidence"].astype(float)}
            )

    def _features(self, x: Any, n_features: int) -> npt.NDArray[np.float64]:
        """Return rows of features in the order of the data, (N, D), not preprocessed."""
        table, names = as_table(x), self.feature_names
        if table is not None and names is not None:
            table = select_columns("predict", table, names)
        x = np.asarray(x) if table is None else table_to_array("predict", table)
        if x.ndim < 1 or x.size != len(x) * n_features or (x.ndim < 2 and n_features > 1):
            which = f" ({join_names(names)})" if names else ""
            raise DataError(
                f"predict: rows must have {n_features} features{which}, (N, {n_features}), not {x.shape}"
            )
        return require_finite("predict", x.reshape(len(x), n_features), Columns(names) if names else None)

    def _inputs(self) -> Arrays:
        inputs = self._arrays(_INPUTS)
        needed = {"shift", "scale", "classes", *(("rows",) if _MODULE in self.files else ())}
        if missing := needed - set(inputs):
            raise DamagedError(f"{self._file(_INPUTS)} is damaged: it lacks {' and '.join(sorted(missing))}")
        if self.feature_names is not None and len(self.feature_names) != inputs["shift"].size:
            raise DamagedError(
                f"{self._file(_INPUTS)} is damaged: its features are not those that best.json names"
            )
        return inputs

    def _arrays(self, name: str) -> Arrays:
        """Return the arrays of a file. They are read as numbers and text; nothing in them is executed."""
        content = self._read(name)
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return dict(arrays)
        except (ValueError, TypeError, LookupError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise DamagedError(f"{self._file(name)} is damaged: it does not hold arrays") from error

    def require_files(self) -> None:
        """Raise `DamagedError` if another file in `best/` is missing, or is not as it was written."""
        for name in self.files:
            self._read(name)

    def _file(self, name: str) -> Location:
        if self.location is None or name not in self.files:
            raise RunError(
                f"{self.location}: there is no {name}; the objective of this study yields params, not a network"
            )
        return (self.location / self.folder if self.folder else self.location) / name

    def _read(self, name: str) -> bytes:
        file = self._file(name)
        hint = "copy the run again, or `caviar resume RUN --repair` trains the winner again"
        if not file.is_file():
            raise DamagedError(f"{file} is missing; {hint}")
        content = file.read()
        if checksum(content) != self.files[name]:
            raise DamagedError(
                f"{file} is damaged: its content does not match the checksum in best.json; {hint}"
            )
        return content


def write_best(
    run: Location,
    best: Best,
    checkpoint: "Checkpoint | None",
    dataset: Dataset | None,
    p_NC: npt.NDArray[np.floating] | None = None,
) -> None:
    """Write `best/`, with `best.json` last: if it exists, all of it does. Then remove the files of another winner.

    Args:
        run: the run directory.
        best: the winner.
        checkpoint: its trained network, or what a function saved; None for an objective that trains and saves none.
        dataset: its data, with their preprocessing and names; None likewise.
        p_NC: the probability of each class for each row of the test split.
    """
    files: dict[str, bytes] = {}
    if checkpoint is not None and dataset is not None:
        best = replace(best, feature_names=dataset.feature_names)
        shift, scale = dataset.preprocessing.shift, dataset.preprocessing.scale
        inputs = {"classes": dataset.labels, "shift": shift, "scale": scale}
        if "module" in checkpoint:
            rows = {"rows": dataset.train.x[:0]}
            files = {_MODULE: checkpoint["module"].tobytes(), _INPUTS: _pack({**inputs, **rows})}
        else:
            network = {n: a for n, a in checkpoint.items() if n.startswith(("hidden.", "output."))}
            files = {_NETWORK: _pack(network), _INPUTS: _pack(inputs)}
        if p_NC is not None and dataset.test is not None:
            code = np.min_scalar_type(len(dataset.labels))
            rows = {"actual": dataset.test.y.astype(code), "predicted": p_NC.argmax(axis=1).astype(code)}
            files[_TEST] = _pack({**rows, "confidence": p_NC.max(axis=1).astype(np.float32)})
    elif checkpoint is not None and "object" in checkpoint:
        files = {_SAVED: checkpoint["object"].tobytes()}
    folder = run / "best" / best.folder if best.folder else run / "best"
    folder.make_folder()
    for name, content in files.items():
        (folder / name).write(content)
    write_description(run, replace(best, files={name: checksum(content) for name, content in files.items()}))
    _remove_others(run / "best", best.folder)


def write_description(run: Location, best: Best) -> None:
    """Write `best.json` alone; the other files in `best/` stay as they are."""
    plain = asdict(replace(best, params=dict(best.params), recipe=dict(best.recipe), location=None))
    del plain["location"]
    write_checked(run / BEST, plain)


def _remove_others(best: Location, folder: str) -> None:
    """Remove the files of earlier winners."""
    if folder:
        best.remove(name for name in best.files() if best.name + "/" + name != BEST)
    for other in best.folders():
        if other != folder:
            (best / other).remove_tree()


def _pack(arrays: Arrays) -> bytes:
    """Return the content of a file of arrays."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def read_best(run: Location) -> Best | None:
    """Return what `write_best` wrote; None if there is nothing yet.

    Raises:
        DamagedError: the file is not as it was written.
    """
    file = run / BEST
    if not file.is_file():
        return None
    with repair_hint(run):
        plain = read_checked(file, _BEST_SHAPE)
    with repair_hint(run), errors_as_damage(file):
        for name in ("interval", "test_interval"):
            if plain[name] is not None:
                low, high = plain[name]
                plain[name] = float(low), float(high)
        if plain["test_accuracy"] is not None and plain["test_rows"] is None:
            raise ValueError("test_accuracy and test_rows do not fit together")
        if (scores := plain["baseline"]) is not None:
            dev, test = float(scores["dev_accuracy"]), scores["test_accuracy"]
            plain["baseline"] = Baseline(
                label=str(scores["label"]),
                dev_accuracy=dev,
                test_accuracy=None if test is None else float(test),
            )
        names, is_tested = (
            plain.pop("feature_names"),
            (plain["test_accuracy"], plain["test_value"]) != (None, None),
        )
        plain = {"test_uses": int(is_tested), "folder": ""} | plain
        if plain["folder"] and not FOLDER.fullmatch(plain["folder"]):
            raise ValueError(f"folder is {plain['folder']!r}")
        if names is not None and not all(isinstance(name, str) for name in names):
            raise ValueError(f"feature_names is {names!r}")
        return Best(location=run / "best", feature_names=None if names is None else tuple(names), **plain)
