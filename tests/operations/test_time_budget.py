"""A time budget: trials are measured, their number is fixed and recorded, and law 1 holds from there."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from caviar.backends.simulated import SimulatedBackend, SimulatedCluster
from caviar.data.splits import Split
from caviar.driver.messages import Task
from caviar.errors import ClusterError, RunError
from caviar.operations.resume import extend_study, resume_study
from caviar.operations.run import run_study
from caviar.records.frames import Run, load
from caviar.records.run_files import StudyFile
from caviar.reporting.run_notes import deviations
from caviar.rounds import Halving, coarse_to_fine, training_count
from caviar.storage.uri import locate
from caviar.study import Study, declared_stages
from caviar.trial import Trial
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, inline, resume_inline, run_inline

TIME_S = 900.0
DEADLY_CHUNK = 25
STUDY = replace(bowl_study(), rounds=coarse_to_fine(trials=1_000, epochs=9, halving=Halving(cohort=9)))


def long(trial: Trial) -> float:
    """Return the simulated seconds of a trial."""
    return 30.0 + trial.params["rate"]  # type: ignore[operator]


class Dying(SimulatedBackend):
    """Simulated workers whose cluster dies at a chunk; those for measuring have numbers below 0."""

    last_chunk = 10

    def submit(self, worker: str, chunk: int, tasks: Sequence[Task], test: Split | None) -> None:
        if chunk == self.last_chunk:
            raise ClusterError("the cluster has died")
        super().submit(worker, chunk, tasks, test)


class Quicker(SimulatedBackend):
    """Simulated workers on which the trials of a study take a third of the time that the measured ones took."""

    share = 1.0

    def submit(self, worker: str, chunk: int, tasks: Sequence[Task], test: Split | None) -> None:
        self.share = 1.0 if chunk < 0 else 1 / 3
        super().submit(worker, chunk, tasks, test)


def workers(last_chunk: int | None = None, cost_s: float = 1.0, study: Study = STUDY) -> Dying:
    cluster = SimulatedCluster(workers=2, cost_s=lambda trial: cost_s * long(trial), driver_s=0.0)
    backend = Dying(study.objective, None, cluster)
    backend.last_chunk = 1_000_000 if last_chunk is None else last_chunk
    return backend


def recorded(run: Run) -> Study:
    """Return the study with the number of trials that its run recorded."""
    return replace(STUDY, rounds=declared_stages(run.study))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A timed run whose cluster has died."""
    runs = tmp_path_factory.mktemp("killed")
    with pytest.raises(ClusterError):
        run_study(STUDY, runs=runs, progress=False, time_s=TIME_S, backend=lambda data: workers(DEADLY_CHUNK))
    return load(runs / "bowl")


def test_a_killed_timed_study_resumes_with_the_recorded_number(killed: Run, tmp_path: Path) -> None:
    """The script still declares the old number."""
    assert 0 < len(killed.trials) < training_count(recorded(killed).rounds) < 1_000
    whole = run_inline(recorded(killed), tmp_path)
    resumed = resume_study(STUDY, killed.path, progress=False, backend=inline(STUDY, workers=3))
    assert_same_frames(whole, resumed)


def test_the_number_and_its_origin_are_recorded(killed: Run) -> None:
    budget = StudyFile.read(locate(killed.path)).time_budget
    assert budget is not None
    declared = json.loads(json.dumps(STUDY.to_json()))
    assert budget["time_s"] == TIME_S
    assert budget["trials"] == training_count(recorded(killed).rounds)
    assert budget["declared"] == {name: declared[name] for name in ("rounds", "confirmation")}
    assert 0.5 * TIME_S < budget["expected_s"] < TIME_S


def test_no_other_difference_is_accepted(killed: Run) -> None:
    for other in (
        replace(STUDY, rounds=coarse_to_fine(trials=900, epochs=9, halving=Halving(cohort=9))),
        replace(STUDY, seed=1),
    ):
        with pytest.raises(RunError, match="another study"):
            resume_inline(other, killed.path)


@pytest.mark.slow
def test_a_timed_study_takes_about_its_time(tmp_path: Path) -> None:
    backend = workers()
    run_study(STUDY, runs=tmp_path, progress=False, time_s=TIME_S, backend=lambda data: backend)
    assert 0.75 * TIME_S < backend.clock() < 1.15 * TIME_S


@pytest.mark.slow
def test_time_that_is_left_can_be_used(tmp_path: Path) -> None:
    cluster = SimulatedCluster(workers=2, cost_s=lambda trial: backend.share * long(trial), driver_s=0.0)
    backend = Quicker(STUDY.objective, None, cluster)
    run = run_study(STUDY, runs=tmp_path, progress=False, time_s=TIME_S, backend=lambda data: backend)
    more = re.search(r"study\.extend\(\S+, trials=(\d+)\)", dict(deviations(run))["Time budget"])
    assert more is not None
    assert 1.5 * len(run.trials) < int(more[1]) < 3 * len(run.trials)
    extended = extend_study(STUDY, run.path, 20, progress=False, backend=inline(STUDY))
    assert "extend" not in dict(deviations(extended))["Time budget"]


def test_a_death_while_measuring_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ClusterError):
        run_study(
            STUDY, runs=tmp_path, progress=False, time_s=TIME_S, backend=lambda data: workers(last_chunk=-3)
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("cost_s", "words"), [(0.25, r"20 trials.*give at least --time"), (10.0, r"still running.*panda")]
)
def test_too_little_time_is_refused_with_the_numbers(tmp_path: Path, cost_s: float, words: str) -> None:
    with pytest.raises(RunError, match=words):
        run_study(
            STUDY, runs=tmp_path, progress=False, time_s=40.0, backend=lambda data: workers(cost_s=cost_s)
        )
    assert not list(tmp_path.iterdir())
