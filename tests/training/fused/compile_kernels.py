"""Compile the kernels for a GPU, which takes none: `python compile_kernels.py COMPUTE_CAPABILITY PRECISION`."""

import sys

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from caviar.training.fused import kernels
from caviar.training.fused.pack import Tiles

TYPES = {"x": "*fp32", "y": "*i64", "orders": "*i32", "wholes": "*i64", "reals": "*fp64", "tables": "*i64"}
CONSTANTS = {
    "REAL": tl.float32,
    "ROW_TILE": Tiles().rows,
    "UNIT_TILE": Tiles().units,
    "INPUT_TILE": Tiles().inputs,
    "CLASS_TILE": 16,
    "BLOCKS": 256,
    "LANES": 128,
}
KERNELS = (
    kernels.draw_dropout_bits,
    kernels.forward_hidden,
    kernels.forward_output,
    kernels.backward_hidden,
    kernels.update_weights,
    kernels.next_batch,
)


def main() -> None:
    """Compile each kernel, for training and for scoring."""
    target = GPUTarget("cuda", int(sys.argv[1]), 32)
    for kernel in KERNELS:
        for scores in (False, True) if "SCORES" in kernel.arg_names else (False,):
            values = CONSTANTS | {"SCORES": scores, "PRECISION": sys.argv[2]}
            signature = {
                name: "constexpr" if name in values else TYPES.get(name, "i32") for name in kernel.arg_names
            }
            constants = {name: value for name, value in values.items() if name in kernel.arg_names}
            source = ASTSource(kernel, signature=signature, constexprs=constants)
            compiled = triton.compile(source, target=target, options={"num_warps": 8})
            sys.stdout.write(f"{kernel.__name__} {len(compiled.asm['cubin'])}\n")


if __name__ == "__main__":
    main()
