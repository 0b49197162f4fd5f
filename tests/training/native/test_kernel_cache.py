"""The kernels' cache: compiled once, in a folder of the user; kernels need neither torch nor memory allocation."""

import logging
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numba
import pytest

from caviar.training.native import kernel_cache

TRAIN = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s")
import numpy as np
from caviar.data.splits import split
from caviar.training.classifier import Classifier
from caviar.engine import Part
from caviar.trial import Trial
rng = np.random.default_rng(0)
x, y = rng.standard_normal((60, 4)), np.arange(60) % 3
objective = Classifier(data=(x, y))
engine = objective.make_engine(objective.load(), "cpu")
trial = Trial(number=0, round=1, params={"units": 8}, epochs=2, seed=0)
*_, progress, done = engine.train([Part(trial=trial)])
print(engine.name, done.outcome, progress.measurement.metrics["dev_loss"])
print("torch" if "torch" in sys.modules else "no torch")
"""


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find the folder anew at each call, without NUMBA_CACHE_DIR."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(kernel_cache, "cache_folder", kernel_cache.cache_folder.__wrapped__)


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts a training process, which is killed after the test."""
    with ExitStack() as started:

        def start(cache: Path, **more: str) -> "subprocess.Popen[str]":
            environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), **more}
            command, pipe = [sys.executable, "-c", TRAIN], subprocess.PIPE
            process = subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)
            started.enter_context(process)
            started.callback(process.kill)
            return process

        yield start


@pytest.mark.slow
def test_workers_that_start_together_compile_once(tmp_path: Path, start: Start) -> None:
    workers = [start(tmp_path) for _ in range(3)]
    ends = [worker.communicate(timeout=600) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], ends
    assert sum("compiling the native engine for float32" in errors for _, errors in ends) == 1
    assert len({output for output, _ in ends}) == 1
    assert ends[0][0].startswith("native completed")
    assert "no torch" in ends[0][0]
    later = start(tmp_path)
    output, errors = later.communicate(timeout=600)
    assert output == ends[0][0]
    assert errors == ""  # it had nothing to compile


@pytest.mark.slow
@pytest.mark.parametrize(
    "cpu", [{"NUMBA_CPU_NAME": "generic"}, {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"}]
)
def test_fewer_cpu_features_give_the_same_training(tmp_path: Path, start: Start, cpu: dict[str, str]) -> None:
    output, errors = start(tmp_path / "less", **cpu).communicate(timeout=600)
    assert "compiled" in errors
    expected, _ = start(tmp_path / "all").communicate(timeout=600)
    assert output.split()[:2] == expected.split()[:2] == ["native", "completed"]
    assert float(output.split()[2]) == pytest.approx(float(expected.split()[2]), rel=1e-5)


def test_training_steps_allocate_no_memory() -> None:
    count = """
import numpy as np
from numba.core.runtime import rtsys
from caviar.training.native.engine import NativeTraining, PaddedSplit, _compile_kernels
from caviar.training.recipe import recipe_from
from caviar.training.native.arrays import aligned_zeros
_compile_kernels(np.dtype(np.float32))
rows = PaddedSplit(aligned_zeros(2000 * 16, np.float32).reshape(2000, 16), np.zeros(2000, np.int64))
def allocations(batch_size, **params):
    recipe = recipe_from({"batch_size": batch_size, **params})
    training = NativeTraining(recipe, [5, 9, 9, 3], rows, rows, 0, np.float32)
    training.advance(0.1)
    before = rtsys.get_allocation_stats()
    training.advance(0.1)
    training.score()
    after = rtsys.get_allocation_stats()
    return after.alloc - before.alloc, after.mi_alloc - before.mi_alloc
plain = {"batch_norm": False, "activation": "tanh"}
for params in ({}, plain, {"optimizer": "adam", "l2": 0.1}, {"dropout": 0.5}):
    few, many = (allocations(size, units=9, **params) for size in (1000, 10))
    assert few == many, (few, many)  # only the arguments of each call have headers
print("none")
"""
    environment = {**os.environ, "NUMBA_NRT_STATS": "1"}
    run = [sys.executable, "-c", count]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert (done.stdout, done.stderr) == ("none\n", "")


@pytest.mark.usefixtures("fresh")
def test_kernels_are_kept_in_numbas_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert kernel_cache.cache_folder().parent == tmp_path


@pytest.mark.usefixtures("fresh")
def test_kernels_are_kept_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernel_cache.cache_folder().parent == tmp_path / "caviar"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert kernel_cache.cache_folder().parent == tmp_path / ".cache" / "caviar"


@pytest.mark.usefixtures("fresh")
def test_without_a_writable_home_workers_share_a_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    found = kernel_cache.cache_folder()
    assert found.parent.parent == tmp_path
    assert kernel_cache.cache_folder() == found
    assert stat.S_IMODE(found.stat().st_mode) == 0o700


@pytest.mark.usefixtures("fresh")
def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    open_to_all = tmp_path / f"caviar-{os.getuid()}"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    found = kernel_cache.cache_folder()
    assert open_to_all not in found.parents
    assert stat.S_IMODE(found.stat().st_mode) == 0o700


@pytest.mark.usefixtures("fresh")
def test_only_the_first_compilation_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    caplog.set_level(logging.INFO)
    for _ in range(2):
        with kernel_cache.compile_once("float32"):
            pass
    assert [record.message.split(" (")[0] for record in caplog.records][:1] == [
        "compiling the native engine for float32"
    ]
    assert len(caplog.records) == 2
    with pytest.raises(KeyboardInterrupt), kernel_cache.compile_once("float64"):
        raise KeyboardInterrupt
    caplog.clear()
    with kernel_cache.compile_once("float64"):  # an interrupted compilation does not count
        pass
    assert len(caplog.records) == 2
