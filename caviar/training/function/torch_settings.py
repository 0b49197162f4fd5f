"""Settings of torch that a trial may change, and that count for the whole process."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

Setting = tuple[str, Callable[[], Any], Callable[[Any], object]]
"""A setting of the process: its name, a function that reads it, and one that sets it."""
_PRECISIONS = (
    "",
    "cuda.matmul",
    "cudnn.conv",
    "cudnn.rnn",
    "mkldnn.matmul",
    "mkldnn.conv",
    "mkldnn.rnn",
)
"""Backends with a precision of float32. They are read under the names that torch 2.9 introduced, because reading an
older name fails once a trial has used the newer."""
_BACKENDS = {
    **dict.fromkeys(_PRECISIONS, ("fp32_precision",)),
    "cudnn": ("enabled", "benchmark", "deterministic"),
}
"""Backends and their attributes that change numbers."""


def is_imported() -> bool:
    """Return whether torch is imported; a thread that an earlier trial left may still be importing it."""
    return hasattr(sys.modules.get("torch"), "manual_seed")


def torch_settings() -> list[Setting]:
    """Return the settings of torch, which is imported."""
    torch: Any = sys.modules["torch"]
    sdp = torch.backends.cuda
    settings: list[Setting] = [
        ("number of threads", torch.get_num_threads, torch.set_num_threads),
        ("default dtype", torch.get_default_dtype, torch.set_default_dtype),
        ("default device", torch.get_default_device, partial(_set_default_device, torch)),
        ("recording of gradients", torch.is_grad_enabled, torch.set_grad_enabled),
        ("determinism", torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
        ("anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        ("matmul precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        ("attention kernels", sdp.flash_sdp_enabled, sdp.enable_flash_sdp),
        ("attention kernels", sdp.mem_efficient_sdp_enabled, sdp.enable_mem_efficient_sdp),
        ("attention kernels", sdp.math_sdp_enabled, sdp.enable_math_sdp),
    ]
    for path, names in _BACKENDS.items():
        backend = torch.backends
        for part in path.split(".") if path else ():
            backend = getattr(backend, part)
        settings += [
            (name, partial(getattr, backend, name), partial(setattr, backend, name)) for name in names
        ]
    if torch.cuda.is_available():
        settings.append(("state of the GPU", partial(_wait_for_gpu, torch.cuda), bool))
    return settings


def _set_default_device(torch: Any, device: Any) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)  # None costs later calls nothing


def _wait_for_gpu(cuda: Any) -> None:
    """Wait for the GPU, so that an error of a trial is not raised in the next; torch raises it here."""
    if cuda.is_initialized():
        cuda.synchronize()
