"""Durations that `caviar plan` predicts, and those that `caviar run` then takes.

    python experiments/plan/predicted.py [STUDY ...] [--out experiments/plan/results]

Each study of `studies.py` is planned and then run, in processes of their own, as a user does. The time of a command is
counted from its start to its end, with Ray's start and stop. A study that is named is measured again, and its rows are
added. The table and the figure show each study's repetition with the median ratio. If other programs use the machine,
and begin or end between plan and run, no prediction can hold: repetitions on a quiet machine count alone, if there are
any.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
STUDIES = {
    "tiny": (2, "networks of 4 to 32 units on 178 rows"),
    "classifier": (2, "networks of 16 to 256 units, 1 to 4 layers"),
    "classifier (1 worker)": (1, "the same on one worker"),
    "wide": (2, "networks of 256 to 1,024 units"),
    "halved": (2, "networks with halving"),
    "rounds": (2, "three rounds of 5 and 15 epochs"),
    "reference": (2, "networks in eager torch"),
    "module": (2, "a convolutional torch module"),
    "cheap": (2, "a function that takes no time"),
    "sleeping": (2, "a function of half a second"),
    "growing": (2, "a function whose best trials take 20 times as long"),
    "loading": (2, "a function that loads data once a worker"),
    "reporting": (1, "a function that reports epochs, halved, one worker"),
    "computing": (1, "a function that computes, one worker"),
}
"""Studies with their numbers of workers, and what they are."""


QUIET_LOAD = 2.5
"""Load average before a plan up to which the machine is quiet; the run before it counts for a while."""


def caviar(*words: str) -> tuple[str, float]:
    """Run a command; return what it printed, and its seconds."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "caviar", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr[-1_000:]}")
    return done.stdout, time.perf_counter() - began


def measure(name: str) -> dict[str, object]:
    """Plan and run a study; return a row of the table."""
    workers, _ = STUDIES[name]
    script = [str(HERE / "studies.py"), "--study", name.split()[0], "--workers", str(workers)]
    load_before = os.getloadavg()[0]
    text, plan_s = caviar("plan", *script, "--json")
    plan = json.loads(text)
    load_between = os.getloadavg()[0]
    runs = tempfile.mkdtemp(prefix="caviar-predicted-")
    _, real_s = caviar("run", *script, "--runs", runs)
    shutil.rmtree(runs)
    low, high = plan["interval_s"]
    return {
        "study": name,
        "trials": plan["trials"],
        "workers": workers,
        "timed": plan["trials_timed"],
        "trial_s": plan["trial_s"],
        "plan_s": plan_s,
        "predicted_s": plan["duration_s"],
        "low_s": low,
        "high_s": high,
        "real_s": real_s,
        "ratio": plan["duration_s"] / real_s,
        "load_before": load_before,
        "load_between": load_between,
        "load_after": os.getloadavg()[0],
    }


def quiet(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the repetitions that count: of each study those on a quiet machine, if there are any."""
    is_quiet = rows["load_before"] < QUIET_LOAD  # the load afterwards is in part the study's own
    return rows[is_quiet | ~is_quiet.groupby(rows["study"]).transform("any")]


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row a study: the repetition with the median ratio, and all ratios."""
    chosen = []
    for name in [name for name in STUDIES if name in set(rows["study"])]:
        own = rows[rows["study"] == name].sort_values("ratio")
        row = own.iloc[(len(own) - 1) // 2]
        is_within = row["low_s"] <= row["real_s"] <= row["high_s"]
        chosen.append(row.to_dict() | {"ratios": own["ratio"].tolist(), "within": is_within})
    return pd.DataFrame(chosen)


def table(found: pd.DataFrame) -> str:
    """Return the table in Markdown, and the sentences below it."""
    lines = [
        "| study | what it is | trials, workers | predicted (90 % interval) | real | predicted / real | others |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in found.to_dict(orient="records"):
        interval = f"{row['predicted_s']:.0f} s ({row['low_s']:.0f} .. {row['high_s']:.0f})"
        others = [ratio for ratio in row["ratios"] if ratio != row["ratio"]]
        lines.append(
            f"| {row['study']} | {STUDIES[str(row['study'])][1]} | {row['trials']:,}, {row['workers']} "
            f"| {interval} | {row['real_s']:.0f} s | {row['ratio']:.2f} "
            f"| {', '.join(f'{ratio:.2f}' for ratio in others)} |"
        )
    near = int(found["ratio"].between(1 / 1.25, 1.25).sum())
    within = int(found["within"].sum())
    loads = found["load_before"]
    lines += [
        "",
        "A row is the repetition with the median ratio; the last column has the other ratios.",
        "",
        f"Load averages before the plans: {loads.min():.1f} .. {loads.max():.1f}, on {os.cpu_count()} cores.",
        "",
        f"{near} of {len(found)} predictions are within 25 % of the real duration, and {within} intervals contain it.",
    ]
    return "\n".join(lines) + "\n"


def draw(found: pd.DataFrame, file: Path) -> None:
    """Draw predicted durations as multiples of the real ones, with their intervals."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 5.2), layout="constrained")
    axes.axvspan(1 / 1.25, 1.25, color="#e4e4e4", label="within 25 %")
    axes.axvline(1, color="#888888", linewidth=1)
    places = range(len(found))
    low, high = found["low_s"] / found["real_s"], found["high_s"] / found["real_s"]
    axes.hlines(places, low, high, color="#1f5fa8", linewidth=1.5, label="90 % interval")
    axes.plot(found["ratio"], places, "o", color="#1f5fa8", label="repetition with the median ratio")
    others = [
        (ratio, place) for place, ratios in zip(places, found["ratios"], strict=True) for ratio in ratios
    ]
    axes.plot(*zip(*others, strict=True), "o", color="#1f5fa8", alpha=0.25, label="other repetitions")
    axes.set(
        xscale="log",
        xlabel="predicted / real duration",
        xticks=(ticks := (0.5, 0.6, 0.8, 1, 1.25, 1.5, 2)),
        xticklabels=[f"{tick:g}" for tick in ticks],
        xlim=(0.45, 2.4),
        yticks=places,
        yticklabels=[
            f"{study} ({real_s:.0f} s)" for study, real_s in zip(found["study"], found["real_s"], strict=True)
        ],
        ylim=(len(found) - 0.5, -0.5),
    )
    axes.minorticks_off()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(file, dpi=110)


def main() -> None:
    """Measure the studies, and write rows, table and figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="*", metavar="STUDY", help="studies to measure (default: all)")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--draw", action="store_true", help="measure nothing: write table and figure again")
    options = parser.parse_args()
    options.out.mkdir(exist_ok=True)
    file = options.out / "predicted.csv"
    for name in [] if options.draw else options.studies or STUDIES:
        row = measure(name)
        print(
            {key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()},
            flush=True,
        )
        rows = pd.DataFrame([row])
        rows.round(3).to_csv(file, mode="a", header=not file.exists(), index=False)
    found = summarize(quiet(pd.read_csv(file)))
    (options.out / "predicted.md").write_text(table(found))
    draw(found, options.out / "predicted.png")
    print(table(found))


if __name__ == "__main__":
    main()
