"""Durations that `caviar plan` predicts, and those that `caviar run` then takes.

    python experiments/plan/predicted.py [STUDY ...] [--seeds 0 1] [--out experiments/plan/results]

Each study of `studies.py` is planned and then run twice with each seed, in processes of their own, as a user does. The
time of a command is counted from its start to its end, with Ray's start and stop. The second run shows by how much the
machine alone changes a duration: both runs train the same trials. A study that is named is measured again: its new rows
replace those of the same seed. Leave the machine alone meanwhile.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

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
NEAR = 1.25
"""Factor up to which a prediction is near the real duration."""


def caviar(seed: int, *words: str) -> tuple[str, float]:
    """Run a command on studies with a seed; return what it printed, and its seconds."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "caviar", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"SEED": str(seed)}
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr[-1_000:]}")
    return done.stdout, time.perf_counter() - began


def run(seed: int, script: list[str]) -> float:
    """Run a study; return its seconds."""
    runs = tempfile.mkdtemp(prefix="caviar-predicted-")
    _, seconds = caviar(seed, "run", *script, "--runs", runs)
    shutil.rmtree(runs)
    return seconds


def measure(name: str, seed: int) -> dict[str, object]:
    """Plan and run a study; return a row of the table."""
    workers, _ = STUDIES[name]
    script = [str(HERE / "studies.py"), "--study", name.split()[0], "--workers", str(workers)]
    load_before = os.getloadavg()[0]
    text, plan_s = caviar(seed, "plan", *script, "--json")
    plan = json.loads(text)
    load_between = os.getloadavg()[0]
    real_s, again_s = (run(seed, script) for _ in range(2))
    low, high = plan["interval_s"]
    return {
        "study": name,
        "seed": seed,
        "trials": plan["trials"],
        "workers": workers,
        "timed": plan["trials_timed"],
        "trial_s": plan["trial_s"],
        "plan_s": plan_s,
        "predicted_s": plan["duration_s"],
        "low_s": low,
        "high_s": high,
        "real_s": real_s,
        "again_s": again_s,
        "ratio": plan["duration_s"] / real_s,
        "load_before": load_before,
        "load_between": load_between,
        "load_after": os.getloadavg()[0],
    }


def replace_rows(before: pd.DataFrame, row: dict[str, object]) -> pd.DataFrame:
    """Return the rows with one more, which replaces that of its study and seed."""
    is_same = (before["study"] == row["study"]) & (before["seed"] == row["seed"])
    kept = before[~is_same]
    rows = pd.concat([kept, pd.DataFrame([row]).round(3)]) if len(kept) else pd.DataFrame([row]).round(3)
    order = rows["study"].map({name: place for place, name in enumerate(STUDIES)})
    return rows.assign(order=order).sort_values(["order", "seed"]).drop(columns="order")


def table(rows: pd.DataFrame) -> str:
    """Return the table in Markdown, and the sentences below it."""
    lines = [
        "| study | what it is | trials, workers | predicted / real, with each seed | predicted, real, again (s) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, own in rows.groupby("study", sort=False):
        seconds = [f"{row.predicted_s:.0f}, {row.real_s:.0f}, {row.again_s:.0f}" for row in own.itertuples()]
        lines.append(
            f"| {name} | {STUDIES[str(name)][1]} | {own['trials'].iloc[0]:,}, {own['workers'].iloc[0]} "
            f"| {', '.join(f'{ratio:.2f}' for ratio in own['ratio'])} | {'; '.join(seconds)} |"
        )
    is_within = rows["real_s"].between(rows["low_s"], rows["high_s"])
    medians = rows.groupby("study")["ratio"].median()
    again = rows["real_s"] / rows["again_s"]
    loads = rows["load_before"]
    lines += [
        "",
        f"{count_near(rows['ratio'])} of {len(rows)} predictions are within 25 % of the real duration; "
        f"{count_near(medians)} of the {len(medians)} studies have a median that is. "
        f"{is_within.sum()} of the {len(rows)} intervals, which should contain the real duration in 90 % of cases, do.",
        "",
        f"Of two runs of the same trials, {count_near(again)} of {len(rows)} are within 25 % of each other: "
        f"the ratios are {again.min():.2f} .. {again.max():.2f}.",
        "",
        f"Load averages before the plans: {loads.min():.1f} .. {loads.max():.1f}, on {os.cpu_count()} cores.",
    ]
    return "\n".join(lines) + "\n"


def count_near(ratios: Any) -> int:
    """Return the number of ratios within 25 % of 1."""
    return int(ratios.between(1 / NEAR, NEAR).sum())


def draw(rows: pd.DataFrame, file: Path) -> None:
    """Draw predicted durations as multiples of the real ones, with their intervals."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 5.2), layout="constrained")
    axes.axvspan(1 / NEAR, NEAR, color="#e4e4e4", label="within 25 %")
    axes.axvline(1, color="#888888", linewidth=1)
    names = list(dict.fromkeys(rows["study"]))
    seeds = sorted(rows["seed"].unique())
    shifts = {seed: 0.5 * ((place + 0.5) / len(seeds) - 0.5) for place, seed in enumerate(seeds)}
    places = [names.index(row.study) + shifts[row.seed] for row in rows.itertuples()]
    low, high = rows["low_s"] / rows["real_s"], rows["high_s"] / rows["real_s"]
    axes.hlines(places, low, high, color="#1f5fa8", linewidth=1.0, label="90 % interval")
    again = rows["again_s"] / rows["real_s"]
    axes.plot(again, places, "|", color="#b0413e", markersize=7, label="second run of the same trials")
    axes.plot(rows["ratio"], places, "o", color="#1f5fa8", markersize=4, label="prediction, one a seed")
    axes.set(
        xscale="log",
        xlabel="predicted / real duration",
        xticks=(ticks := (0.5, 0.6, 0.8, 1, 1.25, 1.5, 2)),
        xticklabels=[f"{tick:g}" for tick in ticks],
        xlim=(0.45, 2.4),
        yticks=range(len(names)),
        yticklabels=[f"{name} ({rows[rows['study'] == name]['real_s'].median():.0f} s)" for name in names],
        ylim=(len(names) - 0.5, -0.5),
    )
    axes.minorticks_off()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    figure.savefig(file, dpi=110)


def main() -> None:
    """Measure the studies, and write rows, table and figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="*", metavar="STUDY", help="studies to measure (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], metavar="SEED")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--draw", action="store_true", help="measure nothing: write table and figure again")
    options = parser.parse_args()
    options.out.mkdir(exist_ok=True)
    file = options.out / "predicted.csv"
    rows = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=["study", "seed"])
    wanted = itertools.product(options.seeds, options.studies or STUDIES)
    for seed, name in () if options.draw else wanted:
        row = measure(name, seed)
        print(
            {key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()},
            flush=True,
        )
        rows = replace_rows(rows, row)
        rows.to_csv(file, index=False)
    (options.out / "predicted.md").write_text(table(rows))
    draw(rows, options.out / "predicted.png")
    print(table(rows))


if __name__ == "__main__":
    main()
