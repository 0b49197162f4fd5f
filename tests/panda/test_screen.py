"""The screen of a session, driven by Textual's pilot: what is typed arrives, what is trained is drawn."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from caviar.errors import ClusterError
from caviar.panda.driver import Driver
from caviar.panda.screen import PandaApp
from caviar.panda.session import End, Place
from caviar.panda.trainer import Lost
from caviar.records.frames import Run
from tests.panda.sessions import open_session

Act = Callable[[PandaApp, "Pilot[None]"], Coroutine[Any, Any, None]]


def run_app(driver: Driver, act: Act, width: int = 80, height: int = 24) -> PandaApp:
    """Run the screen of a session, and act on it."""
    app = PandaApp(driver)

    async def run() -> None:
        async with app.run_test(size=(width, height)) as pilot:
            await act(app, pilot)
            driver.post("quit")

    try:
        asyncio.run(run())
    finally:
        app.stop()
    return app


async def until(pilot: "Pilot[None]", condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await pilot.pause(0.02)


async def enter(pilot: "Pilot[None]", line: str) -> None:
    """Type a line."""
    await pilot.press(*(("space" if c == " " else "semicolon" if c == ";" else c) for c in line), "enter")


def text(app: PandaApp, name: str) -> str:
    return str(app.query_one(f"#{name}", Static).render())


@pytest.mark.parametrize(("width", "height"), [(40, 11), (20, 5)])
def test_a_tiny_terminal_keeps_the_line_to_type_in(tmp_path: Path, width: int, height: int) -> None:
    async def act(app: PandaApp, pilot: "Pilot[None]") -> None:
        await until(pilot, lambda: driver.session.at == Place(0, 12))
        await enter(pilot, "epochs 20")
        await until(pilot, lambda: "epoch 20" in text(app, "answers").replace("\n", " "))
        await pilot.pause()
        assert app.query_one("#line").region.bottom <= height
        assert app.query_one("#line").region.height == 1
        assert not app.query_one("#side").region

    with open_session(tmp_path) as driver:
        run_app(driver, act, width, height)


@pytest.mark.parametrize(("width", "height"), [(80, 24), pytest.param(120, 40, marks=pytest.mark.slow)])
def test_curves_params_and_branches_are_drawn(tmp_path: Path, width: int, height: int) -> None:
    async def act(app: PandaApp, pilot: "Pilot[None]") -> None:
        await until(pilot, lambda: driver.session.at == Place(0, 12))
        await until(pilot, lambda: "epoch 12/12" in text(app, "head"))
        assert "at the last epoch" in text(app, "head")
        assert "dev_loss" in text(app, "plot")
        assert "learning_rate" in text(app, "params")
        assert ">0 1-12" in text(app, "branches")
        assert "finish" in text(app, "answers")
        plot = app.query_one("#plot")  # answers take room from it, and then it is drawn anew
        await until(pilot, lambda: len(text(app, "plot").splitlines()) == plot.size.height)
        assert max(map(len, text(app, "plot").splitlines())) <= plot.size.width

    with open_session(tmp_path) as driver:
        run_app(driver, act, width, height)
        assert Run(driver.location).trials["epochs_trained"].tolist() == [12]


def test_typed_commands_branch_and_answer(tmp_path: Path) -> None:
    async def act(app: PandaApp, pilot: "Pilot[None]") -> None:
        await until(pilot, lambda: driver.session.at == Place(0, 12))
        await enter(pilot, "back 5; l2 0.1")
        await until(pilot, lambda: driver.session.at == Place(0, 5))
        await until(pilot, lambda: "l2 0.1 (was 0)" in text(app, "params"))
        await enter(pilot, "lern 3")
        await until(pilot, lambda: "no command" in text(app, "answers"))
        await pilot.press("space")  # goes on
        await until(pilot, lambda: driver.session.at == Place(1, 12))
        await enter(pilot, "compare 0")
        await until(pilot, lambda: "dev_loss of 0" in text(app, "plot"))
        await enter(pilot, "help")
        await until(pilot, lambda: "back EPOCH|best" in text(app, "answers"))

    with open_session(tmp_path) as driver:
        app = run_app(driver, act)
        assert app.error is None
        assert Run(driver.location).trials["parent_epoch"].fillna(-1).tolist() == [-1, 5]


@pytest.mark.slow
def test_keys_complete_and_recall(tmp_path: Path) -> None:
    async def act(app: PandaApp, pilot: "Pilot[None]") -> None:
        line = app.query_one(Input)
        await until(pilot, lambda: driver.session.at == Place(0, 12))
        await pilot.press("l", "e", "tab")
        assert line.value == "learning_rate"
        await pilot.press("escape")
        await enter(pilot, "note well")
        await enter(pilot, "back 3")
        await pilot.press("up", "up")
        assert line.value == "note well"
        await pilot.press("down", "down")
        assert line.value == ""
        await pilot.press("ctrl+q")
        await until(pilot, lambda: driver.session.end is End.QUIT)

    with open_session(tmp_path) as driver:
        run_app(driver, act)


@pytest.mark.slow
def test_a_suggestion_is_shown_and_taken(tmp_path: Path) -> None:
    async def act(app: PandaApp, pilot: "Pilot[None]") -> None:
        await until(pilot, lambda: driver.session.at == Place(0, 12))
        await until(pilot, lambda: "learning rate" in text(app, "suggestion"))
        await pilot.press("tab")
        assert app.query_one(Input).value == "learning_rate *3"

    with open_session(tmp_path, chosen={"learning_rate": "0.00003", "momentum": "0.5"}) as driver:
        run_app(driver, act)


@pytest.mark.slow
def test_without_colours_curves_have_symbols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def act(app: PandaApp, pilot: "Pilot[None]") -> None:
        await until(pilot, lambda: "o dev_loss" in text(app, "plot"))

    with open_session(tmp_path) as driver:
        run_app(driver, act)


@pytest.mark.slow
def test_an_error_of_the_trainer_closes_the_screen(tmp_path: Path) -> None:
    async def act(app: PandaApp, pilot: "Pilot[None]") -> None:
        await until(pilot, lambda: app.error is not None)

    with open_session(tmp_path) as driver:
        driver._inbox.get()  # the news that it is ready
        driver._inbox.put(Lost("out of memory"))
        app = run_app(driver, act)
    assert isinstance(app.error, ClusterError)
