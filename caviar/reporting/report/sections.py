"""The content of a report: sections of text, tables and figures, from coarse to fine."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from caviar.analysis.advice import advice
from caviar.analysis.branches import branches
from caviar.analysis.classification import calibration, calibration_error, winner_predictions
from caviar.analysis.failures import failures
from caviar.analysis.pairs import paired_parameters
from caviar.control_chars import replace_control_chars
from caviar.plurals import counted
from caviar.records.frames import Run
from caviar.records.winner import Best
from caviar.reporting.formatting import duration_text, interval_text, metric_text, test_origin, test_rows_text
from caviar.reporting.run_notes import notes
from caviar.trial import Outcome, Stage

if TYPE_CHECKING:
    import plotly.graph_objects as go

FIGURE_HEIGHT = 420
"""Height of a figure that names none, in pixels."""
MAX_CAUSES = 20
"""Largest number of failure causes that are listed."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the page."""

    kind: ClassVar[str] = "figure"
    anchor: str
    """Name of the figure in the page."""
    figure: "go.Figure"
    title: str = ""

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.figure.layout.height or FIGURE_HEIGHT)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text."""

    kind: ClassVar[str] = "table"
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Details:
    """A long text that opens on a click."""

    kind: ClassVar[str] = "details"
    title: str
    text: str


Part = Figure | Table | Details


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page."""

    anchor: str
    """Name of the section in links."""
    title: str
    text: str
    """Introduction; may be empty."""
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True)
class Score:
    """A number that leads the page."""

    label: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of the page: the winner, its scores and what to do next."""

    state: str
    """ "finished", "running" or "unfinished"."""
    text: str
    scores: Sequence[Score]
    params: Sequence[tuple[str, str]]
    notes: Sequence[tuple[str, str]]
    """Titles and sentences: a verdict, extensions, and the like."""
    advice: Sequence[str]
    commands: Sequence[tuple[str, str]]
    """Commands to copy, each with what it does."""


def head(run: Run) -> Head:
    """Return the beginning of the page."""
    best, driver = run.best_so_far, run.location.holder()
    state = "finished" if run.finished else "running" if driver else "unfinished"
    return Head(
        state=state,
        text=_counts_text(run),
        scores=[] if best is None else list(_scores(run, best)),
        params=[] if best is None else [(n, value_text(v)) for n, v in best.params.items()],
        notes=list(notes(run)),
        advice=[] if run.study_file.panda else advice(run),
        commands=_commands(run, state),
    )


def sections(run: Run) -> list[Section]:
    """Return the sections of the page; those that the run has nothing for are left out."""
    if run.trials.empty:
        return [_declaration(run)]
    if run.study_file.panda:
        return [s for s in _of_session(run) if s is not None]
    found = [
        _progress(run),
        _narrowing(run),
        _importance(run),
        _trials(run),
        _curves(run),
        _confirmation(run),
        _classification(run),
        _failures(run),
        _workers(run),
        _declaration(run),
    ]
    return [section for section in found if section is not None]


def _of_session(run: Run) -> Iterator[Section | None]:
    """Yield the sections of a session of `caviar panda`."""
    yield _branches(run)
    yield _classification(run)
    yield _failures(run)
    yield _declaration(run)


# The beginning


def _counts_text(run: Run) -> str:
    """Return in a sentence how many trials the study has trained, and how long it took."""
    trials = run.trials
    counts = trials["outcome"].value_counts()
    parts = [f"{counts[outcome]:,} {outcome}" for outcome in Outcome if outcome in counts]
    text = counted(len(trials), "trial")
    if parts:
        text += f" ({', '.join(parts)})"
    times = trials[["started", "ended"]].dropna()
    if not times.empty:
        seconds = (times["ended"].max() - times["started"].min()).total_seconds()
        text += f" in {duration_text(seconds)} on {counted(trials['worker'].nunique(), 'worker')}"
    return text


def _scores(run: Run, best: Best) -> Iterator[Score]:
    """Yield the winner's scores: confirmed, on test rows, and beside the baseline."""
    if best.interval is not None:
        interval = interval_text(best.interval, is_share=run.metric.endswith("accuracy"))
        note = f"{interval}, {counted(best.seeds, 'fresh training')}"
        yield Score(f"{run.metric}, confirmed", metric_text(best.value), note)
    else:
        note = f"trial {best.trial}" if run.finished else f"trial {best.trial}, not confirmed yet"
        yield Score(
            f"{run.metric}, {'winner' if run.finished else 'best so far'}", metric_text(best.value), note
        )
    if best.test_accuracy is not None:
        interval = "" if best.test_interval is None else f"{interval_text(best.test_interval)}, "
        note = interval + test_rows_text(best).removeprefix("on ")
        yield Score("test accuracy", metric_text(best.test_accuracy), note)
    if best.test_value is not None:
        yield Score("test score", metric_text(best.test_value), test_origin(run.metric, best))
    if best.baseline is not None:
        accuracy, split = best.baseline.test_accuracy, "test rows"
        if accuracy is None:
            accuracy, split = best.baseline.dev_accuracy, "dev rows"
        yield Score("baseline", metric_text(accuracy), f"always {best.baseline.label}, on the {split}")


def value_text(value: Any, digits: int = 6) -> str:
    """Return a parameter's value as text, with so many digits of a number that is no integer."""
    return f"{value:.{digits}g}" if isinstance(value, float) else replace_control_chars(str(value))


def _commands(run: Run, state: str) -> list[tuple[str, str]]:
    """Return commands that go on from here."""
    commands = [("in Python", f"run = caviar.load({str(run.location)!r}); run.trials")]
    best = run.best
    if best is not None and best.feature_names is not None:
        is_module = run.study["objective"].get("kind") == "module"
        commands.append(("predict", f"run.best.predict(rows{', build' if is_module else ''})"))
    if state == "running":
        commands.append(("follow it", f"caviar watch {run.location.quoted}"))
    elif state == "unfinished":
        commands.append(("continue it", run.study_file.resume_command(run.location)))
        if run.study_file.can_end_early:
            commands.append(("end it here", run.study_file.resume_command(run.location, "finish")))
    return commands


# The sections


def _progress(run: Run) -> Section:
    return Section(
        "progress",
        "Progress",
        "Every search trial by its value, and the best so far.",
        [
            Figure("history", run.plot.history()),
            Figure("history-time", run.plot.history(against="time")),
        ],
    )


def _branches(run: Run) -> Section:
    """Return the branches of a session: their curves, what each changed, and what the user said."""
    rows = [
        [
            str(branch.number),
            "" if branch.parent is None else f"{branch.parent} at {branch.parent_epoch}",
            branch.changes,
            f"{branch.first} .. {branch.last}",
            "" if branch.best is None else f"{metric_text(branch.best)} at {branch.best_epoch}",
            str(branch.outcome),
        ]
        for branch in branches(run)
    ]
    said = [
        [f"{time:%Y-%m-%d %H:%M:%S}", f"{trial:.0f}".replace("nan", ""), str(epoch), str(command)]
        for time, trial, epoch, command in run.interventions.itertuples(index=False)
    ]
    losses = [name for name in ("train_loss", "dev_loss") if name in run.metrics and name != run.metric]
    return Section(
        "branches",
        "Branches",
        "One network, changed while it trained. Each branch continues another one from some epoch.",
        [
            Figure("curves", run.plot.curves()),
            *(Figure(f"curves-{name}", run.plot.curves(name)) for name in losses),
            Table(["branch", "from", "changes", "epochs", f"best {run.metric}", "outcome"], rows),
            Table(["time", "branch", "epoch", "command"], said, "What was said"),
        ],
    )


def _narrowing(run: Run) -> Section | None:
    if run.rounds.empty:
        return None
    return Section(
        "narrowing",
        "From coarse to fine",
        "Where the search drew its trials, in each parameter's own scale.",
        [Figure("rounds", run.plot.rounds())],
    )


def _importance(run: Run) -> Section:
    found = run.importance()
    return Section(
        "importance",
        "What mattered",
        "How much each parameter affects the value, and where its good values are.",
        [
            Figure("importance", run.plot.importance(found)),
            Figure("slices", run.plot.slices()),
            Figure("contours", run.plot.contours(paired_parameters(run.space, found))),
        ],
    )


def _trials(run: Run) -> Section:
    return Section(
        "trials",
        "Trials",
        "Each line is a completed trial. Drag along an axis to select lines; the table shows the best of them.",
        [Figure("parallel", run.plot.parallel())],
    )


def _curves(run: Run) -> Section | None:
    if run.trials["epochs_trained"].max() <= 1:
        return None
    return Section("curves", "Learning curves", "", [Figure("curves", run.plot.curves())])


def _confirmation(run: Run) -> Section | None:
    if not (run.trials["stage"] == Stage.CONFIRMATION).any():
        return None
    text = "The best of many values owe something to luck. So the best trials are trained again, with fresh seeds."
    return Section("confirmation", "Confirmation", text, [Figure("confirmation", run.plot.confirmation())])


def _classification(run: Run) -> Section | None:
    rows = winner_predictions(run)
    if rows.empty:
        return None
    error = calibration_error(calibration(rows))
    text = (
        f"Predictions of the winner for {len(rows):,} test rows. Its confidence is off by {error:.1%} on average "
        "(expected calibration error)."
    )
    return Section(
        "errors",
        "Errors of the winner",
        text,
        [
            Figure("confusion", run.plot.confusion()),
            Figure("calibration", run.plot.calibration()),
        ],
    )


def _failures(run: Run) -> Section | None:
    causes = failures(run.trials)
    if causes.empty:
        return None
    text = f"{counted(int(causes['trials'].sum()), 'trial')} failed or diverged."
    if len(causes) > MAX_CAUSES:
        text += f" These are the {MAX_CAUSES} most frequent of {len(causes):,} causes."
    rows = [
        [f"{row.trials:,}", str(row.outcome), str(row.failure), str(row.example)]
        for row in causes.head(MAX_CAUSES).itertuples()
    ]
    header = ["trials", "outcome", "the first failure", "of trial"]
    return Section("failures", "Failures", text, [Table(header, rows)])


def _workers(run: Run) -> Section:
    return Section("workers", "Workers and time", "", [Figure("timeline", run.plot.timeline())])


def _declaration(run: Run) -> Section:
    """Return the study as it was declared, its data, versions and machines."""
    file = run.study_file
    rows = [
        [name, str(parameter.domain), _conditions_text(parameter.when)]
        for name, parameter in run.space.items()
    ]
    facts = [["begun", file.created], ["script", file.script or "from Python"]]
    if file.data is not None:
        sizes = ", ".join(f"{file.data[split]:,} {split}" for split in ("train", "dev", "test"))
        facts.append(["data", f"{file.data['name']}: {sizes} rows, {file.data['features']:,} features"])
    facts.append(["versions", ", ".join(f"{name} {version}" for name, version in file.versions.items())])
    nodes = list(run.trials["node"].dropna().unique())
    if len(nodes):
        shown = ", ".join(nodes[:5]) + (f" and {len(nodes) - 5} more" if len(nodes) > 5 else "")
        facts.append([f"machine{'s' if len(nodes) > 1 else ''}", shown])
    return Section(
        "study",
        "The study",
        "",
        [
            Table(["parameter", "range or options", "used if"], rows, "space"),
            Table(["", ""], facts, "environment"),
            Details("study.json", json.dumps(file.study, indent=2, ensure_ascii=False)),
        ],
    )


def _conditions_text(conditions: Any) -> str:
    return " and ".join(f"{name} is {' or '.join(map(str, values))}" for name, values in conditions.items())
