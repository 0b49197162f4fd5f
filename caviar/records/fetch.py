"""Copies of run directories, in full or not at all."""

from pathlib import Path

from caviar.errors import DamagedError, RunError
from caviar.records.frames import Run
from caviar.records.journal import JOURNAL
from caviar.records.run_files import LEDGER, ROUNDS, StudyFile, read_recorded, write_recorded
from caviar.records.segments import Segment, open_tables
from caviar.records.status import STATUS
from caviar.storage.local import Disk
from caviar.storage.location import LOCK, Location, hint_on_refusal
from caviar.storage.uri import locate

TABLES = ("trials", "curves")


def fetch(run: str | Path, to: str | Path | None = None, *, frames: bool = False) -> Run:
    """Copy a run directory to this machine. Of a study that runs, the results recorded so far are copied.

    Args:
        run: the run directory: a folder, or a URI such as "s3://bucket/runs/digits".
        to: the new folder; `runs/NAME` by default.
        frames: copy the frames only, not the network and other files.

    Returns:
        The copy. All its segments have been read back.

    Raises:
        RunError: there is no such run, the new folder is not empty, or it cannot be written.
        DamagedError: a segment cannot be read back. Nothing is copied then.

    Example:
        >>> fetch("s3://bucket/runs/digits").trials  # doctest: +SKIP
    """
    source = locate(run)
    target = Disk(Path("runs", source.name)) if to is None else locate(to)
    if not isinstance(target, Disk):
        raise RunError(f"{target}: runs are fetched to a folder of this machine, such as runs/{source.name}")
    study_file = StudyFile.read(source)
    elsewhere = f"name another folder with `caviar fetch {source.quoted} DEST`"
    if not target.is_free():
        raise RunError(f"{target} exists already: remove it, or {elsewhere}")

    def fill(place: Location) -> None:
        _copy(source, place, study_file, frames)
        try:
            _read_all(place)
        except DamagedError as error:
            raise DamagedError(str(error).replace(str(place), str(source))) from error

    with hint_on_refusal(f"or {elsewhere}"):
        location, lock = Disk(target.path.parent).create(target.name, numbered=False, fill=fill)
    lock.release()
    return Run(location)


def _copy(source: Location, target: Location, study_file: StudyFile, frames: bool) -> None:
    """Copy the tables first: whatever is recorded meanwhile, the other files cover their rows.

    The count of their segments is copied before them, because it must not exceed them.
    """
    write_recorded(target, read_recorded(source))
    for _ in range(5):
        try:
            for table, segments in _recorded(source, study_file).items():
                _copy_files(source / table, target / table, [segment.name for segment in segments])
            break
        except FileNotFoundError:
            for table in TABLES:  # they were merged between listing and reading
                (target / table).remove((target / table).files())
    else:
        raise RunError(f"{source}: files vanish while they are read; is the run being deleted?")
    if frames:
        _copy_files(source, target, [name for name in source.files() if name == ROUNDS])
        if study_file.panda:
            _copy_files(source / JOURNAL, target / JOURNAL, list((source / JOURNAL).files()))
    else:
        _copy_tree(source, target, without=(LOCK, LEDGER, STATUS, "study.json", *TABLES))
    _copy_files(source, target, ["study.json"])  # last: it makes the folder a run directory


def _recorded(source: Location, study_file: StudyFile) -> dict[str, list[Segment]]:
    """Return the segments of both tables at one moment.

    Raises:
        FileNotFoundError: the curves were merged meanwhile with those of later rows.
    """
    trials, curves = (segments.current() for segments in open_tables(source, study_file))
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
