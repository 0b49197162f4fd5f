"""The import path: the folders in which Python finds modules, the user's own and installed ones."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

_LIBRARY = {str(Path(os.__file__).parent.resolve()), *(p for p in sys.path if p.endswith(".zip"))}
"""The standard library in `sys.path`: its folder, and the archive that may replace it."""


@dataclass(frozen=True, slots=True)
class ImportPath:
    """The folders in which the driver finds modules, in its order."""

    own: tuple[str, ...]
    """Folders before the standard library: the script's, and those of PYTHONPATH."""
    installed: tuple[str, ...]
    """The standard library and all folders after it."""

    @classmethod
    def here(cls) -> "ImportPath":
        """Return the import path of this process."""
        folders = [str(Path(folder).resolve()) for folder in sys.path]
        library = next((i for i, folder in enumerate(folders) if folder in _LIBRARY), len(folders))
        return cls(tuple(folders[:library]), tuple(folders[library:]))

    def add(self) -> None:
        """Add the folders to the import path of a worker.

        The driver's own folders come first, so that a module beside the script hides an installed one of the same name
        there as well; what is installed here comes before what is installed on the driver's machine.
        """
        others = [folder for folder in sys.path if folder not in self.own]
        sys.path[:] = [*self.own, *others, *(f for f in self.installed if f not in others)]
