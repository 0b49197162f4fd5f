"""Law 1: same study, same seed, same frames, bit for bit, whatever the workers, chunks, crashes and resumes."""

import os
import signal
from pathlib import Path

import pytest

from caviar import runner
from caviar.backends.inline import InlineBackend
from caviar.backends.ray.backend import RayBackend
from caviar.driver import controller
from caviar.driver.backend import BackendEvent
from caviar.errors import InterruptedStudy, RunError
from caviar.records.frames import load
from caviar.rounds import Confirmation, Halving, Round
from caviar.space import Space, choice, integer, log
from caviar.study import Study
from caviar.training.classifier import Classifier
from tests.functions import function_study
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, resume_inline, run_inline


class Interrupted(InlineBackend):
    """Presses Ctrl-C after so many polls."""

    def __init__(self, study: Study, patience: int) -> None:
        super().__init__(study.objective, None)
        self._patience = patience

    def poll(self, timeout_s: float) -> list[BackendEvent]:
        self._patience -= 1
        if self._patience == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return super().poll(timeout_s)


class BothAtOnce(RayBackend):
    """Lets nobody begin before both workers are there, for one alone could be done by then."""

    def poll(self, timeout_s: float) -> list[BackendEvent]:
        happened = super().poll(timeout_s)
        while self._starting:
            happened += super().poll(timeout_s)
        return happened


HALVING = Halving(cohort=9)


def digits_study(engine: str, epochs: int = 2, halving: Halving | None = None) -> Study:
    return Study(
        name="digits",
        objective=Classifier(data="sklearn:digits", preprocess="scale", engine=engine),
        space=Space(
            learning_rate=log(1e-3, 1.0),
            optimizer=choice("sgd", "momentum", "rmsprop", "adam"),
            units=integer(8, 32, scale="log"),
            dropout=choice(0.0, 0.3),
        ),
        rounds=[Round(12, epochs, halving), Round(8, epochs, halving), Confirmation(2, 2)],
    )


@pytest.mark.parametrize("halving", [None, HALVING])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_frames_do_not_depend_on_the_number_of_workers(
    tmp_path: Path, workers: int, halving: Halving | None
) -> None:
    study = bowl_study(epochs=9, halving=halving)
    assert_same_frames(run_inline(study, tmp_path), run_inline(study, tmp_path, workers))


@pytest.mark.parametrize("halving", [None, HALVING])
@pytest.mark.parametrize("most", [1, 50])
def test_frames_do_not_depend_on_the_size_of_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, halving: Halving | None
) -> None:
    study = bowl_study(epochs=9, halving=halving)
    usual = run_inline(study, tmp_path, 2)
    monkeypatch.setattr(controller, "MAX_CHUNK", most)
    monkeypatch.setattr(controller, "TAIL", 0.01)
    monkeypatch.setattr(controller, "CHUNK_S", 1e9)
    assert_same_frames(usual, run_inline(study, tmp_path, 2))


@pytest.mark.parametrize("halving", [None, HALVING])
@pytest.mark.parametrize("patience", [1, 3, 7, 20])
def test_an_interrupted_and_resumed_study_leaves_the_same_frames(
    tmp_path: Path, patience: int, halving: Halving | None
) -> None:
    study = bowl_study(epochs=9, halving=halving)
    with pytest.raises(InterruptedStudy, match="caviar resume"):
        runner.run_study(
            study,
            runs=tmp_path,
            name="cut",
            progress=False,
            backend=lambda data: Interrupted(study, patience),
        )
    cut = load(tmp_path / "cut")
    assert not cut.finished
    assert cut.best is None
    assert_same_frames(run_inline(study, tmp_path), resume_inline(study, tmp_path / "cut"))


@pytest.mark.parametrize("halving", [None, HALVING])
@pytest.mark.parametrize("patience", [2, 6])
def test_functions_that_take_their_randomness_from_the_trial_leave_the_same_frames(
    tmp_path: Path, patience: int, halving: Halving | None
) -> None:
    study = function_study(halving=halving)
    here = run_inline(study, tmp_path)
    assert_same_frames(here, run_inline(study, tmp_path, workers=3))
    with pytest.raises(InterruptedStudy):
        runner.run_study(
            study,
            runs=tmp_path,
            name="cut",
            progress=False,
            backend=lambda data: Interrupted(study, patience),
        )
    assert_same_frames(here, resume_inline(study, tmp_path / "cut"))


def test_another_function_cannot_go_on_with_a_run(tmp_path: Path) -> None:
    run = run_inline(function_study(), tmp_path)
    other = function_study(lambda params: {"loss": params["x"], "draws": 0.0})
    with pytest.raises(RunError, match="belongs to another study, which differs in objective"):
        resume_inline(other, run.path)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("halving", [None, HALVING])
def test_functions_run_on_ray_by_two_workers_equal_those_run_here_by_one(
    tmp_path: Path, halving: Halving | None
) -> None:
    study = function_study(rounds=(60, 30), halving=halving)
    there = runner.run_study(
        study,
        runs=tmp_path,
        progress=False,
        backend=lambda data: RayBackend(study.objective, data, workers=2),
    )
    assert_same_frames(run_inline(study, tmp_path), there)


def test_another_seed_gives_other_frames(tmp_path: Path) -> None:
    one, other = run_inline(bowl_study(seed=0), tmp_path), run_inline(bowl_study(seed=1), tmp_path)
    assert (one.trials["value"] != other.trials["value"]).all()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("engine", "epochs", "halving"), [("native", 2, None), ("reference", 2, None), ("native", 9, HALVING)]
)
def test_networks_trained_on_ray_by_two_workers_equal_those_trained_here_by_one(
    tmp_path: Path, engine: str, epochs: int, halving: Halving | None
) -> None:
    study = digits_study(engine, epochs, halving)
    here = run_inline(study, tmp_path)
    there = runner.run_study(
        study,
        runs=tmp_path,
        progress=False,
        backend=lambda data: BothAtOnce(study.objective, data, workers=2),
    )
    assert set(there.trials["worker"]) == {"cpu-0", "cpu-1"}
    assert_same_frames(here, there)
