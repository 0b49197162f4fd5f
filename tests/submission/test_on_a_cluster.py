"""Jobs on a real cluster with a token: submitted, followed, stopped, killed and continued."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from caviar.experiment_script import load_study
from caviar.records.frames import load
from caviar.rounds import training_count
from caviar.study import declared_stages
from tests.runs import assert_same_frames, run_inline
from tests.submission.heads import TOKEN, Head, Proxy, environment, start_head

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_500)]

SCRIPT = """
import os
import time

import caviar as cv
from neighbour import depth


def train(params):
    open(os.path.join({started!r}, str(os.getpid())), "w").close()
    until = time.monotonic() + 3  # slow enough for what the test does meanwhile, unless told to hurry
    while not os.path.exists({hurry!r}) and (time.monotonic() < until or len(os.listdir({started!r})) < 2):
        time.sleep(0.05)
    return depth(params["x"])


study = cv.Study(
    name="bowl", objective=cv.Function(train), space=cv.Space(x=cv.linear(-1, 1)),
    rounds=[cv.Round(80, 1), cv.Round(40, 1), cv.Confirmation(2, 2)],
)
"""


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with start_head() as head:
        yield head


class Project:
    """A folder with an experiment, and the commands that its user runs there."""

    def __init__(self, folder: Path, head: Head) -> None:
        self.runs, self.head = folder / "runs", head
        self.run = self.runs / "bowl"
        self.script, self._hurry = folder / "project" / "bowl.py", folder / "hurry"
        self.script.parent.mkdir()
        started = folder / "started"
        started.mkdir()
        self.script.write_text(SCRIPT.format(hurry=str(self._hurry), started=str(started)))
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
            preexec_fn=accept_ctrl_c,
        )

    def submit(self, *words: str, url: str | None = None) -> "subprocess.Popen[str]":
        return self.start("submit", "bowl.py", "--runs", str(self.runs), *words, url=url)

    def call(self, *words: str, token: str | None = TOKEN) -> tuple[int, str, str]:
        return wait(self.start(*words, token=token))

    def latest_job(self) -> str:
        return self.call("jobs")[1].splitlines()[1].split()[0]

    def wait_for_trials(self) -> None:
        deadline = time.monotonic() + 300
        while not list((self.run / "trials").glob("part-*.parquet")):
            assert time.monotonic() < deadline, self.call("logs", self.latest_job())
            time.sleep(0.1)

    def hurry(self) -> None:
        """Let trials take no time from now on."""
        self._hurry.touch()

    def assert_same_as_inline(self) -> None:
        self.hurry()
        sys.path.insert(0, str(self.script.parent))
        inline = run_inline(load_study(self.script), self.runs.parent / "inline")
        sys.path.remove(str(self.script.parent))
        assert_same_frames(inline, load(self.run))


@pytest.fixture
def project(tmp_path: Path, head: Head) -> Project:
    return Project(tmp_path, head)


TIMED = """
import time

import caviar as cv


def train(params):
    time.sleep(0.4)
    return params["x"] ** 2


study = cv.Study(
    name="bowl", objective=cv.Function(train), space=cv.Space(x=cv.linear(-1, 1)),
    rounds=cv.coarse_to_fine(trials=1_000, epochs=1),
)
"""
"""A study that would take minutes."""


def accept_ctrl_c() -> None:
    """Restore the reaction to SIGINT, which processes of a shell in the background ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Return the exit code, the output and the error output of a command."""
    output, messages = process.communicate(timeout=400)
    return process.returncode, output, messages


def read(path: Path) -> bytes:
    """Return the content of a file; nothing for a folder, or a file that Ray has just removed."""
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError:
        return b""


def test_job_is_followed_to_its_end(project: Project, head: Head) -> None:
    following = project.submit()
    project.wait_for_trials()
    project.hurry()
    code, output, messages = wait(following)
    assert code == 0, output + messages
    assert "look secret: .env" in messages
    assert all(line.startswith("caviar: ") for line in messages.splitlines()), messages
    project.assert_same_as_inline()
    assert load(project.run).trials["worker"].nunique() == 2, "the driver takes no core"
    job = project.latest_job()
    assert f"{job} succeeded after" in messages
    assert project.call("logs", job)[1] == output
    _, table, _ = project.call("jobs")
    assert all(word in table for word in (job, "succeeded", str(project.run)))

    code, output, messages = wait(project.submit("--workers", "1"))
    assert (code, f"{project.run} exists already" in output) == (1, True), "no run is overwritten"
    assert f"{job}-2 failed" in messages

    contents = [read(path) for path in [*head.folder.rglob("*"), *project.runs.rglob("*")]]
    assert len(contents) > 100
    assert not any(TOKEN.encode() in content for content in contents), "the token is written nowhere"
    assert not any(b"swordfish" in content for content in contents), "secrets are written nowhere"


def test_failed_job_passes_on_error_and_exit_code(project: Project) -> None:
    code, output, messages = wait(project.submit("--workers", "3"))
    assert (code, "use --workers 2" in output) == (1, True), output
    assert "failed after" in messages
    project.script.write_text("import no_such_module")
    code, output, _ = wait(project.submit("--no-check", "--name", "broken"))
    assert (code, "No module named 'no_such_module'" in output) == (1, True), output


def test_stopped_job_can_be_continued(project: Project) -> None:
    following = project.submit()
    project.wait_for_trials()
    job = project.latest_job()
    code, _, messages = wait(project.submit())
    assert (code, f"{job} is already writing {project.run}" in messages) == (1, True), messages

    code, _, messages = project.call("stop", job)
    assert (code, f"{job} was stopped after" in messages) == (0, True), messages
    code, output, messages = wait(following)
    assert (code, "--resume" in messages) == (130, True), messages
    assert "caviar: stopped" in output, "the driver finished its trials and was not killed"
    assert not load(project.run).finished

    project.hurry()
    code, output, messages = wait(project.submit("--resume"))
    assert code == 0, output + messages
    project.assert_same_as_inline()


def test_job_survives_ctrl_c_and_its_run_a_kill(project: Project) -> None:
    first = project.submit()
    project.wait_for_trials()
    job = project.latest_job()
    first.send_signal(signal.SIGINT)
    code, output, messages = wait(first)
    assert code == 130
    assert f"the job keeps running. `caviar logs -f {job}` follows it" in messages
    assert "Traceback" not in messages

    second = project.start("logs", "-f", job)
    assert not load(project.run).finished
    driver = (project.run / ".lock").read_text().split()[1]  # "process 123 on host"
    os.kill(int(driver), signal.SIGKILL)
    code, whole_output, messages = wait(second)
    assert (code, "was killed" in messages) == (137, True), messages
    assert whole_output.startswith(output), "logs -f starts with the first line"

    project.hurry()
    code, output, messages = wait(project.submit("--resume"))
    assert code == 0, output + messages
    project.assert_same_as_inline()


def test_broken_connection_loses_no_output(project: Project, head: Head) -> None:
    proxy = Proxy(head.dashboard)
    following = project.submit(url=f"http://127.0.0.1:{proxy.port}")
    project.wait_for_trials()
    proxy.cut()
    time.sleep(3)
    project.hurry()
    proxy.mend()
    code, output, messages = wait(following)
    proxy.close()
    assert code == 0, messages
    assert messages.count("lost the connection") == messages.count("reconnected") == 1
    assert output == project.call("logs", project.latest_job())[1]


@pytest.mark.parametrize(
    ("token", "words"), [(None, "asks for a token"), ("b0b0" * 9, "does not accept this token")]
)
def test_wrong_token_is_explained(project: Project, token: str | None, words: str) -> None:
    code, _, messages = project.call("submit", "bowl.py", "--runs", str(project.runs), token=token)
    assert code == 1
    assert words in messages
    assert "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" in messages
    assert "Traceback" not in messages


def test_port_of_the_cluster_is_not_a_dashboard(project: Project, head: Head) -> None:
    process = project.start("jobs", url=f"127.0.0.1:{head.port}")
    code, _, messages = wait(process)
    assert (code, "is not a Ray dashboard" in messages) == (1, True), messages


def test_a_job_leaves_its_report(project: Project) -> None:
    project.hurry()
    code, _, err = wait(project.submit("--report"))
    assert code == 0, err
    page = (project.run / "report.html").read_text()
    assert "<html" in page
    assert "plotly" in page


def test_a_job_fits_its_time(project: Project, tmp_path: Path) -> None:
    project.script.write_text(TIMED)
    began_s = time.monotonic()
    code, output, messages = wait(project.submit("--time", "40s"))
    took_s = time.monotonic() - began_s
    assert code == 0, output + messages
    run = load(project.run)
    budget = run.study_file.time_budget
    assert budget is not None
    assert budget["time_s"] == 40.0
    assert budget["trials"] == training_count(declared_stages(run.study)) == len(run.trials) - 1
    assert 20 < budget["trials"] < 200
    assert f"{budget['trials']} trials of about" in messages + output
    assert 25 < took_s < 65, "a job has to be uploaded and started, too"

    fits = f"{budget['trials']} trials of .* were expected to fit into 40 s"
    copy = tmp_path / "copy"
    assert load(project.run).finished
    for words in (["show", str(project.run)], ["fetch", str(project.run), str(copy)], ["show", str(copy)]):
        shown = subprocess.run(
            [sys.executable, "-m", "caviar", *words], env=environment(), capture_output=True, text=True
        )
        assert shown.returncode == 0, shown.stderr
        assert words[0] == "fetch" or re.search(fits, shown.stdout), shown.stdout
    assert load(copy).study_file.time_budget == budget
    assert "succeeded" in project.call("jobs")[1]

    code, output, messages = wait(project.submit("--time", "20s", "--resume"))
    assert code == 0, output + messages
    assert load(project.run).study_file.time_budget == budget, "a run that continues keeps its number"


def test_a_job_with_too_little_time_says_so(project: Project) -> None:
    project.script.write_text(TIMED)
    code, output, messages = wait(project.submit("--time", "5s", "--name", "short"))
    assert code == 1
    assert "too short for a search" in output, output + messages
    assert "give at least --time" in output
    assert not (project.runs / "short").exists()
