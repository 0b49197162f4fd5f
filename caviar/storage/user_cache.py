"""The folder of the user in which caviar keeps what it would take time to find again, such as compiled kernels."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def private_folder(name: str, root: str = "") -> Path:
    """Return a folder that only this user can write; create it if need be.

    It is inside `root` if that is given and serves, else `caviar` in the user's cache folder, else a private folder for
    temporary files.

    Args:
        name: name of the folder.
        root: path of a folder to prefer; empty for none.
    """
    if root and _make_private(Path(root) / name):
        return Path(root) / name
    for default in _default_roots():
        if _make_private(default) and _make_private(default / name):
            return default / name
    return Path(tempfile.mkdtemp(prefix="caviar-"))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; the system releases it when the process ends, however it ends."""
    with path.open("w") as file:
        with contextlib.suppress(OSError):  # some network disks have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _default_roots() -> Iterator[Path]:
    """Yield folders to try, best first."""
    with contextlib.suppress(RuntimeError):  # there is no home directory
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "caviar"
    yield Path(tempfile.gettempdir()) / f"caviar-{os.getuid()}"


def _make_private(path: Path) -> bool:
    """Return whether this is a folder, made now if need be, that only this user can write.

    Loading kernels runs the code in them, so nobody else may be able to place files there.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            status = path.stat()
    except OSError:
        return False
    return status.st_uid == os.getuid() and not status.st_mode & 0o022
