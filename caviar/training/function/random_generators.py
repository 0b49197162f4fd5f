"""The state of the global random generators of Python, NumPy and torch, which a checkpoint keeps.

A trial that continues draws the same numbers as one that was never paused: its dropout and the order of its
mini-batches may come from these generators.
"""

import pickle
import random
import sys
from typing import Any

import numpy as np
import numpy.typing as npt


def save_generators() -> npt.NDArray[np.uint8]:
    """Return the state of the generators, pickled. Torch counts if it is imported, and its GPUs if they are in use."""
    torch: Any = sys.modules.get("torch")
    state: dict[str, Any] = {"python": random.getstate(), "numpy": np.random.get_state()}  # noqa: NPY002
    if hasattr(torch, "get_rng_state"):
        state["torch"] = torch.get_rng_state().numpy()
        if torch.cuda.is_initialized():
            state["cuda"] = [device.cpu().numpy() for device in torch.cuda.get_rng_state_all()]
    return np.frombuffer(pickle.dumps(state), np.uint8)


def restore_generators(saved: npt.NDArray[np.generic]) -> None:
    """Set the generators to the state that `save_generators` returned."""
    torch: Any = sys.modules.get("torch")
    state = pickle.loads(saved.tobytes())
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    if "torch" in state and hasattr(torch, "set_rng_state"):
        torch.set_rng_state(torch.from_numpy(state["torch"]))
        if torch.cuda.is_initialized():
            for number, device in enumerate(state.get("cuda", [])[: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(torch.from_numpy(device), number)
