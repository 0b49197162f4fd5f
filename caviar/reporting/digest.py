"""A run in a few rows: state, winner, outcomes, place and the next command, for notebooks and at the end of `watch`."""

from collections.abc import Iterator
from dataclasses import dataclass

from caviar.records.frames import Run
from caviar.records.winner import Best
from caviar.reporting.formatting import metric_text, params_text, score_text
from caviar.trial import Outcome

Row = tuple[str, str]
"""A label, and a text of unknown origin."""


@dataclass(frozen=True, slots=True)
class Digest:
    """A title and rows below it."""

    title: str
    rows: tuple[Row, ...]


def digest_run(run: Run, driver: str | None) -> Digest:
    """Return a run in a few rows.

    Args:
        run: the run, finished or not.
        driver: the process that holds its lock; None if none does.
    """
    state = "finished" if run.finished else f"running ({driver})" if driver else "unfinished"
    return Digest(f"{run.study['name']} is {state}", tuple(_run_rows(run, driver)))


def digest_best(best: Best, metric: str) -> tuple[Row, ...]:
    """Return a winner, or the best trial so far, in a few rows.

    Args:
        best: the winner or the trial.
        metric: the metric that ranks the trials.
    """
    score = score_text(best.value, best.interval, metric.endswith("accuracy"))
    rows = [("trial", f"{best.trial}: {metric} {score}"), ("params", params_text(best.params))]
    if best.test_accuracy is not None:
        uses = f" (use {best.test_uses} of the test split)" if best.test_uses > 1 else ""
        rows.append(("test", f"accuracy {score_text(best.test_accuracy, best.test_interval)}{uses}"))
    if best.test_value is not None:
        rows.append(("test", metric_text(best.test_value)))
    if best.beats_baseline is False:
        rows.append(("warning", "the test rows do not show that it is better than a constant answer"))
    return tuple(rows)


def _run_rows(run: Run, driver: str | None) -> Iterator[Row]:
    best = run.best_so_far
    if best is not None:
        (_, trial), *others = digest_best(best, run.metric)
        label = "winner" if run.finished else "best so far" if run.winner is None else "winner so far"
        yield label, f"trial {trial}"
        yield from others
    counts = run.trials["outcome"].value_counts()
    outcomes = ", ".join(f"{counts[o]:,} {o}" for o in Outcome if o in counts)
    yield "trials", outcomes or "none recorded"
    yield "saved in", str(run.location)
    if run.finished:
        yield "more", f"caviar show {run.location.quoted}"
    elif driver:
        yield "follow", f"caviar watch {run.location.quoted}"
    else:
        yield "to resume", run.study_file.resume_command(run.location)
        if best is not None and run.study_file.can_end_early:
            yield "to end it", run.study_file.resume_command(run.location, "finish")
