"""The summary of a run in the terminal, which `caviar run` and `caviar show RUN` print."""

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import pandas as pd
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from caviar.analysis.failures import failures
from caviar.analysis.round_summary import summarize_groups
from caviar.analysis.start_effect import origin_of_winner
from caviar.analysis.tried_first import tried_first
from caviar.columns import params_from_row
from caviar.plurals import counted
from caviar.records.frames import Run
from caviar.records.winner import Best
from caviar.reporting.formatting import metric_text, params_text, score_text
from caviar.reporting.retuning import verdict_parts
from caviar.reporting.run_notes import deviations, own_trials
from caviar.reporting.scores import score_rows
from caviar.reporting.session_summary import session_parts
from caviar.reporting.terminal import (
    fitting_columns,
    heading,
    line,
    open_console,
    paragraph,
    print_parts,
    table,
)
from caviar.search.schedule import Phase, phase_of
from caviar.space import Choice
from caviar.starting_point import StartingPoint
from caviar.trial import Outcome, Stage

NO_BETTER = (
    "the test rows do not show that the network is better than always predicting the most frequent class: "
    "look at the features, the space and the number of epochs"
)
_TITLE_CHARS = 13
"""Characters of the titles of lines, with the space behind them."""
MAX_CAUSES = 3
"""Maximum number of failure causes that are listed."""
MIN_IMPORTANCE = 0.02
"""Importance from which a parameter is named."""
MAX_PARAMETERS = 4
"""Largest number of parameters that are named as important."""
FEW_PARTS = 3
"""Rows of the search in a short summary."""
MAX_GIVEN = 5
"""Largest number of configurations whose result is shown that the study gives."""
MAX_PARTS = 8
"""Largest number of rows of the search in a long summary, and of rounds whose narrowing is shown."""


def show(run: Run, console: Console | None = None, *, every_round: bool = False) -> None:
    """Print how a run went: the winner, the rounds, what failed, and what to do next.

    Args:
        run: a finished, running or unfinished run.
        console: the terminal to print to; by default standard output.
        every_round: print each round in a row of its own, and how each narrowed the space.
    """
    console = console or open_console()
    print_parts(summary_parts(run, every_round, console.width), console)


def worker_time(trials: pd.DataFrame) -> dict[str, float]:
    """Return how the workers spent their time, from their first wait to their last result (law 7).

    Args:
        trials: rows of `Run.trials`.

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


def summary_parts(run: Run, every_round: bool, width: int) -> Iterator[RenderableType]:
    """Yield what `show` prints on a terminal with so many columns."""
    if run.study_file.panda:
        yield from session_parts(run)
        return
    best = run.best
    if best is not None and run.finished:
        yield from _winner(run, best)
        yield from verdict_parts(run)
    elif run.finished:  # `caviar fetch --frames` copies no winner
        yield heading(run.study["name"], f" is finished. {run.location / 'best'} with the winner is missing.")
    else:
        yield from _unfinished(run)
    if not run.trials.empty:
        yield from _what_mattered(run)
        yield _rounds(run, every_round, width)
        yield from _tried_first(run)
        yield from _started_from(run)
        yield from _not_completed(run)
        if every_round:
            yield from _changes(run)
            yield from _narrowing(run)
        yield _worker_time(run.trials)
    yield from _deviations(run)
    if (refused := run.study_file.refused) is not None:
        yield heading("Constraints", f"  refuse {refused:.0%} of the draws from the whole space")
    attributes = ".trials, .curves, .rounds, .confirmed, " + (".best" if run.finished else ".best_so_far")
    yield heading("In Python", f"    caviar.load({str(run.location)!r}) has {attributes}")
    if not every_round:
        show = f"caviar show {run.location.quoted}"
        yield heading("More", f"         {show} --rounds, or --top 10, --failed, --round 1")


# The result


def _winner(run: Run, best: Best) -> Iterator[RenderableType]:
    """Yield the winner's params and its scores."""
    fresh = "1 fresh training" if best.seeds == 1 else f"mean of {best.seeds} fresh trainings"
    trainings = fresh if best.seeds else "training shows no noise"
    is_share = run.metric.endswith("accuracy")
    rows = [
        ("params", params_text(best.params)),
        ("confirmed", f"{run.metric} {score_text(best.value, best.interval, is_share)} ({trainings})"),
    ]
    rows += score_rows(run, best)
    if best.refit:
        rows.append(("network", "trained on train and dev rows together"))
    yield heading(
        run.study["name"], f" is finished, saved in {run.location}. The winner is trial {best.trial}:"
    )
    yield table(rows)
    if best.beats_baseline is False:
        yield line(f"  Warning: {NO_BETTER}")


def _unfinished(run: Run) -> Iterator[RenderableType]:
    """Yield how far the run is, how to continue it, and the best trial so far."""
    driver = run.location.holder()
    state = f"running ({driver})" if driver else "unfinished"
    yield heading(run.study["name"], f" is {state}: {_how_far(run)} in {run.location}")
    if not driver:
        yield line(f"  to resume    {run.study_file.resume_command(run.location)}")
        if run.best_so_far is not None and run.study_file.can_end_early:
            yield line(f"  to end it    {run.study_file.resume_command(run.location, 'finish')}")
    best = run.best_so_far
    if best is not None:
        label = "best so far" if run.winner is None else "winner so far"
        score = f"{run.metric} {metric_text(best.value)} (trial {best.trial})"
        yield table([(label, score), ("params", params_text(best.params))])


def _deviations(run: Run) -> Iterator[RenderableType]:
    """Yield where the run went another way than the study declares."""
    for title, text in deviations(run):
        yield heading(title, f"{'':{_TITLE_CHARS - len(title)}}{text}")


def _started_from(run: Run) -> Iterator[RenderableType]:
    """Yield what the study has taken from another run, and whether it helped."""
    if not run.study_file.has_origin or run.study_file.is_retuning:
        return
    start = StartingPoint.from_json(run.study["start_from"])
    effect, origin = run.start_effect, origin_of_winner(run)
    rows = [
        ("taken", f"the best {counted(len(start.elite), 'configuration')} of {start.study} ({start.source})")
    ]
    rows += [("note", note) for note in start.notes]
    rows.append(("effect", "too few trials to tell whether it helped" if effect is None else str(effect)))
    if origin is not None:
        rows.append(("winner", f"its params come from: {origin}"))
    yield table(rows, ["Started from", ""])


def _tried_first(run: Run) -> Iterator[RenderableType]:
    """Yield how the configurations did that the study gives."""
    given = tried_first(run)
    if given.empty:
        return
    completed = int(
        ((run.trials["stage"] == Stage.SEARCH) & (run.trials["outcome"] == Outcome.COMPLETED)).sum()
    )
    rows = [
        (
            f"trial {row['trial']}",
            row["outcome"] if pd.isna(row["rank"]) else f"{metric_text(row['value'])}",
            "-" if pd.isna(row["rank"]) else f"{int(row['rank']):,} of {completed:,}",
            params_text(params_from_row(run.space, row)),
        )
        for row in given.head(MAX_GIVEN).to_dict(orient="records")
    ]
    yield table(rows, ["Tried first", run.metric, "rank", "params"])
    if len(given) > MAX_GIVEN:
        yield line(f"  and {len(given) - MAX_GIVEN:,} more: .trials.query('given')")


def _how_far(run: Run) -> str:
    """Return how many of the planned trials are recorded."""
    phase = run.study_file.phases()[-1]
    searched, confirmed = (len(own_trials(run, phase, stage)) for stage in (Stage.SEARCH, Stage.CONFIRMATION))
    planned = max(searched, phase.trials)  # extra rounds are not planned
    text = f"{searched:,} of {planned:,} search trials"
    if confirmed:
        text += f" and {confirmed:,} of at most {phase.confirmation.trials:,} confirmation trials"
    return f"{text}{f' of extension {phase.number}' if phase.number else ''} are recorded"


# The rounds


def _what_mattered(run: Run) -> Iterator[RenderableType]:
    """Yield the parameters that mattered most, if the trials are enough to tell."""
    importance = run.importance()
    most = importance[importance["importance"] >= MIN_IMPORTANCE].head(MAX_PARAMETERS)
    shares = [
        f"{row['parameter']} {row['importance']:.0%} ({100 * row['low']:.0f} .. {row['high']:.0%})"
        for row in most.to_dict(orient="records")
    ]
    if shares:
        yield table([(", ".join(shares),)], ["What mattered most, with 95% intervals"])


def _rounds(run: Run, every_round: bool, width: int) -> Table:
    """Return a row for each round and confirmation step, or one for several of them.

    Columns that matter less are left out where the terminal is narrow.
    """
    trials = run.trials if every_round else run.trials[run.trials["stage"] != Stage.FINAL]
    trials = trials.sort_values("round", kind="stable")
    phases = run.study_file.phases()
    parts = {phase.number: _search_parts(run, phase, every_round) for phase in phases}

    def label(stage: str, number: int) -> str:
        phase = phase_of(phases, number)
        if number in parts[phase.number]:
            return parts[phase.number][number]
        place, steps = number - phase.confirming.start, len(phase.confirming)
        text = stage
        if stage == Stage.SEARCH:
            text = f"extra round {place}" if every_round else "extra"
        elif stage == Stage.CONFIRMATION and every_round:
            text = f"step {place + 1} of {steps}"
        return f"extension {phase.number}, {text}" if phase.number else text

    labels = [label(stage, number) for stage, number in zip(trials["stage"], trials["round"], strict=True)]
    title = "Trials" if has_steps(run) else "Rounds"
    return group_table(title, summarize_groups(trials, labels, run.study_file.maximize), run.metric, width)


def group_table(title: str, groups: pd.DataFrame, metric: str, width: int) -> Table:
    """Return a table of groups of trials (`summarize_groups`) that fits the terminal.

    Args:
        title: the title of the column with the groups' names.
        groups: the groups.
        metric: the metric that ranks.
        width: columns of the terminal; those of the table that matter least are left out where it is narrow.
    """
    rare = [outcome for outcome in Outcome if outcome is not Outcome.COMPLETED]
    columns = {title: [f"  {name}" for name in groups.index]}
    for name, cells in groups.drop(columns=[o for o in rare if not groups[o].any()]).items():
        text = metric_text if name in ("best", "median") else "{:,}".format
        columns[str(name)] = ["-" if pd.isna(cell) else text(cell) for cell in cells]
    full = {f"best {metric}" if name == "best" else name: cells for name, cells in columns.items()}
    if len(fitting_columns(full, full, width)) == len(full):
        columns = full
    shown = fitting_columns(columns, ("epochs", *rare), width)
    rows = zip(*(columns[name] for name in shown), strict=True)
    return table([(first.strip(), *rest) for first, *rest in rows], shown, numbers=True)


def has_steps(run: Run) -> bool:
    """Return True if the trials are searched without rounds, at least some of them."""
    return any("in_flight" in this for this in run.study["rounds"])


def _search_parts(run: Run, phase: Phase, every_round: bool) -> dict[int, str]:
    """Return the title of each round or step of a search: several neighbours have the same one."""
    trials = own_trials(run, phase, Stage.SEARCH)
    trials = trials[trials["round"] < phase.confirming.start]
    spans = trials.groupby("round")["trial"].agg(["min", "max"])
    if phase.number:
        return dict.fromkeys(spans.index, f"extension {phase.number}")
    numbers, groups = list(spans.index), MAX_PARTS if every_round else FEW_PARTS
    if not has_steps(run):
        between = range(1, len(numbers) - 1) if len(numbers) > FEW_PARTS and not every_round else range(0)
        return {
            number: f"2 .. {numbers[-2]}" if place in between else str(number)
            for place, number in enumerate(numbers)
        }
    groups = max(1, min(groups, len(numbers) - 1))
    parts: dict[int, list[int]] = {}
    for place, number in enumerate(numbers):
        parts.setdefault(math.ceil(place * groups / max(1, len(numbers) - 1)), []).append(number)
    return {
        number: f"{spans['min'][part[0]]:,} .. {spans['max'][part[-1]]:,}"
        for part in parts.values()
        for number in part
    }


def _not_completed(run: Run) -> Iterator[RenderableType]:
    """Yield why trials were stopped, diverged or failed: the most frequent causes."""
    counts = run.trials["outcome"].value_counts()
    rows = [
        (f"{counts[outcome]:,} {outcome}", why)
        for outcome, why in (
            (Outcome.STOPPED, "by halving: their epochs went to better trials"),
            (Outcome.DIVERGED, "the loss or metric was not finite or too large"),
        )
        if outcome in counts
    ]
    causes = failures(run.trials[run.trials["outcome"] == Outcome.FAILED])
    listed = causes.head(MAX_CAUSES)
    rows += [(f"{n:,} failed", such) for n, such in zip(listed["trials"], listed["failure"], strict=True)]
    if others := int(causes["trials"].iloc[MAX_CAUSES:].sum()):
        rows.append((f"{others:,} failed", f"for other reasons: caviar show {run.location.quoted} --failed"))
    if rows:
        yield table(rows, ["Not completed", ""])


# The search space


def _narrowing(run: Run) -> Iterator[RenderableType]:
    """Yield the declared range of each parameter beside that of the last round, with the reason."""
    rounds = run.rounds
    last = rounds[(rounds["round"] == rounds["round"].max()) & (rounds["action"] != "declared")]
    if last.empty:
        return
    declared = rounds[rounds["action"] == "declared"].set_index("parameter")["after"].to_dict()
    rows = []
    for name, after, reason in zip(last["parameter"], last["after"], last["reason"], strict=True):
        is_choice = isinstance(run.space[name].domain, Choice)  # then `after` has all declared options
        same = is_choice or after == declared.get(name, after)  # a damaged file may lack a round
        rows.append((name, after if same else f"{declared[name]} -> {after}", reason))
    yield table(rows, ["Search space", "declared -> at the end", "reason"])


def _changes(run: Run) -> Iterator[RenderableType]:
    """Yield the parameters that changed, with the reasons, from round to round; of many rounds between a few."""
    decided = run.rounds[run.rounds["action"] != "declared"]
    numbers = list(decided["round"].unique())
    shown = {
        numbers[math.ceil(len(numbers) * part / MAX_PARTS) - 1] for part in range(1, MAX_PARTS + 1) if numbers
    }
    last = dict(zip(*decided.drop_duplicates("parameter")[["parameter", "before"]].to_numpy().T, strict=True))
    for number, rows in decided[decided["round"].isin(shown)].groupby("round"):
        yield paragraph(f"Round {number}", f" {how_drawn(run, rows.iloc[0].to_dict())}")
        is_changed = rows["after"] != rows["parameter"].map(last)
        if is_changed.any():
            yield table(rows.loc[is_changed, ["parameter", "after", "reason"]].to_numpy().tolist())
        if kept := ", ".join(rows.loc[~is_changed, "parameter"]):
            yield line(f"  unchanged: {kept}")
        last |= dict(zip(rows["parameter"], rows["after"], strict=True))


def how_drawn(run: Run, this: Mapping[Hashable, Any]) -> str:
    """Return where a round draws its trials; samplers other than the random one see its ranges alone."""
    searched = run.trials.loc[run.trials["stage"] == Stage.SEARCH, "trial"]
    known = int((searched < this["learned_from"]).sum())
    learned = f"learns from {counted(known, 'trial')} and " if has_steps(run) else ""
    sampler = run.study["sampler"].removeprefix("function ").split(" ")[0]  # without the digest of a function
    if sampler != "random":
        return f"{learned}draws from these ranges with the sampler {sampler}:"
    reach = this["width"] / 2
    if run.study_file.has_origin and not this["learned_from"]:
        start = StartingPoint.from_json(run.study["start_from"])
        share = f", and {start.whole_share:.0%} of them in the whole space" if start.whole_share else ""
        return f"draws at most {reach:.0%} of a parameter's declared range from the best of {start.study}{share}:"
    return f"{learned}draws near the best trials, at most {reach:.0%} of a parameter's declared range away:"


# Time, and what to do next


def _worker_time(trials: pd.DataFrame) -> Text:
    training, setup, waiting = (f"{share:.1%}" for share in worker_time(trials).values())
    return heading("Worker time", f"  {training} training, {setup} setup, {waiting} waiting")
