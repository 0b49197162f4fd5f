"""Checks that runs can be compared: refusals where scores measure different things, doubts where they may."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from caviar.errors import RunError
from caviar.records.frames import Run

_SPLITTING = ("split", "split_seed", "preprocess")
"""Parts of a declaration that change the fingerprint of the same rows."""
_PACKAGES = ("caviar", "numpy", "torch")
"""Packages whose versions change numbers."""


def require_comparable(runs: Mapping[str, Run]) -> tuple[str, ...]:
    """Refuse runs whose scores cannot be compared, and return sentences that say what is doubtful.

    Args:
        runs: the runs by their labels.

    Raises:
        RunError: they are fewer than two, or differ in their metric, its direction or their data.
    """
    if len(runs) < 2:
        raise RunError("compare: give at least two runs")
    labels, all_runs = list(runs), list(runs.values())
    first = labels[0]
    for label in labels[1:]:
        _require_same_metric(first, runs[first], label, runs[label])
        _require_same_rows(first, runs[first], label, runs[label])
    return tuple(_doubts(labels, all_runs))


def _require_same_metric(one: str, first: Run, other: str, second: Run) -> None:
    """Refuse runs that are ranked by different metrics."""
    if first.metric != second.metric:
        raise RunError(
            f"compare: {one} is ranked by {first.metric} and {other} by {second.metric}: "
            "run one of the studies again with the metric of the other"
        )
    if first.study_file.maximize != second.study_file.maximize:
        larger, smaller = (one, other) if first.study_file.maximize else (other, one)
        raise RunError(
            f"compare: of {first.metric}, larger values are better in {larger} and smaller ones in {smaller}"
        )


def _require_same_rows(one: str, first: Run, other: str, second: Run) -> None:
    """Refuse runs on other rows; another split or preprocessing of the same rows is only doubtful."""
    a, b = first.study_file.data, second.study_file.data
    if a is None or b is None or a.get("fingerprint") == b.get("fingerprint"):
        return
    if _shape(a) != _shape(b) or not _changed(first, second):
        raise RunError(
            f"compare: {one} and {other} were trained on different data: {_describe(a)}, and {_describe(b)}: "
            "scores on different rows say nothing about which run is better"
        )


def _doubts(labels: Sequence[str], runs: Sequence[Run]) -> Iterator[str]:
    """Yield a sentence for each reason why a difference may not be due to the studies."""
    if any(run.study_file.data is None for run in runs):
        yield "The data of a function are not recorded: make sure that these runs measure on the same rows."
    functions = [run.study["objective"].get("function") for run in runs]
    if None not in functions and any(one != other for one, other in pairwise(functions)):
        yield "The functions of these runs differ: make sure that they measure the same."
    for name in _SPLITTING:
        settings = [run.study["objective"].get(name) for run in runs]
        if None not in settings and any(one != other for one, other in pairwise(settings)):
            rows = (
                ""
                if name == "preprocess"
                else ", so their scores are of different rows, and the intervals do not allow for that"
            )
            yield f"The runs differ in {name}{rows}: {_listed(labels, settings)}."
    for name in _PACKAGES:
        versions = [run.study_file.versions.get(name) for run in runs]
        if len(set(versions)) > 1:
            yield f"The runs were made with different versions of {name}: {_listed(labels, versions)}."
    for label, run in zip(labels[1:], runs[1:], strict=True):
        if run.study_file.is_repeated_by(runs[0].study_file):
            yield f"{label} repeats {labels[0]}: the same study with the same seed gives the same numbers."


def _changed(first: Run, second: Run) -> list[str]:
    return [
        name
        for name in _SPLITTING
        if first.study["objective"].get(name) != second.study["objective"].get(name)
    ]


def _shape(data: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what data have in common however they are split."""
    rows = sum(data.get(part) or 0 for part in ("train", "dev", "test"))
    return data.get("name"), data.get("features"), data.get("classes"), rows


def _describe(data: Mapping[str, Any]) -> str:
    rows = sum(data.get(part) or 0 for part in ("train", "dev", "test"))
    return f"{data.get('name')} ({rows:,} rows, fingerprint {str(data.get('fingerprint'))[:8]})"


def _listed(labels: Sequence[str], settings: Sequence[object]) -> str:
    return ", ".join(f"{setting} in {label}" for label, setting in zip(labels, settings, strict=True))
