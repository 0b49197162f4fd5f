"""What stands beside a worker: it stops one that takes too much, and leaves nothing of it behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import caviar as cv
from caviar.backends.ray import memory_guard
from caviar.backends.ray.backend import RayBackend
from caviar.backends.ray.memory_guard import read_note, start_guard
from caviar.runner import run_study
from caviar.trial import Outcome
from tests import functions
from tests.functions import function_study

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the guard needs Linux")
CHILDREN = """
import os, subprocess, sys, time
from caviar.backends.ray.memory_guard import start_guard
print(start_guard({limit}))
subprocess.Popen(["sleep", "600"])
subprocess.Popen(["sleep", "600"], start_new_session=True)
subprocess.run("setsid sleep 600 >/dev/null 2>&1 &", shell=True)
if os.fork() == 0:
    time.sleep(600)
time.sleep(1)
sys.stdout.flush()
{end}
"""


def of(mark: str, program: str = "") -> list[int]:
    """The living processes that bear a mark in their environment or on their command line; those of a program."""
    found = []
    for entry in os.listdir("/proc"):
        with suppress(OSError):
            command = Path("/proc", entry, "cmdline").read_bytes()
            words = Path("/proc", entry, "environ").read_bytes() + command
            state = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[0]
            if mark.encode() in words and state != "Z" and program.encode() in command:
                found.append(int(entry))
    return found


def wait_until(true: Callable[[], bool], seconds: float = 150.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def guarded(end: str, limit: int = 0) -> tuple[int, str]:
    """How a guarded process ends that has left children of all kinds; its guard's note."""
    code = CHILDREN.format(limit=limit, end=end)
    mark = {"CAVIAR_TEST": f"guarded-{os.getpid()}-{time.monotonic_ns()}"}
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=False, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, **mark}, check=False, timeout=150,
    )  # fmt: skip
    wait_until(lambda: not of(mark["CAVIAR_TEST"]))
    return ended.returncode, ended.stdout.split()[0]


@pytest.mark.parametrize(
    ("end", "code"),
    [("os._exit(3)", 3), ("os.kill(os.getpid(), 11)", -signal.SIGSEGV), ("os.kill(os.getpid(), 9)", -9)],
)
def test_whatever_ends_a_worker_none_of_its_children_outlives_it(end: str, code: int) -> None:
    returned, note = guarded(end)
    assert returned == code
    assert read_note(note) is None


@pytest.mark.parametrize(
    "greedy",
    [
        "blocks = []\nwhile True: blocks.append(bytearray(2**22))",
        "x = [1] * (5 * 10**8); time.sleep(60)",  # in C, without letting any other thread run
        "subprocess.Popen(['true'])  # ended, but nobody asks how\n"
        "subprocess.run([sys.executable, '-c', 'import time; x = [1] * 10**8; time.sleep(60)'])",
    ],
    ids=["step by step", "in one go", "in a child"],
)
def test_a_worker_that_takes_more_memory_than_it_was_given_is_stopped_and_it_is_noted(greedy: str) -> None:
    returned, note = guarded(greedy, limit=400 * 2**20)
    assert returned == -signal.SIGKILL
    said = read_note(note)
    assert said is not None
    assert said.startswith("its worker took ")
    assert said.endswith("GiB of 0.39 GiB")
    assert not Path(note).exists()


@pytest.mark.parametrize(
    "shares",
    [
        "children = [os.fork() for _ in range(3)]\ntime.sleep(600 if 0 in children else 1.5)",
        "for _ in range(15):\n"
        "    for number in range(8):\n"
        "        if os.fork() == 0:\n"
        "            time.sleep(0.1 + 0.01 * number); os._exit(0)\n"
        "    for _ in range(8): os.wait()",
        "until = time.monotonic() + 3\nwhile time.monotonic() < until: subprocess.run(['true'])",
    ],
    ids=["forked", "ending one after another", "until they are programs of their own"],
)
def test_memory_that_children_share_with_a_worker_counts_once(shares: str) -> None:
    code = (
        "import os, subprocess, time\n"
        "from caviar.backends.ray.memory_guard import start_guard; start_guard(400 * 2**20)\n"
        "shared = bytearray(b'x') * (300 * 2**20)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code + shares], cwd=ROOT, timeout=150, check=False)
    assert ended.returncode == 0


def test_a_worker_that_hangs_when_its_ray_has_gone_is_ended() -> None:
    worker = (
        "import time; from caviar.backends.ray.memory_guard import start_guard\n"
        "start_guard(0); print('guarded', flush=True); time.sleep(600)"
    )
    mark = f"orphan-{os.getpid()}"
    parent = (
        "import subprocess, sys\n"
        f"worker = subprocess.Popen([sys.executable, '-c', {worker!r}], stdout=subprocess.PIPE, text=True)\n"
        "print(worker.stdout.readline())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", parent],
        cwd=ROOT,
        env={**os.environ, "CAVIAR_TEST": mark},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert ended.stdout.split() == ["guarded"]
    wait_until(lambda: not of(mark))


def test_it_is_ended_also_where_its_ray_had_gone_before_the_guard_began(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ray:
        pass
    with started(["sleep", "600"], dict(os.environ)) as worker:
        watch(worker.pid, ray.pid, tmp_path)
        assert worker.wait(150) == -signal.SIGKILL


def watch(worker: int, parent: int, folder: Path) -> str:
    """Have a process guarded from outside; the mark of its guard."""
    mark = f"guarded-{worker}-{os.getpid()}"
    command = [sys.executable, "-I", "-S", memory_guard.__file__, str(worker), str(parent), "0", mark]
    subprocess.run([*command, str(folder / "note")], check=True)
    return mark


@pytest.mark.timeout(150)
def test_a_guard_does_not_hold_on_to_its_workers_streams() -> None:
    """A worker of Ray that ends waits until nobody can write to them, and its guard waits for its end."""
    code = (
        "import os, time; from caviar.backends.ray.memory_guard import start_guard\n"
        "start_guard(0); os.closerange(0, 3); time.sleep(600)"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=pipe, stderr=pipe) as worker:
        try:
            assert worker.stdout is not None
            assert worker.stderr is not None
            assert worker.stdout.read() + worker.stderr.read() == b""
        finally:
            worker.kill()


def test_where_there_is_no_proc_there_is_no_guard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory_guard, "Path", lambda *parts: tmp_path / "nothing")
    assert start_guard(10**9) is None


@contextmanager
def started(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


SPAWNING = """
import caviar as cv
from tests.functions import function_study, spawns

study = function_study(spawns, rounds=(400,))
study.run(runs={runs!r}, workers=2, progress=False)
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_children_do_not_outlive_a_driver_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SPAWNING.format(runs=str(tmp_path)))
    mark = f"driver-{os.getpid()}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CAVIAR_TEST": mark, "RAY_AUTH_MODE": "disabled"}

    with started([sys.executable, str(script)], environment) as driver:
        wait_until(lambda: len(of(mark, "sleep")) >= 4, 300)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        wait_until(lambda: not of(mark, "sleep"), 300)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_function_that_takes_too_much_memory_fails_by_name_and_the_others_are_as_without_it(
    tmp_path: Path,
) -> None:
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
        .str.fullmatch(r"out of memory 2 times: its worker took \d\.\d\d GiB of 0\.75 GiB")
        .all()
    )
    others = run.trials[~run.trials["trial"].isin(functions.GREEDY)]
    assert set(others["outcome"]) == {Outcome.COMPLETED}


def test_a_worker_that_ends_before_its_guard_has_begun_leaves_no_guard(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    mark = watch(ended.pid, os.getpid(), tmp_path)
    wait_until(lambda: not of(mark))
