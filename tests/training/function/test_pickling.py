"""Functions of scripts are pickled by value, and what cannot be pickled is named."""

import functools
import multiprocessing
import pickle
import sys
import threading
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest

from caviar.experiment_script import load_study
from caviar.fingerprint import SCRIPT_MODULE
from caviar.training.function.pickling import NotPicklableError, dumps, support_spawn

Params = dict[str, Any]
LOCK = threading.Lock()
SETTINGS: dict[str, Any] = {"log": [LOCK]}
SCRIPT = """
import caviar as cv

class Rows:
    def __init__(self, n):
        self.n = n

def double(rows):
    return Rows(2 * rows.n)

def train(params):
    return 0.0

study = cv.Study(name="rows", objective=cv.Function(train), space=cv.Space(x=cv.linear(0, 1)), rounds=cv.Round(1, 1))
"""


def local(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that cannot be imported."""
    fn.__qualname__ = f"here.<locals>.{fn.__name__}"
    return fn


@local
def uses_settings(params: Params) -> Any:
    return SETTINGS


@local
def calls(params: Params) -> Any:
    return uses_settings(params)


class Trainer:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def train(self, params: Params) -> float:
        return 1.0


@pytest.mark.parametrize(
    ("thing", "named"),
    [
        (uses_settings, r"SETTINGS\['log'\]\[0\], which uses_settings uses, is a lock"),
        (calls, r"SETTINGS\['log'\]\[0\], which uses_settings uses, is a lock"),
        (functools.partial(max, key=LOCK), "the argument key, which functools.partial uses, is a lock"),
        (Trainer().train, "the object of train.lock is a lock"),
        (functools.cache(local(lambda: LOCK)), "LOCK, which <lambda> uses, is a lock"),
    ],
)
def test_what_cannot_be_pickled_is_named(thing: object, named: str) -> None:
    with pytest.raises(NotPicklableError, match=named):
        dumps(thing)


def test_modules_that_are_special_objects_are_pickled_by_name() -> None:
    import torch

    again = pickle.loads(dumps(lambda: torch.backends.cudnn))
    assert again() is torch.backends.cudnn


def test_cached_functions_keep_their_results_over_copies() -> None:
    calls = []

    @functools.lru_cache(maxsize=2)
    def load(n: int) -> list[int]:
        calls.append(n)
        return [n]

    pickled = dumps(lambda: load)
    first, second = pickle.loads(pickled)(), pickle.loads(pickled)()
    assert first is second is not load
    assert first(3) is second(3)
    assert first.cache_parameters() == {"maxsize": 2, "typed": False}
    assert not calls


def test_a_name_in_a_script_is_never_sent() -> None:
    class Named:
        def __reduce__(self) -> str:
            return "SETTINGS"

    Named.__module__ = "__main__"
    with pytest.raises(NotPicklableError, match=r"it is a .*Named"):
        dumps(Named())


def test_spawned_processes_get_functions_of_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "rows.py"
    script.write_text(SCRIPT)
    load_study(script)
    module: Any = sys.modules.pop(SCRIPT_MODULE)
    monkeypatch.setattr(ForkingPickler, "reducer_override", None, raising=False)
    monkeypatch.delattr(ForkingPickler, "reducer_override")
    support_spawn()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (doubled,) = pool.map(module.double, [module.Rows(3)])
    assert isinstance(doubled, module.Rows)
    assert doubled.n == 6
