"""Law 1: reproducible.

The same study and seed give the same frames, bit for bit on CPU workers, for any number of workers, chunking, order of
arrival, crash and resume. (GPU: within a stated tolerance.)
"""

import os
import signal
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from caviar.backends.inline import InlineBackend
from caviar.backends.ray.backend import RayBackend
from caviar.backends.simulated import SimulatedBackend, SimulatedCluster, heavy_tailed
from caviar.data.splits import Dataset
from caviar.driver import controller
from caviar.driver.backend import Backend, BackendEvent
from caviar.errors import InterruptedStudy, RunError
from caviar.operations.resume import extend_study
from caviar.operations.run import run_study
from caviar.records.frames import Run, load
from caviar.rounds import Confirmation, Halving, Round, Search
from caviar.space import Space, choice, integer, log
from caviar.study import Study
from caviar.training.classifier import Classifier
from tests import functions
from tests.functions import function_study
from tests.objectives import bowl_study
from tests.runs import assert_same_frames, resume_inline, run_inline, run_on_ray
from tests.training.module.modules import digits_objective
from tests.training.networks import blobs

HALVING = Halving(cohort=9)
ROUNDS = bowl_study(rounds=(30, Round(20, 9, HALVING)), epochs=9)
SEARCHES = {
    "rounds": ROUNDS,
    "search": bowl_study(rounds=(Search(60, 9, in_flight=9),), epochs=9),
    "halving": bowl_study(rounds=(Search(60, 9, in_flight=14, halving=HALVING),), epochs=9),
    "few points": replace(
        bowl_study(rounds=(Search(60, 9, in_flight=24),), epochs=9),
        space=Space(rate=choice(*(10 ** (-n / 4) for n in range(16))), method=choice("plain", "heavy", None)),
    ),
    "constraints": replace(
        bowl_study(rounds=(Search(60, 9, in_flight=9),), epochs=9),
        space=Space(
            rate=log(1e-4, 1.0),
            method=choice("plain", None),
            where=lambda p: bool(p["method"]) or p["rate"] < 0.1,
        ),
        try_first=[{"rate": 0.02}, {"method": None}],
    ),
    "tpe": replace(bowl_study(rounds=(Search(40, 9, in_flight=9),), epochs=9), sampler="tpe"),
}
FUNCTION = function_study(rounds=(20, Round(10, 3, HALVING)))


class Shuffled(InlineBackend):
    """Workers that train the submitted chunks in a random order."""

    def __init__(self, study: Study, seed: int) -> None:
        super().__init__(study.objective, None, workers=5)
        self._random = Random(seed)

    def poll(self, timeout_s: float) -> list[BackendEvent]:
        self._queue.rotate(self._random.randrange(10))
        return super().poll(timeout_s)


class Interrupted(InlineBackend):
    """Workers whose user presses Ctrl-C at the n-th poll."""

    def __init__(self, study: Study, polls: int, dataset: Dataset | None = None) -> None:
        super().__init__(study.objective, dataset)
        self._polls = polls

    def poll(self, timeout_s: float) -> list[BackendEvent]:
        self._polls -= 1
        if self._polls == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return super().poll(timeout_s)


class StartTogether(RayBackend):
    """Workers that begin when all have joined: one alone could finish before another is there."""

    def poll(self, timeout_s: float) -> list[BackendEvent]:
        events = super().poll(timeout_s)
        while self._starting:
            events += super().poll(timeout_s)
        return events


def run_on(backend: Backend, study: Study, runs: Path, name: str | None = None) -> Run:
    return run_study(study, runs=runs, name=name, progress=False, backend=lambda dataset: backend)


def networks(data: str, engine: str) -> Study:
    return Study(
        name=engine,
        objective=Classifier(data=data, preprocess="scale", engine=engine, layer_statistics=2),
        space=Space(
            learning_rate=log(1e-3, 1.0),
            optimizer=choice("sgd", "momentum", "rmsprop", "adam"),
            units=integer(8, 32, scale="log"),
            dropout=choice(0.0, 0.3),
        ),
        rounds=[Round(12, 2), Round(9, 9, HALVING), Confirmation(2, 2)],
    )


def convolutions() -> Study:
    """Return a study of convolutional networks with dropout, noise and batch norm, which pauses most of them."""
    return Study(
        name="convolutions",
        objective=digits_objective(),
        space=Space(
            learning_rate=log(1e-3, 0.3),
            optimizer=choice("momentum", "adam"),
            channels=integer(2, 4),
            batch_size=choice(64, 359),
        ),
        rounds=[Round(9, 9, HALVING), Confirmation(2, 1)],
    )


@pytest.fixture(scope="module", params=SEARCHES)
def study(request: pytest.FixtureRequest) -> Study:
    """A study that searches in rounds or without, with or without halving, or whose draws repeat."""
    return SEARCHES[request.param]


@pytest.fixture(scope="module")
def undisturbed(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The study's run on a single worker."""
    return run_inline(study, tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("workers", [2, 5])
def test_workers_do_not_change_the_frames(
    study: Study, undisturbed: Run, tmp_path: Path, workers: int
) -> None:
    assert_same_frames(undisturbed, run_inline(study, tmp_path, workers))


@pytest.mark.parametrize("workers", [1, 3, 40])
def test_stragglers_and_deaths_do_not_change_the_frames(
    study: Study, undisturbed: Run, tmp_path: Path, workers: int
) -> None:
    cluster = SimulatedCluster(
        workers=workers, cost_s=heavy_tailed(10.0), deaths_per_hour=10.0, preemptions=1.0, driver_s=0.0
    )
    backend = SimulatedBackend(study.objective, None, cluster)
    assert_same_frames(undisturbed, run_on(backend, study, tmp_path))


@pytest.mark.parametrize("most", [1, 50])
def test_chunks_do_not_change_the_frames(
    study: Study, undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(controller, "MAX_CHUNK", most)
    monkeypatch.setattr(controller, "TAIL", 0.01)
    monkeypatch.setattr(controller, "CHUNK_S", 1e9)
    assert_same_frames(undisturbed, run_inline(study, tmp_path, 2))


@pytest.mark.parametrize("seed", [0, 1])
def test_order_of_arrival_does_not_change_the_frames(
    study: Study, undisturbed: Run, tmp_path: Path, seed: int
) -> None:
    assert_same_frames(undisturbed, run_on(Shuffled(study, seed), study, tmp_path))


@pytest.mark.parametrize("polls", [3, 7, 20])
def test_interruptions_do_not_change_the_frames(
    study: Study, undisturbed: Run, tmp_path: Path, polls: int
) -> None:
    with pytest.raises(InterruptedStudy, match="continue with"):
        run_on(Interrupted(study, polls), study, tmp_path)
    interrupted = load(tmp_path / "bowl")
    assert not interrupted.finished
    assert interrupted.best is None
    assert_same_frames(undisturbed, resume_inline(study, tmp_path / "bowl"))


def test_functions_with_global_randomness_are_reproducible(tmp_path: Path) -> None:
    one = run_inline(FUNCTION, tmp_path)
    assert_same_frames(one, run_inline(FUNCTION, tmp_path, workers=3))
    for polls in (2, 6):
        with pytest.raises(InterruptedStudy):
            run_on(Interrupted(FUNCTION, polls), FUNCTION, tmp_path, f"interrupted-{polls}")
        assert_same_frames(one, resume_inline(FUNCTION, tmp_path / f"interrupted-{polls}"))


def test_modules_are_reproducible_on_any_number_of_workers(tmp_path: Path) -> None:
    study = convolutions()
    one = run_inline(study, tmp_path)
    assert set(one.trials["outcome"]) == {"completed", "stopped"}
    assert_same_frames(one, run_inline(study, tmp_path, workers=3))
    with pytest.raises(InterruptedStudy):
        run_study(
            study,
            runs=tmp_path,
            name="interrupted",
            progress=False,
            backend=lambda dataset: Interrupted(study, 10, dataset),
        )
    assert_same_frames(one, resume_inline(study, tmp_path / "interrupted"))


@pytest.mark.ray
def test_functions_give_the_same_frames_on_ray(tmp_path: Path) -> None:
    study = function_study(rounds=(60, Round(30, 3, HALVING)))
    assert_same_frames(run_inline(study, tmp_path), run_on_ray(study, tmp_path))


@pytest.mark.ray
def test_native_networks_are_the_same_on_two_ray_workers(tmp_path: Path) -> None:
    study = networks("sklearn:digits", "native")
    here = run_inline(study, tmp_path)
    there = run_study(
        study,
        runs=tmp_path,
        progress=False,
        backend=lambda data: StartTogether(study.objective, data, workers=2),
    )
    assert set(there.trials["worker"]) == {"cpu-0", "cpu-1"}
    assert_same_frames(here, there)


@pytest.mark.ray
@pytest.mark.parametrize(
    "study",
    [
        networks("sklearn:iris", "native"),
        function_study(functions.random_bowl, metric="loss", metrics=("loss",)),
        function_study(rounds=(20, Round(10, 3, HALVING))),
        convolutions(),
    ],
    ids=["classifier", "plain function", "function with trial and halving", "module"],
)
def test_frames_of_this_process_are_those_of_ray(tmp_path: Path, study: Study) -> None:
    here = study.run(address="here", runs=tmp_path, progress=False)
    there = study.run(workers=2, runs=tmp_path, progress=False)
    assert_same_frames(here, there)


@pytest.mark.ray
def test_reference_networks_are_the_same_on_ray(tmp_path: Path) -> None:
    study = networks("sklearn:iris", "reference")
    assert_same_frames(run_inline(study, tmp_path), run_on_ray(study, tmp_path, workers=1))


def test_another_seed_gives_other_frames(study: Study, undisturbed: Run, tmp_path: Path) -> None:
    other = run_inline(replace(study, seed=1), tmp_path)
    both = undisturbed.trials.merge(other.trials, on="trial").query("round_x == 1")
    assert (both["value_x"] != both["value_y"]).all()


def test_another_function_cannot_resume_a_run(tmp_path: Path) -> None:
    run = run_inline(function_study(), tmp_path)
    other = function_study(lambda params: {"loss": params["x"], "draws": 0.0})
    with pytest.raises(RunError, match=r"another study, which differs in objective\.function"):
        resume_inline(other, run.path)


@pytest.mark.slow
@pytest.mark.ray
def test_lanes_of_the_fused_engine_give_the_same_frames(tmp_path: Path) -> None:
    data = blobs(rows=50)
    fused, native = (
        Study(
            name="lanes",
            objective=Classifier(data=(data.train.x, data.train.y), engine=engine, split=(0.4, 0.3, 0.3)),
            space=Space(learning_rate=log(0.01, 1), units=integer(2, 20), batch_size=choice(6, 12)),
            rounds=(Round(6, 2, Halving(cohort=6)), Confirmation(top=2, seeds=1)),
        )
        for engine in ("fused", "native")
    )
    here = run_inline(fused, tmp_path / "here")
    assert set(here.trials["engine"]) == {"fused"}
    assert_same_frames(here, run_on_ray(fused, tmp_path / "ray"))
    twin = run_inline(native, tmp_path / "native")
    assert here.trials["params_units"].tolist() == twin.trials["params_units"].tolist()
    assert here.trials["outcome"].tolist() == twin.trials["outcome"].tolist()


@pytest.mark.parametrize("name", SEARCHES)
def test_an_extension_is_the_same_for_any_order_of_arrival(tmp_path: Path, name: str) -> None:
    study = SEARCHES[name]

    def extend(seed: int) -> Run:
        run = run_inline(study, tmp_path / str(seed))
        return extend_study(study, run.path, 30, progress=False, backend=lambda _: Shuffled(study, seed))

    first = extend(0)
    for seed in (1, 2):
        assert_same_frames(first, extend(seed))
