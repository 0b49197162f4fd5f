"""The phases of a tiny study, in seconds: from the command to the first trial, and from the last trial to the prompt.

python experiments/benchmarks/startup.py [OUT] [--repeats 5] [--kinds classifier function] [--addresses local here]

Each study of a dozen trials runs in a process of its own, as `caviar run` does. The table gives the seconds from the
start of the process to the end of each phase: the median over the repeats, and the range. A first run, which is not
counted, loads all files from the disk.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SCRIPTS = {
    "classifier": """
import caviar as cv
study = cv.Study(
    name="dozen",
    objective=cv.Classifier(data="sklearn:digits"),
    space=cv.Space(learning_rate=cv.log(1e-3, 0.1), units=cv.integer(8, 32, scale="log")),
    rounds=cv.coarse_to_fine(trials=12, epochs=2),
)
""",
    "function": """
import caviar as cv
def bowl(params):
    return (params["x"] - 0.3) ** 2
study = cv.Study(
    name="dozen",
    objective=cv.Function(bowl),
    space=cv.Space(x=cv.linear(0.0, 1.0)),
    rounds=cv.coarse_to_fine(trials=12, epochs=1),
)
""",
}
PHASES = (
    "modules imported",
    "Ray asked",
    "Ray up",
    "first worker",
    "first trial",
    "last trial",
    "result printed",
    "prompt",
)
"""Phases in order; a run without Ray has no Ray to ask."""


def main() -> None:
    """Time all combinations in turn, and print and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", help="folder for startup.md")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", default=list(SCRIPTS), choices=list(SCRIPTS))
    parser.add_argument("--addresses", nargs="+", default=["local", "here"])
    options = parser.parse_args()
    combinations = list(itertools.product(options.kinds, options.addresses))
    seconds: dict[tuple[str, str], list[dict[str, float]]] = {each: [] for each in combinations}
    for repeat in range(options.repeats + 1):
        for kind, address in combinations:
            found = time_study(kind, address)
            if repeat:
                seconds[kind, address].append(found)
    table = "\n".join(format_table(seconds))
    print(table)
    if options.out:
        (options.out / "startup.md").write_text(f"{table}\n")


def time_study(kind: str, address: str) -> dict[str, float]:
    """Return the seconds from the start of a process, which runs a study, to the end of each phase."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "dozen.py").write_text(SCRIPTS[kind])
        marks = Path(folder, "marks.json")
        started = time.time()
        command = [sys.executable, __file__, "--inside", str(marks), "run", "dozen.py", "--address", address]
        subprocess.run(command, check=True, cwd=folder, capture_output=True)
        ended = time.time()
        found = {name: at - started for name, at in json.loads(marks.read_text()).items()}
        return found | {"prompt": ended - started}


def run_inside(marks: Path, arguments: list[str]) -> None:
    """Run the `caviar` command in this process, and write the times at which the phases end."""
    from caviar.cli.main import main as caviar
    from caviar.driver.messages import WorkerJoined
    from caviar.operations import execution, run

    at: dict[str, float] = {}

    def before(owner: Any, name: str, phase: str) -> None:
        call = getattr(owner, name)
        setattr(owner, name, lambda *a, **k: (at.setdefault(phase, time.time()), call(*a, **k))[1])

    def after(owner: Any, name: str, phase: str, holds: Callable[[Any], bool] = lambda result: True) -> None:
        call = getattr(owner, name)

        def note(*arguments: Any, **named: Any) -> Any:
            result = call(*arguments, **named)
            if holds(result):
                at.setdefault(phase, time.time())
            return result

        setattr(owner, name, note)

    if "here" in arguments:
        from caviar.backends.inline import InlineBackend as Workers
    else:
        from caviar.backends.ray import session
        from caviar.backends.ray.backend import RayBackend as Workers  # type: ignore[assignment]

        before(session, "connect", "Ray asked")
        after(session, "_start", "Ray up")
    before(run, "run_study", "modules imported")
    after(Workers, "poll", "first worker", lambda events: any(isinstance(e, WorkerJoined) for e in events))
    after(execution, "report", "result printed")
    status = caviar(arguments)
    from caviar import load

    trials = load("runs/dozen").trials
    at["first trial"] = (trials["started"].min()).timestamp()
    at["last trial"] = (trials["ended"].max()).timestamp()
    marks.write_text(json.dumps(at))
    sys.stdout.flush()
    os._exit(status)


def format_table(seconds: dict[tuple[str, str], list[dict[str, float]]]) -> Iterator[str]:
    """Yield the lines of the table."""
    combinations = list(seconds)
    yield "| seconds until | " + " | ".join(f"{kind}, {address}" for kind, address in combinations) + " |"
    yield "| --- |" + " --- |" * len(combinations)
    for phase in PHASES:
        cells = []
        for each in combinations:
            values = [run[phase] for run in seconds[each] if phase in run]
            cells.append(
                f"{statistics.median(values):.2f} ({min(values):.2f} .. {max(values):.2f})" if values else ""
            )
        yield f"| {phase} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        run_inside(Path(sys.argv[2]), sys.argv[3:])
    else:
        main()
