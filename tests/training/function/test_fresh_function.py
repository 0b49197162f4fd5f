"""Each trial on a worker starts from the script's state, and from that of the modules beside it."""

import importlib
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from caviar.training.function.fresh_function import FreshFunction
from caviar.training.function.own_modules import OwnModules
from caviar.training.function.pickling import dumps

SETTINGS = """
import collections
import types
import numpy as np

RATE = 0.1
CONFIG = {"layers": [1, 2]}
SEEN = collections.deque([1])
WEIGHTS = np.zeros(3)
DRAWS = np.random.default_rng(0)
SPACE = types.SimpleNamespace(size=1)

class Registry:
    known = []
    size = 1

class Network:
    weight = None

    def __call__(self, x):
        return self.weight

NETWORK = Network()
NETWORK.weight = [1]

def change():
    global RATE
    known = Registry.known, Registry.size
    found = repr([RATE, CONFIG, SEEN, WEIGHTS, DRAWS.random(), SPACE, NETWORK(0), known, "left" in globals()])
    RATE += 1
    CONFIG["layers"].append(3)
    CONFIG["new"] = True
    SEEN.append(2)
    WEIGHTS[0] += 1
    SPACE.size += 1
    NETWORK.weight.append(2)
    Registry.known.append("me")
    Registry.size += 1
    globals()["left"] = True
    return found
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the user's module `own_settings`, and `own_reader`, which shares objects with it."""
    (tmp_path / "own_settings.py").write_text(SETTINGS)
    (tmp_path / "own_reader.py").write_text("from own_settings import CONFIG, SPACE\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("own_settings", "own_reader"):
        sys.modules.pop(name, None)


def test_variables_of_a_function_are_copied_for_each_call() -> None:
    torch = pytest.importorskip("torch")
    network, rows, calls = torch.nn.Linear(1, 1, bias=False), [1], {"count": 0}

    class Counter:
        total: list[int] = []  # noqa: RUF012

    def train(params: dict[str, Any]) -> tuple[int, int, float, int]:
        found = len(rows), calls["count"], float(network.weight.data.sum()), len(Counter.total)
        rows.append(1)
        calls["count"] += 1
        network.weight.data += 1
        Counter.total.append(1)
        return found

    pickled = dumps(train)
    fresh = FreshFunction(lambda: pickle.loads(pickled), len(pickled), ())
    assert fresh({}) == fresh({}) == fresh({})


@pytest.mark.parametrize(("is_always_slow", "warnings"), [(False, 0), (True, 1)])
def test_only_copies_that_are_always_slow_warn(is_always_slow: bool, warnings: int) -> None:
    loaded = []

    def load() -> Callable[..., Any]:
        loaded.append(0)
        if is_always_slow or len(loaded) == 1:  # the first copy imports what the function needs
            time.sleep(0.12)
        return len

    assert len(FreshFunction(load, 10, ()).warnings) == warnings


@pytest.mark.parametrize("is_imported_before", [True, False])
def test_own_modules_are_put_back_in_place(folder: Path, is_imported_before: bool) -> None:
    if is_imported_before:
        importlib.import_module("own_reader")
    modules = OwnModules((str(folder),))
    found = []
    for _ in range(3):
        settings: Any = importlib.import_module("own_settings")
        reader: Any = importlib.import_module("own_reader")
        assert reader.CONFIG is settings.CONFIG
        assert reader.SPACE is settings.SPACE
        found.append(settings.change())
        modules.restore()
    assert found[0] == found[1] == found[2]
    assert modules.damage is None


def test_proxies_that_raise_when_asked_are_left_alone(folder: Path) -> None:
    (folder / "own_settings.py").write_text(
        "class Request:\n"
        "    def __getattr__(self, name):\n"
        "        raise RuntimeError('working outside of a request')\n"
        "request = Request()\n"
    )
    importlib.import_module("own_settings")
    modules = OwnModules((str(folder),))
    modules.restore()
    assert modules.damage is None


def test_what_cannot_be_put_back_is_damage(folder: Path) -> None:
    (folder / "own_settings.py").write_text(
        "import array\nROWS = array.array('d', [1.0])\nLARGE = bytearray(9 * 2**20)\n"
    )
    settings: Any = importlib.import_module("own_settings")
    modules = OwnModules((str(folder),))
    assert "own_settings.LARGE has 9 MiB" in modules.warnings[0]
    modules.restore()
    assert modules.damage is None
    settings.ROWS.append(2.0)
    modules.restore()
    assert "own_settings.ROWS" in str(modules.damage)


def test_installed_modules_are_left_alone(folder: Path) -> None:
    installed = folder / "site-packages"
    installed.mkdir()
    (installed / "own_settings.py").write_text("ROWS = []\n")
    sys.path.insert(0, str(installed))
    settings: Any = importlib.import_module("own_settings")
    modules = OwnModules((str(folder),))
    settings.ROWS.append(1)
    modules.restore()
    assert settings.ROWS == [1]
