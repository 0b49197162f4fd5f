"""Drivers that kill themselves: `python -m tests.killed_drivers RUNS anywhere|writing MOMENT...`.

It runs a study for each moment. A moment is the number of functions, Python's and C's, that have been called when the
process kills itself with SIGKILL: of all calls, or of those in the parts of the ledger that write. 0 is never. For each
study that came to its end, it prints the number of calls.
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from caviar.driver import controller, loop
from caviar.records import ledger
from caviar.rounds import Halving, Round
from caviar.study import Study
from tests.objectives import bowl_study
from tests.runs import run_inline


def make_study() -> Study:
    """Return a short study with a round that halves."""
    return bowl_study(rounds=(9, Round(6, 9, Halving(cohort=3))), epochs=2)


def record_often() -> None:
    """Make chunks small, record each at once and merge often: a short study then does all that a long one does."""
    controller.MAX_CHUNK = 3
    loop.RECORD_S, loop.RECORD_FACTOR = 0.0, 0
    ledger.MERGE_AT = 4


def die_at(moment: int, where: str) -> list[int]:
    """Kill this process at the n-th call of a function; return the number of calls so far, in a list."""
    calls = [0]
    writers = {f.__code__ for f in (ledger.Ledger.create.__func__, ledger.Ledger.append, ledger.Ledger.merge)}  # type: ignore[attr-defined]
    depth = 1 if where == "anywhere" else 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal depth
        del argument
        if frame.f_code in writers:
            depth += {"call": 1, "return": -1}.get(event, 0)
        if depth and event in ("call", "c_call"):
            calls[0] += 1
            if calls[0] == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    return calls


def main() -> None:
    """Run one study after the other, each in a fork: importing all that a study needs takes seconds."""
    runs, where, moments = Path(sys.argv[1]), sys.argv[2], [int(moment) for moment in sys.argv[3:]]
    record_often()
    for moment in moments:
        child = os.fork()
        if child == 0:
            calls = die_at(moment, where)
            run_inline(make_study(), runs / str(moment))
            sys.setprofile(None)
            os.write(1, f"{calls[0]}\n".encode())
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
