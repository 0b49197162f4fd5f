"""The engine that a classifier trains with, and its predicted cost."""

import os
import subprocess
import sys

import pytest

from caviar.errors import StudyError
from caviar.training.classifier import Classifier
from caviar.training.fused.engine import FusedEngine
from caviar.training.native.engine import NativeEngine
from caviar.training.reference import ReferenceEngine
from tests.training.networks import blobs

DATA = blobs()


@pytest.mark.parametrize(
    ("name", "kind"), [("auto", NativeEngine), ("native", NativeEngine), ("reference", ReferenceEngine)]
)
def test_cpu_workers_use_the_native_engine_by_default(name: str, kind: type) -> None:
    objective = Classifier(data=(DATA.train.x, DATA.train.y), engine=name)
    assert type(objective.make_engine(DATA, "cpu")) is kind


def test_the_fused_engine_is_refused_without_a_gpu() -> None:
    code = (
        "from caviar.training.classifier import Classifier; from tests.training.networks import blobs;"
        "Classifier(data=(blobs().train.x, blobs().train.y), engine='fused').make_engine(blobs(), 'cpu')"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "ClusterError" in done.stderr
    assert "needs a GPU" in done.stderr


def test_fixed_widths_are_no_obstacle_to_the_fused_engine() -> None:
    fixed = {"layers": 2, "units_1": 8, "units_2": 4, "learning_rate": 1e6}
    objective = Classifier(data=(DATA.train.x, DATA.train.y), engine="fused", fixed=fixed)
    assert isinstance(objective.make_engine(DATA, "cpu"), FusedEngine)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(StudyError, match="engine must be one of auto, native, fused, reference, not 'warp'"):
        Classifier(data=(DATA.train.x, DATA.train.y), engine="warp")


def test_predictions_rank_engines_and_network_sizes() -> None:
    native, reference = (
        Classifier(data=(DATA.train.x, DATA.train.y), engine=name) for name in ("native", "reference")
    )
    for layers in (1, 2, 4):
        sizes = [{"units": units, "layers": layers} for units in (16, 64, 256)]
        costs = [native.costs(params, 10, DATA)["cpu"] for params in sizes]
        assert costs == sorted(costs)
        assert all(
            c < reference.costs(params, 10, DATA)["cpu"] for c, params in zip(costs, sizes, strict=True)
        )


def test_importing_the_classifier_loads_neither_torch_nor_numba() -> None:
    code = "import caviar.training.classifier, sys; print({'torch', 'numba'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
