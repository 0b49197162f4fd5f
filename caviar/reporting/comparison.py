"""The comparison of runs in the terminal, which `caviar compare` prints."""

import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from caviar.analysis.comparison import Comparison
from caviar.control_chars import escaped_output, replace_control_chars
from caviar.reporting.formatting import UNFOLDED_WIDTH, metric_text

BUDGET_UNITS = {"trials": "trials", "epochs": "epochs", "worker_s": "s of workers"}


def show_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print which run is better, the scores of all, their differences, and their searches at equal budget.

    Args:
        comparison: the result of `caviar.compare`.
        console: the terminal to print to; by default standard output.
    """
    console = console or Console(width=None if sys.stdout.isatty() else UNFOLDED_WIDTH)
    with escaped_output(sys.stdout):
        for part in _parts(comparison):
            console.print(part, highlight=False)


def _parts(comparison: Comparison) -> Iterator[RenderableType]:
    yield _text(comparison.verdict, "bold")
    yield _text("\nScores", "bold")
    yield _scores(comparison)
    if len(comparison.pairs) > 1:
        yield _text("\nDifferences", "bold")
        yield _pairs(comparison)
    if (comparison.budgets["amount"] > 0).all():
        yield _text("\nBest of the search at equal budget", "bold")
        yield _budgets(comparison)
    for number, note in enumerate(comparison.notes):
        yield _text(note if number else f"\n{note}")


def _scores(comparison: Comparison) -> RenderableType:
    """Return a row for each run: its place and its scores, each with half its 95 % interval."""
    confirmed = "confirmed" if comparison.by == "test" else comparison.metric
    header = ["run", "place", confirmed, "seeds", "test"]
    rows = [
        [
            row["run"],
            _place(row),
            _score(row["value"], row["high"] - row["value"]),
            _count(row["seeds"]),
            _score(row["test"], (row["test_high"] - row["test_low"]) / 2),
        ]
        for row in comparison.runs.to_dict("records")
    ]
    return _table(header, rows)


def _pairs(comparison: Comparison) -> RenderableType:
    """Return a row for each pair of runs: how much the first is better, and how surely."""
    header = ["runs", "difference", "probability", "clear"]
    rows = [
        [
            f"{row['run']} over {row['other']}",
            _score(row["difference"], row["high"] - row["difference"]),
            "-" if math.isnan(row["probability"]) else f"{min(row['probability'], 0.999):.1%}",
            "yes" if row["clear"] else "no",
        ]
        for row in comparison.pairs.to_dict("records")
    ]
    return _table(header, rows)


def _budgets(comparison: Comparison) -> RenderableType:
    """Return a row for each run: the best value of its search within each budget that all of them have spent."""
    budgets = comparison.budgets
    amounts = budgets.drop_duplicates("budget").set_index("budget")["amount"]
    header = ["run", *(f"{amount:,.0f}\n{BUDGET_UNITS[str(name)]}" for name, amount in amounts.items())]
    header.insert(2, "expected of\nso many")
    best = budgets.pivot(index="run", columns="budget", values="best")
    expected = budgets.dropna(subset="expected").set_index("run")["expected"].to_dict()
    rows = []
    for run in comparison.runs["run"]:
        cells = [_score(best.loc[run, name]) for name in amounts.index]
        rows.append([run, cells[0], _score(expected.get(run, math.nan)), *cells[1:]])
    return _table(header, rows)


def _place(row: dict[Any, Any]) -> str:
    """Return the place of a run, or the range of places that it may have."""
    best, worst = row["place"], row["worst_place"]
    if not isinstance(best, int):
        return "-"
    return str(best) if best == worst else f"{best} to {worst}"


def _score(value: Any, half_width: float = math.nan) -> str:
    """Return a score with half its interval, both with the same number of decimals."""
    if math.isnan(value):
        return "-"
    if math.isnan(half_width) or half_width == 0:
        return metric_text(value)
    decimals = max(0, 1 - math.floor(math.log10(half_width)))
    if decimals > 8:
        return f"{metric_text(value)} ± {half_width:.2g}"
    return f"{value:,.{decimals}f} ± {half_width:,.{decimals}f}"


def _count(number: Any) -> str:
    return f"{number:,}" if isinstance(number, int) else "-"


def _text(text: str, style: str = "") -> Text:
    return Text(replace_control_chars(text), style)  # Rich looks for markup in strings, not in Text


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table. The names in its first column are folded in a narrow terminal."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(_text(header[0], "dim"), overflow="fold", min_width=8)
    for name in header[1:]:
        table.add_column(_text(name, "dim"), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(_text, row))
    return table
