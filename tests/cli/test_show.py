"""The command that prints results; tests/reporting has what it prints."""

import csv
import io
import json
from pathlib import Path

import pytest

import caviar as cv
from caviar.cli.main import main
from caviar.records.frames import Run
from tests.cli.commands import run_failing
from tests.objectives import bowl_study
from tests.records.ledgers import new_ledger
from tests.runs import run_inline, run_until_failure


def test_show_prints_rounds_times_and_winner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_inline(bowl_study(), tmp_path).path
    assert main(["show", str(path)]) == 0
    output = capsys.readouterr().out
    for part in ("Worker time", "training", "winner is trial", str(path)):
        assert part in output
    assert main(["show", str(path), "--rounds"]) == 0
    assert "Round 2" in capsys.readouterr().out


def test_show_prints_any_name_on_an_ascii_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = cv.Study(
        name="names",
        objective=cv.Function(lambda params: params["größe"], metric="μ"),
        space=cv.Space(größe=cv.linear(0, 1)),
        rounds=[cv.Round(4, 1)],
    )
    path = run_inline(study, tmp_path / "caf\udce9").path
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stdout)
    assert main(["show", str(path)]) == 0
    stdout.seek(0)
    output = stdout.read()
    assert r"gr\xf6\xdfe=" in output
    assert r"caf\udce9/names" in output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_inline(bowl_study(), tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        (["--top", "3"], "the best 3 of 50 search trials"),
        (["--failed"], "none of the 65 recorded trials has failed"),
        (["--round", "2"], "Round 2 of bowl"),
        (["--schema"], "params_beta"),
    ],
)
def test_show_prints_one_part_of_the_results(
    run: Run, options: list[str], printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(run.path), *options]) == 0
    assert printed in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--top", "3"], ["--failed"], ["--round", "2"], ["--schema"]])
@pytest.mark.parametrize("kind", ["finished", "unfinished", "empty"])
def test_show_prints_json_of_any_run(
    run: Run, kind: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run.path
    if kind == "unfinished":
        path = run_until_failure(bowl_study(), tmp_path).path
    elif kind == "empty":
        new_ledger(tmp_path).close()
        path = tmp_path / "bowl"
    if kind != "finished" and "--round" in options:
        assert "has no round 2" in run_failing(capsys, "show", path, "--json", *options)
        return
    assert main(["show", str(path), "--json", *options]) == 0
    assert isinstance(
        json.loads(capsys.readouterr().out), dict if options in ([], ["--round", "2"]) else list
    )
    assert main(["show", str(path), *options]) == 0
    assert str(path) in capsys.readouterr().out or "--schema" in options


def test_show_names_the_damaged_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_until_failure(bowl_study(), tmp_path).path
    (segment, *_) = (path / "trials").iterdir()
    segment.write_bytes(b"")
    for options in ([], ["--rounds"], ["--top", "3"], ["--failed"], ["--round", "1"], ["--json"]):
        assert segment.name in run_failing(capsys, "show", path, *options)
    assert main(["show", str(path), "--schema"]) == 0


def test_schema_needs_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--schema"]) == 0
    assert "params_<name>" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [[], ["--top", "3"], ["RUN", "--top", "0"], ["RUN", "--top", "3", "--failed"], ["RUN", "--curves"]],
)
def test_options_that_do_not_fit_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["show", *words])


def test_frames_are_written_as_csv(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, frame in (([], run.trials), (["--curves"], run.curves)):
        assert main(["show", str(run.path), "--csv", str(tmp_path / "frame.csv"), *options]) == 0
        assert f"wrote {len(frame):,} " in capsys.readouterr().out
        with (tmp_path / "frame.csv").open() as file:
            header, *rows = csv.reader(file)
        assert header == frame.columns.tolist()
        assert len(rows) == len(frame)
    assert "cannot be written" in run_failing(capsys, "show", run.path, "--csv", tmp_path)
