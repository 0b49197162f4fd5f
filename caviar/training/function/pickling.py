"""Pickling of functions and classes that no other process can import: those of a script, a notebook or a closure.

They are pickled by value, with all objects that they refer to. This is cloudpickle, with the following added:

- Results of functions under `functools.cache` are kept by each process, not sent.
- Modules that are objects of a class of their own, such as `torch.backends.cudnn`, are pickled by name.
- `functools.cached_property`, `functools.singledispatch`, weak dicts and `typing.NewType` can be pickled.
- An object that cannot be pickled is named in the error.
- Processes that a worker starts with spawn or forkserver get the script's functions and classes by value.
"""

import contextlib
import functools
import importlib
import io
import pickle
import secrets
import sys
import typing
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import cloudpickle

from caviar.errors import one_line
from caviar.fingerprint import SCRIPT_MODULE, SCRIPT_MODULES

_CachedFunction = type(functools.cache(len))
_caches: dict[str, Any] = {}
"""Functions under `functools.cache` that this process has unpickled, by the key that each was given when pickled."""


class NotPicklableError(Exception):
    """An object that cannot be pickled; the message names what it holds that is to blame."""


Place = tuple[str, str]
"""Names of a module and of a variable in it."""


def dumps(
    thing: object,
    buffer_callback: Callable[[pickle.PickleBuffer], object] | None = None,
    find_place: Callable[[Any], Place | None] | None = None,
) -> bytes:
    """Pickle an object, with functions and classes of scripts by value.

    Args:
        thing: any object.
        buffer_callback: takes the arrays that it holds; by default they are part of the pickle.
        find_place: returns the place of an object that is to be looked up there by `loads`; else None.

    Raises:
        NotPicklableError: something that it holds cannot be pickled.
    """
    with _hidden_scripts():
        try:
            return _dump(thing, buffer_callback, find_place)
        except Exception as error:
            culprit, reason = _find_culprit(_Part(thing, "", None), error)
            raise NotPicklableError(f"{culprit} ({one_line(reason)})") from error


def loads(pickled: bytes, buffers: Iterable[pickle.PickleBuffer] = ()) -> Any:
    """Return the object that `dumps` has pickled."""
    return _Unpickler(io.BytesIO(pickled), buffers=buffers).load()


def look_up(place: Place) -> Any:
    """Return a variable of a module."""
    return getattr(importlib.import_module(place[0]), place[1])


def support_spawn() -> None:
    """Let processes that this one starts with spawn or forkserver receive functions and classes of scripts."""
    ForkingPickler.reducer_override = _reduce_for_child  # type: ignore[method-assign, assignment]


class ValuePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """A pickler of functions and classes by value: cloudpickle, with more kinds of objects."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, _CachedFunction) and not _is_importable(obj):
            key = vars(obj).setdefault("__caviar_key__", secrets.token_hex(8))
            return _restore_cached, (key, obj.__wrapped__, obj.cache_parameters())
        if isinstance(obj, ModuleType) and type(obj) is not ModuleType and _is_imported(obj):
            return importlib.import_module, (obj.__name__,)
        if isinstance(obj, functools.cached_property):
            return functools.cached_property, (obj.func,), {"attrname": obj.attrname, "__doc__": obj.__doc__}
        if isinstance(obj, weakref.WeakKeyDictionary | weakref.WeakValueDictionary):
            return type(obj), (dict(obj),)
        if isinstance(obj, typing.NewType):
            return typing.NewType, (obj.__name__, obj.__supertype__)
        return super().reducer_override(obj)


class _PlacePickler(ValuePickler):
    """A pickler that leaves out what is to be looked up."""

    find_place: Callable[[Any], Place | None]

    def persistent_id(self, obj: Any) -> Place | None:
        return self.find_place(obj)


class _Unpickler(pickle.Unpickler):
    """An unpickler that looks up what was left out."""

    def persistent_load(self, pid: Place) -> Any:
        return look_up(pid)


def _dump(
    thing: object,
    buffer_callback: Callable[[pickle.PickleBuffer], object] | None = None,
    find_place: Callable[[Any], Place | None] | None = None,
) -> bytes:
    file = io.BytesIO()
    pickler = (_PlacePickler if find_place else ValuePickler)(
        file, protocol=5, buffer_callback=buffer_callback
    )
    if find_place:
        pickler.find_place = find_place
    pickler.dump(thing)
    return file.getvalue()


@contextlib.contextmanager
def _hidden_scripts() -> Iterator[None]:
    """Hide the modules of scripts: what would be pickled as a name in them fails here, and not on the worker."""
    hidden = {name: sys.modules[name] for name in SCRIPT_MODULES if name in sys.modules}
    try:
        sys.modules.pop(SCRIPT_MODULE, None)
        sys.modules["__main__"] = ModuleType("__main__")
        yield
    finally:
        sys.modules.update(hidden)


def _is_importable(obj: Any) -> bool:
    """Return whether another process finds this object under its name."""
    found: Any = sys.modules.get(obj.__module__)
    for name in obj.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is obj and obj.__module__ not in SCRIPT_MODULES


def _is_imported(module: ModuleType) -> bool:
    return sys.modules.get(module.__name__) is module


def _restore_cached(key: str, function: Callable[..., Any], parameters: Mapping[str, Any]) -> Any:
    """Return this process's function under `functools.cache`, with the results that it has already."""
    if key not in _caches:
        _caches[key] = functools.lru_cache(**parameters)(function)
        vars(_caches[key])["__caviar_key__"] = key
    return _caches[key]


def _reduce_for_child(pickler: ForkingPickler, obj: Any) -> Any:
    """Reduce functions and classes of scripts, which a child process cannot import, to their pickle by value."""
    del pickler
    if isinstance(obj, type | FunctionType) and obj.__module__ in SCRIPT_MODULES:
        return _load_in_child, (_dump(obj),)
    return NotImplemented


def _load_in_child(pickled: bytes) -> Any:
    support_spawn()  # for what the child sends back
    return pickle.loads(pickled)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of what is pickled."""

    thing: Any
    path: str
    """Code of it, such as "settings['log']"."""
    user: str | None
    """Name of the function that uses it, if any."""

    def __str__(self) -> str:
        use = f", which {self.user} uses," if self.user else ""
        return f"{self.path or 'it'}{use} is a {type(self.thing).__qualname__}"


def _find_culprit(part: _Part, error: Exception) -> tuple[_Part, Exception]:
    """Return the innermost part that cannot be pickled, and the reason."""
    seen = {id(part.thing)}
    while True:
        for inner in _parts(part.thing, part.path, part.user):
            if id(inner.thing) not in seen and (reason := _pickling_error(inner.thing)):
                part, error = inner, reason
                seen.add(id(inner.thing))
                break
        else:
            return part, error


def _pickling_error(thing: object) -> Exception | None:
    try:
        _dump(thing, lambda buffer: None)
    except Exception as error:
        return error
    return None


def _parts(thing: Any, path: str, user: str | None) -> Iterator[_Part]:
    """Yield the objects that an object refers to."""
    if isinstance(thing, FunctionType):
        for name, inner in _references(thing):
            yield _Part(inner, name, thing.__name__)
    elif isinstance(thing, MethodType):
        yield _Part(thing.__func__, thing.__name__, user)
        yield _Part(thing.__self__, f"the object of {thing.__name__}", user)
    elif isinstance(thing, functools.partial):
        yield _Part(thing.func, "its function", user)
        for place, inner in (*enumerate(thing.args), *thing.keywords.items()):
            yield _Part(inner, f"the argument {place}", "functools.partial")
    elif isinstance(thing, _CachedFunction):
        yield _Part(thing.__wrapped__, path, user)
    elif isinstance(thing, dict | list | tuple):
        for key, inner in thing.items() if isinstance(thing, dict) else enumerate(thing):
            yield _Part(inner, f"{path}[{key!r:.40}]", user)
    else:
        for name, inner in list(getattr(thing, "__dict__", {}).items()):
            yield _Part(inner, name if path == "" else f"{path}.{name}", user)


def _references(function: FunctionType) -> list[tuple[str, Any]]:
    """Return the variables outside a function that it uses, and its defaults, by name."""
    known = function.__globals__
    names = [name for name in _names(function.__code__) if name in known]
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    variables: list[tuple[str, Any]] = [(name, known[name]) for name in names]
    for name, cell in cells:
        with contextlib.suppress(ValueError):  # it is empty
            variables.append((name, cell.cell_contents))
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return [*variables, *(("a default", default) for default in defaults), *vars(function).items()]


def _names(code: CodeType) -> list[str]:
    """Return the global names in code, and in the functions that it defines."""
    inner = [name for const in code.co_consts if isinstance(const, CodeType) for name in _names(const)]
    return list(dict.fromkeys([*code.co_names, *inner]))
