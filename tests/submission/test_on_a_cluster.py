"""Jobs on a real cluster with a token: sent, followed, stopped, killed, gone on with."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from caviar.experiment_script import load_study
from caviar.records.frames import load
from tests.runs import assert_same_frames, run_inline
from tests.submission.heads import TOKEN, Head, Wire, environment, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_500)]

SCRIPT = """
import os
import time

import caviar as cv
from neighbour import depth


def train(params):
    open(os.path.join({crew!r}, str(os.getpid())), "w").close()
    until = time.monotonic() + 3  # long enough for whatever is done meanwhile, unless they are told to hurry
    while not os.path.exists({hurry!r}) and (time.monotonic() < until or len(os.listdir({crew!r})) < 2):
        time.sleep(0.05)
    return depth(params["x"])


study = cv.Study(
    name="bowl", objective=cv.Function(train), space=cv.Space(x=cv.linear(-1, 1)),
    rounds=[cv.Round(80, 1), cv.Round(40, 1), cv.Confirmation(2, 2)],
)
"""


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with started() as head:
        yield head


class Desk:
    """A user's folder with an experiment, and the commands that are given there."""

    def __init__(self, folder: Path, head: Head) -> None:
        self.runs, self.head = folder / "runs", head
        self.script, self.hurry = folder / "project" / "bowl.py", folder / "hurry"
        self.script.parent.mkdir()
        crew = folder / "crew"
        crew.mkdir()
        self.script.write_text(SCRIPT.format(hurry=str(self.hurry), crew=str(crew)))
        (self.script.parent / "neighbour.py").write_text("def depth(x):\n    return (x - 0.3) ** 2\n")
        (self.script.parent / ".env").write_text("PASSWORD=swordfish")

    def start(
        self, *words: str, url: str | None = None, token: str | None = TOKEN
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "caviar", *words, "--address", url or self.head.url],
            cwd=self.script.parent,
            env=environment(token),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hear_ctrl_c,
        )

    def submit(self, *words: str, url: str | None = None) -> "subprocess.Popen[str]":
        return self.start("submit", "bowl.py", "--runs", str(self.runs), *words, url=url)

    def ask(self, *words: str, token: str | None = TOKEN) -> tuple[int, str, str]:
        process = self.start(*words, token=token)
        output, said = process.communicate(timeout=400)
        return process.returncode, output, said

    def job(self) -> str:
        """The id of the latest job."""
        return self.ask("jobs")[1].splitlines()[1].split()[0]

    def wait_for_trials(self, name: str = "bowl") -> None:
        deadline = time.monotonic() + 300
        while not list((self.runs / name / "trials").glob("part-*.parquet")):
            assert time.monotonic() < deadline, self.ask("logs", self.job())
            time.sleep(0.1)

    def in_hurry(self) -> None:
        """Trials take no time from now on."""
        self.hurry.touch()

    def assert_as_if_run_here(self, name: str = "bowl") -> None:
        self.in_hurry()
        sys.path.insert(0, str(self.script.parent))
        here = run_inline(load_study(self.script), self.runs.parent / f"here-{name}")
        sys.path.remove(str(self.script.parent))
        assert_same_frames(here, load(self.runs / name))


@pytest.fixture
def desk(tmp_path: Path, head: Head) -> Desk:
    return Desk(tmp_path, head)


def hear_ctrl_c() -> None:
    """As a terminal's processes do; those of a shell in the background inherit that they do not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def content(path: Path) -> bytes:
    """Of a file; of a cluster that is at work, whose files come and go, what there is."""
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError:
        return b""


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    output, said = process.communicate(timeout=400)
    return process.returncode, output, said


def test_a_job_is_followed_to_its_end_and_leaves_the_frames_of_a_run_here(desk: Desk, head: Head) -> None:
    following = desk.submit()
    desk.wait_for_trials()
    desk.in_hurry()
    code, output, said = ended(following)
    assert code == 0, output + said
    assert "not sent, for it looks secret: .env" in said
    assert "The winner is trial" in output
    assert all(line.startswith("caviar: ") for line in said.splitlines()), said
    desk.assert_as_if_run_here()
    assert load(desk.runs / "bowl").trials["worker"].nunique() == 2, "the driver takes no core"
    job = desk.job()
    assert f"{job} has finished after" in said
    assert desk.ask("logs", job)[1] == output
    _, table, _ = desk.ask("jobs")
    assert all(word in table for word in (job, "succeeded", str(desk.runs / "bowl")))

    code, output, said = ended(desk.submit("--workers", "1"))
    assert (code, f"{desk.runs / 'bowl'} exists already" in output) == (1, True), "no run is overwritten"
    assert f"{job}-2 failed" in said

    everything = [content(path) for path in [*head.folder.rglob("*"), *desk.runs.rglob("*")]]
    assert len(everything) > 100
    assert not [found for found in everything if TOKEN.encode() in found], "the token is written nowhere"
    assert not [found for found in everything if b"swordfish" in found], "nor are secrets"


def test_what_the_cluster_cannot_do_ends_with_its_words_and_exit_code(desk: Desk) -> None:
    code, output, said = ended(desk.submit("--workers", "3"))
    assert code == 1
    assert "3 workers with 1 CPU each asked for, but only 2 fit: use --workers 2" in output
    assert "failed after" in said
    desk.script.write_text("import no_such_module")
    code, output, _ = ended(desk.submit("--no-check", "--name", "broken"))
    assert code == 1
    assert "the script fails: ModuleNotFoundError: No module named 'no_such_module'" in output


def test_a_stopped_job_is_gone_on_with(desk: Desk) -> None:
    following = desk.submit()
    desk.wait_for_trials()
    job = desk.job()
    code, _, said = ended(desk.submit())
    assert (code, f"the job {job} is at work on {desk.runs / 'bowl'}" in said) == (1, True)

    code, _, said = desk.ask("stop", job)
    assert (code, f"{job} was stopped after" in said) == (0, True), said
    code, output, said = ended(following)
    assert (code, "--resume" in said) == (130, True), said
    assert "stopping when the running trials are done" in output
    assert "caviar: stopped; all finished trials are recorded" in output, "it was let finish, not killed"
    assert not load(desk.runs / "bowl").finished

    desk.in_hurry()
    code, output, said = ended(desk.submit("--resume"))
    assert (code, "of them are recorded already" in output) == (0, True), output + said
    desk.assert_as_if_run_here()


def test_after_ctrl_c_the_job_goes_on_and_after_a_kill_it_is_gone_on_with(desk: Desk) -> None:
    first = desk.submit()
    desk.wait_for_trials()
    job = desk.job()
    first.send_signal(signal.SIGINT)
    code, _, said = ended(first)
    assert code == 130
    assert f"no longer followed; the job goes on. `caviar logs -f {job}` follows it" in said
    assert "Traceback" not in said

    second = desk.start("logs", "-f", job)
    assert not load(desk.runs / "bowl").finished
    os.kill(int((desk.runs / "bowl" / ".lock").read_text()), signal.SIGKILL)
    code, output, said = ended(second)
    assert (code, "was killed" in said) == (137, True), said
    assert "trials, then the winner" in output, "it tells from the beginning"

    desk.in_hurry()
    code, output, said = ended(desk.submit("--resume"))
    assert code == 0, output + said
    desk.assert_as_if_run_here()


def test_a_connection_that_breaks_loses_no_word(desk: Desk, head: Head) -> None:
    wire = Wire(head.dashboard)
    following = desk.submit(url=f"http://127.0.0.1:{wire.port}")
    desk.wait_for_trials()
    wire.cut()
    time.sleep(3)
    desk.in_hurry()
    wire.mend()
    code, output, said = ended(following)
    wire.close()
    assert code == 0, said
    assert said.count("lost the connection") == said.count("connected again") == 1
    assert output == desk.ask("logs", desk.job())[1], "each word once"


@pytest.mark.parametrize(
    ("token", "words"), [(None, "asks for a token"), ("b0b0" * 9, "does not accept our token")]
)
def test_without_the_clusters_token_the_way_to_pass_it_is_told(
    desk: Desk, token: str | None, words: str
) -> None:
    code, _, said = desk.ask("submit", "bowl.py", "--runs", str(desk.runs), token=token)
    assert code == 1
    assert f"{words}: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" in said
    assert "Traceback" not in said


def test_the_port_that_machines_join_at_is_told_from_the_dashboards(desk: Desk, head: Head) -> None:
    process = desk.start("jobs", url=f"127.0.0.1:{head.port}")
    assert "is no Ray dashboard" in ended(process)[2]
    assert process.returncode == 1
