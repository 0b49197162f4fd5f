"""Security: access to local clusters, tampered run directories, and names that leave a folder."""

import contextlib
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import caviar as cv
from caviar.cli.main import main
from caviar.records.frames import load
from caviar.records.json_files import checksum, write_checked
from caviar.records.ledger import Ledger
from caviar.records.run_files import StudyFile
from caviar.records.script_signature import is_signed, sign_script
from caviar.records.segments import segment_name
from caviar.storage.local import Disk
from tests.objectives import bowl_study
from tests.runs import run_inline, run_until_failure

ROOT = Path(__file__).parents[1]

INSPECT = """
import contextlib, http.client, json, os, threading, time, urllib.request, urllib.error
from pathlib import Path
import grpc, ray, psutil
import caviar
from caviar.backends.ray.auth import PROBE_METHOD
from tests.objectives import Slow, bowl_study

SERVERS = ("driver", "gcs_server", "raylet", "worker")
METHODS = [
    PROBE_METHOD,
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/Push",
    "/ray.rpc.CoreWorkerService/PushTask",
]


def call_without_token(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return [call(channel.unary_unary(method)) for method in METHODS]


def call(method):
    try:
        method(b"", timeout=60)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def request_without_token(port):
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/api/job_agent/jobs/", data=b"{}", timeout=60).close()
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException):
        return "no HTTP"
    return 200


def inspect():
    while not list(Path("runs").glob("bowl/trials/part-*.parquet")):
        time.sleep(0.1)
    me, token = psutil.Process(), os.environ["RAY_AUTH_TOKEN"]
    listening = [port for p in (me, *me.children(recursive=True)) for port in ports(p, me)]
    folder = Path(ray._private.worker._global_node.get_session_dir_path())
    found["listening"] = [(name, address.ip) for name, address in listening]
    found["refused"] = [(n, call_without_token(a.port)) for n, a in listening if n in SERVERS]
    found["http"] = [request_without_token(a.port) for n, a in listening if n not in SERVERS]
    found["token"] = len(token)
    found["command lines"] = sum(token in argument for p in psutil.process_iter() for argument in arguments(p))
    files = [file for top in (folder, "runs", Path.home()) for file in list_files(top)]
    found["files"] = [file for file in files if contains(file, token.encode())]
    found["mode"] = oct(folder.stat().st_mode & 0o777)


def inspect_and_hurry():
    try:
        inspect()
    finally:
        Path("hurry").touch()


def ports(process, me):
    with contextlib.suppress(psutil.Error, OSError):  # it has just ended
        name = "driver" if process == me else process.name()
        name = "worker" if name.startswith("ray::WorkerActor") else name
        return [(name, c.laddr) for c in process.net_connections("tcp") if c.status == "LISTEN"]
    return []


def list_files(top):
    return [os.path.join(place, name) for place, _, names in os.walk(top) for name in names]


def contains(file, token):
    with contextlib.suppress(OSError):  # just removed
        return os.path.isfile(file) and token in Path(file).read_bytes()
    return False


def arguments(process):
    try:
        return process.cmdline()
    except (psutil.Error, OSError):
        return []


found = {}
thread = threading.Thread(target=inspect_and_hurry)
thread.start()
slowly = Slow(pause_s=0.2, hurry=os.path.abspath("hurry"))
bowl_study(rounds=(1000,), objective=slowly).run(workers=1, progress=False)
thread.join()
found["afterwards"] = [n for n in os.environ if n.startswith("RAY_AUTH")]
Path("found.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def local_cluster(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Inspect a local cluster while a study runs on it."""
    folder = tmp_path_factory.mktemp("inspected")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    subprocess.run(
        [sys.executable, "-c", INSPECT],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), "HOME": str(folder)},
        check=True,
    )
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_local_clusters_listen_on_loopback_only(local_cluster: dict[str, Any]) -> None:
    assert {address.removeprefix("::ffff:") for _, address in local_cluster["listening"]} == {"127.0.0.1"}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_local_clusters_refuse_requests_without_the_token(local_cluster: dict[str, Any]) -> None:
    servers = local_cluster["refused"]
    assert {name for name, _ in servers} == {"driver", "gcs_server", "raylet", "worker"}
    for _, answers in servers:
        assert sorted(answers) == ["UNAUTHENTICATED", *["UNIMPLEMENTED"] * 3]
    assert set(local_cluster["http"]) <= {401, 403, 405, "no HTTP"}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_token_is_in_no_file_or_command_line(local_cluster: dict[str, Any]) -> None:
    assert local_cluster["token"] >= 64
    assert local_cluster["command lines"] == 0
    assert local_cluster["files"] == []
    assert local_cluster["mode"] == "0o700", "other users cannot read the session"
    assert local_cluster["afterwards"] == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run with a network."""
    study = cv.Study(
        name="iris",
        objective=cv.Classifier(data="sklearn:iris"),
        space=cv.Space(
            learning_rate=cv.log(1e-3, 1.0),
            optimizer=cv.choice("adam", "momentum"),
            momentum=cv.when(cv.reverse_log(0.9, 0.99), optimizer="momentum"),
        ),
        rounds=[cv.Round(6, 2), cv.Round(6, 2), cv.Confirmation(2, 2)],
    )
    return run_inline(study, tmp_path_factory.mktemp("finished")).path


@pytest.fixture
def tampered(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished run, for a test to tamper with."""
    return Path(shutil.copytree(finished, tmp_path / "iris"))


class Bomb:
    """An object whose pickle runs a command."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.proof}",)


def write_checksums(run: Path) -> None:
    """Write the checksums of a network that was replaced, as somebody would who wants it to be loaded."""
    file = run / "best" / "best.json"
    content = json.loads(file.read_text())
    content["files"] = {name: checksum((run / "best" / name).read_bytes()) for name in content["files"]}
    write_checked(Disk(file), content)


def test_pickled_programs_as_networks_are_not_run(tampered: Path, tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    bomb = pickle.dumps(Bomb(proof), protocol=2)
    pickle.loads(bomb)
    assert proof.exists(), "the pickle runs a command"
    proof.unlink()
    network = tampered / "best" / "network.npz"
    np.savez(network, weight=np.array([Bomb(proof)]))
    write_checksums(tampered)
    with pytest.raises(cv.CaviarError, match=r"network\.npz is damaged"):
        load(tampered).best.network()  # type: ignore[union-attr]
    network.write_bytes(bomb)
    write_checksums(tampered)
    with pytest.raises(cv.CaviarError, match=r"network\.npz is damaged"):
        load(tampered).best.network()  # type: ignore[union-attr]
    assert not proof.exists()


def test_pickled_programs_in_inputs_are_not_run(tampered: Path, tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    inputs = tampered / "best" / "inputs.npz"
    np.savez(inputs, shift=np.array([Bomb(proof)]), scale=np.ones(4), classes=np.arange(3))
    write_checksums(tampered)
    with pytest.raises(cv.CaviarError, match=r"inputs\.npz is damaged"):
        load(tampered).best.predict(np.ones((1, 4)))  # type: ignore[union-attr]
    inputs.write_bytes(pickle.dumps(Bomb(proof)))
    write_checksums(tampered)
    with pytest.raises(cv.CaviarError, match=r"inputs\.npz is damaged"):
        load(tampered).best.predict(np.ones((1, 4)))  # type: ignore[union-attr]
    assert not proof.exists()


@pytest.mark.parametrize("kind", ["arrow.py_extension_type", "ray.data.arrow_tensor_v2"])
def test_pickled_types_of_columns_are_not_run(tampered: Path, tmp_path: Path, kind: str) -> None:
    proof = tmp_path / "executed"
    (segment, *_) = (tampered / "trials").glob("part-*.parquet")
    table = parquet.read_table(segment)
    hostile = {"ARROW:extension:name": kind, "ARROW:extension:metadata": pickle.dumps(Bomb(proof))}
    schema = table.schema
    for number, column in enumerate(schema):
        schema = schema.set(number, column.with_metadata(hostile))
    schema = schema.with_metadata({"pandas": pickle.dumps(Bomb(proof)), "ARROW:schema": b"garbage"})
    stream = pa.BufferOutputStream()
    parquet.write_table(pa.table(table.columns, schema=schema), stream)
    content = stream.getvalue().to_pybytes()
    first = last = int(segment.name[5:13])
    segment.with_name(segment_name(first, last, content)).write_bytes(content)
    segment.unlink()
    with contextlib.suppress(cv.CaviarError):
        assert len(load(tampered).trials) == table.num_rows
    assert not proof.exists()


HOSTILE: tuple[Any, ...] = (None, [], {}, "\x1b[2J", -1, {"__class__": "os.system"}, [[[]]], 1e308, True)


def tamper(content: Any, random: Random) -> Any:
    """Return a copy of a JSON value that differs in one place."""
    if not isinstance(content, dict | list) or not content or random.random() < 0.15:
        return random.choice(HOSTILE)
    copy = dict(content) if isinstance(content, dict) else list(content)
    key = random.choice(list(copy)) if isinstance(copy, dict) else random.randrange(len(copy))
    if random.random() < 0.1:
        del copy[key]
    else:
        copy[key] = tamper(copy[key], random)
    return copy


@pytest.mark.parametrize("file", ["study.json", "rounds.json", "best/best.json"])
@pytest.mark.parametrize("seed", range(2))
def test_tampered_files_are_shown_or_refused_in_one_line(
    tampered: Path, capsys: pytest.CaptureFixture[str], file: str, seed: int
) -> None:
    random = Random(seed)
    content = json.loads((tampered / file).read_text())
    for _ in range(20):
        hostile = tamper(content, random)
        if isinstance(hostile, dict) and file != "study.json":  # else the checksum reveals it
            write_checked(Disk(tampered / file), hostile)
        else:
            (tampered / file).write_text(json.dumps(hostile))
        status = main(["show", str(tampered), "--rounds"])
        output = capsys.readouterr()
        assert "\x1b[2J" not in output.out + output.err, "control characters reach the terminal"
        assert status == 0 or re.fullmatch(r"caviar: .*\n", output.err), (hostile, output.err)
        assert "--debug" not in output.err, (hostile, output.err)


@pytest.mark.parametrize("folder", ["..", "iris/..", "elsewhere", "iris/best", "iris/study.json"])
def test_only_run_directories_are_shown(
    tampered: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    assert main(["show", str(tampered.parent / folder)]) == 1
    assert re.fullmatch(
        r"caviar: .*no such run directory\n|caviar: .*is not a run directory.*\n", capsys.readouterr().err
    )


def test_scripts_of_other_peoples_runs_are_not_executed(
    tampered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script, proof = tampered / "experiment.py", tmp_path / "executed"
    script.write_text(f"open({str(proof)!r}, 'w')\n")
    header = json.loads((tampered / "study.json").read_text())
    for path in (str(script), "os", "-c", "../study.json", str(tampered / "best" / "network.npz"), 3, ["a"]):
        for signature in (None, "0" * 64, 7):
            named = {"script": path, "folder": str(tampered), "signature": signature}
            (tampered / "study.json").write_text(json.dumps({**header, **named}))
            assert main(["resume", str(tampered)]) == 1
            assert re.fullmatch(r"caviar: .*\n", capsys.readouterr().err)
    assert not proof.exists()
    (tampered / "study.json").write_text(json.dumps({**header, "script": str(script)}))
    assert main(["resume", str(tampered)]) == 1
    assert f"caviar resume {tampered} EXPERIMENT.py" in capsys.readouterr().err
    assert main(["resume", str(tampered), str(script)]) == 1, "it declares no study"
    assert proof.exists(), "the user has named it"


def test_own_scripts_are_trusted_until_the_run_names_another(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    run = run_until_failure(bowl_study(), tmp_path, script)
    assert run.study_file.is_script_trusted
    assert not replace(run.study_file, script=str(tmp_path / "other.py")).is_script_trusted
    assert not replace(run.study_file, folder="/elsewhere").is_script_trusted


def test_scripts_are_not_trusted_by_other_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_until_failure(bowl_study(), tmp_path, tmp_path / "mine.py")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert not run.study_file.is_script_trusted
    signed = sign_script("mine.py", "/")
    assert signed is not None
    assert is_signed("mine.py", "/", signed)
    assert (tmp_path / "state" / "caviar" / "key").stat().st_mode & 0o77 == 0
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null")
    assert sign_script("mine.py", "/") is None


@pytest.mark.parametrize(
    "name", [".lock", ".study.json.tmp", "trials", "curves", "best", "damaged", "notes/deep", "trials/part"]
)
def test_links_in_a_run_are_not_followed(tampered: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "part-00000000.parquet").write_text("mine")
    (outside / ".notes.tmp").write_text("mine")
    link = tampered / name
    target = outside if "." not in name else outside / ".notes.tmp"
    shutil.rmtree(link, ignore_errors=True)
    link.unlink(missing_ok=True)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(target)
    for attempt in (load, cv.fetch, lambda run: Ledger.reopen(Disk(run), StudyFile.read(Disk(run)))):
        with pytest.raises(cv.RunError, match="lead out of it"):
            attempt(tampered)
    assert sorted(file.read_text() for file in outside.iterdir()) == ["mine", "mine"]


def test_planted_links_are_not_written_through(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    for name in (".lock", ".file.tmp"):
        (tmp_path / name).symlink_to(mine)
    with pytest.raises(cv.RunError):
        Disk(tmp_path).lock()
    with pytest.raises(cv.RunError):
        Disk(tmp_path / "file").write(b"theirs")
    assert mine.read_text() == "mine"


def test_pipes_in_a_run_do_not_block(tampered: Path) -> None:
    os.mkfifo(tampered / "pipe")
    with pytest.raises(cv.RunError, match="not an ordinary file"):
        load(tampered)
