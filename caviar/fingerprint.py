"""Which function it is: a form for `study.json` in which two different functions differ.

Its module, its name and a hash of its source. What it calls in turn is not looked at.
"""

import ast
import functools
import hashlib
import inspect
import textwrap
from collections.abc import Callable
from types import CodeType
from typing import Any

SCRIPT_MODULE = "caviar_experiment"
"""The module name of a script that `caviar run` has loaded, so that its main block is not run."""
_SCRIPTS = ("__main__", "__mp_main__", SCRIPT_MODULE)
"""One script is called differently by `python` and `caviar run`, and a notebook has no name at all."""


def identity(function: Callable[..., Any]) -> dict[str, Any]:
    """What tells a function from others, the same in every process.

    Example:
        >>> identity(textwrap.dedent)["name"]
        'textwrap.dedent'
    """
    core, bound = _unwrapped(function)
    module = getattr(core, "__module__", None)
    name = getattr(core, "__qualname__", type(core).__qualname__)
    return {
        "name": name if module in _SCRIPTS or module is None else f"{module}.{name}",
        "source": _digest(core),
        "bound": bound,
    }


def _unwrapped(function: Any) -> tuple[Any, dict[str, Any]]:
    """What was written by `def`, `lambda` or `class`, and the plain arguments that a partial has bound."""
    bound: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        given = {**{str(place): value for place, value in enumerate(function.args)}, **function.keywords}
        bound = {**{k: v for k, v in given.items() if isinstance(v, bool | int | float | str)}, **bound}
        function = function.func
    function = inspect.unwrap(function)
    if inspect.ismethod(function):
        return function.__func__, bound
    return function if inspect.isroutine(function) else type(function), bound


def _digest(core: Any) -> str | None:
    """Of the source without comments and layout; else of the compiled code; None for what has neither."""
    try:
        source = textwrap.dedent(inspect.getsource(core))
    except (OSError, TypeError):
        code = getattr(core, "__code__", None)
        return _short(repr(_plain(code))) if code is not None else None
    try:
        return _short(ast.unparse(ast.parse(source)))
    except SyntaxError:  # the line of a lambda need not be a whole statement
        return _short(source.strip())


def _plain(code: CodeType) -> tuple[object, ...]:
    """Compiled code without the addresses and line numbers in it."""
    consts = [_plain(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return code.co_code, consts, code.co_names, code.co_varnames


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
