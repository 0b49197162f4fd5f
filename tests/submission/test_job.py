"""Specifications of jobs, and what the state of a job says."""

import shlex
from importlib.metadata import PackageNotFoundError
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.errors import StudyError, SubmissionError
from caviar.submission.commands import describe_end
from caviar.submission.job import JobInfo, JobSpec, choose_job_id, parse_job, parse_packages
from caviar.submission.requirements import find_unmet, list_installable


def spec(**changes: Any) -> JobSpec:
    return JobSpec(
        **{"script": PurePosixPath("digits.py"), "runs": "/shared/runs", "name": "digits", **changes}
    )


def info(id: str, status: str = "succeeded", **changes: Any) -> JobInfo:
    return JobInfo(**{"id": id, "status": status, "run": spec().run, "script": "digits.py", **changes})


def test_entrypoint_checks_packages_and_runs_caviar() -> None:
    assert spec(workers=3, gpus=0, study="b").entrypoint == (
        "python -m caviar.submission.requirements && exec python -m caviar run digits.py --runs /shared/runs "
        "--name digits --study b --address auto --workers 3 --gpus 0"
    )
    assert spec(resume=True, runs="s3://bucket/runs/").entrypoint.endswith(
        "exec python -m caviar run digits.py --runs s3://bucket/runs/ --name digits --resume --address auto"
    )
    assert " --time 5400s " in spec(time_s=5_400.0).entrypoint
    assert spec(runs="s3://bucket/runs?region=eu-west-1").run == "s3://bucket/runs/digits?region=eu-west-1"


@given(st.text(min_size=1).filter(lambda name: "\0" not in name))
def test_file_names_are_quoted_for_the_shell(name: str) -> None:
    words = shlex.split(spec(script=PurePosixPath(name), runs=f"/{name}").entrypoint)
    assert words[9:12] == [str(PurePosixPath(name)), "--runs", f"/{name}"]


@pytest.mark.parametrize("runs", ["runs", "./runs", "~/runs", ""])
def test_relative_run_folders_are_refused(runs: str) -> None:
    with pytest.raises(SubmissionError, match="absolute path"):
        spec(runs=runs)


def test_store_credentials_are_refused_and_hidden() -> None:
    with pytest.raises(SubmissionError, match="set credentials in the environment") as error:
        spec(runs="s3://KEY:HIDDEN@bucket/runs")
    assert "HIDDEN" not in str(error.value)


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ("s3://b/r?access_key=HIDDEN&secret_key=HIDDEN", r"\?access_key=\.\.\.: "),
        ("s3://b/r?endpoint=http://u:HIDDEN@h", "credentials"),
        ("s3://b/r?endpoint=http%3A%2F%2Fu:HIDDEN%40h", "credentials"),
        ("s3://KEY/HIDDEN@b/r", "credentials"),
        ("ftp://me:HIDDEN@host/runs", "ftp://"),
        ("file://host/runs", "machine"),
    ],
)
def test_invalid_run_urls_are_refused_and_secrets_hidden(runs: str, words: str) -> None:
    with pytest.raises(SubmissionError, match=f"--runs .*{words}") as error:
        spec(runs=runs)
    assert "HIDDEN" not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    "runs", ["file:///shared/my@runs", "gs://b/r", "s3://b/r?endpoint=http://minio:9000&region=eu-1"]
)
def test_valid_run_urls_need_not_be_reachable(runs: str) -> None:
    assert spec(runs=runs).runs == runs


def test_invalid_names_and_counts_are_refused() -> None:
    with pytest.raises(StudyError):
        spec(name="../elsewhere")
    with pytest.raises(SubmissionError, match="--workers"):
        spec(workers=-1)


def test_pip_is_used_only_for_named_packages() -> None:
    paths = Path("sent.zip"), Path("caviar")
    assert set(spec().runtime_env(*paths)) == {"working_dir", "py_modules", "env_vars"}
    assert spec(packages=("einops==0.8.1",)).runtime_env(*paths)["pip"]["packages"] == ["einops==0.8.1"]


def test_jobs_of_one_run_are_numbered() -> None:
    prefix = spec().id_prefix
    assert choose_job_id(spec(), []) == prefix
    assert choose_job_id(spec(), [info(prefix)]) == f"{prefix}-2"
    assert choose_job_id(spec(), [info(f"{prefix}-10", "failed"), info(f"{prefix}-9")]) == f"{prefix}-11"
    assert choose_job_id(spec(runs="/shared//runs/"), [info(prefix)]) == f"{prefix}-2"
    assert choose_job_id(spec(), [info("other-123456", "running", run="/shared/runs/other")]) == prefix


@pytest.mark.parametrize("status", ["pending", "running"])
def test_two_jobs_cannot_write_one_run(status: str) -> None:
    job_id = spec().id_prefix
    with pytest.raises(SubmissionError, match=rf"{job_id} .*/shared/runs/digits.*caviar logs -f {job_id}"):
        choose_job_id(spec(), [info(job_id, status)])


@pytest.mark.parametrize(
    ("status", "driver_exit_code", "exit_code", "words"),
    [
        ("succeeded", 0, 0, "succeeded"),
        ("failed", 1, 1, "failed after 1:05 (exit code 1)"),
        ("failed", -9, 137, "was killed by signal 9 after 1:05"),
        ("failed", 137, 137, "was killed by signal 9 after 1:05"),
        ("failed", 127, 127, "no `python`"),
        ("failed", None, 1, "failed: no space left"),
        ("failed", 130, 130, "was stopped after 1:05"),
        ("stopped", None, 130, "was stopped after 1:05"),
    ],
)
def test_exit_code_is_the_jobs(status: str, driver_exit_code: int | None, exit_code: int, words: str) -> None:
    ended = info(
        "a",
        status,
        driver_exit_code=driver_exit_code,
        started_s=100.0,
        ended_s=165.0,
        message="Oh.\nno space left\n",
    )
    assert ended.exit_code == exit_code
    assert words in describe_end(ended)
    assert ("--resume" in describe_end(ended)) == (exit_code not in (0, 127))


def test_jobs_of_other_programs_are_ignored() -> None:
    details = {"submission_id": "a", "status": "RUNNING", "metadata": {}, "start_time": 2_000}
    assert parse_job(details) is None
    assert parse_job({**details, "metadata": None}) is None
    assert parse_job({**details, "submission_id": None, "metadata": {"caviar_run": "/r/a"}}) is None
    job = parse_job({**details, "metadata": {"caviar_run": "/r/a"}})
    assert job == JobInfo(id="a", status="running", run="/r/a", script="", started_s=2.0, has_begun=False)
    driver = parse_job({**details, "metadata": {"caviar_run": "/r/a"}, "driver_info": object()})
    assert driver is not None
    assert driver.has_begun
    assert job.duration_s(now_s=5.0) == 3.0


def test_comments_are_removed_from_requirements() -> None:
    index = "--extra-index-url https://wheels.example.org"
    lines = ["# for the model", "einops==0.8.1", "", " timm>=1 ", index]
    assert parse_packages(lines) == ("einops==0.8.1", "timm>=1", index)


@pytest.mark.parametrize("line", ["-r more.txt", "-e .", "./wheels/a.whl", "/wheels/a.whl"])
def test_local_requirements_are_refused(line: str) -> None:
    with pytest.raises(SubmissionError, match="file of this machine"):
        parse_packages([line])


def test_passwords_in_requirements_are_refused_and_hidden() -> None:
    with pytest.raises(SubmissionError, match="name or password") as error:
        parse_packages(["--index-url https://me:swordfish@wheels.example.org"])
    assert "swordfish" not in str(error.value)


def test_unmet_requirements_are_listed_with_installed_versions() -> None:
    def version_of(name: str) -> str:
        if name == "numba":
            raise PackageNotFoundError(name)
        return {"optuna": "4.8.0", "torch": "2.15.0+cu132"}[name]

    assert find_unmet(["torch>=2.13", "optuna>=5,<6", "numba>=0.68"], version_of) == [
        "optuna<6,>=5 (4.8.0 is installed)",
        "numba>=0.68",
    ]


def test_pip_never_installs_ray() -> None:
    names = list_installable()
    assert any(name.startswith("optuna") for name in names)
    assert not any(name.startswith(("ray", "matplotlib", "pytest")) for name in names)
