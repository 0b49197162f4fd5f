"""The gallery of the lecture's claims: what an experiment finds, how it is saved, and the page that shows all.

python experiments/lecture/01_importance.py            # saves results/01_importance.csv, .json and .png
python experiments/lecture/01_importance.py --quick    # seconds, with too little data to mean anything
python experiments/lecture/gallery.py                  # writes README.md and QUIZ.md from results/

Neighbours import `Finding` and `main` from here.
"""

import argparse
import ast
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
import quiz
from scipy.special import stdtrit

from caviar.reporting.plots import theme

HERE = Path(__file__).parent
RESULTS = HERE / "results"
WIDTH = 1000
"""Width of an image in pixels, before it is drawn 1.5 times as large."""

Verdict = Literal["holds", "holds weakly", "does not hold here"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The answer of an experiment to one claim."""

    claim: str
    """The claim, in a sentence."""
    verdict: Verdict
    """The verdict that the measured figures allow."""
    found: str
    """One or two sentences with the measured figures and their intervals, made from the table."""
    table: pd.DataFrame
    """The measured figures, a few rows."""
    figure: go.Figure
    """The figure, in caviar's theme (`caviar.reporting.plots.theme`)."""

    def to_json(self, seconds: float) -> dict[str, Any]:
        """Return what the page needs beside the table and the image."""
        return {
            "claim": self.claim,
            "verdict": self.verdict,
            "found": self.found,
            "seconds": round(seconds, 1),
        }


def main(measure: Callable[[bool], Finding], arguments: Sequence[str] | None = None) -> None:
    """Parse the command line of an experiment, run it, and save and print what it finds.

    Args:
        measure: runs the experiment; its argument is True for a quick run.
        arguments: the command line; by default that of the process.
    """
    script = Path(measure.__code__.co_filename)
    parser = argparse.ArgumentParser(
        description=sys.modules[measure.__module__].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="run in seconds, with a page instead of an image"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of the results (default: results/ beside the script, or a temporary folder with --quick)",
    )
    options = parser.parse_args(arguments)
    quick = bool(options.quick)
    out = options.out or (Path(tempfile.mkdtemp(prefix="caviar-lecture-")) if quick else RESULTS)
    began = time.process_time()
    finding = measure(quick)
    files = save(finding, out / script.stem, time.process_time() - began, image=not quick)
    print(f"{finding.claim}\n{finding.verdict}: {finding.found}\n\n{finding.table.to_string(index=False)}\n")
    print("saved " + ", ".join(map(str, files)))


def save(finding: Finding, stem: Path, seconds: float, *, image: bool) -> list[Path]:
    """Save a finding as STEM.csv, STEM.json and STEM.png, and return the paths.

    Args:
        finding: the finding.
        stem: path of the files without their endings.
        seconds: CPU time that the experiment took.
        image: True to draw an image, which needs Chrome; False to write an interactive page, STEM.html.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    table, facts = stem.with_suffix(".csv"), stem.with_suffix(".json")
    picture = stem.with_suffix(".png" if image else ".html")
    finding.table.to_csv(table, index=False)
    facts.write_text(json.dumps(finding.to_json(seconds), indent=2, ensure_ascii=False) + "\n")
    if image:
        figure = go.Figure(finding.figure).update_layout(paper_bgcolor="white")
        pio.write_image(figure, picture, width=WIDTH, height=figure.layout.height, scale=1.5)
    else:
        finding.figure.write_html(picture, include_plotlyjs="directory")
    return [table, facts, picture]


def finish(figure: go.Figure, title: str, *notes: str) -> go.Figure:
    """Give a figure its title, the note below it, caviar's theme, and the sizes of text that all figures here have.

    Args:
        figure: the figure.
        title: a few words.
        notes: sentences.
    """
    figure.update_annotations(font_size=14)
    figure.update_xaxes(title_font_size=13, tickfont_size=12)
    figure.update_yaxes(title_font_size=13, tickfont_size=12)
    return theme.finish(figure, title, [note.replace(" %", "\N{NO-BREAK SPACE}%") for note in notes], head=20)


def mean_and_half(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of independent repetitions and half the width of its 95 % interval (Student's t)."""
    count = len(values)
    half = stdtrit(count - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(count) if count > 1 else np.nan
    return float(np.mean(values)), float(half)


def page(results: Path = RESULTS) -> str:
    """Return the gallery: for each claim how it was measured, what was found, the figure, the table and the command."""
    findings = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("[0-9]*.json"))}
    summary = [
        f"| [{stem[:2]}](#{_anchor(stem)}) | {facts['claim']} | {facts['verdict']} |"
        for stem, facts in findings.items()
    ]
    sections = [_section(stem, facts, results) for stem, facts in findings.items()]
    return "\n".join([_HEAD, "| | claim | verdict |", "| --- | --- | --- |", *summary, "", *sections])


_HEAD = """# The lecture, measured

Andrew Ng's lectures on hyperparameter tuning, batch normalisation and softmax make claims. Each is an experiment here,
made of caviar's own parts, with a figure and a table that its script computed. A verdict says what these data sets and
networks show, not more: they are small, and two CPU cores train them in minutes.

0.94 (0.89 .. 1.00) is a value with its 95 % interval over repetitions, 0.94 ± 0.05 a mean with half of one. Something
is *surely* better if the interval excludes that both are equal. Losses are cross-entropies in nats.

To run an experiment, install caviar with `pip install -e '.[images]'` and give its command; Chrome draws the figure.
With `--quick` it takes seconds, on too little data to mean anything, and saves a page instead of an image. 08, 09 and
11 also declare a study of their own: `caviar run experiments/lecture/11_one_example_at_a_time.py`.

[QUIZ.md](QUIZ.md) answers the questions of the course's quiz with what was measured here. Both pages are written by
`python experiments/lecture/gallery.py` from the files in [results/](results/).
"""


def _section(stem: str, facts: dict[str, Any], results: Path) -> str:
    """Return the section of one experiment."""
    table = pd.read_csv(results / f"{stem}.csv", dtype=str, keep_default_na=False)
    rows = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join(
        [
            f"## {_title(stem)}\n",
            f"{facts['claim']}\n",
            f"{_method(stem)}\n",
            f"**The claim {facts['verdict']}.** {facts['found']}\n",
            f"![{_title(stem)}](results/{stem}.png)\n",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            f"`python experiments/lecture/{stem}.py` ({_duration(facts['seconds'])} of CPU time)\n",
        ]
    )


def _method(stem: str) -> str:
    """Return how an experiment measures: the docstring of its script without the first line."""
    text = ast.get_docstring(ast.parse((HERE / f"{stem}.py").read_text()))
    assert text is not None
    return text.split("\n\n", 1)[1]


def _title(stem: str) -> str:
    number, _, name = stem.partition("_")
    return f"{number} {name.replace('_', ' ').capitalize()}"


def _anchor(stem: str) -> str:
    """Return the anchor that GitHub gives a section's heading."""
    return _title(stem).lower().replace(" ", "-")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    for name, text in (("README.md", page()), ("QUIZ.md", quiz.page(RESULTS))):
        (HERE / name).write_text(text)
        print(f"wrote {HERE / name}")
