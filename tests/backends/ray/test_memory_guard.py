"""Guard of a worker: it kills a worker that exceeds its memory limit, and everything that a dead worker left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import caviar as cv
from caviar.backends.ray import memory_guard
from caviar.backends.ray.backend import RayBackend
from caviar.backends.ray.memory_guard import read_note, start_guard
from caviar.operations.run import run_study
from caviar.trial import Outcome
from tests import functions
from tests.functions import function_study

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the guard needs Linux")
LIMIT = 400 * 2**20
GUARDED = """
import os, subprocess, sys, time
from caviar.backends.ray.memory_guard import start_guard
print(start_guard({limit}, interval_s=0.02, orphan_timeout_s=0.5), flush=True)
"""
"""A worker with a guard that checks often, so that the tests are quick."""
LEAVE_CHILDREN = """
shed_environment = ["env", "-i", "sh", "-c", "sleep 600; true", os.environ["CAVIAR_TEST"]]
subprocess.Popen(shed_environment, start_new_session=True)  # known by its parent alone
subprocess.run(["sh", "-c", '"$@" & true', "sh", *shed_environment])  # by its process group alone
subprocess.run("setsid sleep 600 &", shell=True)  # by its environment alone
if os.fork() == 0:
    time.sleep(600)
time.sleep(0.2)
"""
"""Children that are no descendants, in no group or without the environment of their worker."""


def spawn(command: list[str], label: str, **options: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CAVIAR_TEST": f"{label}-{os.getpid()}"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **options)  # type: ignore[call-overload, no-any-return]


def labelled(label: str, program: str = "") -> list[int]:
    """Return the IDs of the living processes that descend from `spawn(label=...)` and run a program."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # a zombie, or another user's
            words = [*process.cmdline(), process.environ().get("CAVIAR_TEST")]
            if f"{label}-{os.getpid()}" in words and program in process.name():
                found.append(process.pid)
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 150.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def run_guarded(code: str, limit: int = 0) -> tuple[int, str]:
    """Run code in a guarded worker and wait until nothing of it is left. Return its exit status and its note's path."""
    command = [sys.executable, "-c", GUARDED.format(limit=limit) + code]
    with spawn(command, label="worker", stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        note = worker.stdout.readline().strip()
        status = worker.wait(timeout=150)
    wait_until(lambda: not labelled("worker"))
    return status, note


@pytest.mark.parametrize(
    ("end", "expected"),
    [("os._exit(3)", 3), ("os.kill(os.getpid(), 11)", -signal.SIGSEGV), ("os.kill(os.getpid(), 9)", -9)],
)
def test_children_end_with_their_worker(end: str, expected: int) -> None:
    status, note = run_guarded(LEAVE_CHILDREN + end)
    assert status == expected
    assert read_note(note) is None


@pytest.mark.parametrize(
    "greedy",
    [
        "blocks = []\nwhile True: blocks.append(bytearray(2**22))",
        "x = [1] * (5 * 10**8); time.sleep(60)",  # in C, while no other thread can run
        "subprocess.Popen(['true'])  # a zombie\n"
        "subprocess.run([sys.executable, '-c', 'import time; x = [1] * 10**8; time.sleep(60)'])",
    ],
    ids=["step by step", "at once", "in a child"],
)
def test_a_worker_that_exceeds_its_limit_is_killed(greedy: str) -> None:
    status, note = run_guarded(LEAVE_CHILDREN + greedy, LIMIT)
    assert status == -signal.SIGKILL
    reason = read_note(note)
    assert reason is not None
    assert reason.startswith("its worker used ")
    assert reason.endswith("its limit is 0.39 GiB")
    assert not Path(note).exists()


@pytest.mark.parametrize(
    "share",
    [
        "children = [os.fork() for _ in range(3)]\ntime.sleep(600 if 0 in children else 0.5)",
        "for _ in range(6):\n"
        "    for number in range(8):\n"
        "        if os.fork() == 0:\n"
        "            time.sleep(0.01 * number); os._exit(0)\n"
        "    for _ in range(8): os.wait()",
        "os.get_exec_path = lambda env: ['/nowhere'] * 10**5 + ['/bin']  # the child searches it before exec\n"
        "subprocess.run(['true'])",
    ],
    ids=["forked", "ending one after another", "vforked"],
)
def test_memory_shared_with_children_counts_once(share: str) -> None:
    status, _ = run_guarded("shared = bytearray(b'x') * (300 * 2**20)\n" + share, LIMIT)
    assert status == 0


def test_a_worker_that_outlives_its_raylet_is_killed() -> None:
    worker = GUARDED.format(limit=0) + "time.sleep(600)"
    raylet = (
        "import subprocess, sys\n"
        f"worker = subprocess.Popen([sys.executable, '-c', {worker!r}], stdout=subprocess.PIPE)\n"
        "worker.stdout.readline()"
    )
    with spawn([sys.executable, "-c", raylet], label="orphan") as ended:
        assert ended.wait(150) == 0
    wait_until(lambda: not labelled("orphan"))


def guard_from_outside(worker: int, parent: int, folder: Path) -> str:
    """Start a guard of another process and return its key."""
    key = f"guarded-{worker}-{os.getpid()}"
    numbers = [worker, parent, 0, 0.02, 0.5]
    command = [
        sys.executable,
        "-I",
        "-S",
        memory_guard.__file__,
        *map(str, numbers),
        key,
        str(folder / "note"),
    ]
    subprocess.run(command, check=True)
    return key


def test_a_raylet_may_end_before_the_guard_begins(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as raylet:
        pass
    with subprocess.Popen(["sleep", "600"]) as worker:
        guard_from_outside(worker.pid, raylet.pid, tmp_path)
        assert worker.wait(150) == -signal.SIGKILL


def test_a_worker_may_end_before_its_guard_begins(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as worker:
        pass
    key = guard_from_outside(worker.pid, os.getpid(), tmp_path)
    wait_until(lambda: not any(key in (p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])))


@pytest.mark.timeout(150)
def test_a_guard_holds_no_stream_of_its_worker() -> None:
    """A worker of Ray that ends waits until nobody can write to its streams, and its guard waits for the worker."""
    code = GUARDED.format(limit=0) + "os.closerange(0, 3); time.sleep(600)"
    pipe = subprocess.PIPE
    with spawn([sys.executable, "-c", code], label="streams", stdout=pipe, stderr=pipe) as worker:
        try:
            assert worker.stdout is not None
            assert worker.stderr is not None
            assert "caviar-" in worker.stdout.read()
            assert worker.stderr.read() == ""
        finally:
            worker.kill()


def test_without_proc_there_is_no_guard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory_guard, "Path", lambda *parts: tmp_path / "nothing")
    assert start_guard(10**9) is None


SPAWNING = """
import caviar as cv
from tests.functions import function_study, spawns

study = function_study(spawns, rounds=(400,))
study.run(runs={runs!r}, workers=2, progress=False)
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_children_end_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SPAWNING.format(runs=str(tmp_path)))
    driver = spawn([sys.executable, str(script)], label="driver")
    try:
        wait_until(lambda: len(labelled("driver", "sleep")) >= 4, 300)
    finally:
        driver.kill()
        driver.wait()
    wait_until(lambda: not labelled("driver", "sleep"), 300)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_only_the_greedy_trials_fail_out_of_memory(tmp_path: Path) -> None:
    limited = cv.Resources(cpus=1, memory_gib=0.75)
    study = function_study(functions.greedy, rounds=(8,), resources=limited)
    run = run_study(
        study,
        runs=tmp_path,
        progress=False,
        backend=lambda data: RayBackend(study.objective, data, workers=2),
    )
    greedy = run.trials[run.trials["trial"].isin(functions.GREEDY)]
    assert set(greedy["outcome"]) == {Outcome.FAILED}
    assert (
        greedy["failure"]
        .str.fullmatch(r"out of memory 2 times: its worker used \d\.\d\d GiB, and its limit is 0\.75 GiB")
        .all()
    )
    others = run.trials[~run.trials["trial"].isin(functions.GREEDY)]
    assert set(others["outcome"]) == {Outcome.COMPLETED}
