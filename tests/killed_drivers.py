"""Drivers that kill themselves: `python -m tests.killed_drivers RUNS anywhere|writing|behind|extending FRACTION...`.

It runs a study once to its end, and counts how many functions, Python's and C's, are called: in all, or in the parts of
the ledger that write. Then it runs the study once for each fraction, in RUNS/0, RUNS/1 and so on; the process kills
itself with SIGKILL after that fraction of the calls. `behind` is like `anywhere`, but results are written late, so
trials that follow from them are lost with them. `extending` is like `anywhere`, but the study has ended before, and it
is its extension that is killed.
"""

import os
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

from caviar.driver import controller, loop
from caviar.operations.resume import extend_study
from caviar.records import ledger
from caviar.records.frames import Run
from caviar.rounds import Confirmation, Halving, Round, Search
from caviar.study import Study
from tests.objectives import bowl_study
from tests.runs import inline, run_inline


def make_study() -> Study:
    """Return a short study with a search whose trials follow from one another, and a round that halves."""
    rounds = (Search(12, 2, in_flight=3), Round(6, 9, Halving(cohort=3)))
    return bowl_study(rounds=rounds, confirmation=Confirmation(2, 1))


def record_often(where: str) -> None:
    """Make chunks small, record often and merge often: a short study then does all that a long one does."""
    controller.MAX_CHUNK = 3
    loop.RECORD_S, loop.RECORD_FACTOR = 0.02 if where == "behind" else 0.0, 0
    ledger.MERGE_AT, ledger.NOTES_S = 4, 0.0


def run_and_die(runs: Path, where: str, moment: int) -> int:
    """Run a study that kills this process at the n-th call of a function; return the calls of one that ended."""
    calls = 0
    writers = {f.__code__ for f in (ledger.Ledger.create.__func__, ledger.Ledger.write, ledger.Ledger.merge)}  # type: ignore[attr-defined]
    depth = 0 if where == "writing" else 1

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls, depth
        del argument
        if frame.f_code in writers:
            depth += {"call": 1, "return": -1}.get(event, 0)
        if depth and event in ("call", "c_call"):
            calls += 1
            if calls == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    if where == "extending":
        run = run_inline(make_study(), runs)
    sys.setprofile(count)
    if where == "extending":
        extend(run)
    else:
        run_inline(make_study(), runs)
    sys.setprofile(None)
    return calls


def extend(run: Run) -> Run:
    """Extend a run of the study in this process."""
    study = make_study()
    return extend_study(study, run.path, 9, progress=False, backend=inline(study))


def main() -> None:
    """Run one study after the other, each in a fork: importing all that a study needs takes seconds."""
    runs, where, fractions = Path(sys.argv[1]), sys.argv[2], [float(fraction) for fraction in sys.argv[3:]]
    record_often(where)
    with tempfile.TemporaryDirectory() as folder:
        extend(run_inline(make_study(), Path(folder, "first")))  # it imports what is imported late
        total = run_and_die(Path(folder), where, moment=0)
    for number, fraction in enumerate(fractions):
        child = os.fork()
        if child == 0:
            run_and_die(runs / str(number), where, max(1, int(fraction * total)))
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
