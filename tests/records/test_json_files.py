"""A list that grows is written like any checked file, and each entry is encoded once."""

from pathlib import Path

from caviar.records.json_files import ListFile, read_checked, write_checked
from caviar.storage.uri import locate

ENTRIES = [{"round": 1, "space": {}, "reasons": []}, {"round": 2, "text": 'a "line"\nand \udc80 another'}]


def test_list_file_is_written_like_any_checked_file(tmp_path: Path) -> None:
    folder = locate(tmp_path)
    growing = ListFile(folder / "grown.json", "rounds")
    for count in (1, 2):
        growing.write(ENTRIES[:count])
        write_checked(folder / "whole.json", {"rounds": ENTRIES[:count]})
        assert (tmp_path / "grown.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_list_file_without_entries_can_be_read(tmp_path: Path) -> None:
    file = locate(tmp_path) / "grown.json"
    ListFile(file, "rounds").write([])
    assert read_checked(file, {"rounds": [dict]}) == {"rounds": []}
