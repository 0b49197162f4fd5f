"""State of the user's own modules, such as a module of settings beside the script.

A worker imports these modules once. What a trial changes in them is put back after it, in place, so that all modules
that refer to an object see the same. Modules of installed packages are left alone.
"""

import importlib
import pickle
import random
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from caviar.fingerprint import SCRIPT_MODULES
from caviar.training.function.pickling import Place, dumps, look_up

MAX_COMPARED_BYTES = 8 * 2**20
"""Largest pickle of an object that is compared after each trial."""
_IMMUTABLE = (bool, int, float, complex, str, bytes, range, type(None), ModuleType)


@dataclass(slots=True)
class _Saved:
    """An object that trials may change, as it was."""

    name: str
    thing: Any
    pickled: bytes

    def restore(self) -> bool:
        """Put the contents back if they were changed; return False if that is not possible."""
        now = _pickled(self.thing)
        if now == self.pickled:
            return True
        if not _put_back(self.thing, pickle.loads(self.pickled)):
            return False
        self.pickled = _pickled(self.thing) or self.pickled  # equal contents may be pickled in another way
        return True


@dataclass(frozen=True, slots=True)
class _Namespace:
    """A module or class of the user's, with its names as they were."""

    owner: Any
    values: dict[str, Any]
    contents: tuple[_Saved, ...]

    @classmethod
    def of(cls, owner: Any, warnings: list[str]) -> "_Namespace":
        values = dict(vars(owner))
        found = [
            _save(f"{owner.__name__}.{name}", value, warnings)
            for name, value in values.items()
            if not name.startswith("__") and _is_data(value)
        ]
        return cls(owner, values, tuple(saved for saved in found if saved is not None))

    def restore(self) -> list[str]:
        """Put back names and contents; return the names of objects whose contents cannot be put back."""
        self._restore_names()
        return [saved.name for saved in self.contents if not saved.restore()]

    def _restore_names(self) -> None:
        now = vars(self.owner)
        if len(now) != len(self.values) or any(now.get(name) is not old for name, old in self.values.items()):
            for name in [name for name in now if name not in self.values]:
                if not isinstance(now[name], ModuleType):  # a submodule that the trial imported
                    delattr(self.owner, name)
            for name, old in self.values.items():
                if vars(self.owner).get(name) is not old:
                    setattr(self.owner, name, old)


class SharedObjects:
    """Objects of the driver that belong to variables of the user's modules.

    A worker looks them up in its own modules, so that a function and these modules go on sharing them.

    Args:
        folders: folders of the user's modules.
    """

    def __init__(self, folders: tuple[str, ...]) -> None:
        self._places: dict[int, Place] = {}
        self._found: dict[Place, Any] = {}
        for name, module in sorted(sys.modules.items()):
            if name not in SCRIPT_MODULES and _is_own(module, folders) and _is_importable(name, module):
                self._places |= {id(v): (name, n) for n, v in vars(module).items() if _is_shared(n, v)}

    def find_place(self, thing: Any) -> Place | None:
        """Return the place of an object, and remember it for `contents`; None if it belongs to no variable."""
        place = self._places.get(id(thing))
        if place is not None:
            self._found[place] = thing
        return place

    def contents(self) -> dict[Place, bytes]:
        """Return what the objects found hold, pickled: the script may have changed them."""
        pickled = {place: _pickled(thing) for place, thing in self._found.items()}
        return {place: contents for place, contents in pickled.items() if contents is not None}


def set_contents(contents: Mapping[Place, bytes]) -> None:
    """Give objects of this process's modules the contents that they have in the driver."""
    for place, pickled in contents.items():
        if _pickled(thing := look_up(place)) != pickled:
            _put_back(thing, pickle.loads(pickled))


class OwnModules:
    """The user's modules in this process, and their state before any trial.

    Args:
        folders: folders of the user's modules.

    Attributes:
        warnings: sentences about objects that are too large to be compared.
        damage: what a trial changed and cannot be put back; None if there is nothing.
    """

    def __init__(self, folders: tuple[str, ...]) -> None:
        self._folders = folders
        self._saved: dict[str, list[_Namespace]] = {}
        self._seen: set[str] = set()
        self.warnings: list[str] = []
        self.damage: str | None = None
        self._save(self._find_new())

    def restore(self) -> None:
        """Put back what a trial changed."""
        if new := self._find_new():
            self._save(_import_again(new))
        for namespaces in self._saved.values():
            for namespace in namespaces:
                for changed in namespace.restore():
                    self.damage = f"a trial changed {changed}, which cannot be put back"

    def _find_new(self) -> list[str]:
        """Return the names of the user's modules that were imported since the last call."""
        if len(sys.modules) == len(self._seen):
            return []
        new = sys.modules.keys() - self._seen
        self._seen |= new
        return [name for name in sorted(new) if _is_own(sys.modules[name], self._folders)]

    def _save(self, names: list[str]) -> None:
        for name in names:
            module = sys.modules[name]
            self._saved[name] = [_Namespace.of(owner, self.warnings) for owner in (module, *_classes(module))]


def _is_own(module: ModuleType, folders: tuple[str, ...]) -> bool:
    """Return whether a module lies in one of the user's folders, and not among installed packages."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or module.__name__.partition(".")[0] in ("caviar", "__main__"):
        return False
    path = Path(file)
    return "site-packages" not in path.parts and any(path.is_relative_to(folder) for folder in folders)


def _is_importable(name: str, module: ModuleType) -> bool:
    """Return whether a module lies where an import looks for its name; a script may have loaded it from elsewhere."""
    path = Path(module.__file__ or "").with_suffix("")
    file = path.parent if path.name == "__init__" else path
    return file.parts[-name.count(".") - 1 :] == tuple(name.split("."))


def _is_shared(name: str, value: object) -> bool:
    """Return whether a variable's object can be changed in place."""
    is_array = isinstance(value, np.ndarray) or _has(value, "untyped_storage")
    has_contents = isinstance(value, list | dict | set | deque) or _has(value, "__dict__")
    return not name.startswith("__") and _is_data(value) and has_contents and not is_array


def _has(value: object, attribute: str) -> bool:
    """Return whether an object has an attribute; one that raises when asked, such as a web request, has not."""
    try:
        return hasattr(value, attribute)
    except Exception:
        return False


def _classes(module: ModuleType) -> Iterator[type]:
    """Yield the classes that a module defines."""
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == module.__name__:
            yield value


def _import_again(names: list[str]) -> list[str]:
    """Import modules again that a trial imported and may have changed; return the names of those that are there.

    A module that cannot be imported twice stays as the trial left it.
    """
    old = {name: sys.modules.pop(name) for name in names}
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:
            sys.modules[name] = old[name]
    return names


def _save(name: str, thing: Any, warnings: list[str]) -> _Saved | None:
    """Return an object with its pickle; None if it cannot be pickled, such as a lock, or is too large."""
    pickled = _pickled(thing)
    if pickled is None:
        return None
    if len(pickled) > MAX_COMPARED_BYTES:
        warnings.append(
            f"{name} has {len(pickled) / 2**20:,.0f} MiB, too much to compare after each trial: trials must not "
            "change it, or later trials on the same worker see the change"
        )
        return None
    return _Saved(name, thing, pickled)


def _pickled(thing: Any) -> bytes | None:
    try:
        return dumps(thing)
    except Exception:  # not only `NotPicklableError`: an object may raise anything when it is looked at
        return None


def _is_data(value: object) -> bool:
    """Return whether a trial may change what a value holds; functions, classes, types and properties count as code."""
    is_code = isinstance(value, type) or hasattr(type(value), "__get__")
    is_code |= callable(value) and type(value).__module__ in ("builtins", "functools", "types", "typing")
    return not (is_code or isinstance(value, _IMMUTABLE))


def _put_back(thing: Any, before: Any) -> bool:
    """Give an object the contents of a copy that was made before it was changed; return False if it keeps its own."""
    match thing:
        case list() | bytearray():
            thing[:] = before
        case dict() | set():
            thing.clear()
            thing.update(before)
        case deque():
            thing.clear()
            thing.extend(before)
        case np.ndarray():
            thing[...] = before
        case np.random.Generator():
            thing.bit_generator.state = before.bit_generator.state
        case random.Random():
            thing.setstate(before.getstate())
        case _ if hasattr(thing, "requires_grad_") and hasattr(thing, "untyped_storage"):  # a tensor of torch
            thing.data = before.data
        case _ if hasattr(thing, "__dict__"):
            vars(thing).clear()
            vars(thing).update(vars(before))
        case _:
            return False
    return True
