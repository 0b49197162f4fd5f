"""Locations on a disk and in an object store behave alike."""

import shlex
from pathlib import Path

import pytest

from caviar.errors import RefusedError, RunError
from caviar.storage.local import Disk
from caviar.storage.location import Location
from caviar.storage.object_store import Store
from caviar.storage.uri import locate
from tests.object_store import ObjectStore


@pytest.fixture(params=["disk", "store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "disk":
        return Disk(tmp_path)
    store: ObjectStore = request.getfixturevalue("store")
    return locate(f"s3://{store.new_bucket()}")


def test_files_are_written_read_and_replaced(place: Location) -> None:
    for content in (b"", b"one", b"two" * 2_000_000):
        (place / "file").write(content)
        assert (place / "file").read() == content
    assert place.files() == {"file": 6_000_000}


def test_missing_files_are_reported(place: Location) -> None:
    with pytest.raises(FileNotFoundError):
        (place / "none").read()
    assert not (place / "none").is_file()
    assert not (place / "none").files()
    assert not (place / "none").folders()
    (place / "none").remove(["neither"])


def test_files_and_folders_are_listed(place: Location) -> None:
    (place / "b" / "c").make_folder()
    for name in ("b/two", "b/one", "b/c/three"):
        (place / name).write(b"x")
    folder = place / "b"
    assert not folder.is_file()
    assert list(folder.files()) == ["one", "two"]
    assert folder.folders() == ["c"]
    assert (folder.name, (folder / "one").name) == ("b", "one")
    assert list(folder.read_each(["two", "one"])) == [b"x", b"x"]


def test_a_file_that_vanishes_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may merge the segments of a table at any time."""
    place = Disk(tmp_path)
    for name in ("a", "b"):
        (place / name).write(b"x")
    listed = Disk._entries(place)
    monkeypatch.setattr(Disk, "_entries", lambda _: listed)
    place.remove(["a"])
    assert place.files() == {"b": 1}


def test_files_are_removed_and_moved(place: Location) -> None:
    for name in map(str, range(40)):
        (place / name).write(name.encode())
    place.remove(str(n) for n in range(1, 40))
    (place / "aside").make_folder()
    (place / "0").move(place / "aside" / "zero")
    assert (place.files(), place.folders()) == ({}, ["aside"])
    assert (place / "aside" / "zero").read() == b"0"


def test_the_text_of_a_location_locates_it(place: Location) -> None:
    (place / "runs" / "digits").make_folder()
    (place / "runs" / "digits" / "file").write(b"x")
    again = locate(str(place / "runs" / "digits"))
    assert again.name == "digits"
    assert again.files() == {"file": 1}


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("ftp://host/runs", r"ftp://... is not supported; use a path, file://, s3:// or gs://"),
        ("s3:///runs", r"names no bucket; write it like s3://BUCKET/PREFIX"),
        ("s3://KEY:HIDDEN", r"names no bucket"),
        ("s3://KEY:HID/DEN@bucket/runs", r"must not contain '@': set credentials in the environment"),
        ("s3://KEY:HIDDEN@b/x?foo=1", r"must not contain '@'"),
        ("s3://b/x?endpoint=u:HIDDEN%40host", r"must not contain '@'"),
        (
            "s3://b/x?secret_key=HIDDEN",
            r"s3://b/x\?secret_key=\.\.\.: the options .* are endpoint and region",
        ),
        ("s3://[KEY:HIDDEN@b/x", r"s3://... is not a valid URI"),
        ("s3://bucket/caf\udce9", r"s3://... is not a valid URI"),
        ("file://host/runs", r"names another machine"),
        (Path("s3://bucket/runs"), r"s3:/bucket/runs: pathlib collapsed the '//' in this URI"),
    ],
)
def test_invalid_uris_are_refused_without_repeating_secrets(where: str | Path, sentence: str) -> None:
    with pytest.raises(RunError, match=sentence) as refusal:
        locate(where)
    assert "HID" not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_paths_and_file_uris_are_folders(tmp_path: Path) -> None:
    assert locate("runs/digits") == locate(Path("runs/digits")) == Disk(Path("runs/digits"))
    assert locate((tmp_path / "my runs").as_uri()) == Disk(tmp_path / "my runs")


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(locate("~/runs")) == str(tmp_path / "runs")


def test_the_text_of_a_store_holds_its_options() -> None:
    location = locate("s3://bucket/my/runs/?region=eu-west-1&endpoint=http://localhost:9000")
    assert str(location / "x") == "s3://bucket/my/runs/x?region=eu-west-1&endpoint=http://localhost:9000"
    assert locate(location) is location
    assert isinstance(location, Store)


def test_missing_buckets_are_named(store: ObjectStore) -> None:
    runs = locate("s3://no-such-bucket/runs")
    with pytest.raises(RunError, match=r"there is no bucket s3://no-such-bucket; create it"):
        runs.require_writable()
    with pytest.raises(RefusedError, match=r"cannot write .*no bucket"):
        (runs / "file").write(b"x")


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        ("403 AccessDenied", "no access to s3://bucket; set AWS_ACCESS_KEY_ID and"),
        ("403 InvalidAccessKeyId", "no access to s3://bucket; set AWS_ACCESS_KEY_ID and"),
        ("403 SignatureDoesNotMatch", "no access to s3://bucket; set AWS_ACCESS_KEY_ID and"),
        ("400 ExpiredToken", "no access to s3://bucket; set AWS_ACCESS_KEY_ID and"),
        ("301 PermanentRedirect", "s3://bucket is in another region; set AWS_REGION"),
        ("503 SlowDown", "the store of s3://bucket is overloaded or failing; try again later"),
        ("500 InternalError", "the store of s3://bucket is overloaded or failing; try again later"),
    ],
)
def test_refusals_of_stores_are_explained(store: ObjectStore, error: str, meaning: str) -> None:
    runs = locate("s3://bucket/runs")
    with store.told(f"refuse {error}", "accept"):
        for attempt in (runs.require_writable, (runs / "file").read, lambda: (runs / "file").write(b"x")):
            with pytest.raises(RunError, match=meaning):
                attempt()


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_stores_that_do_not_answer_are_reported(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    runs = locate(f"{scheme}://bucket/runs?endpoint=http://127.0.0.1:1")
    with pytest.raises(RunError, match=rf"no answer from the store of {scheme}://bucket; check the network"):
        runs.require_writable()


def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(RunError, match="no credentials for s3://bucket; set AWS_ACCESS_KEY_ID"):
        locate("s3://bucket/runs").require_writable()


def test_credentials_of_an_aws_profile_are_used(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = me\naws_secret_access_key = secret\n"
    )
    place = store.location()
    (place / "file").write(b"x")
    assert place.files() == {"file": 1}


def test_invalid_client_settings_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere.pem")
    with pytest.raises(RunError, match=r"s3://bucket: no client for it: "):
        locate("s3://bucket/runs")


@pytest.mark.parametrize("key", ["runs/digits", "a%3Fb/digits", "a b/100%25"])
def test_uris_survive_a_round_trip(key: str) -> None:
    named = locate(f"s3://bucket/{key}?region=eu-west-1")
    assert locate(str(named)) == named
    assert str(named).partition("?")[0].replace("%20", " ") == f"s3://bucket/{key}"


@pytest.mark.parametrize(
    "place", ["s3://bucket/it's/digits?region=eu&endpoint=http://host", "my runs/a&b", "runs/digits"]
)
def test_quoted_locations_are_one_shell_word(place: str) -> None:
    assert shlex.split(f"caviar show {locate(place).quoted}", comments=True) == [
        "caviar",
        "show",
        str(locate(place)),
    ]
    assert locate("runs/digits").quoted == "runs/digits"
