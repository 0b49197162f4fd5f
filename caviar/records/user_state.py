"""The folder for what caviar keeps about this user on this machine, outside of runs."""

import os
from pathlib import Path


def state_folder() -> Path:
    """Return the path of the folder, which may not exist yet.

    Raises:
        RuntimeError: this user has no home.
    """
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "caviar"
