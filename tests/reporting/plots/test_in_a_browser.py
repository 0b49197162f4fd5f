"""Tests of the figures in Chromium: drawn without errors, text shown as text, dark, brushed, saved as images."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caviar.records.frames import Run
from caviar.reporting.plots import theme
from caviar.reporting.plots.run_plots import RunPlots
from tests.browser import chromium, opened
from tests.reporting.plots.runs import HOSTILE

pytestmark = pytest.mark.slow

FIGURES = sorted(name for name in vars(RunPlots) if not name.startswith("_"))
WIDE, PHONE = {"width": 1000, "height": 800}, {"width": 380, "height": 800}


def page_of(run: Run, folder: Path) -> Path:
    """Write a page of all figures of a run."""
    parts = [
        getattr(run.plot, name)().to_html(
            full_html=False, include_plotlyjs=number == 0, div_id=name, config={"displayModeBar": False}
        )
        for number, name in enumerate(FIGURES)
    ]
    page = folder / "figures.html"
    page.write_text(f"<!doctype html><meta charset='utf-8'><body>{''.join(parts)}</body>", encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_all_figures_are_drawn_without_errors(
    run: Run, browser: Any, tmp_path: Path, viewport: dict[str, int]
) -> None:
    with opened(browser, page_of(run, tmp_path), viewport=viewport) as page:
        assert page.locator(".main-svg").count() >= len(FIGURES)
        for name in FIGURES:
            page.evaluate("""name => {
                const figure = document.getElementById(name);
                return Plotly.relayout(figure, figure.layout.meta.narrow || {});
            }""", name)  # fmt: skip


def test_hostile_text_is_shown_as_text(hostile: Run, browser: Any, tmp_path: Path) -> None:
    with opened(browser, page_of(hostile, tmp_path), viewport=WIDE) as page:
        page.wait_for_timeout(500)
        assert page.locator("svg a").count() == 0
        shown = page.locator("svg text").all_text_contents()
        start = HOSTILE[:8]
        assert sum(start in text for text in shown) >= 4
        assert not [text for text in shown if "&lt;" in text or "&#" in text]


def test_hover_labels_show_hostile_options_as_text(hostile: Run, browser: Any, tmp_path: Path) -> None:
    with opened(browser, page_of(hostile, tmp_path), viewport=WIDE) as page:
        page.evaluate("""() => {
            const figure = document.getElementById('slices');
            const dots = figure._fullData.find(trace => trace.xaxis === 'x2' && trace.text);
            Plotly.Fx.hover(figure, {xval: dots.x[0], yval: dots.y[0]}, 'x2y2');
        }""")
        label = page.locator("#slices .hoverlayer")
        label.locator("text").first.wait_for()
        assert HOSTILE[:8] in (label.text_content() or "")
        assert label.locator("a").count() == 0


def test_template_alone_makes_a_figure_dark(run: Run, browser: Any, tmp_path: Path) -> None:
    with opened(browser, page_of(run, tmp_path), viewport=WIDE) as page:
        dark = json.loads(json.dumps(theme.DARK.to_plotly_json()))
        for name in ("history", "slices"):
            page.evaluate("([name, template]) => Plotly.relayout(name, {template})", [name, dark])
            title = page.locator(f"#{name} .gtitle").first
            assert title.evaluate("node => getComputedStyle(node).fill") == "rgb(230, 237, 243)"


def test_a_button_brushes_the_best_trials(run: Run, browser: Any, tmp_path: Path) -> None:
    with opened(browser, page_of(run, tmp_path), viewport=WIDE) as page:
        page.locator("#parallel .updatemenu-button", has_text="best 10").click()
        page.wait_for_timeout(300)
        brushed = page.evaluate("() => document.getElementById('parallel').data[0].dimensions.at(-1)")
        low, high = brushed["constraintrange"]
        value = run.trials.query("stage == 'search' and outcome == 'completed'")["value"]
        assert low <= value.min() <= high < value.max()


def test_figures_are_saved_as_images(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "history.svg"
    run.plot.history().write_image(file)
    assert "History of the search" in file.read_text()
    run.plot.rounds().write_image(tmp_path / "rounds.png", scale=2)
    assert (tmp_path / "rounds.png").read_bytes().startswith(b"\x89PNG")
