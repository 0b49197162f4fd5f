"""Checks that a run is continued with what it was begun with: the study, its data, the versions of packages."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

from caviar.data.splits import Dataset
from caviar.errors import RunError
from caviar.records.frames import Run
from caviar.records.run_files import StudyFile
from caviar.storage.location import Location
from caviar.study import Study, declared_stages

MAX_DIFFERENCES = 4
"""Maximum number of differences between two studies that are listed."""
MAX_VALUE_LENGTH = 60
"""Maximum length of a value in that list, in characters."""


def with_recorded_trials(begun: StudyFile, study: Study) -> Study:
    """Return the study with the number of trials that a time budget chose for its run.

    Args:
        begun: the study file of the run.
        study: the study as its script declares it. If it no longer declares what it did, it is returned as it is.
    """
    if begun.time_budget is None:
        return study
    declared = json.loads(json.dumps(study.to_json()))
    if any(declared[name] != then for name, then in begun.time_budget["declared"].items()):
        return study
    return replace(study, rounds=declared_stages(begun.study))


def accept_edited_function(begun: StudyFile, study: Study, run: Run) -> StudyFile:
    """Return the study file with the function and the constraints as they are now, and a note of each edit."""
    now, edited = json.loads(json.dumps(study.to_json())), dict(begun.study)
    edits = list(begun.edits)

    def note(what: str, before: Any, after: Any) -> None:
        edits.append({"after_trials": len(run.trials), "what": what, "before": before, "after": after})

    before, after = (plain["objective"].get("function") for plain in (edited, now))
    if after is not None and after != before:
        edited["objective"] = {**edited["objective"], "function": after}
        note("function", before, after)
    before, after = edited.get("constraints", []), now.get("constraints", [])
    if after != before and len(after) == len(before):
        edited["constraints"] = after
        note("constraints", before, after)
    return replace(begun, study=edited, edits=tuple(edits)) if len(edits) > len(begun.edits) else begun


def require_search(location: Location, begun: StudyFile) -> None:
    """Refuse a session of `caviar panda`, in which nothing is searched.

    Raises:
        RunError: the run is one.
    """
    if begun.panda:
        raise RunError(
            f"{location} is a session of `caviar panda`: go on with `{begun.resume_command(location)}`"
        )


def require_same_study(location: Location, begun: StudyFile, study: Study) -> None:
    """Refuse a study that differs from the run's, and say how.

    Raises:
        RunError: it differs.
    """
    asked = json.loads(json.dumps(study.to_json()))  # JSON has no tuples
    differing = list(_differences(begun.study, asked))
    if not differing:
        return
    hint = ""
    if all(_is_edit(difference) for difference in differing):
        hint = ", or accept the edited function with --same-function (in Python: same_function=True)"
    raise RunError(
        f"{location} belongs to another study, which differs in {_listed(differing)}: run this one under another "
        f"name, with `caviar run EXPERIMENT.py --name NAME` or study.run(name=...){hint}"
    )


def _differences(then: Any, now: Any, place: str = "") -> Iterator[str]:
    """Yield in words where two JSON values differ."""
    if then == now:
        return
    if isinstance(then, dict) and isinstance(now, dict):
        for key in {**then, **now}:
            yield from _differences(then.get(key), now.get(key), f"{place}.{key}".lstrip("."))
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for number, pair in enumerate(zip(then, now, strict=True)):
            yield from _differences(*pair, f"{place}[{number}]")
    elif _is_edit(place) and place.endswith((".source", ".uses")):
        yield f"{place} (it was edited)"
    else:
        yield f"{place} ({_shortened(then)} then, {_shortened(now)} now)"


def _is_edit(place: str) -> bool:
    """Return True for a place in the fingerprint of a function that the user may edit."""
    return place.startswith(("objective.function.", "constraints["))


def _listed(differing: Sequence[str]) -> str:
    more = f" and {len(differing) - MAX_DIFFERENCES} more" if len(differing) > MAX_DIFFERENCES else ""
    return ", ".join(differing[:MAX_DIFFERENCES]) + more


def _shortened(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}..."


def load_same_data(study: Study, location: Location, begun: StudyFile) -> Dataset | None:
    """Load the study's data; refuse data that differ from those the run started with."""
    dataset = study.objective.load()
    if dataset is not None and dataset.fingerprint != (begun.data or {}).get("fingerprint"):
        now = json.loads(json.dumps(StudyFile.describe(study, dataset, None).data))
        raise RunError(
            f"{location} was trained on other data than {dataset.name} holds now, which differ in "
            f"{_listed(list(_differences(begun.data or {}, now)))}: "
            "restore the data, or run the study again under another name"
        )
    return dataset


def require_same_version(location: Location, recorded: dict[str, str]) -> None:
    """Refuse other versions of the packages that compute the numbers: results are reproducible within one version."""
    packages = ("caviar", "numpy", "torch", "optuna")
    changed = [p for p in packages if recorded.get(p) != metadata.version(p)]
    if changed:
        was = ", ".join(f"{p} {recorded.get(p)} (now {metadata.version(p)})" for p in changed)
        raise RunError(
            f"{location} was started with {was}; results of different versions differ: install those to continue"
        )
