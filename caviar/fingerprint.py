"""Fingerprints of functions, which differ in `study.json` if two functions differ.

A fingerprint holds the function's module, name and a hash of its source, not the source of what it calls.
"""

import ast
import contextlib
import functools
import hashlib
import inspect
import math
import textwrap
from collections.abc import Callable
from types import CodeType
from typing import Any

SCRIPT_MODULE = "caviar_experiment"
"""The module name of a script that `caviar run` loads. It is not "__main__", so the main block does not run."""
SCRIPT_MODULES = ("__main__", "__mp_main__", SCRIPT_MODULE)
"""Module names of scripts and notebooks, which depend on how they were started."""


def fingerprint(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the fingerprint of a function, the same in every process.

    Returns:
        "name", the name with its module; "source", a hash of the source or None; "bound", the plain arguments that a
        `functools.partial` holds.

    Example:
        >>> fingerprint(textwrap.dedent)["name"]
        'textwrap.dedent'
    """
    core, bound = _unwrapped(function)
    module = getattr(core, "__module__", None)
    name = getattr(core, "__qualname__", type(core).__qualname__)
    return {
        "name": name if module in SCRIPT_MODULES or module is None else f"{module}.{name}",
        "source": _digest(core),
        "bound": bound,
    }


def fingerprint_with_uses(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the fingerprint of a function, and "uses": a hash of the code of its module that it refers to.

    Functions and classes of the function's own module count, also those that they refer to in turn: a function that
    builds a network refers to the classes of its layers.
    """
    core, _ = _unwrapped(function)
    found: dict[int, Any] = {}
    _find_uses(core, getattr(core, "__module__", None), found)
    digests = sorted(f"{code.__qualname__} {_digest(code)}" for code in found.values() if code is not core)
    return {**fingerprint(function), "uses": _short("\n".join(digests)) if digests else None}


def _find_uses(core: Any, module: str | None, found: dict[int, Any]) -> None:
    """Note code, and the code of its module that it refers to."""
    core = inspect.unwrap(getattr(core, "__func__", core))
    if (
        not (inspect.isfunction(core) or inspect.isclass(core))
        or core.__module__ != module
        or id(core) in found
    ):
        return
    found[id(core)] = core
    if inspect.isclass(core):
        used = [*core.__bases__, *vars(core).values()]
    else:
        names = (name for name in _names(core.__code__) if name in core.__globals__)
        used = [core.__globals__[name] for name in names]
        for cell in core.__closure__ or ():
            with contextlib.suppress(ValueError):  # it is empty
                used.append(cell.cell_contents)
    for inner in used:
        _find_uses(inner, module, found)


def _names(code: CodeType) -> tuple[str, ...]:
    """Return the global names in code, and in the functions that it defines."""
    inner = (name for const in code.co_consts if isinstance(const, CodeType) for name in _names(const))
    return (*code.co_names, *inner)


def _unwrapped(function: Any) -> tuple[Any, dict[str, Any]]:
    """Return the function or class under partials and decorators, and the plain arguments of the partials."""
    bound: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        given = {**{str(place): value for place, value in enumerate(function.args)}, **function.keywords}
        plain = {k: v for k, v in given.items() if isinstance(v, bool | int | float | str)}
        bound = {**{k: _json_value(v) for k, v in plain.items()}, **bound}
        function = function.func
    function = inspect.unwrap(function)
    if inspect.ismethod(function):
        return function.__func__, bound
    is_code = inspect.isroutine(function) or inspect.isclass(function)
    return function if is_code else type(function), bound


def _json_value(value: float | str) -> float | str:
    """Return a plain value as JSON holds it, which has no infinity and no NaN."""
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _digest(core: Any) -> str | None:
    """Hash the source without comments and layout, or else the compiled code; return None if there is neither."""
    try:
        source = textwrap.dedent(inspect.getsource(core))
    except (OSError, TypeError):
        code = getattr(core, "__code__", None)
        return _short(repr(_plain(code))) if code is not None else None
    try:
        return _short(ast.unparse(ast.parse(source)))
    except SyntaxError:  # the lines of a lambda need not be a whole statement
        return _short(source.strip())


def _plain(code: CodeType) -> tuple[object, ...]:
    """Return compiled code without memory addresses and line numbers."""
    consts = [_plain(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return code.co_code, consts, code.co_names, code.co_varnames


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
