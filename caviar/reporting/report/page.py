"""The page of a report: its data and scripts are packed, and put into the template with the text."""

import base64
import gzip
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata, resources
from typing import TYPE_CHECKING, Any

from caviar.columns import param_column
from caviar.control_chars import replace_control_chars
from caviar.optional_packages import packages_of
from caviar.records.frames import Run, load
from caviar.reporting.formatting import metric_text
from caviar.reporting.report.sections import Figure, Section, head, sections, value_text
from caviar.storage.location import Location, hint_on_refusal
from caviar.storage.uri import locate

REPORT = "report.html"
"""Name of the page in a run directory."""
PARALLEL = "parallel"
"""Anchor of the figure of parallel coordinates, whose brushes select the rows of the table of trials."""

DIGITS = 4
"""Digits of numbers in the table of trials."""

if TYPE_CHECKING:
    import plotly.graph_objects as go


def write_report(run: str | Run, out: str | None = None, *, reload_s: float | None = None) -> Location:
    """Write the report of a run: one page of HTML that needs no other file and no network.

    Args:
        run: a run, or its directory as a path or URI.
        out: the file, as a path or URI; `report.html` in the run directory by default.
        reload_s: seconds after which a browser loads the page again while the study runs; None for never.

    Returns:
        The file.

    Raises:
        RunError: it is not a run directory, or the file cannot be written.
        MissingPackageError: plotly or jinja2 is not installed.

    Example:
        >>> write_report("runs/digits")  # doctest: +SKIP
    """
    run = load(run) if isinstance(run, str) else run
    file = run.location / REPORT if out is None else locate(out)
    page = render(run, None if run.finished else reload_s)
    with hint_on_refusal("or write it elsewhere with --out"):
        file.write(page.encode())
    return file


def render(run: Run, reload_s: float | None = None) -> str:
    """Return the page.

    Args:
        run: the run.
        reload_s: seconds after which a browser loads the page again; None for never.
    """
    with packages_of("report"):
        import jinja2
        from markupsafe import Markup
        from plotly.offline import get_plotlyjs

    def plain(text: object) -> object:
        """Replace the control characters of a text that is not ours."""
        return replace_control_chars(text) if type(text) is str else text

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=plain)
    found = sections(run)
    version, now = metadata.version("caviar"), datetime.now(UTC)
    page: str = environment.from_string(_asset("page.html.jinja")).render(
        name=run.study["name"],
        version=version,
        head=head(run),
        sections=found,
        footer=f"written {now:%Y-%m-%d %H:%M} UTC by caviar {version} from {run.location}",
        reload_s=reload_s,
        css=Markup(_asset("page.css")),
        js=Markup(_asset("page.js")),
        plotly=Markup(pack(get_plotlyjs())),
        data=Markup(pack(_data(run, found))),
    )
    return page


def _data(run: Run, found: Sequence[Section]) -> str:
    """Return the figures, the templates of light and dark, and the rows of the table of trials, as JSON."""
    from plotly.io.json import to_json_plotly

    from caviar.reporting.plots import theme

    placed = [(section, part) for section in found for part in section.parts if isinstance(part, Figure)]
    figures = {part.anchor: part.figure for _, part in placed}
    parallel = figures.get(PARALLEL)
    data: dict[str, Any] = {
        "templates": {"light": theme.LIGHT, "dark": theme.DARK},
        "figures": {part.anchor: _for_page(part.figure, section.title) for section, part in placed},
        "trials": {"columns": [], "rows": []} if parallel is None else _rows(run, parallel),
    }
    text: str = to_json_plotly(data)
    return text


def _for_page(figure: "go.Figure", heading: str) -> Mapping[str, Any]:
    """Return a figure as JSON, without its template, which the page has once, and a title that repeats the heading."""
    plain: dict[str, Any] = figure.to_plotly_json()
    plain["layout"].pop("template", None)
    if plain["layout"]["title"]["text"] == heading:
        plain["layout"]["title"]["text"] = ""
    return plain


def _rows(run: Run, parallel: "go.Figure") -> dict[str, Any]:
    """Return the rows of the table of trials, as text, in the order of the lines of the parallel coordinates."""
    numbers = [] if not parallel.data else list(parallel.data[0].customdata)
    trials = run.trials.set_index("trial").loc[numbers]
    columns: dict[str, Iterable[str]] = {
        "trial": map(str, numbers),
        run.metric: map(metric_text, trials["value"]),
    }
    for name in run.space:
        cells = trials[param_column(name)]
        columns[name] = [
            "" if empty else value_text(cell, DIGITS) for cell, empty in zip(cells, cells.isna(), strict=True)
        ]
    return {"columns": list(columns), "rows": list(zip(*columns.values(), strict=True))}


def _asset(name: str) -> str:
    """Return the text of a file beside this one."""
    return (resources.files("caviar.reporting.report") / name).read_text()


def pack(text: str) -> str:
    """Return text compressed with gzip, as base64: a third of its size, and without a character of HTML."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
