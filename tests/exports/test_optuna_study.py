"""Studies of Optuna in memory, in journal files and in databases."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial

import caviar as cv
from caviar.exports.optuna_study import OptunaExport
from caviar.records.frames import Run
from caviar.storage.uri import without_password
from tests.object_store import ObjectStore
from tests.objectives import bowl_study
from tests.panda.sessions import run_script
from tests.runs import resume_inline, run_inline, run_until_failure


@pytest.fixture(params=["journal", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/a.db" if request.param == "sqlite" else str(tmp_path / "a.journal")


def content(trial: FrozenTrial) -> dict[str, object]:
    """Return all that a trial holds but its id, which belongs to the storage."""
    return {name: value for name, value in vars(trial).items() if name != "_trial_id"}


def test_a_study_exported_twice_equals_one_in_memory(run: Run, storage: str) -> None:
    stored, memory = run.to_optuna(storage), run.to_optuna()
    assert stored.study_name == "exported"
    assert stored.direction == optuna.study.StudyDirection.MAXIMIZE
    assert stored.user_attrs == memory.user_attrs
    assert [content(t) for t in stored.trials] == [content(t) for t in memory.trials]
    assert run.to_optuna(storage).trials == stored.trials


def test_optuna_itself_opens_the_study(run: Run, tmp_path: Path) -> None:
    run.to_optuna(tmp_path / "a.journal")
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "a.journal"))
    study = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend))
    assert study.best_value == run.to_optuna().best_value


def test_trials_that_others_added_are_kept(run: Run, tmp_path: Path) -> None:
    storage = tmp_path / "a.journal"
    study = run.to_optuna(storage)
    number = len(study.trials)
    study.enqueue_trial({"rate": 0.5})
    assert OptunaExport(run, storage).update(run) == 0
    assert len(study.trials) == number + 1


@pytest.mark.parametrize("suffix", ["a.journal", pytest.param("a.db", marks=pytest.mark.slow)])
def test_an_unfinished_run_is_exported_in_parts(tmp_path: Path, suffix: str) -> None:
    study = bowl_study(rounds=(12, 8))
    unfinished = run_until_failure(study, tmp_path)
    storage = f"sqlite:///{tmp_path}/a.db" if suffix == "a.db" else str(tmp_path / suffix)
    begun = unfinished.to_optuna(storage)
    assert 0 < len(begun.trials) < 20
    assert "winner" not in begun.user_attrs
    finished = resume_inline(study, unfinished.path)
    ended = finished.to_optuna(storage)
    search = finished.trials[finished.trials["stage"] == "search"]
    assert {t.user_attrs["trial"] for t in ended.trials} == set(search["trial"])
    assert [t.number for t in ended.trials] == list(range(len(search)))
    assert finished.best is not None
    assert ended.user_attrs["winner"]["trial"] == finished.best.trial
    assert str(finished.best.trial) in ended.user_attrs["confirmed"]


def test_a_study_of_another_run_is_refused(run: Run, tmp_path: Path) -> None:
    storage = tmp_path / "a.journal"
    other = run_inline(bowl_study(), tmp_path)
    run.to_optuna(storage)
    with pytest.raises(cv.RunError, match="not an export"):
        other.to_optuna(storage, "exported")
    assert len(other.to_optuna(storage).trials) > 0


def test_a_study_of_the_users_is_refused(run: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    study = optuna.create_study(storage=url, study_name="exported", direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(cv.RunError, match="not an export"):
        run.to_optuna(url)


def test_unusable_storages_are_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no journal\nat all\n")
    run.to_optuna(f"sqlite:///{tmp_path}/a.db")
    for storage in (
        tmp_path,
        tmp_path / "nowhere" / "a.journal",
        tmp_path / "text",
        tmp_path / "a.db",
        f"sqlite:///{tmp_path}/nowhere/a.db",
        "nosuchdatabase://host/a",
        "s3://bucket/a.journal",
    ):
        with pytest.raises(cv.RunError):
            run.to_optuna(storage)


def test_passwords_are_not_shown(run: Run) -> None:
    url = "postgresql://me:se:c@ret@localhost:1/optuna"
    assert without_password(url) == "postgresql://me:***@localhost:1/optuna"
    with pytest.raises(cv.RunError) as caught:
        run.to_optuna(url)
    assert "ret" not in str(caught.value)


def test_runs_in_a_store_are_exported(store: ObjectStore) -> None:
    run = run_inline(bowl_study(), f"s3://{store.new_bucket()}/runs")
    assert len(run.to_optuna().trials) == (run.trials["stage"] == "search").sum()


def test_a_session_that_leaves_the_declared_range_is_exported(tmp_path: Path) -> None:
    session = run_script("at epoch 2: learning_rate 5", tmp_path)
    exported = session.to_optuna(tmp_path / "a.journal")
    assert [trial.params["learning_rate"] for trial in exported.trials] == [0.0316, 5.0]
    assert exported.trials[1].distributions["learning_rate"].high == 5.0  # type: ignore[attr-defined]
