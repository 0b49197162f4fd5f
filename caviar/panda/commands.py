"""The language of a session: what a user types, or writes into a script, and what it does to the session."""

import difflib
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from caviar.analysis.branches import changes_text
from caviar.control_chars import replace_control_chars
from caviar.errors import CaviarError, StudyError
from caviar.panda.session import START, End, Note, Session
from caviar.reporting.formatting import metric_text, params_text
from caviar.trial import Value
from caviar.validation import MAX_TEXT_CHARS

MAX_EPOCHS = 1_000_000
"""Largest number of epochs of a branch."""
MAX_PACE_S = 3_600.0
"""Longest time between two epochs, in seconds."""
_REST_OF_LINE = ("note",)
"""Commands whose argument is the rest of the line."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the language."""

    usage: str
    meaning: str
    run: Callable[[Session, Sequence[str], float], Session]
    """Returns the session after it, from the words after its name and the time in seconds since 1970."""
    words: tuple[int, int] = (0, 0)
    """Fewest and most words after its name."""


def say(session: Session, line: str, time: float = 0.0) -> Session:
    """Return the session after a command.

    Args:
        session: the session before it.
        line: the command.
        time: the time at which it was said, in seconds since 1970.

    Raises:
        StudyError: there is no such command, or it does not fit; the message says what does.
    """
    name, _, rest = line.strip().partition(" ")
    words = [rest.strip()] if name in _REST_OF_LINE and rest.strip() else rest.replace("=", " ").split()
    if "=" in name:
        name, _, value = name.partition("=")
        words = [value, *words] if value else words
    session = replace(session, answer="", is_refusal=False)
    if name not in COMMANDS:
        return _change(session, name, words)
    command = COMMANDS[name]
    if not command.words[0] <= len(words) <= command.words[1]:
        raise StudyError(f"the command is `{command.usage}`")
    return command.run(session, words, time)


def split_commands(line: str) -> list[str]:
    """Return the commands of a line, which semicolons separate; a note goes to the end of the line.

    Example:
        >>> split_commands("back 4; learning_rate /3; go")
        ['back 4', 'learning_rate /3', 'go']
        >>> split_commands("note slow; but steady")
        ['note slow; but steady']
    """
    commands: list[str] = []
    while line := line.strip():
        command, _, line = (line, "", "") if line.startswith("note ") else line.partition(";")
        if command.strip():
            commands.append(command.strip())
    return commands


def heard(session: Session, line: str, time: float = 0.0) -> Session:
    """Return the session after a command, or with the reason why it was refused: see `say`."""
    try:
        return say(session, line, time)
    except CaviarError as error:
        return replace(session, answer=str(error), is_refusal=True)


def require_word(session: Session, line: str) -> None:
    """Refuse a line whose first word is neither a command nor a hyperparameter, before anything is trained.

    Raises:
        StudyError: it is neither.
    """
    name = line.strip().split(" ")[0].partition("=")[0]
    if name not in COMMANDS:
        _require_changeable(session, name)


def completions(session: Session, text: str) -> list[str]:
    """Return what a user may mean by the beginning of a command, the likeliest first.

    Example:
        >>> completions(None, "co")  # doctest: +SKIP
        ['compare']
    """
    name, space, rest = text.partition(" ")
    params = session.params
    if not space:
        names = [*(n for n in session.rules.changeable if n in params), *COMMANDS]
        return [found for found in names if found.startswith(name)] if name else []
    branches = [str(branch.number) for branch in reversed(session.branches)]
    options: list[str] = {
        "back": ["best"],
        "branch": branches,
        "compare": branches,
        "plot": ["loss", *session.metrics],
        "help": list(COMMANDS),
        "epochs": [str(2 * session.epochs)],
    }.get(name, [])
    if name in session.rules.changeable and name in params:
        domain = session.rules.changeable[name].domain
        options = [str(option) for option in getattr(domain, "options", [value_text(params[name])])]
    return [f"{name} {option}" for option in options if option.startswith(rest)]


def value_text(value: Value) -> str:
    """Return a value as a user would write it."""
    return f"{value:.6g}" if isinstance(value, float) else replace_control_chars(str(value))


# The commands


def _change(session: Session, name: str, words: Sequence[str]) -> Session:
    """Return the session with another value of a hyperparameter, from the next epoch on."""
    _require_changeable(session, name)
    if len(words) != 1:
        raise StudyError(f"give one value, such as `{name} {value_text(session.params.get(name))}`")
    before = session.params
    changed = replace(session, values=session.rules.change(session.values, name, words[0]))
    text = changes_text(before, changed.params)
    if not text:
        return replace(session, answer=f"{name} is {value_text(before[name])} already")
    branch = "" if changed.extends else f" (branch {changed.next_trial})"
    return replace(changed, answer=f"from epoch {session.at.epoch + 1} on: {text}{branch}")


def _require_changeable(session: Session, name: str) -> None:
    """Refuse a word that is no hyperparameter of the session, with what may be meant."""
    if session.rules.knows(name, session.values):
        return
    similar = difflib.get_close_matches(name, [*COMMANDS, *session.rules.changeable], n=1)
    hint = f"did you mean {similar[0]}?" if similar else "`help` lists them"
    raise StudyError(f"there is no command or hyperparameter {name!r}: {hint}")


def _go(session: Session, words: Sequence[str], _: float) -> Session:
    if why := session.stuck:
        raise StudyError(why)
    if not words:
        return replace(session, is_running=True, pause_at=None)
    until = session.at.epoch + _whole(words[0], "go", 1, MAX_EPOCHS)
    return replace(session, is_running=True, pause_at=until if until < session.epochs else None)


def _pause(session: Session, _words: Sequence[str], _time: float) -> Session:
    return replace(session, is_running=False, pause_at=None, answer=f"paused after epoch {session.at.epoch}")


def _back(session: Session, words: Sequence[str], _: float) -> Session:
    if words[0] == "best":
        best = session.best()
        if best is None:
            raise StudyError(f"there is no epoch with a finite {session.metric} to go back to: try `back 0`")
        epoch = best.epoch
    else:
        epoch = _whole(words[0], "back", 0, session.at.epoch)
    return _shown(session.moved(session.place_at(epoch)))


def _branch(session: Session, words: Sequence[str], _: float) -> Session:
    if not words:
        return replace(session, answer=branch_lines(session))
    return _shown(session.moved(session.tip(_number(session, words[0], "branch"))))


def _shown(session: Session) -> Session:
    """Return the session with an answer that says where it is."""
    if session.at == START:
        return replace(session, answer="before the first epoch; `go` begins a new branch")
    where = f"at epoch {session.at.epoch} of branch {session.at.branch}, with {params_text(session.params)}"
    return replace(session, answer=f"{where}; change something, then `go`")


def _compare(session: Session, words: Sequence[str], _: float) -> Session:
    if not words:
        return replace(session, compared=None, answer="nothing is compared")
    number = _number(session, words[0], "compare")
    return replace(session, compared=number, answer=comparison(session, number))


def _note(session: Session, words: Sequence[str], time: float) -> Session:
    if len(words[0]) > MAX_TEXT_CHARS:
        raise StudyError(f"a note has at most {MAX_TEXT_CHARS:,} characters, not {len(words[0]):,}")
    return replace(session, notes=(*session.notes, Note(time, session.at, words[0])), answer="noted")


def _epochs(session: Session, words: Sequence[str], _: float) -> Session:
    epochs = _whole(words[0], "epochs", max(session.at.epoch, 1), MAX_EPOCHS)
    return replace(session, epochs=epochs, answer=f"trains until epoch {epochs}")


def _pace(session: Session, words: Sequence[str], _: float) -> Session:
    try:
        pace_s = float(words[0])
    except ValueError:
        pace_s = math.nan
    if not 0 <= pace_s <= MAX_PACE_S:
        raise StudyError(f"pace takes seconds from 0 to {MAX_PACE_S:g}, such as `pace 0.5`, not {words[0]!r}")
    return replace(session, pace_s=pace_s, answer=f"an epoch takes at least {pace_s:g} s")


def _plot(session: Session, words: Sequence[str], _: float) -> Session:
    names = ("loss", *session.metrics)
    if words[0] not in names:
        raise StudyError(f"plot takes one of {', '.join(names)}, not {words[0]!r}")
    return replace(session, plotted=None if words[0] == "loss" else words[0])


def _params(session: Session, _words: Sequence[str], _time: float) -> Session:
    return replace(session, answer=params_text(session.params))


def _finish(session: Session, _words: Sequence[str], _time: float) -> Session:
    branch = session.branch
    if branch is None:
        raise StudyError("no epoch is trained yet, so there is nothing to hand over")
    value = session.curve()[-1].metrics.get(session.metric, math.nan)
    if not math.isfinite(value):
        raise StudyError(f"{session.metric} is {value} here: step back first, such as with `back best`")
    return replace(session, is_running=False, end=End.FINISH)


def _quit(session: Session, _words: Sequence[str], _time: float) -> Session:
    return replace(session, end=End.QUIT)


def _help(session: Session, words: Sequence[str], _: float) -> Session:
    if not words:
        return replace(session, answer=help_text(session))
    if words[0] in COMMANDS:
        command = COMMANDS[words[0]]
        return replace(session, answer=f"{command.usage}: {command.meaning}")
    _require_changeable(session, words[0])
    parameter = session.rules.changeable.get(words[0])
    if parameter is None:
        return replace(session, answer=f"{words[0]} cannot change while the network trains")
    value = value_text(session.params.get(words[0]))
    return replace(session, answer=f"{words[0]} VALUE: {value} now, may be {parameter.domain}")


COMMANDS = {
    "go": Command("go [EPOCHS]", "train on, for so many epochs or to the last", _go, (0, 1)),
    "pause": Command("pause", "stop before the next epoch", _pause),
    "back": Command("back EPOCH|best", "step back to an earlier epoch or the best one, and pause", _back, (1, 1)),
    "branch": Command("branch [NUMBER]", "list the branches, or select the end of one", _branch, (0, 1)),
    "compare": Command("compare [NUMBER]", "draw another branch, too; without a number, none", _compare, (0, 1)),
    "note": Command("note TEXT", "write a note at this epoch", _note, (1, 1)),
    "epochs": Command("epochs NUMBER", "train to another last epoch", _epochs, (1, 1)),
    "plot": Command("plot loss|METRIC", "draw another metric", _plot, (1, 1)),
    "pace": Command("pace SECONDS", "take at least so long for an epoch; 0 is full speed", _pace, (1, 1)),
    "params": Command("params", "print the hyperparameters of the next epoch", _params),
    "finish": Command("finish", "hand over this network, scored once on the test split", _finish),
    "quit": Command("quit", "leave; `caviar panda RUN` goes on later", _quit),
    "help": Command("help [COMMAND|NAME]", "explain the commands", _help, (0, 1)),
}  # fmt: skip
"""The commands by name. Each hyperparameter is a command as well: `learning_rate 0.01`, or `learning_rate /3`."""


def help_text(session: Session) -> str:
    """Return the commands, one a line."""
    params = session.params
    names = ", ".join(name for name in session.rules.changeable if name in params)
    width = max(len(command.usage) for command in COMMANDS.values())
    lines = [f"{command.usage.ljust(width)}  {command.meaning}" for command in COMMANDS.values()]
    changes = "NAME VALUE, NAME /3 or NAME *3 changes it from the next epoch on:"
    return "\n".join(
        [changes, *textwrap.wrap(names, 76, initial_indent="  ", subsequent_indent="  "), *lines]
    )


def branch_lines(session: Session) -> str:
    """Return the branches, one a line: where each starts, what it changes, how far it came, and its best epoch."""
    if not session.branches:
        return "no epoch is trained yet"
    return "\n".join(branch_line(session, branch.number) for branch in session.branches)


def branch_line(session: Session, number: int) -> str:
    """Return a branch in a line."""
    branch = session.branches[number]
    mark = ">" if number == session.at.branch else " "
    if branch.start.branch is None:
        origin = "from the first epoch"
    else:
        changes = changes_text(dict(session.branches[branch.start.branch].params), dict(branch.params))
        origin = f"from {branch.start.branch} at {branch.start.epoch}{': ' if changes else ''}{changes}"
    best = session.best(session.tip(number))
    score = (
        ""
        if best is None
        else f", best {session.metric} {metric_text(best.metrics[session.metric])} at {best.epoch}"
    )
    ended = f", {branch.outcome}" if branch.outcome else ""
    return f"{mark} {number}: epochs {branch.start.epoch + 1} to {branch.last}, {origin}{score}{ended}"


def comparison(session: Session, number: int) -> str:
    """Return how another branch differs from the present one: in hyperparameters and in the metric that ranks."""
    other, here = session.branches[number], session.branch
    if here is None or number == here.number:
        return f"branch {number} is drawn"
    changes = changes_text(dict(here.params), dict(other.params)) or "no difference in hyperparameters"
    common = min(other.last, session.at.epoch)
    ours, theirs = (
        {m.epoch: m.metrics.get(session.metric, math.nan) for m in session.curve(place)}.get(common, math.nan)
        for place in (session.at, session.tip(number))
    )
    return (
        f"branch {here.number} -> {number}: {changes}; {session.metric} after epoch {common}: "
        f"{metric_text(ours)} -> {metric_text(theirs)}"
    )


def _whole(text: str, name: str, low: int, high: int) -> int:
    if not text.isdecimal() or not low <= int(text) <= high:
        raise StudyError(f"{name} takes a whole number from {low:,} to {high:,}, not {text!r}")
    return int(text)


def _number(session: Session, text: str, name: str) -> int:
    """Return the number of a branch."""
    if not session.branches:
        raise StudyError("there is no branch yet: no epoch is trained")
    return _whole(text, name, 0, len(session.branches) - 1)
