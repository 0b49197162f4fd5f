"""Functions for whole studies, and harmful ones. Workers import them, as they import those of a user's package."""

import ctypes
import decimal
import gc
import logging
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import caviar as cv
from caviar.trial import Outcome

Params = dict[str, Any]
LEFT_BYTES = 2**46
"""Size of the address space that a trial limits its process to: enough to go on."""
LEFT_ZONE_S = 7 * 3600
"""Seconds to the time zone that a trial sets."""
CHILD = "6007"
"""Seconds that left-behind children sleep; the number tells them from other processes."""
REMEMBERED: list[float] = []
"""Values that a trial remembers."""
Body = Callable[[Params, cv.TrialContext], float | None]


def noisy_bowl(params: Params, trial: cv.TrialContext) -> None:
    """Report a few noisy losses; the noise comes from the trial's seed and from the global generators."""
    own = trial.restore() or np.random.default_rng(trial.seed)
    for epoch in trial.remaining():
        noise = own.random() + random.random() + float(np.random.rand())  # noqa: NPY002
        trial.report(epoch, loss=(params["x"] - 0.3) ** 2 + 0.1 * noise + 1 / epoch, draws=noise)
        trial.save(own)


def random_bowl(params: Params) -> float:
    """Return a noisy value, and remember it: the next trial must not see it."""
    REMEMBERED.append(random.random())
    return float((params["x"] - 0.3) ** 2 + sum(REMEMBERED))


def function_study(
    fn: Callable[..., Any] = noisy_bowl,
    *,
    rounds: tuple[int | cv.Round, ...] = (20, 10),
    halving: cv.Halving | None = None,
    **declared: Any,
) -> cv.Study:
    """Return a small study of a function that measures loss and draws; rounds may be given by their trials."""
    declared = {"metric": "loss", "metrics": ("loss", "draws"), **declared}
    return cv.Study(
        name="function",
        objective=cv.Function(fn, **declared),
        space=cv.Space(x=cv.linear(0.0, 1.0)),
        rounds=[
            *(r if isinstance(r, cv.Round) else cv.Round(r, 3, halving) for r in rounds),
            cv.Confirmation(2, 2),
        ],
    )


@dataclass(frozen=True)
class Harm:
    """A harmful function, and what its trial's row must say."""

    do: Body
    outcome: Outcome = Outcome.FAILED
    failure: str | None = None
    """Part of the failure message; None if the trial completes."""


class Unpicklable(Exception):
    """An exception that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("cannot be sent")
        self.lock = threading.Lock()


class Rebellion(BaseException):
    """A `BaseException` that is no `Exception`."""


def _require_clean_settings() -> None:
    """Check that no trial left settings behind that `_change_settings` changes."""
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != LEFT_BYTES
    assert os.umask(0o022) == 0o022
    assert signal.SIGUSR2 not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert sys.path[0] != "left_behind"
    assert logging.root.level != logging.CRITICAL + 1
    assert decimal.getcontext().prec != 3
    assert time.timezone != LEFT_ZONE_S
    assert gc.isenabled()
    assert multiprocessing.get_start_method(allow_none=True) != "spawn"
    torch = sys.modules.get("torch")
    assert torch is None or (torch.get_num_threads() < 7 and torch.get_default_dtype() is torch.float32)
    assert torch is None or torch.empty(()).device.type == "cpu"
    assert torch is None or torch.get_float32_matmul_precision() == "highest"
    assert torch is None or not torch.backends.cudnn.deterministic
    assert torch is None or torch.backends.cudnn.conv.fp32_precision == "tf32"


def careful_bowl(params: Params, trial: cv.TrialContext) -> float | None:
    """Check that earlier trials left nothing behind in the process, then train as `noisy_bowl`."""
    assert "LEFT_BEHIND" not in os.environ
    assert os.path.isdir(os.getcwd())
    assert os.getcwd() != "/"
    assert np.geterr()["divide"] == "warn"
    warnings.warn("it is only a warning", stacklevel=1)
    print("this text is not lost", flush=True)  # noqa: T201
    os.fstat(1)
    _require_clean_settings()
    noisy_bowl(params, trial)
    return None


def _raise(error: BaseException) -> Body:
    def raises(params: Params, trial: cv.TrialContext) -> float:
        raise error

    return raises


def _raises_what_cannot_be_pickled(params: Params, trial: cv.TrialContext) -> float:
    raise Unpicklable


def _raises_a_flood(params: Params, trial: cv.TrialContext) -> float:
    raise ValueError("x" * 10**8)


def _return(value: Any) -> Body:
    return lambda params, trial: value


def _returns_a_gigabyte(params: Params, trial: cv.TrialContext) -> Any:
    return bytes(10**9)


def _returns_many_names(params: Params, trial: cv.TrialContext) -> Any:
    return {f"metric {number}": 0.0 for number in range(200_000)} | {"loss": 1.0}


def _floods(params: Params, trial: cv.TrialContext) -> float:
    for _ in range(2_000):
        print("flood" * 2_000)  # noqa: T201
        print("flood" * 2_000, file=sys.stderr)  # noqa: T201
    return 1.0


def _warns(params: Params, trial: cv.TrialContext) -> float:
    warnings.simplefilter("always")
    for number in range(5_000):
        warnings.warn(f"storm {number}", stacklevel=1)
    warnings.simplefilter("error")
    return 1.0


def _exits(params: Params, trial: cv.TrialContext) -> float:
    os._exit(3)


def _segfaults(params: Params, trial: cv.TrialContext) -> float:
    return float(len(ctypes.string_at(0)))


def _kills_itself(params: Params, trial: cv.TrialContext) -> float:
    os.kill(os.getpid(), signal.SIGKILL)
    return 1.0


def _takes_all_memory(params: Params, trial: cv.TrialContext) -> float:
    blocks = []
    while True:
        blocks.append(bytearray(b"x") * 2**25)


def _closes_everything(params: Params, trial: cv.TrialContext) -> float:
    sys.stdout.close()
    sys.stderr = None
    for number in range(3):
        os.close(number)
    return 1.0


def _change_settings() -> None:
    np.seterr(all="raise")
    resource.setrlimit(resource.RLIMIT_AS, (LEFT_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    os.umask(0o777)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    sys.path.insert(0, "left_behind")
    logging.root.setLevel(logging.CRITICAL + 1)
    decimal.getcontext().prec = 3
    os.environ["TZ"] = "XYZ7"
    time.tzset()
    gc.disable()
    multiprocessing.set_start_method("spawn", force=True)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(7)
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_float32_matmul_precision("medium")
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.conv.fp32_precision = "ieee"


def _changes_the_process_state(params: Params, trial: cv.TrialContext) -> float:
    os.chdir("/")
    os.environ["LEFT_BEHIND"] = "1"
    os.environ.pop("PATH")
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    _change_settings()
    return 1.0


def _forks(params: Params, trial: cv.TrialContext) -> float:
    return _forks_in_main(params)


def _raises_in_a_thread(params: Params, trial: cv.TrialContext) -> float:
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    return 1.0


def _leaves_children(params: Params, trial: cv.TrialContext) -> float:
    subprocess.Popen(["sleep", CHILD])
    subprocess.Popen(["sleep", CHILD], start_new_session=True)
    subprocess.run(f"setsid sleep {CHILD} >/dev/null 2>&1 &", shell=True, check=True)
    return 1.0


def _hangs(params: Params, trial: cv.TrialContext) -> float:
    _leaves_children(params, trial)
    return float(ctypes.PyDLL(None).sleep(1_000))  # C code that keeps the GIL


COMPLETED, DIVERGED = Outcome.COMPLETED, Outcome.DIVERGED
HARMS = {
    2: Harm(_raise(ArithmeticError("two and two are five")), failure="ArithmeticError: two and two are five"),
    3: Harm(_raises_what_cannot_be_pickled, failure="Unpicklable: cannot be sent"),
    4: Harm(_raises_a_flood, failure="ValueError: xxx"),
    5: Harm(_raise(SystemExit(7)), failure="SystemExit: 7"),
    6: Harm(_raise(KeyboardInterrupt()), failure="KeyboardInterrupt"),
    7: Harm(_raise(Rebellion("no")), failure="Rebellion: no"),
    8: Harm(_return(float("nan")), DIVERGED, "loss is not finite (nan)"),
    9: Harm(_return(float("-inf")), DIVERGED, "loss is not finite (-inf)"),
    10: Harm(_return("0.5"), failure="the metric 'loss' must be a number, not a str"),
    11: Harm(_returns_a_gigabyte, failure="the metric 'loss' must be a number, not a bytes"),
    12: Harm(_returns_many_names, failure="the metric 'metric 0' is not declared"),
    13: Harm(_exits, failure="its worker died 2 times: its process ended"),
    14: Harm(_segfaults, failure="its worker died 2 times: its process ended"),
    15: Harm(_kills_itself, failure="its worker died 2 times: its process ended"),
    16: Harm(_takes_all_memory, failure="out of memory 2 times: its worker used "),
    17: Harm(_floods, COMPLETED),
    18: Harm(_warns, COMPLETED),
    19: Harm(_closes_everything, COMPLETED),
    20: Harm(_changes_the_process_state, COMPLETED),
    21: Harm(_raises_in_a_thread, COMPLETED),
    22: Harm(_leaves_children, COMPLETED),
    23: Harm(_forks, COMPLETED),
    24: Harm(
        _raise(RuntimeError("CUDA error: device-side assert triggered")), failure="RuntimeError: CUDA error"
    ),
}
"""Harms by the number of their trial."""
SLOW_HARMS = frozenset({14, 15, 16})
"""Harms that take several seconds each."""
HANGING = 3
"""Number of the trial that never ends."""


def harmful(params: Params, trial: cv.TrialContext) -> float | None:
    """Train as `careful_bowl`, but do harm in some trials."""
    harm = HARMS.get(trial.number)
    return harm.do(params, trial) if harm else careful_bowl(params, trial)


def quickly_harmful(params: Params, trial: cv.TrialContext) -> float | None:
    """Do the same, without the slow harms."""
    return careful_bowl(params, trial) if trial.number in SLOW_HARMS else harmful(params, trial)


def _sets_handlers_and_timers(params: Params) -> float:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda number, frame: 1 / 0)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    return 1.0


def _changes_settings(params: Params) -> float:
    _change_settings()
    return 1.0


def _forks_in_main(params: Params) -> float:
    """Fork a child that returns as well, and wait for it."""
    if child := os.fork():
        return float(os.waitpid(child, 0)[1])
    return 1.0


def _interrupts(params: Params) -> float:
    raise KeyboardInterrupt


MAIN_HARMS: dict[str, tuple[Callable[[Params], float], str | None]] = {
    "handlers": (_sets_handlers_and_timers, None),
    "settings": (_changes_settings, None),
    "fork": (_forks_in_main, None),
    "interrupt": (_interrupts, "KeyboardInterrupt"),
}
"""Harms that only a function in the main thread can do, by name, with a part of their failure message."""


def plain_bowl(params: Params) -> float:
    """Train without a trial context, hence in the main thread, and long enough for a timer to go off."""
    time.sleep(0.02)
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN
    _require_clean_settings()
    return float((params["x"] - 0.3) ** 2 + random.random())


def harmful_in_main(params: Params) -> float:
    """Train as `plain_bowl`, but do harm in some trials."""
    do, _ = MAIN_HARMS.get(params["harm"], (plain_bowl, None))
    return do(params)


def hanging(params: Params, trial: cv.TrialContext) -> float | None:
    """Train as `noisy_bowl`, but never end in one trial."""
    return (_hangs if trial.number == HANGING else noisy_bowl)(params, trial)


GREEDY = frozenset({1, 5})


def greedy(params: Params, trial: cv.TrialContext) -> None:
    """Train as `noisy_bowl`, but take memory without end in some trials."""
    blocks = []
    while trial.number in GREEDY:
        blocks.append(bytearray(b"x") * 2**24)
        time.sleep(0.005)
    noisy_bowl(params, trial)


def spawns(params: Params, trial: cv.TrialContext) -> None:
    """Train slowly as `noisy_bowl`, and leave processes behind that do not end."""
    subprocess.Popen(["sleep", "600"])
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    time.sleep(0.5)
    noisy_bowl(params, trial)
