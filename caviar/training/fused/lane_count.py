"""The number of lanes with which a device trains fastest: measured once a machine, then remembered.

More lanes hide the latency of memory and the time between launches, until the device is full. Then they only delay the
first results. The numbers of a lane depend on no other lane, so the count changes nothing that a study records.
"""

import hashlib
import json
import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from caviar.engine import Part
from caviar.storage.user_cache import locked, private_folder
from caviar.training.fused.pack import Pack
from caviar.training.recipe import recipe_from
from caviar.trial import Trial

COUNTS = (64, 128, 256, 512, 1024, 2048, 4096)
"""Numbers of lanes to try, in this order."""
MIN_GAIN = 1.1
"""Factor by which the steps a second must grow from one number of lanes to the next."""
_REPEATS = 3
"""Measurements of each number of lanes, of which the median counts."""

_log = logging.getLogger(__name__)


def knee(rate: Callable[[int], float], counts: Sequence[int] = COUNTS, min_gain: float = MIN_GAIN) -> int:
    """Return the last number of lanes that was worth it.

    Args:
        rate: returns the steps a second with a number of lanes, or raises `torch.OutOfMemoryError`.
        counts: numbers to try, ascending. The rest are not tried after one that gains too little.
        min_gain: factor by which the rate must grow from one number to the next.

    Example:
        >>> knee(lambda lanes: min(lanes, 300) * 1000.0, counts=(64, 128, 256, 512, 1024))
        512
    """
    best, best_rate = counts[0], 0.0
    for count in counts:
        try:
            found = rate(count)
        except torch.OutOfMemoryError:
            break
        if found < min_gain * best_rate:
            break
        best, best_rate = count, found
    return best


def measure(make_pack: Callable[[int], Pack], counts: Sequence[int] = COUNTS) -> int:
    """Return the number of lanes with which networks of the default recipe train fastest.

    Args:
        make_pack: makes a pack of a number of lanes.
        counts: numbers of lanes to try, ascending.
    """
    return knee(lambda count: _steps_per_s(make_pack(count), count), counts)


def remember(key: Mapping[str, object], find: Callable[[], int]) -> int:
    """Return the number of lanes found earlier for a key, or find it now and write it down.

    The processes of a machine wait for the one that measures.

    Args:
        key: everything that the number depends on.
        find: measures it.
    """
    folder = private_folder("lanes")
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    file = folder / f"{name}.json"
    with locked(folder / f"{name}.lock"):
        if (known := _read(file)) is not None:
            return known
        began = time.perf_counter()
        lanes = find()
        _log.info("%d lanes train fastest (measured in %.1f s)", lanes, time.perf_counter() - began)
        new = file.with_suffix(".new")
        new.write_text(json.dumps({**key, "lanes": lanes}, indent=2))
        new.replace(file)
        return lanes


def describe(x_ND: torch.Tensor, classes: int, how: str) -> dict[str, object]:
    """Return all that the number of lanes depends on.

    Args:
        x_ND: rows of the train split, on the device.
        classes: number of classes.
        how: tiles and precision of the kernels.
    """
    source = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(Path(__file__).parent.glob("*.py"))))
    is_gpu = x_ND.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(x_ND.device) if is_gpu else x_ND.device.type,
        "torch": torch.__version__,
        "source": source.hexdigest()[:16],
        "features": x_ND.shape[1],
        "classes": classes,
        "dtype": str(x_ND.dtype),
        "how": how,
    }


def _read(file: Path) -> int | None:
    """Return the number in a file; None if there is none."""
    try:
        lanes = json.loads(file.read_text())["lanes"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return lanes if isinstance(lanes, int) and lanes > 0 else None


def _steps_per_s(pack: Pack, lanes: int) -> float:
    """Return the steps of all lanes a second, with the scoring of their epochs."""
    recipe = recipe_from({})
    for number in range(lanes):
        pack.add(Part(trial=Trial(number=number, round=0, params={}, epochs=10**6, seed=number)), recipe)
    for _ in range(2):  # compiles, captures
        pack.advance()
    seconds = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        pack.advance()
        seconds.append(time.perf_counter() - began)
    steps = len(next(iter(pack.lanes.values())).batches)
    return lanes * steps / statistics.median(seconds)
