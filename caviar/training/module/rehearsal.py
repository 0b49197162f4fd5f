"""A rehearsal in the driver: errors that all trials would have are found before the first one."""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from caviar.data.splits import Dataset, Split
from caviar.engine import Part
from caviar.errors import StudyError
from caviar.training.function.fresh_function import FreshCopies
from caviar.training.function.import_path import ImportPath
from caviar.training.function.pickling import NotPicklableError, dumps, loads
from caviar.training.function.random_generators import restore_generators, save_generators
from caviar.training.module.engine import ModuleEngine
from caviar.training.module.user_code import UserCode, describe
from caviar.trial import Trial, Value

ROWS = 2
"""Rows of the train split to learn from."""


def rehearse(
    code: UserCode, points: Sequence[Mapping[str, Value]], dataset: Dataset, device: str = "cpu"
) -> None:
    """Train a copy of the module on two rows and score it on the dev split, until one of several points works.

    A space may have points that cannot be built, and their trials fail alone. A module that needs a GPU is not
    rehearsed where there is none.

    Args:
        code: the user's functions, in what is sent to workers.
        points: params of trials.
        dataset: all splits.
        device: "cpu", or "cuda" for a module that needs a GPU.

    Raises:
        StudyError: all points failed, or the objective cannot be pickled.
    """
    copies = copies_of(code)
    if device == "cuda" and not torch.cuda.is_available():
        return
    few = replace(dataset, train=Split(dataset.train.x[:ROWS], dataset.train.y[:ROWS]), test=None)
    generators = save_generators()
    try:
        engine = ModuleEngine(copies.copy, few, device)
        failures: list[tuple[Mapping[str, Value], BaseException]] = []
        for params in points:
            trial = Trial(number=0, round=1, params=params, epochs=1, seed=0)
            try:
                engine.train_openly(Part(trial=trial, keep_checkpoint=True))
            except (Exception, SystemExit) as error:
                failures.append((params, error))
            else:
                return
    finally:
        restore_generators(generators)
    params, first = failures[0]
    chosen = ", ".join(f"{name}={value!r}" for name, value in params.items())
    raise StudyError(
        f"Module: no trial can be trained. With {chosen}: {describe(first, code.build)}{_hint(dataset, first)}"
    ) from first


def copies_of(code: UserCode) -> FreshCopies:
    """Return copies of the functions, so that the user's own functions and modules stay as they are."""
    arrays: list[pickle.PickleBuffer] = []
    try:
        pickled = dumps(code, arrays.append)
    except NotPicklableError as error:
        raise StudyError(f"{code} cannot be sent to workers: {error}; create it inside build") from error
    views = tuple(pickle.PickleBuffer(memoryview(array).toreadonly()) for array in arrays)
    return FreshCopies(lambda: loads(pickled, views), len(pickled), ImportPath.here().own)


def _hint(dataset: Dataset, error: BaseException) -> str:
    """Return advice about whole numbers in x that the module may not expect; empty if it has none."""
    if dataset.preprocessing.is_whole and isinstance(error, RuntimeError):
        return '; x holds whole numbers, as for nn.Embedding: preprocess="standardize" or "scale" makes them floats'
    return ""
