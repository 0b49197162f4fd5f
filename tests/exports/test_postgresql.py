"""Exports to a real PostgreSQL server."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from caviar.records.frames import Run
from tests.exports.test_optuna_study import content
from tests.ports import free_port

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL of a server that is started for these tests, on the loopback interface."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    programs, port = found[-1].parent, free_port()
    folder = Path(tempfile.mkdtemp(prefix="caviar-postgresql-"))
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it refuses to run as root
    if user:
        shutil.chown(folder, "postgres")
    data, options = folder / "data", f"-k {folder} -h 127.0.0.1 -p {port}"
    start = ["-o", options, "-l", str(folder / "log"), "-w", "start"]
    subprocess.run([*user, programs / "initdb", "-D", data, "-A", "trust", "-U", "me"], check=True, cwd="/")
    subprocess.run([*user, programs / "pg_ctl", "-D", data, *start], check=True, cwd="/")
    try:
        yield f"postgresql://me:secret@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*user, programs / "pg_ctl", "-D", data, "-m", "fast", "stop"], check=True, cwd="/")
        shutil.rmtree(folder)


def test_a_study_in_postgresql_equals_one_in_memory(run: Run, url: str) -> None:
    stored, memory = run.to_optuna(url), run.to_optuna()
    assert stored.user_attrs == memory.user_attrs
    assert [content(trial) for trial in stored.trials] == [content(trial) for trial in memory.trials]
    assert run.to_optuna(url).trials == stored.trials


def test_many_studies_share_a_database(run: Run, url: str) -> None:
    assert len(run.to_optuna(url, "another").trials) == len(run.to_optuna(url).trials)
