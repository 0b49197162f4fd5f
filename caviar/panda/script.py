"""Scripts of a session: commands, each at an epoch, so that a session can be tested and repeated.

    # the rate is too high after a while
    at epoch 10: learning_rate 0.01
    at epoch 20: back 10
    momentum 0.8
    go
    at end: finish

A line without an epoch follows the line before it at once, and a line may have several commands: `back 10; go`.
`end` is the last epoch. After the last line the session trains on to its last epoch, and ends.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from caviar.errors import StudyError
from caviar.panda.commands import require_word, split_commands
from caviar.panda.session import Session

END = "end"
_LINE = re.compile(r"at\s+(?:epoch\s+(\d+)|(end))\s*:\s*(.+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ScriptLine:
    """A command of a script."""

    number: int
    """Number of the line in the file, from 1."""
    command: str
    epoch: int | None = None
    """Epoch after which it is said; None for at once."""
    at_end: bool = False
    """True if it is said after the last epoch."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and where it comes from."""

    name: str
    lines: tuple[ScriptLine, ...]

    @classmethod
    def read(cls, path: Path) -> "Script":
        """Read a script.

        Raises:
            StudyError: there is no such file, or a line is not understood.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise StudyError(f"--script {path}: there is no such file") from error
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise StudyError(f"--script {path}: it cannot be read ({why})") from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, name: str = "script") -> "Script":
        """Return the script that a text holds.

        Raises:
            StudyError: a line is not understood.

        Example:
            >>> Script.parse("at epoch 3: l2 0.01").lines
            (ScriptLine(number=1, command='l2 0.01', epoch=3, at_end=False),)
        """
        lines = []
        for number, line in enumerate(text.splitlines(), start=1):
            stripped = line.strip()
            if not stripped or stripped.startswith("#"):
                continue
            found = _LINE.fullmatch(stripped)
            if found is None and re.match(r"at\b", stripped):
                raise StudyError(f"{name}, line {number}: write `at epoch 10: COMMAND` or `at end: COMMAND`")
            if found is None:
                lines += [ScriptLine(number, command) for command in split_commands(stripped)]
                continue
            epoch = None if found[1] is None else int(found[1])
            first, *others = split_commands(found[3])
            lines.append(ScriptLine(number, first, epoch, found[2] is not None))
            lines += [ScriptLine(number, command) for command in others]
        return cls(name, tuple(lines))

    def check(self, session: Session) -> None:
        """Refuse a script with an unknown command, before anything is trained.

        Raises:
            StudyError: a line has one.
        """
        for line in self.lines:
            try:
                require_word(session, line.command)
            except StudyError as error:
                raise self.error(line, str(error)) from error

    def is_due(self, line: ScriptLine, session: Session) -> bool:
        """Return whether a line is to be said now.

        Raises:
            StudyError: it waits for an epoch that does not come.
        """
        due = session.epochs if line.at_end else line.epoch
        if due is None or session.at.epoch == due:
            return True
        if session.at.epoch > due:
            raise self.error(
                line, f"epoch {due} is over, because the session is at {session.at.epoch}: `back {due}`"
            )
        if due > session.epochs:
            raise self.error(
                line,
                f"epoch {due} does not come: the last is {session.epochs}; train longer, with `epochs {due}` "
                "in an earlier line",
            )
        if session.stuck or not session.is_running:
            why = session.stuck or session.answer or "the session is paused: write `go` before this line"
            raise self.error(line, f"epoch {due} does not come: {why}")
        return False

    def error(self, line: ScriptLine, why: str) -> StudyError:
        """Return the error of a line."""
        return StudyError(f"{self.name}, line {line.number}: {why}")
