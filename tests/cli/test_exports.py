"""The commands export and dashboard."""

import builtins
from pathlib import Path
from typing import Any

import optuna
import pytest

from caviar.cli.main import main
from tests.cli.commands import run_failing
from tests.objectives import bowl_study
from tests.runs import run_inline


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_inline(bowl_study(), tmp_path_factory.mktemp("runs")).path


def test_export_names_the_file_after_the_run(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(path), "--to", "optuna"]) == 0
    assert "optuna-dashboard bowl.journal" in capsys.readouterr().out
    assert main(["export", str(path), "--to", "optuna", "--watch"]) == 0
    assert capsys.readouterr().out.startswith("added 0 new trials")
    assert main(["export", str(path), "--to", "csv", "--name", "mine"]) == 0
    assert (tmp_path / "mine-csv" / "trials.csv").is_file()


def test_export_writes_to_the_place_that_is_named(path: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    assert main(["export", str(path), "--to", "optuna", "--out", url, "--name", "mine"]) == 0
    assert optuna.load_study(study_name="mine", storage=url).best_trial


def test_export_writes_for_tensorboard_and_mlflow(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert main(["export", str(path), "--to", "tensorboard"]) == 0
    assert list((tmp_path / "bowl-tensorboard").rglob("*tfevents*"))
    assert main(["export", str(path), "--to", "mlflow", "--out", "here"]) == 0
    assert list((tmp_path / "here").rglob("caviar.trial"))


@pytest.mark.parametrize("words", [["--every", "0"], ["--every", "soon"], ["--to", "paper"]])
def test_wrong_options_are_refused(path: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(path), "--to", "csv", *words])


@pytest.mark.parametrize("port", ["99999999", "-1", "http"])
def test_ports_that_do_not_exist_are_refused(
    path: Path, capsys: pytest.CaptureFixture[str], port: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["dashboard", str(path), "--port", port])
    assert "65535" in capsys.readouterr().err


def test_a_missing_package_is_one_sentence(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_dashboard(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("optuna_dashboard"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_dashboard)
    assert "pip install 'caviar[dashboard]'" in run_failing(capsys, "dashboard", path, "--port", "0")
