"""The report is one page that holds all it needs, for runs of every kind; texts of users stay texts."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from caviar.cli.main import main
from caviar.records.frames import Run, load
from caviar.reporting.report.page import render, write_report
from tests.browser import chromium, opened
from tests.hostile_runs import MARKUP, hostile_run
from tests.object_store import ObjectStore
from tests.objectives import bowl_study
from tests.records.ledgers import new_ledger
from tests.runs import run_inline, run_until_failure

MAX_BYTES = 5_000_000
"""Largest size of a page."""


class Content(HTMLParser):
    """The text and the tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags = "", []  # type: ignore[var-annotated]
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag, and what it links to."""
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        """Append text."""
        self.text += data


@pytest.fixture(scope="module")
def bowl(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_inline(bowl_study(rounds=(30, 20, 20)), tmp_path_factory.mktemp("bowl"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return hostile_run(tmp_path_factory.mktemp("hostile"))


def test_the_page_needs_no_other_file(bowl: Run) -> None:
    page = render(bowl)
    content = Content(page)
    assert all(link.startswith(("#", "data:")) for link in content.links)
    assert not re.search(r"@import|url\(", page)
    assert len(page) < MAX_BYTES


def test_the_page_leads_with_the_winner(bowl: Run) -> None:
    text = Content(render(bowl)).text
    assert bowl.best is not None
    beginning = text[text.rindex("finished") : text.index("Every search trial")]
    assert f"{bowl.best.params['rate']:.6g}" in beginning
    assert "confirmed" in beginning


def test_texts_of_users_are_no_markup(hostile: Run) -> None:
    content = Content(render(hostile))
    assert "img" not in content.tags
    assert content.tags.count("script") == 3
    assert MARKUP in content.text
    assert "%{x}$5 {{ 7 * 7 }}" in content.text
    assert "\x1b" not in content.text


def test_a_run_without_trials_has_a_page(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    ledger.close()
    assert "unfinished" in Content(render(load(tmp_path / "bowl"))).text


def test_an_interrupted_run_has_a_page_with_the_way_on(tmp_path: Path) -> None:
    run = run_until_failure(bowl_study(rounds=(30, 20)), tmp_path)
    assert "study.resume(" in Content(render(run)).text


def test_the_page_is_left_in_the_run_directory(bowl: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(bowl.path)]) == 0
    page = bowl.path / "report.html"
    assert str(page) in capsys.readouterr().out
    assert page.read_text().startswith("<!doctype html>")


def test_the_page_can_be_written_elsewhere(bowl: Run, tmp_path: Path) -> None:
    write_report(bowl, str(tmp_path / "my.html"))
    assert (tmp_path / "my.html").is_file()


def test_a_run_in_a_store_has_its_page_there(store: ObjectStore) -> None:
    runs = f"s3://{store.new_bucket()}/runs"
    run_inline(bowl_study(), runs)
    file = write_report(f"{runs}/bowl")
    assert str(file) == f"{runs}/bowl/report.html"
    assert file.read().startswith(b"<!doctype html>")


def test_a_report_of_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "none")]) == 1
    assert "no such run directory" in capsys.readouterr().err


def test_missing_packages_are_named_before_a_study_starts(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text("raise SystemExit('the script was executed')")
    code = (
        "import sys; sys.modules['plotly'] = None\n"
        f"from caviar.cli.main import main; sys.exit(main(['run', {str(script)!r}, '--report']))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "pip install 'caviar[report]'" in ended.stderr


def test_a_study_leaves_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "tiny.py"
    script.write_text(
        "import caviar as cv\n"
        "study = cv.Study(name='tiny', objective=cv.Function(lambda params: params['x']),\n"
        "    space=cv.Space(x=cv.linear(0, 1)), rounds=cv.coarse_to_fine(trials=12, epochs=1))\n"
    )
    options = ["--runs", str(tmp_path), "--address", "here", "--report"]
    assert main(["run", str(script), *options]) == 0
    assert (tmp_path / "tiny" / "report.html").is_file()
    assert f"the report is {tmp_path / 'tiny' / 'report.html'}" in capsys.readouterr().out


# In a browser


DRAW_ALL = "async () => { await window.caviar.drawAll(); }"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bowl", "hostile"])
def test_a_browser_draws_every_figure(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    write_report(request.getfixturevalue(kind), str(tmp_path / "page.html"))
    views = ({"width": 1280, "height": 900}, {"width": 380, "height": 800})
    with chromium() as browser:
        for scheme, viewport in zip(("light", "dark"), views, strict=True):
            with opened(browser, tmp_path / "page.html", color_scheme=scheme, viewport=viewport) as page:
                page.wait_for_selector(".js-plotly-plot")
                page.evaluate(DRAW_ALL)
                places, drawn = (page.locator(s).count() for s in (".plot", ".plot .main-svg:first-of-type"))
                assert places == page.locator(".plot.js-plotly-plot").count()
                assert drawn >= places
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
                assert page.evaluate("window.harmed") is None
                ink = page.evaluate("getComputedStyle(document.body).color")
                assert (ink == "rgb(230, 233, 239)") == (scheme == "dark")


@pytest.mark.slow
def test_brushes_select_the_rows_of_the_table(bowl: Run, tmp_path: Path) -> None:
    write_report(bowl, str(tmp_path / "page.html"))
    with chromium() as browser, opened(browser, tmp_path / "page.html") as page:
        page.wait_for_selector(".js-plotly-plot")
        page.evaluate(DRAW_ALL)
        rates = bowl.trials.loc[bowl.trials["stage"] == "search", "params_rate"]
        assert page.locator("#best-trials tbody tr").count() == 20
        column = page.locator("#best-trials th").all_text_contents().index("rate")
        lanes = page.evaluate(
            "document.querySelector('[data-figure=parallel]').data[0].dimensions.map((lane) => lane.label)"
        )
        lane = lanes.index("rate")
        page.evaluate(
            f"""() => Plotly.restyle(document.querySelector('[data-figure=parallel]'),
                {{'dimensions[{lane}].constraintrange': [[-2.2, -1.8]]}}, [0])"""
        )
        page.wait_for_timeout(200)
        shown = [
            float(row.locator("td").nth(column).text_content() or "")
            for row in page.locator("#best-trials tbody tr").all()
        ]
        expected = rates.between(10**-2.2, 10**-1.8).sum()
        assert f"{expected} of {len(rates)}" in (page.locator("#selected").text_content() or "")
        assert all(10**-2.2 <= rate <= 10**-1.8 for rate in shown)
        page.click("#clear")
        page.wait_for_timeout(200)
        assert f"{len(rates)} of {len(rates)}" in (page.locator("#selected").text_content() or "")
        page.evaluate(
            """() => {
                const place = document.querySelector('[data-figure=parallel]');
                return Plotly.restyle(place, ...place.layout.updatemenus[0].buttons[1].args);
            }"""
        )
        page.wait_for_timeout(200)
        best = bowl.trials[bowl.trials["stage"] == "search"].nsmallest(10, "value")["trial"]
        numbers = [
            int(row.locator("td").first.text_content() or "")
            for row in page.locator("#best-trials tbody tr").all()
        ]
        assert numbers == best.tolist()


@pytest.mark.slow
def test_a_dark_page_is_printed_light(bowl: Run, tmp_path: Path) -> None:
    write_report(bowl, str(tmp_path / "page.html"))
    ink = "getComputedStyle(document.body).color"
    with chromium() as browser, opened(browser, tmp_path / "page.html", color_scheme="dark") as page:
        page.wait_for_selector(".js-plotly-plot")
        dark = page.evaluate(ink)
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        light = page.evaluate(ink)
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.evaluate(ink) == dark != light


@pytest.mark.parametrize("place", ["disk", "store"])
def test_a_watched_report_follows_the_study_to_its_end(
    place: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path if place == "disk" else f"s3://{request.getfixturevalue('store').new_bucket()}/runs"
    ledger = new_ledger(runs)
    pages: list[str] = []

    def end_the_study(seconds: float) -> None:
        pages.append((ledger.location / "report.html").read().decode())
        ledger.close()

    monkeypatch.setattr("caviar.cli.report.time.sleep", end_the_study)
    assert main(["report", str(ledger.location), "--watch"]) == 0
    last = (ledger.location / "report.html").read().decode()
    assert [page.partition('data-reload-s="')[2][:2] for page in (*pages, last)] == ["30", '">']
