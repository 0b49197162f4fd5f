"""Cost of a long study: memory, time and files over 100,000 trivial trials on Ray.

    python experiments/benchmarks/endurance.py OUT [--trials 100000] [--workers 2]

The study is interrupted in the middle and resumed. The script writes OUT/endurance.csv, OUT/endurance.md and, if
matplotlib is installed, OUT/endurance.png: the driver's memory and processor time and the number of files, over
finished trials; then the seconds for loading, showing and resuming the run.
"""

import argparse
import contextlib
import io
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

import caviar as cv
from caviar.driver.watcher import Watcher
from caviar.errors import InterruptedStudy
from caviar.operations import execution
from caviar.reporting.summary import show
from caviar.trial import Result

EVERY = 500
"""Number of trials between two samples."""


def bowl(params: dict[str, Any]) -> float:
    """Return a value with hardly any work."""
    return float((params["x"] - 0.3) ** 2)


class Meter(Watcher):
    """Samples the driver's memory and time, and interrupts the study at one point."""

    def __init__(self, runs: Path, interrupt_at: int) -> None:
        self.rows: list[dict[str, float]] = []
        self._runs, self._interrupt_at = runs, interrupt_at
        self._done = 0
        self._began = time.perf_counter()

    def recorded(self, results: list[Result]) -> None:
        """Add a row if enough trials have finished since the last one."""
        before, self._done = self._done, self._done + len(results)
        if self._done // EVERY > before // EVERY:
            self.rows.append(
                {
                    "trials": self._done,
                    "seconds": time.perf_counter() - self._began,
                    "driver_cpu_s": time.process_time(),
                    "rss_mib": resident_mib(),
                    "files": sum(len(files) for _, _, files in os.walk(self._runs)),
                }
            )
        if before < self._interrupt_at <= self._done:
            os.kill(os.getpid(), signal.SIGINT)


def resident_mib() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def timed(action: Any) -> float:
    """Return the seconds that an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def endure(trials: int, workers: int, runs: Path) -> tuple[pd.DataFrame, dict[str, float]]:
    """Run one study, interrupted in the middle; return the samples, and seconds of what follows."""
    study = cv.Study(
        name="endurance",
        objective=cv.Function(bowl),
        space=cv.Space(x=cv.linear(0.0, 1.0), y=cv.log(1e-3, 1.0)),
        rounds=[cv.Round(trials, 1), cv.Round(1_000, 1), cv.Confirmation(3, 2)],
    )
    halves = [Meter(runs, interrupt_at=trials // 2), Meter(runs, interrupt_at=-1)]
    watchers = iter(halves)
    execution.Watcher = lambda: next(watchers)  # type: ignore[attr-defined, assignment]
    with contextlib.suppress(InterruptedStudy):
        study.run(workers=workers, runs=runs, progress=False)
    path = runs / "endurance"
    half = len(cv.load(path).trials)
    resumed_at = time.perf_counter()
    run = study.resume(path, workers=workers, progress=False)
    first = halves[1].rows[0]
    quiet = io.StringIO()
    with contextlib.redirect_stdout(quiet):
        afterwards = {
            "resume, to the first new trials": halves[1]._began - resumed_at + first["seconds"],
            "load the trials": timed(lambda: cv.load(path).trials),
            "load the curves": timed(lambda: cv.load(path).curves),
            "show": timed(lambda: show(cv.load(path))),
            "resume, finished": timed(lambda: study.resume(path, progress=False)),
        }
    for row in halves[1].rows:
        row["trials"] += half
    assert len(run.trials) > trials + 1_000
    assert run.trials["trial"].is_unique
    frame = pd.concat(
        [pd.DataFrame(w.rows).assign(part=n) for n, w in enumerate(halves, 1)], ignore_index=True
    )
    return frame[frame["trials"] <= trials], afterwards  # without the short second round


def cost_ms(part: pd.DataFrame, column: str, low: float, high: float) -> float:
    """Return the milliseconds per trial between two fractions of a part of the study."""
    rows = part.iloc[int(low * len(part)) : max(int(high * len(part)), int(low * len(part)) + 2)]
    spent, done = (rows[c].iloc[-1] - rows[c].iloc[0] for c in (column, "trials"))
    return float(1_000 * spent / done)


def summarise(frame: pd.DataFrame, afterwards: dict[str, float]) -> str:
    """Return the results as a Markdown table."""
    lines = ["| | first part | resumed |", "| --- | --- | --- |"]
    parts = [part for _, part in frame.groupby("part")]

    def line(name: str, of: Any) -> None:
        lines.append(f"| {name} | " + " | ".join(of(part) for part in parts) + " |")

    for column, name in (("seconds", "time"), ("driver_cpu_s", "driver's CPU time")):
        line(f"{name} per trial, second tenth, ms", lambda p, c=column: f"{cost_ms(p, c, 0.1, 0.2):.2f}")
        line(f"{name} per trial, last tenth, ms", lambda p, c=column: f"{cost_ms(p, c, 0.9, 1.0):.2f}")
    line("memory at a tenth, MiB", lambda p: f"{p['rss_mib'].iloc[len(p) // 10]:.0f}")
    line("memory at the end, MiB", lambda p: f"{p['rss_mib'].iloc[-1]:.0f}")
    line("bytes per trial in between", lambda p: f"{_growth(p):.0f}")
    line("most files", lambda p: f"{p['files'].max()}")
    lines += ["", "| afterwards | seconds |", "| --- | --- |"]
    lines += [f"| {name} | {seconds:.1f} |" for name, seconds in afterwards.items()]
    return "\n".join(lines) + "\n"


def _growth(part: pd.DataFrame) -> float:
    first, last = part.iloc[len(part) // 10], part.iloc[-1]
    return float((last["rss_mib"] - first["rss_mib"]) * 2**20 / (last["trials"] - first["trials"]))


def draw(frame: pd.DataFrame, file: Path) -> None:
    """Draw memory, processor time and files over finished trials."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
    for (_, part), label in zip(frame.groupby("part"), ("first part", "resumed"), strict=False):
        thinned = part.iloc[:: max(1, len(part) // 20)]
        steps = thinned[["trials", "driver_cpu_s"]].diff()
        axes[0].plot(part["trials"], part["rss_mib"], label=label)
        axes[1].plot(thinned["trials"], 1_000 * steps["driver_cpu_s"] / steps["trials"])
        axes[2].plot(part["trials"], part["files"])
    titles = ("driver's memory, MiB", "driver's CPU time a trial, ms", "files of the run")
    for axis, title in zip(axes, titles, strict=True):
        axis.set(title=title, xlabel="finished trials", ylim=(0, None))
    axes[0].legend(frameon=False, loc="lower right")
    figure.savefig(file, dpi=120)


def main() -> None:
    """Run the study, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as runs:
        frame, afterwards = endure(options.trials, options.workers, Path(runs))
    frame.to_csv(options.out / "endurance.csv", index=False, float_format="%.5g")
    text = summarise(frame, afterwards)
    (options.out / "endurance.md").write_text(text)
    print(text)
    with contextlib.suppress(ImportError):
        draw(frame, options.out / "endurance.png")


if __name__ == "__main__":
    main()
