"""Compile every launch of a pack for a GPU, without one: `python compile_kernels.py COMPUTE_CAPABILITY PRECISION`.

It goes the way of a launch up to the compiled kernel, and stops there. It prints the name of each launched kernel.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from caviar.engine import Part
from caviar.training.fused import kernels
from caviar.training.fused.pack import DeviceSplit, Pack
from caviar.training.recipe import recipe_from
from tests.training.networks import blobs, trial

RECIPES: list[dict[str, Any]] = [
    {"layers": 3, "units": 100, "dropout": 0.1},
    {"layers": 0, "optimizer": "sgd"},
    {"layers": 1, "units": 8, "optimizer": "adam"},
]


class NoDevice:
    """A driver of Triton that knows a kind of GPU and has none."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", int(sys.argv[1]), 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        return device


class Compiled:
    """A kernel that is compiled instead of launched."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*arguments: Any, **options: Any) -> None:
            compiled = self._kernel.warmup(*arguments, grid=grid, **options)
            assert compiled.asm["cubin"]
            sys.stdout.write(f"{self._kernel.__name__}\n")

        return launch


def main() -> None:
    """Compile the launches of a step and of scoring."""
    driver.set_active(NoDevice())
    names = (
        "draw_dropout_bits",
        "forward_hidden",
        "forward_output",
        "backward_hidden",
        "update_weights",
        "next_batch",
    )
    for name in names:
        setattr(kernels, name, Compiled(getattr(kernels, name)))
    data = blobs(rows=50)
    train, dev = (DeviceSplit(torch.tensor(s.x), torch.tensor(s.y)) for s in (data.train, data.dev))
    pack = Pack(train, dev, len(data.classes), slots=4, precision=sys.argv[2])
    for number, params in enumerate(RECIPES):
        pack.add(Part(trial=trial(number, **params)), recipe_from(params))
    pack._launch_step(pack._launches)
    pack._launch_scoring(pack._launches)


if __name__ == "__main__":
    main()
