"""Sessions that train: by scripts, interrupted, with harm, and their frames."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import caviar as cv
from caviar.errors import RunError, StudyError
from caviar.operations.resume import resume_study
from caviar.panda import driver
from caviar.panda.checkpoints import FOLDER
from caviar.panda.trainer import exit_text
from caviar.records.frames import Run, reproducible
from caviar.records.journal import JOURNAL
from caviar.records.lineage import lineage
from caviar.records.winner import read_best
from caviar.reporting.run_json import run_document
from caviar.trial import Outcome
from tests.object_store import ObjectStore
from tests.objectives import bowl_study
from tests.panda.sessions import STUDY, function_study, open_session, run_script
from tests.training.module import modules

SCRIPT = """
# it may be quicker
at epoch 3: learning_rate *10
at epoch 5: note it falls; but not for long
back 3
momentum 0.5
compare 1
go
at end: finish
"""


def comparable(run: Run) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return what is the same in every repetition of a session."""
    return reproducible(run.trials), run.curves, run.interventions.drop(columns="time")


def assert_same(one: Run, other: Run) -> None:
    for a, b in zip(comparable(one), comparable(other), strict=True):
        pd.testing.assert_frame_equal(a, b, check_exact=True)
    assert one.best is not None
    assert other.best is not None
    assert one.best.test_accuracy == other.best.test_accuracy


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_script(SCRIPT, tmp_path_factory.mktemp("panda"))


def test_a_script_leaves_branches_as_trials_with_parents(finished: Run) -> None:
    trials = finished.trials.set_index("trial")
    assert trials["outcome"].tolist() == ["stopped", "stopped", "completed", "completed"]
    assert trials["parent"].fillna(-1).tolist() == [-1, 0, 0, 2]
    assert trials["parent_epoch"].fillna(-1).tolist() == [-1, 3, 3, 12]
    assert trials["epochs_trained"].tolist() == [3, 5, 12, 12]
    assert trials["params_learning_rate"][1] == pytest.approx(10 * trials["params_learning_rate"][0])
    assert trials["params_momentum"][2] == 0.5
    assert len(set(trials["seed"])) == 1
    branch = finished.branch(2)
    assert branch["trial"].tolist() == [0] * 3 + [2] * 9
    assert branch["epoch"].tolist() == list(range(1, 13))
    assert finished.interventions["command"].tolist()[:2] == [
        "learning_rate *10",
        "note it falls; but not for long",
    ]
    assert finished.interventions[["trial", "epoch"]].to_numpy().tolist()[1] == [1, 5]


def test_a_script_gives_the_same_frames_again(finished: Run, tmp_path: Path) -> None:
    assert_same(finished, run_script(SCRIPT, tmp_path))


def test_a_session_in_a_store_has_the_same_frames(finished: Run, store: ObjectStore) -> None:
    assert_same(finished, run_script(SCRIPT, f"s3://{store.new_bucket()}/runs"))


def test_the_chosen_network_is_handed_over_and_scored_once(finished: Run) -> None:
    best = finished.best
    assert best is not None
    assert (best.trial, best.epochs, best.seeds, best.interval) == (2, 12, 1, None)
    assert best.value == finished.branch(2)["dev_accuracy"].iloc[-1]
    rows = best.test_predictions()
    assert rows is not None
    assert (rows["actual"] == rows["predicted"]).mean() == best.test_accuracy
    assert finished.trials["test_accuracy"].notna().tolist() == [False, False, False, True]


def test_test_rows_do_not_reach_the_trainer_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    from caviar.panda import opening, trainer

    class Watched(trainer.LocalTrainer):
        def __init__(self, objective, dataset, device, deliver):  # type: ignore[no-untyped-def]
            assert dataset.test is None
            super().__init__(objective, dataset, device, deliver)

        def start(self, request: trainer.Request) -> None:
            seen.append((request.is_final, request.test is not None))
            super().start(request)

    monkeypatch.setattr(opening, "LocalTrainer", Watched)
    run_script("at epoch 2: back 1\ngo\nat end: finish", tmp_path)
    assert seen == [(False, False)] * (len(seen) - 1) + [(True, True)]


def test_parts_train_as_one_training_does(finished: Run, tmp_path: Path) -> None:
    whole = run_script("at end: quit", tmp_path)
    own = whole.curves.drop(columns="trial").head(3)
    pd.testing.assert_frame_equal(own, finished.branch(0).drop(columns="trial"), check_exact=True)
    engine = STUDY.objective.make_engine(STUDY.objective.load().without_test(), "cpu")  # type: ignore[union-attr]
    row = whole.trials.iloc[0]
    params = {"learning_rate": row["params_learning_rate"], "momentum": row["params_momentum"]}
    trial = cv.trial.Trial(number=0, round=1, params=params, epochs=12, seed=int(row["seed"]))
    curve = [
        e.measurement.metrics
        for e in engine.train([cv.engine.Part(trial=trial)])
        if hasattr(e, "measurement")
    ]
    assert [m["dev_loss"] for m in curve] == whole.curves["dev_loss"].tolist()


@pytest.mark.parametrize("kept_mib", [1024, 1])
def test_lost_checkpoints_are_trained_again(finished: Run, tmp_path: Path, kept_mib: int) -> None:
    with open_session(tmp_path, epochs=6) as session:
        session.post("go 6")
        while session.session.at.epoch < 6:
            session._step()
        session._say("quit")
    folder = tmp_path / "iris-panda" / FOLDER
    assert len(list(folder.iterdir())) == 6
    for file in folder.iterdir():
        file.unlink() if kept_mib == 1024 else file.write_bytes(b"nothing")
    run = run_script("back 4; l2 0.1; go; \nat end: finish", tmp_path, resume=tmp_path / "iris-panda")
    assert run.trials["parent_epoch"].fillna(-1).tolist() == [-1, 4, 6]
    assert run.best is not None


def test_checkpoints_of_others_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "mine"))
    study = function_study()
    run_script("at epoch 3: quit", tmp_path, study)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "theirs"))
    read = []
    monkeypatch.setattr(np, "load", lambda *_, **__: read.append(1))
    run = run_script("at epoch 3: go\nat end: quit", tmp_path, study, resume=tmp_path / "descent-panda")
    assert not read
    assert (
        run.branch(1)["loss"].tolist() == run_script("at end: quit", tmp_path, study).curves["loss"].tolist()
    )


def test_a_session_that_was_left_goes_on_as_a_child(tmp_path: Path) -> None:
    run_script("at epoch 4: quit", tmp_path)
    run = run_script("go", tmp_path, resume=tmp_path / "iris-panda")
    assert run.trials["parent"].fillna(-1).tolist() == [-1, 0]
    assert run.trials["epochs_trained"].tolist() == [4, 12]
    whole = run_script("at end: quit", tmp_path)
    assert run.branch(1)["dev_loss"].tolist() == whole.curves["dev_loss"].tolist()


def test_a_finished_session_is_not_resumed(finished: Run) -> None:
    with pytest.raises(RunError, match="finished"):
        run_script("go", finished.path.parent, resume=finished.path)


def test_other_commands_refuse_sessions_and_panda_refuses_runs(finished: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="caviar panda"):
        resume_study(STUDY, finished.path, progress=False, address="here")
    STUDY.run(address="here", runs=tmp_path, progress=False)
    with pytest.raises(RunError, match="caviar resume"):
        run_script("go", tmp_path, resume=tmp_path / "iris")
    with pytest.raises(RunError, match="no parents"):
        cv.load(tmp_path / "iris").branch(0)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("at epoch 3: fly", "line 1: there is no command"),
        ("at epoch 3 learning_rate 1", "line 1: write"),
        ("at epoch 3: units 3", "line 1: units cannot change"),
        ("at epoch 3: back 2\nat epoch 5: go", "line 2: epoch 5 does not come"),
        ("at epoch 3: note a\nat epoch 2: note b", "line 2: epoch 2 is over"),
        ("at epoch 30: finish", "the last is 12"),
    ],
)
def test_wrong_scripts_name_the_line(tmp_path: Path, text: str, hint: str) -> None:
    with pytest.raises(StudyError, match=hint):
        run_script(text, tmp_path)


def test_an_unknown_command_is_found_before_training(tmp_path: Path) -> None:
    with pytest.raises(StudyError):
        run_script("at epoch 9: fly", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_modules_are_babysat_as_well(tmp_path: Path) -> None:
    study = cv.Study(
        name="regression",
        objective=modules.numbers_objective(),
        space=cv.Space(learning_rate=cv.log(1e-3, 0.1), units=cv.integer(2, 9)),
        rounds=[cv.Round(4, epochs=6)],
    )
    with pytest.raises(StudyError, match="epoch 3 failed"):
        run_script("at epoch 2: units 3\nat epoch 4: finish", tmp_path, study)
    script = "momentum 0.5; go\nat end: finish"
    run = run_script(script, tmp_path, study, resume=tmp_path / "regression-panda")
    assert run.trials["params_momentum"].tolist()[:2] == [0.9, 0.5]
    assert run.best is not None
    assert run.best.test_value is not None


def test_functions_are_babysat_as_well(tmp_path: Path) -> None:
    run = run_script("at epoch 3: learning_rate 0.2\nat end: finish", tmp_path, function_study())
    assert run.trials["epochs_trained"].tolist() == [3, 8, 8]
    with pytest.warns(UserWarning, match="pickle"):
        x, _ = run.best.restore()  # type: ignore[union-attr]
    assert (x - 3) ** 2 == run.branch(1)["loss"].iloc[-1]


def test_an_exception_ends_its_branch_and_no_more(tmp_path: Path) -> None:
    study = function_study(harm=cv.integer(1, 9))
    with pytest.raises(StudyError, match="two and two are five"):
        run_script("at epoch 6: finish", tmp_path, study, chosen={"harm": "4"})
    run = cv.load(tmp_path / "descent-panda")
    assert run.trials[["outcome", "epochs_trained"]].to_numpy().tolist() == [["failed", 3]]
    run = run_script("harm 9; go", tmp_path, study, resume=tmp_path / "descent-panda")
    assert run.trials["outcome"].tolist() == [Outcome.FAILED, Outcome.COMPLETED]


def forgetful(params: dict[str, float], trial: cv.TrialContext) -> None:
    for epoch in trial.remaining():
        trial.report(epoch, loss=params["learning_rate"])


def test_a_function_that_saves_nothing_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"trial\.save"):
        run_script("at epoch 2: quit", tmp_path, function_study(forgetful))


def test_objectives_without_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="checkpoints"):
        run_script("go", tmp_path, function_study(lambda params: 0.0))


def test_a_session_plans_no_trials_and_repeats_no_other(tmp_path: Path) -> None:
    one, other = (run_script(f"at epoch 2: {change}", tmp_path) for change in ("l2 0.1", "l2 0.2"))
    assert {stage["planned"] for stage in run_document(one)["trials"].values()} == {None}
    assert not one.study_file.is_repeated_by(other.study_file)


def test_divergence_is_recorded_and_left(tmp_path: Path) -> None:
    def explode(params: dict[str, float], trial: cv.TrialContext) -> None:
        trial.restore()
        for epoch in trial.remaining():
            trial.report(epoch, loss=1.0 if params["learning_rate"] < 0.5 else float("nan"))
            trial.save(epoch)

    with open_session(tmp_path, function_study(explode)) as session:
        session.post("go 2")
        while session.session.at.epoch < 2:
            session._step()
        session.post("learning_rate 1; go")
        while session.session.is_running or len(session.session.branches) < 2:
            session._step()
        assert "diverged" in session.session.answer
        session.post("finish")
        session._step()
        assert "step back" in session.session.answer
        session.post("back best; learning_rate /10; go 1; finish")
        while session.session.end is None:
            session._step()
        session.run()
        run = Run(session.location)
    assert run.trials["outcome"].tolist()[:2] == ["stopped", "diverged"]
    assert json.loads((run.path / JOURNAL / "part-00000.json").read_text())["events"]


def test_starts_may_be_chosen_or_come_from_a_run(tmp_path: Path) -> None:
    STUDY.run(address="here", runs=tmp_path, progress=False)
    winner = cv.load(tmp_path / "iris").best
    assert winner is not None
    run = run_script(
        "at epoch 1: quit", tmp_path, base=tmp_path / "iris", chosen={"momentum": "0.7", "l2": "0.3"}
    )
    row = run.trials.iloc[0]
    assert row["params_learning_rate"] == winner.params["learning_rate"]
    assert (row["params_momentum"], row["params_l2"]) == (0.7, 0.3)
    for chosen in ({"speed": "3"}, {"momentum": "fast"}, {"decay_rate": "2"}):
        with pytest.raises(StudyError, match=next(iter(chosen))):
            run_script("go", tmp_path, chosen=chosen)


def test_frames_have_the_columns_of_the_schema(finished: Run) -> None:
    for name in ("trials", "curves", "interventions"):
        described = finished.schema[finished.schema["frame"] == name].set_index("column")
        frame = getattr(finished, name)
        assert frame.columns.tolist() == described.index.tolist()
        assert frame.dtypes.astype(str).to_dict() == described["type"].to_dict()


def test_lineage_names_unknown_trials(finished: Run) -> None:
    with pytest.raises(RunError, match="no trial 9"):
        finished.branch(9)
    assert list(lineage({0: (None, 0), 1: (0, 5)}, 1)) == [(1, float("inf")), (0, 5)]


def crash(params: dict[str, float], trial: cv.TrialContext) -> None:
    """Die at epoch 3, unless the rate is small."""
    trial.restore()
    for epoch in trial.remaining():
        if epoch == 3 and params["learning_rate"] > 0.01:
            os.kill(os.getpid(), signal.SIGSEGV)
        os.write(1, f"epoch {epoch} begins\n".encode())
        trial.report(epoch, loss=1 / epoch)
        trial.save(epoch)


@pytest.mark.slow
def test_a_crash_of_the_trainer_ends_its_branch_alone(tmp_path: Path) -> None:
    with open_session(tmp_path, function_study(crash), is_local=False) as session:
        while not session.session.branches or session.session.branches[0].outcome is None:
            session._step()
        assert exit_text(-signal.SIGSEGV) in session.session.answer
        assert "epoch 1 begins" in session.printed
        session.post("learning_rate 0.005; go; pause; go")
        while session.session.at.epoch < 8:
            session._step()
        session.post("finish")
        session.run()
        run = Run(session.location)
    assert run.trials["outcome"].tolist() == ["failed", "completed", "completed"]
    assert read_best(run.location) is not None


def hang(params: dict[str, float], trial: cv.TrialContext) -> None:
    """Never end epoch 2, unless the rate is small."""
    trial.restore()
    for epoch in trial.remaining():
        while epoch == 2 and params["learning_rate"] > 0.01:
            time.sleep(0.1)
        trial.report(epoch, loss=1 / epoch)
        trial.save(epoch)


@pytest.mark.slow
def test_an_endless_epoch_is_stopped_by_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "PATIENCE_S", 0.2)
    with open_session(tmp_path, function_study(hang), is_local=False) as session:
        thread = threading.Thread(target=session.run)
        thread.start()
        wait_for_epoch(session, 1)
        time.sleep(1)
        session.post("learning_rate 0.005")
        wait_for_epoch(session, 8)
        session.post("quit")
        thread.join()
        run = Run(session.location)
    assert run.trials["outcome"].tolist() == ["stopped", "completed"]


def wait_for_epoch(session: driver.Driver, epoch: int) -> None:
    deadline = time.monotonic() + 90
    while session.session.at.epoch < epoch:
        assert time.monotonic() < deadline
        time.sleep(0.05)


KILLED = """
import sys
from tests.panda.sessions import open_session
from caviar.panda.script import Script
with open_session(sys.argv[1], script=Script.parse(sys.argv[2]), pace_s=0.05,
                  listen=lambda s: print(s.at.epoch, len(s.branches), flush=True)) as driver:
    driver.run()
"""


@pytest.mark.slow
@pytest.mark.parametrize("lines", [2, 6, 9])
def test_nothing_shown_is_lost_with_kill_9(finished: Run, tmp_path: Path, lines: int) -> None:
    kill_after(lines, tmp_path)
    assert_same(finished, run_script(SCRIPT, tmp_path, resume=tmp_path / "iris-panda"))


@pytest.mark.slow
def test_nothing_shown_is_lost_in_a_store(finished: Run, store: ObjectStore) -> None:
    runs = f"s3://{store.new_bucket()}/runs"
    kill_after(6, runs)
    assert_same(finished, run_script(SCRIPT, runs, resume=f"{runs}/iris-panda"))


def kill_after(lines: int, runs: Path | str) -> None:
    """Kill a session after so many states that it has shown, and require that they are recorded."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(runs), SCRIPT], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    shown = [process.stdout.readline() for _ in range(lines)][-1]
    process.kill()
    process.wait()
    time.sleep(0.1)
    with open_session(runs, resume=f"{runs}/iris-panda") as session:
        epoch, branches = map(int, shown.split())
        state = session.session
        assert sum(len(b.trained) for b in state.branches) >= epoch
        assert len(state.branches) >= branches


def test_studies_of_any_objective_have_changeable_params() -> None:
    study = bowl_study()
    assert set(study.objective.changeable(study.space, {})) == {"rate", "method", "beta"}
