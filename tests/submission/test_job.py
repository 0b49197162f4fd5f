"""What a cluster is asked to do, and what follows from what it says of its jobs."""

import shlex
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.errors import StudyError, SubmissionError
from caviar.submission.commands import how_it_ended
from caviar.submission.job import Job, KnownJob, checked_packages, choose_id, known_job
from caviar.submission.requirements import lacking, to_install


def job(**changes: Any) -> Job:
    return Job(**{"script": PurePosixPath("digits.py"), "runs": "/shared/runs", "name": "digits", **changes})


def known(id: str, status: str = "succeeded", **changes: Any) -> KnownJob:
    return KnownJob(**{"id": id, "status": status, "run": job().run, "script": "digits.py", **changes})


def test_the_head_checks_what_it_has_and_becomes_caviar() -> None:
    assert job(workers=3, gpus=0, study="b").entrypoint == (
        "python -m caviar.submission.requirements && exec python -m caviar run digits.py --runs /shared/runs "
        "--name digits --study b --address auto --workers 3 --gpus 0"
    )
    assert job(resume=True, runs="s3://bucket/runs/").entrypoint.endswith(
        "exec python -m caviar run digits.py --runs s3://bucket/runs/ --name digits --resume --address auto"
    )
    assert job(runs="s3://bucket/runs?region=eu-west-1").run == "s3://bucket/runs/digits?region=eu-west-1"


@given(st.text(min_size=1).filter(lambda name: "\0" not in name))
def test_no_name_of_a_file_is_a_command(name: str) -> None:
    words = shlex.split(job(script=PurePosixPath(name), runs=f"/{name}").entrypoint)
    assert words[9:12] == [str(PurePosixPath(name)), "--runs", f"/{name}"]


@pytest.mark.parametrize("runs", ["runs", "./runs", "~/runs", ""])
def test_a_folder_that_the_head_does_not_know_is_refused(runs: str) -> None:
    with pytest.raises(
        SubmissionError, match="name an absolute path that the head of the cluster can write to"
    ):
        job(runs=runs)


def test_credentials_of_a_store_are_refused_and_not_repeated() -> None:
    with pytest.raises(SubmissionError, match="--runs holds credentials") as refusal:
        job(runs="s3://KEY:HIDDEN@bucket/runs")
    assert "HIDDEN" not in str(refusal.value)


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ("s3://b/r?access_key=HIDDEN&secret_key=HIDDEN", r"\?access_key=\.\.\.: .*stand in the environment"),
        ("s3://b/r?endpoint_override=http://u:HIDDEN@h", r"\?endpoint_override=\.\.\.: "),
        ("s3://b/r?endpoint_override=http%3A%2F%2Fu:HIDDEN%40h", r"\?endpoint_override=\.\.\.: "),
        ("s3://b/r?endpoint_override=u:HIDDEN@h&endpoint_override=h", r"\?endpoint_override=\.\.\.: "),
        ("s3://KEY/HIDDEN@b/r", "names no bucket"),
        ("ftp://me:HIDDEN@host/runs", "ftp://... is no place for runs"),
        ("file://host/runs", "names another machine"),
    ],
)
def test_what_the_head_would_refuse_or_all_could_read_is_refused_here(runs: str, words: str) -> None:
    with pytest.raises(SubmissionError, match=f"--runs .*{words}") as refusal:
        job(runs=runs)
    assert "HIDDEN" not in str(refusal.value)
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize(
    "runs", ["file:///shared/my@runs", "gs://b/r", "s3://b/r?endpoint_override=http://minio:9000&region=eu-1"]
)
def test_a_place_for_runs_without_credentials_is_taken_though_it_cannot_be_reached(runs: str) -> None:
    assert job(runs=runs).runs == runs


def test_names_and_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(StudyError, match="cannot name a run directory"):
        job(name="../elsewhere")
    with pytest.raises(SubmissionError, match="--workers -1: must be a whole number"):
        job(workers=-1)


def test_a_job_asks_for_no_core_and_for_packages_only_where_named() -> None:
    sent = Path("sent.zip"), Path("caviar")
    assert set(job().runtime_env(*sent)) == {"working_dir", "py_modules", "env_vars"}
    assert job(packages=("einops==0.8.1",)).runtime_env(*sent)["pip"]["packages"] == ["einops==0.8.1"]


def test_jobs_on_one_run_are_numbered_and_never_two_at_once() -> None:
    stem = job().stem
    assert choose_id(job(), []) == stem
    assert choose_id(job(), [known(stem)]) == f"{stem}-2"
    assert choose_id(job(), [known(f"{stem}-10", "failed"), known(f"{stem}-9", "stopped")]) == f"{stem}-11"
    assert choose_id(job(runs="/shared//runs/"), [known(stem)]) == f"{stem}-2", (
        "one folder, however it is written"
    )
    assert choose_id(job(), [known("other-123456", "running", run="/shared/runs/other")]) == stem
    for status in ("pending", "running"):
        with pytest.raises(
            SubmissionError, match=rf"{stem} is at work on /shared/runs/digits.*caviar logs -f {stem}"
        ):
            choose_id(job(), [known(stem, status)])


@pytest.mark.parametrize(
    ("status", "driver", "result", "words"),
    [
        ("succeeded", 0, 0, "has finished"),
        ("failed", 1, 1, "failed after 1:05 (exit code 1)"),
        ("failed", -9, 137, "was killed after 1:05 (signal 9)"),
        ("failed", 137, 137, "was killed after 1:05 (signal 9)"),
        ("failed", 127, 127, "the head has no `python` to run"),
        ("failed", None, 1, "failed: no space left"),
        ("failed", 130, 130, "was stopped after 1:05"),
        ("stopped", None, 130, "was stopped after 1:05"),
    ],
)
def test_whoever_waits_ends_as_the_job_did(status: str, driver: int | None, result: int, words: str) -> None:
    over = known(
        "a", status, exit_code=driver, started_s=100.0, ended_s=165.5, message="Oh.\nno space left\n"
    )
    assert over.result == result
    assert words in how_it_ended(over)
    assert ("--resume" in how_it_ended(over)) == (result not in (0, 127))


def test_jobs_that_are_not_caviars_are_nobodys_business() -> None:
    details = {"submission_id": "a", "status": "RUNNING", "metadata": {}, "start_time": 2_000}
    assert known_job(details) is None
    assert known_job({**details, "metadata": None}) is None
    assert known_job({**details, "submission_id": None, "metadata": {"caviar_run": "/r/a"}}) is None
    ours = known_job({**details, "metadata": {"caviar_run": "/r/a"}})
    assert ours == KnownJob(id="a", status="running", run="/r/a", script="", started_s=2.0)
    assert ours.took_s(now_s=5.0) == 3.0


def test_packages_of_this_machine_and_passwords_are_refused() -> None:
    lines = [
        "# for the model",
        "einops==0.8.1",
        "",
        " timm>=1 ",
        "--extra-index-url https://wheels.example.org",
    ]
    assert checked_packages(lines) == (
        "einops==0.8.1",
        "timm>=1",
        "--extra-index-url https://wheels.example.org",
    )
    for line in ("-r more.txt", "-e .", "./wheels/a.whl", "/wheels/a.whl"):
        with pytest.raises(SubmissionError, match="names a file of this machine"):
            checked_packages([line])
    with pytest.raises(SubmissionError, match="holds a name or password") as refused:
        checked_packages(["--index-url https://me:swordfish@wheels.example.org"])
    assert "swordfish" not in str(refused.value)


def test_what_a_cluster_lacks_is_named_with_what_is_there_instead() -> None:
    from importlib.metadata import PackageNotFoundError

    def version_of(name: str) -> str:
        if name == "numba":
            raise PackageNotFoundError(name)
        return {"optuna": "4.8.0", "torch": "2.15.0+cu132"}[name]

    assert lacking(["torch>=2.13", "optuna>=5,<6", "numba>=0.68"], version_of) == [
        "optuna<6,>=5 (4.8.0 is there)",
        "numba>=0.68",
    ]


def test_pip_is_never_asked_for_another_ray() -> None:
    names = to_install()
    assert any(name.startswith("optuna") for name in names)
    assert not any(name.startswith(("ray", "matplotlib", "pytest")) for name in names)
