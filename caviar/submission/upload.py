"""What a job is sent: the experiment's folder as a zip archive, and the source of this caviar.

The same files make the same archive, byte for byte, so that a cluster which has it is not sent it again. Caviar
travels by itself: kernels that were compiled from it stay good when only the experiment changes.
"""

import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path, PurePosixPath

import caviar
from caviar.errors import SubmissionError
from caviar.submission.upload_filter import (
    Ignore,
    ignores_above,
    read_ignores,
    reason_to_leave_out,
    secret_in,
)

MIB = 2**20
MOST_BYTES = 100 * MIB
"""The cluster keeps an archive in its head's memory, and every machine unpacks it: it is no place for data."""
MOST_FILES = 5_000
_PACKAGE = Path(caviar.__file__).resolve().parent
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in the archive; zip knows none earlier."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is sent."""

    folder: Path
    script: PurePosixPath
    """Within the folder."""
    files: Mapping[str, Path]
    """By their names in the folder."""
    left_out: Mapping[str, str]
    """What of the folder is not sent, and why."""

    @property
    def size(self) -> int:
        """Bytes, unpacked."""
        return sum(path.stat().st_size for path in self.files.values())

    @property
    def secrets(self) -> list[str]:
        """The names of what was left out because it looks secret."""
        return [name for name, reason in self.left_out.items() if reason.startswith("secret")]


def pack(script: Path, folder: Path | None = None, token: str | None = None) -> Parcel:
    """Choose what a job is sent.

    Args:
        script: the experiment.
        folder: that holds whatever it needs, and in which it will run; its own by default.
        token: of the cluster, which no file may hold.

    Raises:
        SubmissionError: too much, a link that leads elsewhere, or a caviar of its own.
    """
    root = (script.parent if folder is None else folder).resolve()
    place = script.parent.resolve() / script.name
    if not place.is_relative_to(root):
        raise SubmissionError(f"{script} is not in {folder}: --folder must hold the experiment")
    if root in (Path.home().resolve(), Path(root.anchor)):
        raise SubmissionError(f"{root} would be sent as a whole: put {script.name} into a folder of its own")
    _require_one_caviar(root)
    files: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    for path, reason in _walk(root, (*ignores_above(root), *read_ignores(root)), (root,)):
        name = path.relative_to(root).as_posix()
        if reason and path != place:
            left_out[name] = reason
            continue
        if path.is_relative_to(_PACKAGE):
            continue
        files[name] = path
        if len(files) > MOST_FILES:
            raise SubmissionError(
                f"{root} holds more than {MOST_FILES:,} files: put the experiment and what it imports into a folder "
                "of their own, or name the rest in its .gitignore"
            )
    parcel = Parcel(root, PurePosixPath(place.relative_to(root)), files, left_out)
    _require_small(parcel)
    return _without_secrets(parcel, token)


def write(parcel: Parcel, archive: Path) -> None:
    """Write a parcel as a zip file, with what says which version of caviar it is for and what that requires."""
    described = metadata.distribution("caviar").read_text("METADATA") or ""
    with zipfile.ZipFile(archive, "w") as target:
        for name, path in sorted(parcel.files.items()):
            target.writestr(_entry(name, os.access(path, os.X_OK)), path.read_bytes())
        target.writestr(_entry(f"caviar-{caviar.__version__}.dist-info/METADATA"), described)


def copy_caviar(folder: Path) -> Path:
    """Copy the source of this caviar, and nothing else of its folder, so that the cluster runs the same."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    return Path(shutil.copytree(_PACKAGE, folder / "caviar", ignore=ignored))


def _entry(name: str, executable: bool = False) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (0o755 if executable else 0o644) << 16
    return entry


def _walk(
    folder: Path, ignores: tuple[Ignore, ...], trail: tuple[Path, ...]
) -> Iterator[tuple[Path, str | None]]:
    """Files below a folder, and why one is left out; of a folder that is, its name alone.

    The trail is where the folders above really are, the root first: a link to one of them would never end.
    What a link leads to is left out wherever it would be without the link.
    """
    for path in sorted(folder.iterdir()):
        is_folder = path.is_dir()
        if reason := reason_to_leave_out(path, is_folder, ignores):
            yield path, reason
            continue
        real = path.resolve()
        if path.is_symlink() and not real.is_relative_to(trail[0]):
            raise SubmissionError(
                f"{path} is a link to {real}, outside of {trail[0]}: nothing outside is sent; "
                "copy it, or name the link in .gitignore"
            )
        if is_folder and real in trail:
            yield path, "a link to a folder above it"
        elif real != path and (reason := _reason_where_it_is(real, trail[0])):
            yield path, f"{reason}: it is {real.relative_to(trail[0]).as_posix()}"
        elif is_folder:
            yield from _walk(path, (*ignores, *read_ignores(path)), (*trail, real))
        else:
            yield path, None if path.is_file() else "not a file"


def _reason_where_it_is(real: Path, root: Path) -> str | None:
    """Why something below the root is left out, by its own place or that of a folder above it."""
    place, ignores = root, (*ignores_above(root), *read_ignores(root))
    for part in real.relative_to(root).parts:
        place /= part
        if reason := reason_to_leave_out(place, place.is_dir(), ignores):
            return reason
        ignores = (*ignores, *read_ignores(place))
    return None


def _require_small(parcel: Parcel) -> None:
    if parcel.size <= MOST_BYTES:
        return
    largest = sorted(parcel.files.items(), key=lambda item: -item[1].stat().st_size)[:5]
    names = ", ".join(f"{name} ({path.stat().st_size / MIB:,.1f} MiB)" for name, path in largest)
    raise SubmissionError(
        f"{parcel.folder} holds {parcel.size / MIB:,.0f} MiB, and at most {MOST_BYTES // MIB} are sent; "
        f"the largest: {names}. Put data where every machine of the cluster can read it, "
        "and name here what is not needed there in .gitignore"
    )


def _without_secrets(parcel: Parcel, token: str | None) -> Parcel:
    """Look into the files, too."""
    found = {name: reason for name, path in parcel.files.items() if (reason := secret_in(_read(path), token))}
    if str(parcel.script) in found:
        raise SubmissionError(
            f"{parcel.script} cannot be sent ({found[str(parcel.script)]}): take it out of it"
        )
    kept = {name: path for name, path in parcel.files.items() if name not in found}
    return replace(parcel, files=kept, left_out={**parcel.left_out, **found})


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SubmissionError(
            f"{path} cannot be read ({error.strerror}): name it in .gitignore if the job does not need it"
        ) from error


def _require_one_caviar(root: Path) -> None:
    own = root / "caviar"
    if own.with_suffix(".py").exists() or (own.exists() and own.resolve() != _PACKAGE):
        raise SubmissionError(
            f"{root} has a caviar of its own, which would stand in the way of the package: rename it"
        )
