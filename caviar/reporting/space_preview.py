"""The preview of a space in the terminal and as JSON, which `caviar space` prints."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType

from caviar.analysis.space_preview import ParameterDraws, SpacePreview
from caviar.plurals import counted
from caviar.reporting.terminal import heading, line, paragraph, table

BAR = 16
"""Length in characters of the bar of all draws."""
MAX_PARTS = 12
"""Largest number of parts of a parameter that are printed."""


def preview_json(found: SpacePreview) -> dict[str, Any]:
    """Return a preview as plain data: the fields of `SpacePreview` and of what it holds."""
    return asdict(found)


def preview_parts(found: SpacePreview) -> Iterator[RenderableType]:
    """Yield what is printed of a preview."""
    way = {"random": "at random", "grid": "on a grid"}.get(found.sampler, f"with the sampler {found.sampler}")
    yield heading(found.study, f" draws {way}: the shares of {counted(found.draws, 'draw')}")
    if found.given:
        yield line(f"  before them: {counted(found.given, 'trial')} with given params (try_first)")
    if found.start is not None:
        yield line(f"  not counted: the draws near the best of {found.start}, from which the study starts")
    if found.refused is not None:
        yield line(f"  the constraints refuse {found.refused:.0%} of the draws from the whole space")
    rows = [row for parameter in found.parameters for row in _rows(parameter)]
    yield table(rows, ["Parameter", "scale", "values", "draws", ""])
    for parameter in found.parameters:
        if parameter.hint:
            yield paragraph(f"Hint: {parameter.name}", f"  {parameter.hint}")


def _rows(parameter: ParameterDraws) -> Iterator[tuple[str, ...]]:
    """Yield a row for each part: the name and the scale stand in the first, what applies in the second."""
    notes = [parameter.scale]
    if parameter.applies < 1:
        notes.append(f"in {parameter.applies:.0%} of draws")
    parts = parameter.parts[:MAX_PARTS]
    for number in range(max(len(parts), len(notes))):
        name = parameter.name if number == 0 else ""
        note = notes[number] if number < len(notes) else ""
        if number < len(parts):
            part = parts[number]
            yield name, note, part.label, f"{part.share:4.0%}", "█" * round(BAR * part.share)
        else:
            yield name, note, "", "", ""
    if more := len(parameter.parts) - len(parts):
        yield "", "", f"and {more:,} more", "", ""
