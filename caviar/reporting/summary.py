"""A finished or unfinished run in words, for the terminal: `caviar show RUN`."""

import sys
from collections.abc import Iterator

import pandas as pd
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from caviar.control_chars import printable
from caviar.records.frames import Run
from caviar.records.winner import Best
from caviar.trial import Outcome, Stage

WIDTH = 118
"""Columns, where the output is no terminal."""
MOST_CAUSES = 4
"""Of failures, so many are told."""


def show(run: Run, console: Console | None = None, *, every_round: bool = False) -> None:
    """Print how a run went: rounds, what narrowed and why, where the time went, and the winner.

    Args:
        run: finished or not.
        console: where to; the terminal by default.
        every_round: what each round changed, and why, rather than where the last one drew.
    """
    console = console or Console(width=None if sys.stdout.isatty() else WIDTH)
    for part in _parts(run, every_round):
        console.print(_Printable(part), highlight=False)


class _Printable:
    """What is drawn of something, without the control characters that names in a run directory may hold."""

    def __init__(self, drawn: RenderableType) -> None:
        self._drawn = drawn

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self._drawn, options):
            yield Segment(printable(segment.text), segment.style, segment.control)


def worker_time(trials: pd.DataFrame) -> dict[str, float]:
    """Shares of the workers' time, from their first wait to their last result (law 7).

    Returns:
        Shares that sum to one: "training", "setup", "waiting" for work.
    """
    seconds = {
        "training": float(trials["train_s"].sum()),
        "setup": float(trials["setup_s"].sum()),
        "waiting": float(trials["dispatch_s"].sum()),
    }
    total = sum(seconds.values())
    return {name: s / total if total > 0 else 0.0 for name, s in seconds.items()}


def _parts(run: Run, every_round: bool) -> Iterator[RenderableType]:
    trials = run.trials
    yield Text.assemble("\n", (run.study["name"], "bold"), f"  {len(trials):,} trials recorded")
    if not run.finished:
        yield from _so_far(run)
    if not trials.empty:
        yield _rounds_table(run)
        yield from _failures(trials)
        yield from _every_round(run) if every_round else _narrowing(run)
        yield _time(trials)
    best = run.best
    if best is not None:
        yield _winner(run, best)
    yield Text(
        f"\nframes: {run.location / 'trials'}, {run.location / 'curves'}   "
        f"in Python: caviar.load({str(run.location)!r}).trials"
    )


def _so_far(run: Run) -> Iterator[RenderableType]:
    """How far an unfinished run has come, and what there is to do about it."""
    planned = sum(r["trials"] for r in run.study["rounds"])
    searched = f"{(run.trials['stage'] == Stage.SEARCH).sum():,} of {planned:,} search trials"
    if driver := run.location.driver():
        yield f"running ({driver}): {searched}"
        return
    yield f"unfinished: {searched}; go on with"
    yield Text(f"  caviar resume {run.location.typed}")


def _rounds_table(run: Run) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    metric = run.study["objective"].get("metric", "value")
    for name in (
        "round",
        "trials",
        "epochs",
        "completed",
        "stopped",
        "diverged",
        "failed",
        f"best {metric}",
        "median",
    ):
        table.add_column(name, justify="left" if name == "round" else "right")
    for number, rows in run.trials.groupby("round"):
        stage = rows["stage"].iloc[0]
        counts = [int((rows["outcome"] == outcome).sum()) for outcome in Outcome]
        values = rows.loc[rows["outcome"] == Outcome.COMPLETED, "value"]
        best = values.max() if run.study_file.maximize else values.min()
        numbers = ["-", "-"] if values.empty else [f"{best:.4f}", f"{values.median():.4f}"]
        table.add_row(
            str(number) if stage == Stage.SEARCH else _stage_name(run, stage, int(str(number))),
            str(len(rows)),
            str(rows["epochs"].iloc[0]),
            *(str(count) for count in counts),
            *numbers,
        )
    return table


def _failures(trials: pd.DataFrame) -> Iterator[Text]:
    """Why trials failed: the most frequent causes."""
    causes = trials.loc[trials["outcome"] == Outcome.FAILED, "failure"].value_counts()
    if causes.empty:
        return
    shown = [f"{count:,} x {cause}" for cause, count in causes.head(MOST_CAUSES).items()]
    others = int(causes.iloc[MOST_CAUSES:].sum())
    if others:
        shown.append(f"{others:,} for other reasons (the column failure of the trials)")
    yield Text("\nfailed: " + "\n        ".join(shown))


def _stage_name(run: Run, stage: str, number: int) -> str:
    return f"heat {number - len(run.study['rounds'])}" if stage == Stage.CONFIRMATION else stage


def _narrowing(run: Run) -> Iterator[RenderableType]:
    """From where to where each parameter came, and why the last round drew it there."""
    rounds = run.rounds
    last = rounds[(rounds["round"] == rounds["round"].max()) & (rounds["action"] != "declared")]
    if last.empty:
        return
    declared = rounds[rounds["action"] == "declared"].set_index("parameter")["after"]
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for row in last.to_dict(orient="records"):
        name = row["parameter"]
        text = escape(f"{declared[name]} -> {row['after']}")
        table.add_row(f"  {name}", text, Text(row["reason"], style="dim"))
    number, width = last["round"].iloc[0], last["width"].iloc[0]
    title = f"\nfrom the declared space to round {number}, which drew {_where(run, width)}"
    yield Group(
        Text(title), table, Text(f"  round by round: caviar show {run.location.typed} --rounds", style="dim")
    )


def _every_round(run: Run) -> Iterator[RenderableType]:
    """What each round changed of the one before, and why."""
    decided = run.rounds[run.rounds["action"] != "declared"]
    for number, rows in decided.groupby("round"):
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        for row in rows[rows["action"] != "kept"].to_dict(orient="records"):
            after = escape(row["after"])  # what was before is told of the round before
            table.add_row(f"  {row['parameter']}", row["action"], after, Text(row["reason"], style="dim"))
        width = rows["width"].iloc[0]
        yield Group(Text(f"\nround {number}, which drew {_where(run, width)}"), table)
        kept = ", ".join(rows.loc[rows["action"] == "kept", "parameter"])
        if kept:
            yield Text(f"  kept as it was: {kept}", style="dim")


def _where(run: Run, width: float) -> str:
    """Samplers other than the random one look at the ranges alone."""
    sampler, draws = run.study["sampler"], run.study["narrowing"]["draws"]
    if sampler != "random":
        return f"from these ranges, by {sampler}"
    return f"within {width / 2:.0%} of the elite" + (
        f", the best bet of {draws} each time" if draws > 1 else ""
    )


def _time(trials: pd.DataFrame) -> Text:
    shares = worker_time(trials)
    words = ", ".join(f"{share:.1%} {name}" for name, share in shares.items())
    return Text(f"\nworker time: {words}")


def _winner(run: Run, best: Best) -> RenderableType:
    metric = run.study["objective"].get("metric", "value")
    lines = [f"\nwinner: trial {best.trial}"]
    lines += [f"  {name} = {_value(value)}" for name, value in best.params.items()]
    spread = ""
    if best.interval is not None:
        low, high = best.interval
        spread = (
            f" (95 % interval {low:.4f} .. {min(high, 1.0) if metric.endswith('accuracy') else high:.4f})"
        )
    trainings = "one fresh training" if best.seeds == 1 else f"the mean of {best.seeds} fresh trainings"
    lines.append(f"confirmed {metric}: {best.value:.4f}, {trainings} in the last heat{spread}")
    if best.test_accuracy is not None and best.test_interval is not None:
        low, high = best.test_interval
        lines.append(
            f"test accuracy: {best.test_accuracy:.4f} on {best.test_rows} rows that nothing else has touched "
            f"(95 % interval {low:.4f} .. {high:.4f})"
        )
        lines.append(
            f"network: {run.location / 'best' / 'network.pt'}   "
            f"in Python: caviar.load({str(run.location)!r}).best.predict(x)"
        )
    else:
        lines.append(
            f"params: {run.location / 'best' / 'best.json'}   in Python: caviar.load({str(run.location)!r}).best.params"
        )
    return Text("\n".join(lines))


def _value(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
