"""Commands for jobs, up to the first request to a cluster; tests/submission has the rest."""

import sys
from pathlib import Path

import pytest

from caviar.cli.main import main
from tests.cli.commands import HEADER, run_failing, write_script


def submit(path: Path, *words: str) -> list[str]:
    return ["submit", str(path), "--runs", "/shared/runs", "--address", "127.0.0.1:1", *words]


def test_dry_run_describes_the_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_script(tmp_path)
    (tmp_path / ".env").write_text("PASSWORD=swordfish")
    assert main(submit(path, "--dry-run", "--pip", "einops==0.8.1")) == 0
    output = capsys.readouterr().out
    for part in (
        "  experiment.py  (",
        "1 file (0.0 MiB)",
        "  .env  (secret",
        "pip installs: einops==0.8.1",
        "python -m caviar run experiment.py --runs /shared/runs --name iris --address auto",
        "run directory: /shared/runs/iris",
    ):
        assert part in output
    assert "swordfish" not in output


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((), "no Ray dashboard answers at http://127.0.0.1:1"),
        (("--runs", "runs"), "--runs runs: "),
        (("--study", "wine"), "no study named wine"),
        (("--no-check",), "--no-check needs --name"),
        (("--requirements", "nothing.txt"), "nothing.txt cannot be read: No such file"),
        (("--workers", "-1"), "--workers"),
    ],
)
def test_invalid_jobs_are_refused_before_upload(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], error: str
) -> None:
    assert error in run_failing(capsys, *submit(write_script(tmp_path), *words))


def test_failing_script_needs_no_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "experiment.py"
    path.write_text(HEADER + "import no_such_module")
    error = run_failing(capsys, *submit(path))
    assert "line 3" in error
    assert "ModuleNotFoundError" in error
    assert "--no-check" in error
    assert main(submit(path, "--no-check", "--name", "mine", "--dry-run")) == 0


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("model.py", "import model"),
        ("models/small.py", "from models.small import width"),
        ("settings.json", "open('settings.json')"),
        ("settings.json", "from pathlib import Path; (Path(__file__).parent / 'settings.json').read_text()"),
        ("data/rows.csv", "data = 'data/rows.csv'"),
    ],
)
@pytest.mark.parametrize("words", [(), ("--name", "mine"), ("--dry-run",)])
def test_files_that_are_not_uploaded_are_missed_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, code: str, words: tuple[str, ...]
) -> None:
    path = write_script(tmp_path)
    script = path.read_text().replace("import caviar as cv", f"import caviar as cv\n{code}")
    path.write_text(script.replace('data="sklearn:iris"', "data=data") if "data =" in code else script)
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("width = 3")
    (tmp_path / ".gitignore").write_text(f"{name.split('/')[0]}\n")
    error = run_failing(capsys, *submit(path, *words))
    assert f"{name.split('/')[0]} is not uploaded (named in .gitignore" in error
    assert not {"model", "models", "models.small"} & set(sys.modules)


def test_check_reads_data_of_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_script(tmp_path)
    path.write_text(path.read_text().replace("sklearn:iris", "rows.csv"))
    (tmp_path / "rows.csv").write_text("a,label\n" + "1,x\n2,y\n" * 20)
    assert main(submit(path, "--dry-run")) == 0
    (tmp_path / "rows.csv").write_text("a,label\n1,x\n")
    assert "rows.csv" in run_failing(capsys, *submit(path))


def test_check_tries_the_sampler(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_script(
        tmp_path, rounds="[cv.Round(6, 2)], sampler=lambda seed: __import__('no_such_package')"
    )
    error = run_failing(capsys, *submit(path))
    assert "no_such_package" in error
    assert "--no-check" in error


@pytest.mark.parametrize("words", [("jobs",), ("logs", "a"), ("logs", "-f", "a"), ("stop", "a")])
def test_missing_dashboard_is_reported(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert "no Ray dashboard answers" in run_failing(capsys, *words, "--address", "127.0.0.1:1")
