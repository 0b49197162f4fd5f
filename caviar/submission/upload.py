"""The files that a job needs: the experiment's folder as a zip archive, and the source of caviar.

Equal files make an equal archive, byte for byte, so that a cluster which has it does not receive it again. The source
of caviar is uploaded separately, so that kernels compiled from it remain valid when only the experiment changes.
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
    IgnoreRules,
    find_exclusion,
    find_secret,
    read_ignore_rules,
    read_ignore_rules_above,
)

MIB = 2**20
MAX_BYTES = 100 * MIB
"""Largest upload. The head keeps it in memory and every machine unpacks it, so it is no place for data."""
MAX_FILES = 5_000
_PACKAGE = Path(caviar.__file__).resolve().parent
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)
"""Modification time of every file in the archive, the earliest that zip can store."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Files that are sent to the cluster."""

    folder: Path
    script: PurePosixPath
    """Path of the experiment script within the folder."""
    files: Mapping[str, Path]
    """Files by their path within the folder."""
    excluded: Mapping[str, str]
    """Files and folders that are not sent, and the reason for each."""

    @property
    def size(self) -> int:
        """Bytes of all files, uncompressed."""
        return sum(path.stat().st_size for path in self.files.values())

    @property
    def secrets(self) -> list[str]:
        """Names of files that are not sent because they look secret."""
        return [name for name, reason in self.excluded.items() if reason.startswith("secret")]


def select_files(script: Path, folder: Path | None = None, token: str | None = None) -> Upload:
    """Return the files that a job needs.

    Args:
        script: path of the experiment script.
        folder: folder with the script and all that it imports, in which the job runs; the script's own by default.
        token: token of the cluster; files that contain it are not sent.

    Raises:
        SubmissionError: the script is missing or contains a secret, the folder is too large or a home folder, a link
            leads out of it, or it contains another caviar.
    """
    root, script = _resolve(script, folder)
    _require_no_other_caviar(root)
    files: dict[str, Path] = {}
    excluded: dict[str, str] = {}
    for path, reason in _walk(root, (*read_ignore_rules_above(root), *read_ignore_rules(root)), (root,)):
        name = path.relative_to(root).as_posix()
        if reason and path != script:
            excluded[name] = reason
        elif not path.is_relative_to(_PACKAGE):  # caviar is uploaded separately
            files[name] = path
        if len(files) > MAX_FILES:
            raise SubmissionError(
                f"{root} contains more than {MAX_FILES:,} files: move the script and what it imports into a folder "
                "of their own, or name the other files in .gitignore"
            )
    upload = Upload(root, PurePosixPath(script.relative_to(root)), files, excluded)
    if str(upload.script) not in files:
        raise SubmissionError(
            f"{upload.script} is in a folder that is not uploaded ({_find_exclusion_below(root, script.parent)}): "
            "omit --folder, or move the script"
        )
    _require_small(upload)
    return _without_secrets(upload, token)


def write_archive(upload: Upload, archive: Path) -> None:
    """Write the files as a zip archive, together with the package metadata of caviar.

    Args:
        upload: files to write.
        archive: path of the zip file.
    """
    described = metadata.distribution("caviar").read_text("METADATA") or ""
    with zipfile.ZipFile(archive, "w") as target:
        for name, path in sorted(upload.files.items()):
            target.writestr(_zip_entry(name, os.access(path, os.X_OK)), path.read_bytes())
        target.writestr(_zip_entry(f"caviar-{caviar.__version__}.dist-info/METADATA"), described)


def copy_caviar(folder: Path) -> Path:
    """Copy the source of this caviar into a folder, without caches, and return its path."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    return Path(shutil.copytree(_PACKAGE, folder / "caviar", ignore=ignored))


def _resolve(script: Path, folder: Path | None) -> tuple[Path, Path]:
    """Return the absolute paths of the folder and the script, after checking both."""
    if not script.is_file():
        raise SubmissionError(f"{script}: there is no such file")
    root = (script.parent if folder is None else folder).resolve()
    script = script.parent.resolve() / script.name
    if not script.is_relative_to(root):
        raise SubmissionError(
            f"{script} is not in {folder}: --folder must be a folder that contains the script"
        )
    if root in (Path.home().resolve(), Path(root.anchor)):
        raise SubmissionError(f"all of {root} would be uploaded: move {script.name} into a folder of its own")
    return root, script


def _zip_entry(name: str, executable: bool = False) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _TIMESTAMP)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (0o755 if executable else 0o644) << 16
    return entry


def _walk(
    folder: Path, rules: tuple[IgnoreRules, ...], parents: tuple[Path, ...]
) -> Iterator[tuple[Path, str | None]]:
    """Yield each file below a folder with the reason why it is excluded; of an excluded folder, the folder alone.

    The target of a link must pass the rules of its own place, too.

    Args:
        folder: folder to walk.
        rules: ignore rules of the folder and those above it.
        parents: resolved paths of the folders that contain this one, the root first; a link to one is a cycle.
    """
    for path in sorted(folder.iterdir()):
        is_folder = path.is_dir()
        if reason := find_exclusion(path, is_folder, rules):
            yield path, reason
            continue
        target = path.resolve()
        if path.is_symlink() and not target.is_relative_to(parents[0]):
            raise SubmissionError(
                f"{path} is a link to {target}, which is outside of {parents[0]} and is not uploaded: "
                "copy it, or name the link in .gitignore"
            )
        if is_folder and target in parents:
            yield path, "link to a folder that contains it"
        elif target != path and (reason := _find_exclusion_below(parents[0], target)):
            yield path, f"{reason} (link to {target.relative_to(parents[0]).as_posix()})"
        elif is_folder:
            yield from _walk(path, (*rules, *read_ignore_rules(path)), (*parents, target))
        else:
            yield path, None if path.is_file() else "not a regular file"


def _find_exclusion_below(root: Path, path: Path) -> str | None:
    """Return why a path below a root is excluded, by its own name or that of a folder above it."""
    part, rules = root, (*read_ignore_rules_above(root), *read_ignore_rules(root))
    for name in path.relative_to(root).parts:
        part /= name
        if reason := find_exclusion(part, part.is_dir(), rules):
            return reason
        rules = (*rules, *read_ignore_rules(part))
    return None


def _require_small(upload: Upload) -> None:
    if upload.size <= MAX_BYTES:
        return
    largest = sorted(upload.files.items(), key=lambda item: -item[1].stat().st_size)[:5]
    names = ", ".join(f"{name} ({path.stat().st_size / MIB:,.1f} MiB)" for name, path in largest)
    raise SubmissionError(
        f"{upload.folder} contains {upload.size / MIB:,.0f} MiB, but at most {MAX_BYTES // MIB} MiB can be uploaded; "
        f"the largest files: {names}. Put data where all machines of the cluster can read it, "
        "and name files that the job does not need in .gitignore"
    )


def _without_secrets(upload: Upload, token: str | None) -> Upload:
    """Exclude the files whose content is secret."""
    found = {
        name: reason for name, path in upload.files.items() if (reason := find_secret(_read(path), token))
    }
    if reason := found.get(str(upload.script)):
        raise SubmissionError(f"{upload.script} cannot be uploaded ({reason}): remove the secret from it")
    files = {name: path for name, path in upload.files.items() if name not in found}
    return replace(upload, files=files, excluded={**upload.excluded, **found})


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SubmissionError(
            f"{path} cannot be read ({error.strerror}): name it in .gitignore if the job does not need it"
        ) from error


def _require_no_other_caviar(root: Path) -> None:
    own = root / "caviar"
    if own.with_suffix(".py").exists() or (own.exists() and own.resolve() != _PACKAGE):
        raise SubmissionError(
            f"{root} contains another caviar, which Python would import instead of the package: rename it"
        )
