"""Tests of caviar/reporting/notebook.py, and of notebooks in a real kernel."""

import os
import signal
import threading
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.utils.capture import capture_output
from nbclient import NotebookClient

from caviar.notebook_kernel import is_notebook
from caviar.reporting import notebook
from caviar.reporting.notebook import Cell

ROOT = Path(__file__).parents[2]
HOSTILE = "<script>alert('&')</script> \x1b[2J [bold]\n"
DECLARE = """
import os, time
from pathlib import Path
import caviar as cv

Path("pid").write_text(str(os.getpid()))

def train(params, trial):
    for epoch in trial.remaining():
        time.sleep({pause_s})
        trial.report(epoch, loss=(params["x"] - 0.3) ** 2 + 1 / epoch)
    if params["x"] > 0.8:
        raise ValueError("<script>alert(1)</script>")

study = cv.Study(
    name="nb",
    objective=cv.Function(train, metric="loss", metrics=("loss",)),
    space=cv.Space(x=cv.linear(0, 1), tag=cv.choice("<b>bold</b>")),
    rounds=[cv.Round(30, 3), cv.Confirmation(2, 1)],
)
"""


def text_of(html: str) -> tuple[str, set[str]]:
    """Return the text that a browser shows, and the elements around it."""
    texts: list[str] = []
    elements: set[str] = set()

    class Parser(HTMLParser):
        def handle_data(self, data: str) -> None:
            texts.append(data)

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            elements.add(tag)

    Parser().feed(html)
    return "".join(texts), elements


@pytest.mark.usefixtures("shell")
def test_a_cell_has_one_display_that_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "UPDATE_S", 0.0)
    with capture_output() as captured, Cell() as cell:
        cell.say(": 9 trials", title="digits")
        for done in range(5):
            cell.show("round 1", done, 9, f"{done}/9 trials", force=False)
        cell.say("a line that stays")
    first, *later = captured.outputs
    assert not first.update
    assert all(output.update for output in later)
    assert {output.transient["display_id"] for output in captured.outputs} == {first.transient["display_id"]}
    assert captured.outputs[-1].data["text/plain"].splitlines() == [
        "digits: 9 trials",
        "a line that stays",
        "round 1: 4/9 trials",
    ]
    assert '<progress value="4" max="9">' in captured.outputs[-1].data["text/html"]


@pytest.mark.usefixtures("shell")
def test_fast_changes_are_shown_now_and_then() -> None:
    with capture_output() as captured, Cell() as cell:
        for done in range(10_000):
            cell.show("search", done, 10_000, f"{done:,} trials", force=False)
    assert len(captured.outputs) < 10
    assert "9,999 trials" in captured.outputs[-1].data["text/plain"]


@pytest.mark.usefixtures("shell")
def test_markup_in_a_cell_is_text() -> None:
    with capture_output() as captured, Cell() as cell:
        cell.say(HOSTILE)
        cell.show(HOSTILE, 1, 2, HOSTILE, force=True)
        shown = captured.outputs[-1].data["text/html"]
        cell.conclude(HOSTILE)
    for html, count in ((shown, 3), (captured.outputs[-1].data["text/html"], 2)):
        text, elements = text_of(html)
        assert text.count("<script>alert('&')</script> \\x1b[2J [bold]") == count
        assert elements <= {"div", "b", "progress"}


@pytest.mark.usefixtures("shell")
def test_other_threads_do_not_write_below_another_cell() -> None:
    with capture_output() as captured:
        cell = Cell()
        thread = threading.Thread(target=cell.say, args=("a warning of another thread",))
        thread.start()
        thread.join()
        assert not captured.outputs
        cell.__exit__()
    assert "a warning of another thread" in captured.outputs[0].data["text/plain"]


@pytest.mark.usefixtures("shell")
def test_a_shell_in_a_terminal_is_no_notebook() -> None:
    assert not is_notebook()


def execute(folder: Path, *cells: str, meanwhile: threading.Thread | None = None) -> list[Any]:
    """Run cells in a kernel, and return the outputs of each as an executed notebook stores them."""
    book: Any = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    book.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]  # type: ignore[no-untyped-call]
    client = NotebookClient(
        book,
        timeout=300,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(folder)}},
    )
    if meanwhile is not None:
        meanwhile.start()
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT)})
    return [cell.outputs for cell in book.cells]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_notebook_shows_one_display_a_study(tmp_path: Path) -> None:
    run = "run = study.run(address='here')"
    _, first, shown, best, frame, again, where, tried = execute(
        tmp_path,
        DECLARE.format(pause_s=0.001),
        run,
        "run",
        "run.best",
        "run.trials",
        run,
        "print(run.location)",
        "study.try_one()",
    )
    assert [output.output_type for output in first] == ["display_data"]
    text, elements = text_of(first[0].data["text/html"])
    assert text.count("ValueError: <script>alert(1)</script>") == 1
    assert elements <= {"div", "b"}
    assert "finished in 0:" in text
    text, elements = text_of(shown[0].data["text/html"])
    assert "nb is finished" in text
    assert "tag=<b>bold</b>" in text
    assert elements <= {"div", "b", "table", "tr", "th", "td"}
    assert "tag=<b>bold</b>" in text_of(best[0].data["text/html"])[0]
    assert "dataframe" in frame[0].data["text/html"]
    assert "&lt;b&gt;bold" in frame[0].data["text/html"]
    assert [output.output_type for output in again] == ["stream", "display_data"]
    assert "a repetition comes to the same numbers" in again[0].text
    assert where[0].text == "runs/nb-2\n"
    assert [output.output_type for output in tried] == ["execute_result"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("address", ["here", "local"])
def test_an_interrupted_cell_says_how_to_go_on(tmp_path: Path, address: str) -> None:
    def interrupt() -> None:
        while not list(tmp_path.glob("runs/nb/trials/part-*")):
            time.sleep(0.1)
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGINT)

    _, stopped, resumed, whole = execute(
        tmp_path,
        DECLARE.format(pause_s=0.05),
        f"study.run(address={address!r}, {'workers=1' if address == 'local' else ''})",
        f"run = study.resume('runs/nb', address={address!r})",
        "print(run.finished, len(run.trials))",
        meanwhile=threading.Thread(target=interrupt, daemon=True),
    )
    shown, error = stopped
    assert "stopped: round 1 of 1, " in shown.data["text/plain"]
    assert error.ename == "InterruptedStudy"
    assert "study.resume('runs/nb')" in error.evalue
    assert error.traceback == [f"InterruptedStudy: {error.evalue}"]
    assert [output.output_type for output in resumed] == ["display_data"]
    assert whole[0].text.startswith("True")
