"""Notes on a run: where it went another way than its study declares, and what it found beside the winner."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from caviar.analysis.retuning import retuning
from caviar.durations import duration_words
from caviar.plurals import counted
from caviar.records.frames import Run
from caviar.search.schedule import Phase
from caviar.trial import Stage

LEAVES_MUCH = 0.75
"""Share of the expected seconds of a time budget: a study that takes no more leaves much of it."""


def deviations(run: Run) -> Iterator[tuple[str, str]]:
    """Yield where the run went another way than the study declares: a title, and a sentence."""
    if run.study_file.time_budget is not None:
        yield "Time budget", _time_budget(run, run.study_file.time_budget)
    for phase in run.study_file.phases():
        what = f"extension {phase.number}" if phase.number else "the search"
        searched = len(own_trials(run, phase, Stage.SEARCH))
        if phase.number:
            yield "Extended", f"{what}, with {counted(searched, 'search trial')}, {_end_of(run, phase)}"
        if phase.search_ended:
            yield "Ended early", f"{what} was ended after {searched:,} of {phase.trials:,} trials"
    for edit in run.study_file.edits:
        what = "the constraints were" if edit.get("what") == "constraints" else "the function was"
        yield "Edited", f"{what} edited after {counted(edit['after_trials'], 'trial')}"


def notes(run: Run) -> Iterator[tuple[str, str]]:
    """Yield the verdict of `caviar retune`, whether it helped to start from another run, and the deviations."""
    verdict, effect = retuning(run), run.start_effect
    if verdict is not None:
        yield "Verdict", str(verdict)
    if effect is not None and not run.study_file.is_retuning:
        yield "Started from", f"{run.study['start_from']['source']}: {effect}"
    yield from deviations(run)


def own_trials(run: Run, phase: Phase, stage: Stage) -> pd.DataFrame:
    """Return the trials of a stage in a phase: the study as declared, or an extension of it."""
    trials = run.trials[run.trials["stage"] == stage]
    return trials[trials["round"].between(phase.first_stage, phase.final)]


def _time_budget(run: Run, budget: Mapping[str, Any]) -> str:
    """Return how many trials were expected to fit into a time, and how many more fit, if much of it is left."""
    fit = (
        f"{counted(budget['trials'], 'trial')} of {duration_words(budget['trial_s'])} were expected to fit into "
        f"{duration_words(budget['time_s'])}"
    )
    if not run.finished or run.study_file.extensions or run.study["sampler"] == "grid":
        return fit
    trials, expected_s = run.trials, budget["expected_s"]
    took_s = (trials["ended"].max() - trials["started"].min()).total_seconds()
    if took_s > LEAVES_MUCH * expected_s:
        return fit
    more = int(budget["trials"] * (expected_s / max(took_s, 1e-3) - 1.0))
    return (
        f"{fit}, and took {duration_words(took_s)} in place of about {duration_words(expected_s)}: "
        f"`{run.study_file.extend_command(run.location, more)}` uses the rest"
    )


def _end_of(run: Run, phase: Phase) -> str:
    """Return how an extension ended, in words."""
    if len(own_trials(run, phase, Stage.FINAL)):
        return "found another winner"
    is_last = phase.final == run.study_file.phases()[-1].final
    return "is not finished yet" if is_last and not run.finished else "came to the same winner"
