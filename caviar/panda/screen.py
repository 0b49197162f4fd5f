"""The screen of a session, drawn with Textual: curves, hyperparameters, branches, a suggestion and a line to type in.

The driver trains in a thread of its own, and its state is a value, so the screen reads it whenever it draws.
"""

import os
import threading
from contextlib import suppress
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.css.query import NoMatches
from textual.suggester import Suggester
from textual.widgets import Input, Static

from caviar.analysis.suggestions import suggest
from caviar.control_chars import replace_control_chars
from caviar.errors import CaviarError
from caviar.panda.commands import completions
from caviar.panda.driver import Driver
from caviar.panda.plain import signals_leave
from caviar.panda.plot import draw
from caviar.panda.session import Session
from caviar.panda.view import branch_table, headline, param_lines, series, suggestion_curve

REFRESH_S = 0.1
"""Seconds between two looks at the session."""
WIDE = 110
"""Columns from which the panels at the side are wider."""
NARROW = 60
"""Columns below which there are no panels at the side."""
LOW = 12
"""Lines below which only the answers are shown, and the line to type in."""
TALL = 34
"""Lines from which there is room for more answers."""
ANSWERS, TALL_ANSWERS = 4, 9
"""Lines of the answers, and in a tall terminal."""
FIRST_EPOCHS = 10
"""Epochs that the axis of a new session shows, at least."""
KEYS = "space: pause, go   tab: complete, or take the suggestion   ctrl+q: quit   help"


class CommandLine(Input):
    """The line to type in: tab completes or takes the suggestion, up and down recall, space alone pauses or goes on."""

    def __init__(self, screen: "PandaApp") -> None:
        super().__init__(placeholder="command", suggester=_Completion(screen), id="line", compact=True)
        self._panda = screen
        self._history: list[str] = []
        self._place = 0

    async def on_key(self, event: events.Key) -> None:
        """Handle the keys that are no text."""
        if event.key == "space" and not self.value:
            self._panda.toggle()
        elif event.key == "tab":
            self.value = self._panda.completed(self.value)
            self.cursor_position = len(self.value)
        elif event.key in ("up", "down"):
            self._place = min(max(self._place + (1 if event.key == "down" else -1), 0), len(self._history))
            self.value = self._history[self._place] if self._place < len(self._history) else ""
            self.cursor_position = len(self.value)
        elif event.key == "escape":
            self.value = ""
        elif event.key == "enter":
            self._say()
        else:
            return
        event.stop()
        event.prevent_default()

    def _say(self) -> None:
        """Say the line, and keep it for up and down."""
        line, self.value = self.value.strip(), ""
        if line:
            self._history.append(line)
            self._place = len(self._history)
            self._panda.say(line)


class _Completion(Suggester):
    """Completions for the line, shown dim as the user types."""

    def __init__(self, screen: "PandaApp") -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._panda = screen

    async def get_suggestion(self, value: str) -> str | None:
        found = completions(self._panda.driver.session, value)
        return found[0] if found else None


class PandaApp(App[None]):
    """The screen of a session.

    Args:
        driver: the driver of the session, which is not running yet.
    """

    CSS = """
    Screen { layout: vertical; }
    #head { height: 1; text-style: bold; }
    #head, #plot, #params, #branches, #keys { text-wrap: nowrap; text-overflow: ellipsis; }
    #middle { height: 1fr; }
    #plot { width: 1fr; height: 100%; }
    #side { width: 31; border-left: solid $foreground 30%; padding-left: 1; }
    .wide #side { width: 46; }
    .narrow #side, .low #middle, .low #suggestion, .low #keys { display: none; }
    #params { height: auto; }
    #branches { height: 1fr; margin-top: 1; }
    #suggestion { height: auto; max-height: 3; }
    #answers { border-top: solid $foreground 30%; }
    #keys { height: 1; color: $foreground 60%; }
    #prompt { height: 1; }
    #prompt Static { width: 2; }
    #line { width: 1fr; height: 1; border: none; padding: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("ctrl+q", "leave", "quit"),
        ("ctrl+c", "leave", "quit"),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self.driver = driver
        self.error: BaseException | None = None
        self._is_colored = not os.environ.get("NO_COLOR")
        self._drawn: tuple[object, ...] = ()
        self._thread = threading.Thread(target=self._drive, name="caviar-panda", daemon=True)

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        yield Static(id="head")
        with Horizontal(id="middle"):
            yield Static(id="plot")
            with Vertical(id="side"):
                yield Static(id="params")
                yield Static(id="branches")
        yield Static(id="suggestion")
        yield Static(id="answers")
        with Horizontal(id="prompt"):
            yield Static("> ")
            yield CommandLine(self)
        yield Static(Text(KEYS, no_wrap=True, overflow="ellipsis"), id="keys")

    def on_mount(self) -> None:
        """Start training and drawing."""
        self.theme = "ansi-dark" if "ansi-dark" in self.available_themes else self.theme
        self.query_one("#line").focus()
        self.set_interval(REFRESH_S, self.update)
        self._thread.start()

    def say(self, line: str) -> None:
        """Say the commands of a line."""
        self.driver.post(line)

    def action_leave(self) -> None:
        """Quit the session."""
        self.driver.post("quit")

    def completed(self, line: str) -> str:
        """Return what a user means by the beginning of a line; by an empty one, what is suggested."""
        session = self.driver.session
        if not line:
            found = suggest(suggestion_curve(session))
            return found.commands[0] if found is not None and found.commands else ""
        return next(iter(completions(session, line)), line)

    def toggle(self) -> None:
        """Pause, or go on."""
        self.driver.post("pause" if self.driver.session.is_running else "go")

    def update(self) -> None:
        """Draw what has changed; nothing if the screen is closing, and has lost its parts already."""
        with suppress(NoMatches):
            self._update()

    def _update(self) -> None:
        driver, session = self.driver, self.driver.session
        sizes = tuple(self.query_one(name).size for name in ("#plot", "#side", "#answers"))
        key = session, sizes, len(driver.answers), driver.answers[-1] if driver.answers else None
        self._show("head", Text(self._headline(session), no_wrap=True, overflow="ellipsis"))
        if _same(key, self._drawn):
            return
        self._drawn = key
        for name, holds in self._forms():
            self.set_class(holds, name)
        self._show_plot(session)
        self._show_side(session)
        self._show_suggestion(session)
        self._show_answers()

    def _forms(self) -> list[tuple[str, bool]]:
        """Return the classes of the style sheet that depend on the terminal's size, and whether each applies."""
        width, height = self.size
        return [("wide", width >= WIDE), ("narrow", width < NARROW), ("low", height < LOW)]

    def _headline(self, session: Session) -> str:
        driver = self.driver
        return headline(session, driver.location.name, driver.epochs_per_s, driver.is_ready)

    def _show_plot(self, session: Session) -> None:
        size = self.query_one("#plot").size
        reached = max([session.at.epoch, *(branch.last for branch in session.branches)], default=0)
        last = min(session.epochs, max(FIRST_EPOCHS, round(reached * 1.25)))
        marks = [branch.start.epoch for branch, _ in session.path() if branch.start.epoch]
        figure = draw(
            series(session), size.width, size.height, colored=self._is_colored, last_epoch=last, marks=marks
        )
        self._show("plot", figure)

    def _show_side(self, session: Session) -> None:
        height = max(self.query_one("#side").size.height, 6)
        branches = branch_table(session, max(height // 3, 3))
        params = param_lines(session, max(height - len(branches) - 3, 2))
        for name, title, lines in (("params", "next epoch", params), ("branches", "branches", branches)):
            text = Text(title, "bold", no_wrap=True, overflow="ellipsis")
            for line, is_marked in lines:
                text.append(f"\n{replace_control_chars(line)}", "bold" if is_marked else "not bold")
            self._show(name, text)

    def _show_suggestion(self, session: Session) -> None:
        found = suggest(suggestion_curve(session))
        text = Text()
        if found is not None:
            text.append(f"{found.reason}; ", "yellow" if self._is_colored else "")
            text.append(f"try {' or '.join(f'`{command}`' for command in found.commands)}", "bold")
        self._show("suggestion", text)

    def _show_answers(self) -> None:
        """Show the last answers; a long one gets more room, at the expense of the curves."""
        width, height = self.size
        blocks = [self._answer_lines(*answer, width) for answer in list(self.driver.answers)[-20:]]
        usual = TALL_ANSWERS if height >= TALL else ANSWERS
        lines = max(usual, min(len(blocks[-1]) if blocks else 0, height - 2 * ANSWERS))
        if height < LOW:
            lines = max(height - 3, 0)  # the headline, the line above the answers, and the line to type in
        self.query_one("#answers").styles.height = lines + 1  # the line above it
        shown = [line for block in blocks for line in block][-lines:]
        self._show("answers", Text("\n").join(shown))

    def _answer_lines(self, answer: str, is_refusal: bool, width: int) -> list[Text]:
        """Return an answer as lines of the screen."""
        style = "red" if is_refusal and self._is_colored else ""
        mark = "! " if is_refusal else "" if answer.startswith("> ") else "  "
        texts = (Text(mark + replace_control_chars(part), style) for part in answer.splitlines())
        return [line for text in texts for line in text.wrap(self.console, max(width, 20))]

    def _show(self, name: str, content: Text) -> None:
        self.query_one(f"#{name}", Static).update(content)

    def _drive(self) -> None:
        """Train until the session ends; the screen closes then."""
        try:
            self.driver.run()
        except BaseException as error:  # of the driver's thread: the caller of the screen gets it
            self.error = error
        if self.is_running:
            with suppress(RuntimeError):  # the screen ends now
                self.call_from_thread(self.exit)

    def stop(self) -> None:
        """Leave the session if the screen ended before it, and wait until its last branch is recorded."""
        if self._thread.is_alive():
            self.driver.post("quit")
            self._thread.join()


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Return whether two states are the same objects or equal, without comparing long curves."""
    return len(one) == len(other) and one[0] is other[0] and one[1:] == other[1:]


def run_on_screen(driver: Driver) -> None:
    """Run a session on the screen.

    Args:
        driver: its driver.

    Raises:
        CaviarError: as for `Driver.run`.
    """
    app = PandaApp(driver)
    with signals_leave(driver):
        app.run()
        app.stop()
    if app.error is not None:
        raise app.error
    if app.return_code:
        raise CaviarError("the screen failed; `caviar panda RUN --plain` goes on with lines")
