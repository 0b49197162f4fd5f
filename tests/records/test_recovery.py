"""Repairs: damage and losses in a run directory are noticed, and a repair trains again what is gone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import caviar as cv
from caviar.cli.main import main
from caviar.driver import controller, loop
from caviar.errors import DamagedError
from caviar.records import ledger
from caviar.records.fetch import fetch
from caviar.records.frames import Run, load
from caviar.records.json_files import read_checked, write_checked
from caviar.storage.location import Location
from caviar.storage.uri import locate
from tests.object_store import ObjectStore, in_memory
from tests.records.ledgers import STUDY
from tests.runs import assert_same_frames, resume_inline, run_inline

LOSSES: dict[str, slice] = {
    "first": slice(1),
    "middle": slice(2, 3),
    "last": slice(-1, None),
    "end": slice(2, None),
    "all": slice(None),
}
"""Cases of lost files of a table."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of several segments, of which nothing is lost."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controller, "MAX_CHUNK", 3)
        patch.setattr(loop, "RECORD_S", 0.0)
        patch.setattr(loop, "RECORD_FACTOR", 0)
        patch.setattr(ledger, "MERGE_AT", 5)
        return run_inline(STUDY, tmp_path_factory.mktemp("whole"))


@pytest.fixture
def copy(whole: Run, tmp_path: Path) -> Run:
    """A copy of that run, to lose something of."""
    return load(shutil.copytree(whole.path, tmp_path / "bowl"))


def lose(run: Location, tables: str, lost: slice) -> None:
    for table in tables.split():
        files = sorted((run / table).files())
        assert len(files) > 3
        (run / table).remove(files[lost])


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is fetched to a relative path lie in a folder of each test's own."""
    monkeypatch.chdir(tmp_path)


def assert_noticed(run: Location, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DamagedError, match=r"lacks segment.*--repair"):
        load(str(run)).trials  # noqa: B018
    with pytest.raises(DamagedError, match=r"lacks segment.*--repair"):
        resume_inline(STUDY, str(run))
    with pytest.raises(DamagedError, match=r"lacks segment.*--repair"):
        fetch(str(run), "fetched")
    assert main(["show", str(run)]) == 1
    assert "lacks segment" in capsys.readouterr().err


@pytest.mark.parametrize("tables", ["trials", "curves", "trials curves"])
@pytest.mark.parametrize("loss", LOSSES)
def test_lost_segments_are_noticed_and_repaired(
    copy: Run, whole: Run, tables: str, loss: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lose(copy.location, tables, LOSSES[loss])
    assert_noticed(copy.location, capsys)
    assert_same_frames(whole, resume_inline(STUDY, copy.path, repair=True))
    assert_same_frames(whole, resume_inline(STUDY, copy.path))


@pytest.mark.parametrize("loss", ["middle", "last"])
def test_lost_objects_are_noticed_and_repaired(
    copy: Run, whole: Run, store: ObjectStore, loss: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = f"s3://{store.new_bucket()}/runs/bowl"
    for file in filter(Path.is_file, copy.path.rglob("[!.]*")):
        locate(f"{run}/{file.relative_to(copy.path)}").write(file.read_bytes())
    lose(locate(run), "trials curves", LOSSES[loss])
    assert_noticed(locate(run), capsys)
    assert_same_frames(whole, resume_inline(STUDY, run, repair=True))


def test_every_flipped_bit_of_a_checked_file_is_noticed(whole: Run) -> None:
    file, content = in_memory() / "best.json", (whole.path / "best" / "best.json").read_bytes()
    noticed = 0
    for place, byte in enumerate(content):
        for bit in range(8):
            file.write(content[:place] + bytes([byte ^ 1 << bit]) + content[place + 1 :])
            try:
                read_checked(file, {})
            except DamagedError:
                noticed += 1
    assert noticed == 8 * len(content)
    file.write(content)
    assert read_checked(file, {})["trial"] == whole.best.trial  # type: ignore[union-attr]


def test_checked_files_may_hold_entries_named_checksum(tmp_path: Path) -> None:
    content = {"params": {"checksum": ""}}
    file = locate(tmp_path / "file")
    write_checked(file, content)
    assert read_checked(file, {}) == content


@pytest.mark.parametrize("is_lost", [True, False])
@pytest.mark.parametrize("file", ["ledger.json", "rounds.json", "best/best.json"])
def test_damaged_and_lost_json_files_are_repaired(whole: Run, copy: Run, file: str, is_lost: bool) -> None:
    written = (copy.path / file).read_bytes()
    if is_lost:
        (copy.path / file).unlink()
    else:
        (copy.path / file).write_bytes(written[:-5])
        with pytest.raises(DamagedError, match=rf"{file} is damaged.*--repair"):
            copy.trials, copy.rounds, copy.best  # noqa: B018
    assert_same_frames(whole, resume_inline(STUDY, copy.path, repair=True))
    if file != "ledger.json":
        assert (copy.path / file).read_bytes() == written


def test_damaged_networks_are_trained_again(tmp_path: Path) -> None:
    study = cv.Study(
        name="iris",
        objective=cv.Classifier(data="sklearn:iris", engine="reference"),
        space=cv.Space(learning_rate=cv.log(1e-3, 1.0)),
        rounds=[cv.Round(3, 1), cv.Confirmation(1, 1)],
    )
    run = run_inline(study, tmp_path)
    rows, best = np.ones((1, 4)), run.best
    assert best is not None
    before = best.predict(rows)
    (run.path / "best" / "network.npz").write_bytes(b"")
    with pytest.raises(DamagedError, match=r"network\.npz is damaged"):
        best.predict(rows)
    repaired = resume_inline(study, run.path, repair=True)
    assert repaired.best.predict(rows) == before  # type: ignore[union-attr]
    assert repaired.curves.equals(run.curves)


def test_a_count_that_a_killed_driver_left_behind_is_corrected(whole: Run, copy: Run) -> None:
    file = locate(copy.path / "ledger.json")
    count = read_checked(file, {"segments": int})["segments"]
    write_checked(file, {"segments": count - 1})
    assert_same_frames(whole, resume_inline(STUDY, copy.path))
    assert json.loads(file.read())["segments"] == count
