"""`caviar explain`: which trials train together on a GPU, and what keeps the others apart."""

from pathlib import Path

import pytest

from caviar.cli.main import main

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
MODULE = """
import torch
from torch import nn
import caviar as cv

class Noisy(nn.Linear):
    def forward(self, x):
        return super().forward(x) + {noise} * torch.randn(1)

class Scaled(nn.Linear):
    def forward(self, x):
        return self.scale * super().forward(x)

def build(params):
    layer = {layer}(13, 3)
    layer.scale = params["scale"]
    return layer

study = cv.Study(
    name="explained",
    objective=cv.Module(build, data="sklearn:wine", preprocess="standardize", {options}),
    space=cv.Space(learning_rate=cv.log(1e-3, 1), scale={scale}),
    rounds=cv.coarse_to_fine(trials=20, epochs=1),
)
"""


def explained(script: str | Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Return what the command says about each kind of worker."""
    assert main(["explain", str(script)]) == 0
    return dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())


def module_script(
    folder: Path, layer: str = "Scaled", scale: str = "cv.choice(2.0)", options: str = ""
) -> Path:
    script = folder / "experiment.py"
    script.write_text(MODULE.format(noise=0.1, layer=layer, scale=scale, options=options))
    return script


def test_classifiers_of_any_size_train_together(capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(EXPERIMENTS / "digits.py", capsys)
    assert "compiled" in found["on a CPU worker"]
    assert "whatever their sizes" in found["on a GPU worker"]


def test_functions_need_a_declared_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert "cv.Resources" in explained(EXPERIMENTS / "function.py", capsys)["on a GPU worker"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "all have the same structure"),
        ({"scale": "cv.choice(1.0, 2.0)"}, "depends on scale"),
        ({"layer": "Noisy"}, "one module at a time, because torch.func.vmap cannot run it"),
        ({"options": "time_limit_s=60"}, "because there is a time limit"),
        (
            {"options": "optimizer=lambda params, module: torch.optim.SGD(module.parameters(), lr=0.1)"},
            "because its optimizer or schedule is a function",
        ),
    ],
)
def test_modules_say_what_keeps_them_apart(
    arguments: dict[str, str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = explained(module_script(tmp_path, **arguments), capsys)
    assert words in found["on a GPU worker"]


def test_a_script_without_a_study_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "empty.py"
    script.write_text("x = 1\n")
    assert main(["explain", str(script)]) == 1
    assert "empty.py" in capsys.readouterr().err
