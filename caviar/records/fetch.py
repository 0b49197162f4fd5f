"""A run directory copied from where it is to here, whole or not at all."""

from pathlib import Path

from caviar.errors import DamagedError, RunError
from caviar.records import schema
from caviar.records.frames import Run
from caviar.records.run_files import StudyFile
from caviar.records.segments import Segment, Segments
from caviar.storage.lease import NAME as LOCK
from caviar.storage.local import Disk
from caviar.storage.location import Location, advised
from caviar.storage.uri import locate

TABLES = ("trials", "curves")
HEADS = ("study.json", "rounds.json")


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
    elsewhere = f"`caviar fetch {source.typed} DEST`"
    if target.is_file() or target.files() or target.folders():
        raise RunError(f"{target} exists already: name another folder, {elsewhere}")

    def fill(aside: Location) -> None:
        _copy(source, aside, study_file, frames)
        try:
            _read_all(aside)
        except DamagedError as error:
            raise DamagedError(str(error).replace(str(aside), str(source))) from error

    with advised(f"or name another folder, {elsewhere}"):
        location, lock = Disk(target.path.parent).create(target.name, numbered=False, fill=fill)
    lock.release()
    return Run(location)


def _copy(source: Location, aside: Location, study_file: StudyFile, frames: bool) -> None:
    """Copy the rows first: all that they speak of is there already, whatever is recorded meanwhile."""
    for _ in range(5):
        try:
            for table, segments in _recorded(source, study_file).items():
                _copy_files(source / table, aside / table, [segment.name for segment in segments])
            break
        except FileNotFoundError:
            for table in TABLES:  # merged between listing and reading
                (aside / table).remove((aside / table).files())
    else:
        raise RunError(f"{source}: its files vanish while they are read; is it being deleted?")
    present = source.files()
    if frames:
        _copy_files(source, aside, [name for name in HEADS if name in present])
    else:
        _copy_tree(source, aside, without=(LOCK, *TABLES))


def _recorded(source: Location, study_file: StudyFile) -> dict[str, list[Segment]]:
    """The segments of both tables, as they were at one moment.

    Raises:
        FileNotFoundError: there is no such moment yet: curves were merged meanwhile with those of later rows.
    """
    space, metrics = study_file.space(), study_file.metrics
    trials = Segments(source / "trials", schema.trials_schema(space, metrics)).list()
    curves = Segments(source / "curves", schema.curves_schema(metrics)).list()
    committed = max((segment.last for segment in trials), default=-1)
    curves = [segment for segment in curves if segment.first <= committed]
    if curves and curves[-1].last > committed:
        raise FileNotFoundError(f"{source}: rows of {curves[-1].name}")
    return {"trials": trials, "curves": curves}


def _copy_tree(source: Location, aside: Location, without: tuple[str, ...] = ()) -> None:
    files, folders = source.files(), source.folders()
    for name in (*files, *folders):
        _require_inside(source, name)
    _copy_files(source, aside, [name for name in files if name not in without])
    for name in folders:
        if name not in without:
            _copy_tree(source / name, aside / name)


def _require_inside(source: Location, name: str) -> None:
    """In a store any text is a name, also one that means another place in a folder."""
    if name in ("", "..") or Path(name).name != name:
        raise RunError(
            f"{source}: it holds what is called {name!r} there, and would be copied out of its folder here; remove it"
        )


def _copy_files(source: Location, aside: Location, names: list[str]) -> None:
    aside.make_folder()
    for name, content in zip(names, source.read_each(names), strict=True):
        (aside / name).write(content)


def _read_all(location: Location) -> None:
    run = Run(location)
    run.trials, run.curves, run.rounds, run.best  # noqa: B018
