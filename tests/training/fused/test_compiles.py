"""The kernels compile for GPUs, on a machine without one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("capability", "precision"), [(80, "ieee"), (90, "ieee"), (90, "tf32x3")])
def test_kernels_compile(capability: int, precision: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    script = Path(__file__).with_name("compile_kernels.py")
    command = [sys.executable, str(script), str(capability), precision]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    step = ["draw_dropout_bits", *["forward_hidden"] * 3, "forward_output", *["backward_hidden"] * 3]
    step += ["update_weights", "next_batch"]
    scoring = [*["forward_hidden"] * 3, "forward_output"]
    assert done.stdout.split() == step + scoring
    assert "Warning" not in done.stderr
