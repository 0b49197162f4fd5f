"""A run directory copied from where it is to here, whole or not at all."""

from pathlib import Path

from caviar.errors import DamagedError, RunError
from caviar.records.frames import Run
from caviar.records.run_files import StudyFile
from caviar.records.segments import Segment, open_tables
from caviar.storage.local import Disk
from caviar.storage.location import LOCK, Location, hint_on_refusal
from caviar.storage.uri import locate

TABLES = ("trials", "curves")


def fetch(run: str | Path, to: str | Path | None = None, *, frames: bool = False) -> Run:
    """Copy a run directory to here; also while its study runs: what is recorded by now.

    Args:
        run: the run directory, such as "s3://bucket/runs/digits", or a folder.
        to: the folder that it becomes, which must be free; `runs/NAME` by default.
        frames: only its frames, not the network and what else there is.

    Returns:
        The copy, all of whose segments have been read back.

    Raises:
        RunError: there is no such run, its place is taken, or it cannot be written.
        DamagedError: a segment cannot be read back; nothing is left here then.

    Example:
        >>> fetch("s3://bucket/runs/digits").trials  # doctest: +SKIP
    """
    source = locate(run)
    target = Disk(Path("runs", source.name)) if to is None else locate(to)
    if not isinstance(target, Disk):
        raise RunError(f"{target}: a run is fetched to a folder of this machine; name one")
    study_file = StudyFile.read(source)
    elsewhere = f"`caviar fetch {source.quoted} DEST`"
    if not target.is_free():
        raise RunError(f"{target} exists already: remove it, or name another folder, {elsewhere}")

    def fill(place: Location) -> None:
        _copy(source, place, study_file, frames)
        try:
            _read_all(place)
        except DamagedError as error:
            raise DamagedError(str(error).replace(str(place), str(source))) from error

    with hint_on_refusal(f"or name another folder, {elsewhere}"):
        location, lock = Disk(target.path.parent).create(target.name, numbered=False, fill=fill)
    lock.release()
    return Run(location)


def _copy(source: Location, target: Location, study_file: StudyFile, frames: bool) -> None:
    """Copy the rows first: all that they speak of is there already, whatever is recorded meanwhile."""
    for _ in range(5):
        try:
            for table, segments in _recorded(source, study_file).items():
                _copy_files(source / table, target / table, [segment.name for segment in segments])
            break
        except FileNotFoundError:
            for table in TABLES:  # merged between listing and reading
                (target / table).remove((target / table).files())
    else:
        raise RunError(f"{source}: its files vanish while they are read; is it being deleted?")
    if frames:
        _copy_files(source, target, [name for name in source.files() if name == "rounds.json"])
    else:
        _copy_tree(source, target, without=(LOCK, "study.json", *TABLES))
    _copy_files(source, target, ["study.json"])  # last: it makes the folder a run directory


def _recorded(source: Location, study_file: StudyFile) -> dict[str, list[Segment]]:
    """The segments of both tables, as they were at one moment.

    Raises:
        FileNotFoundError: there is no such moment yet: curves were merged meanwhile with those of later rows.
    """
    trials, curves = (segments.list() for segments in open_tables(source, study_file))
    committed = max((segment.last for segment in trials), default=-1)
    curves = [segment for segment in curves if segment.first <= committed]
    if curves and curves[-1].last > committed:
        raise FileNotFoundError(f"{source}: rows of {curves[-1].name}")
    return {"trials": trials, "curves": curves}


def _copy_tree(source: Location, target: Location, without: tuple[str, ...] = ()) -> None:
    _copy_files(source, target, [name for name in source.files() if name not in without])
    for name in source.folders():
        if name not in without:
            _copy_tree(source / name, target / name)


def _copy_files(source: Location, target: Location, names: list[str]) -> None:
    target.make_folder()
    for name, content in zip(names, source.read_each(names), strict=True):
        (target / name).write(content)


def _read_all(location: Location) -> None:
    run = Run(location)
    run.trials, run.curves, run.rounds, run.best  # noqa: B018
