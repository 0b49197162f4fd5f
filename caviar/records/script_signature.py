"""Signatures of scripts: they show that this user began a run with the script that its `study.json` names.

`caviar resume` executes that script, and a run directory may come from somebody else. So the driver signs the path with
a key that only this user can read, and no script is executed without a valid signature or being named by the user.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from caviar.records.user_state import state_folder

_KEY_BYTES = 32


def sign_script(script: str, folder: str) -> str | None:
    """Return the signature of a script's path and the working directory; None if this user has no place for a key."""
    key = _read_key() or _make_key()
    return None if key is None else _sign(key, script, folder)


def sign_content(content: bytes) -> str | None:
    """Return the signature of a file's content by this user; None if this user has no place for a key."""
    key = _read_key() or _make_key()
    return None if key is None else hmac.new(key, content, hashlib.sha256).hexdigest()


def is_signed(script: str, folder: str, signature: str | None) -> bool:
    """Return whether this user signed the script's path and the working directory."""
    key = _read_key()
    if key is None or signature is None:
        return False
    return hmac.compare_digest(_sign(key, script, folder).encode(), signature.encode())


def _sign(key: bytes, script: str, folder: str) -> str:
    return hmac.new(key, repr((script, folder)).encode(), hashlib.sha256).hexdigest()


def _key_file() -> Path:
    return state_folder() / "key"


def _read_key() -> bytes | None:
    with contextlib.suppress(OSError, RuntimeError):  # no key yet, or no home
        key = _key_file().read_bytes()
        return key if len(key) == _KEY_BYTES else None
    return None


def _make_key() -> bytes | None:
    with contextlib.suppress(OSError, RuntimeError):
        file = _key_file()
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # another driver makes it now
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as out:
                out.write(secrets.token_bytes(_KEY_BYTES))
    return _read_key()
