"""A check of a job on this machine before it is submitted, in a copy of the files that are sent."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path, PurePosixPath

from caviar.errors import DataError, StudyError
from caviar.experiment_script import load_study
from caviar.search.sampling import require_sampler
from caviar.study import Study
from caviar.submission.upload import Upload


def load_as_sent(upload: Upload, name: str | None = None) -> Study:
    """Return the study of the script, loaded from a folder that holds what the cluster receives and nothing else.

    Data that the study reads from that folder are read, and a sampler of the user's is tried.

    Args:
        upload: files that are sent.
        name: name of the study, if the script declares several.

    Raises:
        StudyError: the script fails, declares no such study, or needs a file that is not sent.
        DataError: the data of the folder cannot be read, or are not sent.
    """
    with _copy(upload) as folder, chdir(folder), _without_original(upload.folder):
        try:
            study = load_study(Path(upload.script), name)
            require_sampler(study)
        except StudyError as error:
            if omitted := _find_omitted(upload, *_missing_paths(error.__cause__, folder)):
                raise StudyError(
                    f"{error}: {omitted} is not uploaded ({upload.excluded[omitted]})"
                ) from error
            if isinstance(error.__cause__, ImportError):
                raise StudyError(f"{error}; use --no-check if the cluster has it") from error.__cause__
            raise
        if data := _data_in_folder(study):
            if omitted := _find_omitted(upload, data):
                raise DataError(f"data={data!r}: {omitted} is not uploaded ({upload.excluded[omitted]})")
            study.objective.load()
    return study


@contextmanager
def _copy(upload: Upload) -> Iterator[Path]:
    """Copy the files into a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="caviar-") as parent:
        folder = Path(parent).resolve() / "experiment"
        for name, path in upload.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
        yield folder


@contextmanager
def _without_original(folder: Path) -> Iterator[None]:
    """Keep Python from importing what lies in the original folder, but for installed packages."""
    before = list(sys.path)
    sys.path[:] = [entry for entry in before if not _lies_in(Path(entry), folder)]
    try:
        yield
    finally:
        sys.path[:] = before


def _lies_in(entry: Path, folder: Path) -> bool:
    is_installed = entry.resolve().is_relative_to(Path(sys.prefix).resolve())
    return entry.resolve().is_relative_to(folder) and not is_installed


def _data_in_folder(study: Study) -> str | None:
    """Return the relative path of the study's data; None if they are elsewhere."""
    data = getattr(study.objective, "data", None)
    if (
        not isinstance(data, str | Path)
        or str(data).startswith(("sklearn:", "~"))
        or Path(data).is_absolute()
    ):
        return None
    return Path(data).as_posix()


def _missing_paths(error: BaseException | None, folder: Path) -> list[str]:
    """Return the paths in the folder at which an error has looked for a module or file."""
    if isinstance(error, ImportError) and error.name:
        path = error.name.replace(".", "/")
        return [path, f"{path}.py"]
    if isinstance(error, FileNotFoundError) and error.filename:
        return [Path(os.path.relpath(str(error.filename), folder)).as_posix()]
    return []


def _find_omitted(upload: Upload, *paths: str) -> str | None:
    """Return the file or folder that is not sent and is at one of these paths, or above it.

    Modules are looked for in the script's folder as well.
    """
    beside = [str(upload.script.parent / path) for path in paths]
    places = {
        str(place)
        for path in [*paths, *beside]
        for place in (PurePosixPath(path), *PurePosixPath(path).parents)
    }
    return next((name for name in sorted(upload.excluded) if name in places), None)
