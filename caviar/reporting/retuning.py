"""The verdict of `caviar retune`, printed and as data."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType

from caviar.analysis.retuning import Candidate, retuning
from caviar.records.frames import Run
from caviar.reporting.formatting import interval_text, metric_text, params_text
from caviar.reporting.terminal import line, paragraph, table
from caviar.starting_point import StartingPoint


def verdict_parts(run: Run) -> Iterator[RenderableType]:
    """Yield the candidates with their scores, and the verdict; nothing for other runs."""
    found = retuning(run)
    if found is None:
        return
    rows = [_row(candidate, run.metric.endswith("accuracy")) for candidate in found.candidates]
    yield table(rows, ["Best of", "trials", "trial", found.metric, "params"])
    for note in StartingPoint.from_json(run.study["start_from"]).notes:
        yield line(f"  of {found.source}: {note}")
    yield paragraph("Verdict", f"      {found}")


def _row(this: Candidate, is_share: bool) -> tuple[str, ...]:
    score = metric_text(this.score.value)
    if this.score.variance > 0:
        score += f", {interval_text((this.score.low, this.score.high), is_share)}"
    return f"  {this.name}", f"{this.trained:,}", f"{this.trial}", score, params_text(this.params)


def data(run: Run) -> dict[str, Any]:
    """Return the verdict for JSON: `run`, `verdict`, `sentence`, `chosen`, and a row a candidate in `candidates`."""
    found = retuning(run)
    assert found is not None
    return {
        "run": str(run.location),
        "source": found.source,
        "metric": found.metric,
        "maximize": found.maximize,
        "verdict": found.verdict,
        "sentence": str(found),
        "chosen": found.chosen.name,
        "candidates": [_data(this) for this in found.candidates],
    }


def _data(this: Candidate) -> dict[str, Any]:
    gain = None if this.gain is None else asdict(this.gain)
    return {
        "name": this.name,
        "trial": this.trial,
        "params": this.params,
        "value": this.score.value,
        "low": this.score.low,
        "high": this.score.high,
        "trainings": this.score.n,
        "search_trials": this.trained,
        "gain": gain,
        "clearly_better_than": this.beats,
    }
