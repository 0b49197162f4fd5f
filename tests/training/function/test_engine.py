"""Functions as trials: their calls, their measurements, and the failures in their rows."""

import contextlib
import functools
import math
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import caviar as cv
from caviar.backends.worker import Worker
from caviar.driver.messages import Task
from caviar.engine import Part, PartDone, Progress
from caviar.errors import StudyError
from caviar.fingerprint import fingerprint
from caviar.frame_columns import RESERVED
from caviar.records.schema import trials_schema
from caviar.training.function.engine import FunctionEngine
from caviar.training.function.objective import Function
from caviar.training.function.trial_context import TrialContext
from caviar.trial import Measurement, Outcome, Result, Times, Trial
from tests.runs import run_inline

Params = dict[str, Any]


def trial(epochs: int = 3, seed: int = 7, **params: Any) -> Trial:
    return Trial(number=4, round=1, params=params or {"x": 0.5}, epochs=epochs, seed=seed)


def result_of(fn: Callable[..., Any], epochs: int = 3, seed: int = 7, **declared: Any) -> Result:
    """Return the result of one call in a worker."""
    worker = Worker("here", "here", Function(fn, **declared), None)
    (result,) = worker.run([Task(trial=trial(epochs, seed))])
    return result


def curve(result: Result, metric: str = "value") -> list[tuple[int, float]]:
    return [(m.epoch, m.metrics[metric]) for m in result.measurements]


def part(fn: Callable[..., Any], **part: Any) -> tuple[list[tuple[int, float]], PartDone]:
    """Return the measurements of a part of a trial, and its end."""
    *progress, end = FunctionEngine(fn, "value", ("value",)).train([Part(trial=trial(6), **part)])
    assert isinstance(end, PartDone)
    return [
        (p.measurement.epoch, p.measurement.metrics["value"]) for p in progress if isinstance(p, Progress)
    ], end


class Called:
    """A callable object."""

    def __call__(self, params: Params) -> float:
        return float(params["x"])

    def method(self, params: Params, trial: TrialContext) -> float:
        return float(params["x"]) + 0 * trial.epochs


def with_default(params: Params, scale: float = 2.0) -> float:
    return scale * float(params["x"]) / 2


@pytest.mark.parametrize(
    "fn",
    [
        lambda params: params["x"],
        lambda p: p["x"],
        lambda params, trial: params["x"],
        lambda trial: trial.params["x"],
        lambda params, *, trial: params["x"],
        lambda *arguments: arguments[0]["x"],
        with_default,
        functools.partial(with_default, scale=2.0),
        Called(),
        Called().method,
    ],
)
def test_functions_get_params_and_the_trial_if_they_take_it(fn: Callable[..., Any]) -> None:
    assert result_of(fn).value == 0.5


@pytest.mark.parametrize(
    ("fn", "sentence"),
    [
        (3, "fn must be a function"),
        (lambda: 1.0, r"fn\(params\), fn\(params, trial\) or fn\(trial\)"),
        (lambda x, y: 1.0, r"has the parameters \(x, y\)"),
        (lambda trial, params: 1.0, r"has the parameters \(trial, params\)"),
        (lambda *, x: 1.0, "has the parameters"),
        (lambda **params: 1.0, "has the parameters"),
    ],
)
def test_functions_with_other_signatures_are_refused(fn: Any, sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        Function(fn)


def test_coroutines_and_generators_are_refused() -> None:
    async def waits(params: Params) -> float:
        return 1.0

    def yields(params: Params) -> Any:
        yield 1.0

    for fn in (waits, yields):
        with pytest.raises(StudyError, match=r"async or a generator.*trial.report"):
            Function(fn)

    class Called:
        async def __call__(self, params: dict[str, Any]) -> float:
            return 1.0

    with pytest.raises(StudyError, match="async or a generator"):
        Function(Called())


@pytest.mark.parametrize(
    "number",
    [2, 2.0, np.float32(2.0), np.int64(2), np.array(2.0), Decimal(2)],
    ids=lambda n: type(n).__name__,
)
def test_any_kind_of_number_is_a_value(number: Any) -> None:
    result = result_of(lambda params: number)
    assert result.value == 2.0
    assert curve(result) == [(3, 2.0)]


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (None, "the function returned None; return or report a number"),
        ("0.5", "the metric 'value' must be a number, not a str"),
        ([0.5], "the metric 'value' must be a number, not a list"),
        (True, "the metric 'value' must be a number, not True"),
        (1j, "the metric 'value' must be a number, not a complex"),
        ({}, "the metric 'value', which ranks trials, is missing; the function gave no metrics"),
        ({"loss": 1.0}, "the metric 'value', which ranks trials, is missing; the function gave loss"),
        (
            {"value": 1.0, "loss": 1.0},
            "the metric 'loss' is not declared; declare it: cv.Function(..., metrics=('value', 'loss'))",
        ),
        ({"value": None}, "the metric 'value' must be a number, not None"),
    ],
)
def test_invalid_results_fail_the_trial(returned: Any, sentence: str) -> None:
    result = result_of(lambda params: returned)
    assert (result.outcome, result.value) == (Outcome.FAILED, None)
    assert str(result.failure).startswith(sentence)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_diverge(value: float) -> None:
    result = result_of(lambda params: value)
    assert result.outcome is Outcome.DIVERGED
    assert "value is not finite" in str(result.failure)


def test_a_report_that_is_not_finite_stops_the_function() -> None:
    def explodes(params: Params, trial: TrialContext) -> None:
        for epoch in trial.remaining():
            trial.report(epoch, value=1.0 if epoch < 2 else math.nan)

    result = result_of(explodes, epochs=50)
    assert result.outcome is Outcome.DIVERGED
    assert [epoch for epoch, _ in curve(result)] == [1, 2]


def test_every_report_is_recorded_and_the_last_ranks() -> None:
    def descends(params: Params, trial: TrialContext) -> None:
        for epoch in range(1, trial.epochs + 1):
            trial.report(epoch, loss=1 / epoch, speed=epoch)

    result = result_of(descends, metric="loss", metrics=("loss", "speed"))
    assert curve(result, "loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert curve(result, "speed") == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert result.value == 1 / 3


def test_a_returned_value_belongs_to_the_last_reported_epoch() -> None:
    def early(params: Params, trial: TrialContext) -> dict[str, float]:
        trial.report(1, value=3.0)
        trial.report(2, value=2.0)
        return {"value": 1.5, "size": 8.0}

    result = result_of(early, epochs=10, metrics=("value", "size"))
    assert curve(result) == [(1, 3.0), (2, 1.5)]
    assert result.measurements[-1].metrics == {"value": 1.5, "size": 8.0}


@pytest.mark.parametrize(
    ("reports", "sentence"),
    [
        (
            [(2, {"value": 1.0}), (2, {"value": 1.0})],
            r"report\(2\): epochs must be whole numbers that increase.*was 2",
        ),
        ([(0, {"value": 1.0})], r"report\(0\): epochs must be"),
        ([(1.5, {"value": 1.0})], r"report\(1.5\): epochs must be"),
        ([(1, {"loss": 1.0})], "'value', which ranks trials, is missing"),
        ([(1, {"value": 1.0, "f1": 1.0})], r"'f1' is not declared.*'value', 'f1'"),
    ],
)
def test_invalid_reports_fail_the_trial_even_if_caught(
    reports: list[tuple[Any, dict[str, float]]], sentence: str
) -> None:
    def catches(params: Params, trial: TrialContext) -> float:
        for epoch, metrics in reports:
            with contextlib.suppress(ValueError):
                trial.report(epoch, **metrics)
        return 1.0

    result = result_of(catches)
    assert result.outcome is Outcome.FAILED
    assert result.failure is not None
    with pytest.raises(ValueError, match=sentence):
        raise ValueError(result.failure)


class Unprintable(Exception):
    """An exception that can be neither printed nor pickled."""

    def __init__(self) -> None:
        super().__init__(threading.Lock())

    def __str__(self) -> str:
        raise RuntimeError


def test_an_exception_is_recorded_in_one_line_with_its_place() -> None:
    def divides(params: Params) -> float:
        return 1 / 0

    def exits(params: Params, trial: TrialContext) -> float:
        raise SystemExit(3)

    def unprintable(params: Params) -> float:
        raise Unprintable

    def endless(params: Params) -> float:
        raise ValueError("x" * 100_000 + "\n" + "y" * 100_000)

    assert str(result_of(divides).failure).startswith(
        "ZeroDivisionError: division by zero (test_engine.py, line "
    )
    assert "SystemExit: 3" in str(result_of(exits).failure)
    assert "Unprintable: (its message cannot be shown)" in str(result_of(unprintable).failure)
    assert len(str(result_of(endless).failure)) < 400


def test_a_restored_trial_continues_as_if_never_stopped() -> None:
    def walks(params: Params, trial: TrialContext) -> None:
        steps = trial.restore() or []
        for epoch in trial.remaining():
            steps.append(np.random.default_rng([trial.seed, epoch]).random())
            trial.report(epoch, value=sum(steps))
            trial.save(steps)

    whole, _ = part(walks)
    first, paused = part(walks, until=2, keep_checkpoint=True)
    second, again = part(walks, until=5, keep_checkpoint=True, checkpoint=paused.checkpoint)
    third, end = part(walks, checkpoint=again.checkpoint)
    assert [len(points) for points in (first, second, third)] == [2, 3, 1]
    assert first + second + third == whole
    assert (paused.outcome, end.outcome, end.checkpoint) == (Outcome.COMPLETED, Outcome.COMPLETED, None)


def test_save_pickles_only_if_the_trial_may_continue() -> None:
    def saves(params: Params, trial: TrialContext) -> float:
        trial.save(threading.Lock())  # cannot be pickled
        return 1.0

    assert part(saves)[1].outcome is Outcome.COMPLETED
    assert part(saves, keep_checkpoint=True)[1].outcome is Outcome.FAILED


def test_reports_are_yielded_while_the_function_runs() -> None:
    seen = threading.Event()

    def waits(params: Params, trial: TrialContext) -> None:
        trial.report(1, value=2.0)
        assert seen.wait(10)
        trial.report(2, value=1.0)

    events = FunctionEngine(waits, "value", ("value",)).train([Part(trial=trial())])
    assert isinstance(next(events), Progress)
    seen.set()
    *_, end = events
    assert isinstance(end, PartDone)
    assert end.outcome is Outcome.COMPLETED


def test_closing_the_engines_iterator_stops_the_function() -> None:
    stopped = threading.Event()

    def continues(params: Params, trial: TrialContext) -> None:
        for epoch in range(1, 1000):
            if trial.should_stop():
                stopped.set()
                return
            trial.report(epoch, value=1.0)
            time.sleep(0.01)

    events = FunctionEngine(continues, "value", ("value",)).train([Part(trial=trial(1000))])
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert stopped.wait(10)


def test_each_trial_starts_from_the_same_process_state(tmp_path: Path) -> None:
    def disturbs(params: Params) -> dict[str, float]:
        left = float(os.environ.get("LEFT_BEHIND", 0))
        os.environ["LEFT_BEHIND"] = "1"
        os.environ = {"ANOTHER": "2"}  # type: ignore[assignment]  # noqa: B003
        os.chdir(tmp_path)
        drawn = random.random() + float(np.random.rand())  # noqa: NPY002
        return {"value": drawn, "left": left}

    here, environment = os.getcwd(), dict(os.environ)
    worker = Worker("here", "here", Function(disturbs, metrics=("value", "left")), None)
    one, other = worker.run([Task(trial=trial()), Task(trial=trial())])
    assert one.measurements == other.measurements
    assert one.measurements[0].metrics["left"] == 0
    assert os.getcwd() == here
    assert os.environ == environment


def test_an_environment_that_is_a_plain_dict_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def disturbs(params: Params) -> float:
        os.environ["LEFT_BEHIND"] = "1"
        return 1.0

    monkeypatch.setattr(os, "environ", {"KEPT": "0"})
    Worker("here", "here", Function(disturbs), None).run([Task(trial=trial())])
    assert os.environ == {"KEPT": "0"}


def test_params_are_a_copy_and_the_seed_fits_32_bits() -> None:
    def greedy(params: Params, trial: TrialContext) -> float:
        np.random.RandomState(trial.seed)
        params.clear()
        return 1.0

    asked = trial(seed=2**63 - 1)
    Worker("here", "here", Function(greedy), None).run([Task(trial=asked)])
    assert asked.params == {"x": 0.5}
    assert result_of(greedy, seed=2**63 - 1).outcome is Outcome.COMPLETED


def test_the_ranking_metric_is_always_declared() -> None:
    assert Function(with_default).metrics == ("value",)
    assert Function(with_default, metric="loss", metrics=("speed",)).metrics == ("loss", "speed")
    assert Function(with_default, metric="loss", metrics=("speed", "loss")).metrics == ("speed", "loss")


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_metrics_cannot_have_the_names_of_other_columns(name: str) -> None:
    with pytest.raises(StudyError, match=f"the metric {name} has the name of another column"):
        Function(with_default, metrics=("value", name))


def test_columns_of_the_frames_are_unique() -> None:
    names = trials_schema(cv.Space(x=cv.linear(0.0, 1.0)), ("value", "loss")).names
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        ({"metrics": "loss"}, "metrics must be a tuple of names"),
        ({"metrics": ("params_x",)}, "cannot name a metric"),
        ({"metrics": (3,)}, "cannot name a metric"),
        ({"metrics": ("a\x00b",)}, "cannot be a column"),
        ({"maximize": "yes"}, "must be True or False"),
        ({"resources": {"cpus": 1}}, "must be cv.Resources"),
        ({"time_limit_s": 0}, "must be above 0 seconds"),
        ({"time_limit_s": math.inf}, "time_limit_s must be a finite number"),
        ({"time_limit_s": "10"}, "time_limit_s must be a finite number"),
    ],
)
def test_invalid_arguments_are_refused(declared: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        Function(with_default, **declared)


def test_a_fingerprint_has_the_name_and_the_source() -> None:
    spaced: dict[str, Any] = {}
    one = fingerprint(with_default)
    assert one["name"] == "tests.training.function.test_engine.with_default"
    assert fingerprint(functools.partial(with_default, scale=3.0)) == {**one, "bound": {"scale": 3.0}}
    assert fingerprint(functools.partial(with_default, scale=math.inf)) == {**one, "bound": {"scale": "inf"}}
    exec("def f(p):\n    return 1\n", spaced)
    was = fingerprint(spaced["f"])
    exec("def f(p):\n    return 2\n", spaced)
    assert fingerprint(spaced["f"]) != was
    assert fingerprint(Called())["source"] is not None


@pytest.mark.parametrize("module", ["__main__", "caviar_experiment"])
def test_a_fingerprint_does_not_depend_on_the_scripts_launcher(module: str) -> None:
    def fn(params: Params) -> float:
        return 1.0

    fn.__module__ = module
    assert fingerprint(fn)["name"].endswith("<locals>.fn")
    assert module not in fingerprint(fn)["name"]


def test_a_study_of_a_function_has_frames_winner_and_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def bowl(params: Params) -> dict[str, float]:
        return {"loss": (params["x"] - 0.3) ** 2, "speed": params["x"]}

    study = cv.Study(
        name="bowl",
        objective=Function(bowl, metric="loss", metrics=("loss", "speed", "never")),
        space=cv.Space(x=cv.linear(0.0, 1.0)),
        rounds=[cv.Round(20, 1), cv.Round(10, 1), cv.Confirmation(2, 2)],
    )
    run = run_inline(study, tmp_path)
    assert run.metrics == ("loss", "speed", "never")
    assert (run.trials["speed"] == run.trials["params_x"]).all()
    assert run.trials["never"].isna().all()
    assert run.curves["loss"].notna().all()
    assert run.best is not None
    assert abs(float(run.best.params["x"] or 0) - 0.3) < 0.1
    assert run.best.test_accuracy is None
    assert [path.name for path in (run.path / "best").iterdir()] == ["best.json"]
    from caviar.reporting.summary import show

    show(run)
    said = capsys.readouterr().out
    assert "confirmed  loss" in said
    assert ".best" in said
    assert "accuracy" not in said
    assert "network" not in said


def test_trials_above_the_time_limit_fail() -> None:
    def sleeps(params: Params) -> float:
        time.sleep(0.05)
        return 1.0

    assert result_of(sleeps, time_limit_s=10.0).outcome is Outcome.COMPLETED
    late = result_of(sleeps, time_limit_s=0.01)
    assert (late.outcome, late.value, late.failure) == (Outcome.FAILED, None, "took longer than 0.01 s")


def test_the_time_limit_counts_earlier_parts() -> None:
    worker = Worker("here", "here", Function(lambda params: 1.0, time_limit_s=10.0), None)
    earlier = Result(
        trial=trial(),
        outcome=Outcome.STOPPED,
        measurements=(Measurement(1, {"value": 1.0}),),
        times=Times(train_s=11.0),
    )
    (result,) = worker.run([Task(trial=trial(), so_far=earlier)])
    assert result.outcome is Outcome.FAILED


def sparse(params: Params, trial: TrialContext) -> None:
    """Report every other epoch."""
    for epoch in trial.remaining():
        if epoch % 2 == 0:
            trial.report(epoch, value=float(epoch))


@pytest.mark.parametrize("until", [1, 3])
def test_a_part_must_report_its_last_epoch(until: int) -> None:
    worker = Worker("here", "here", Function(sparse), None)
    (result,) = worker.run([Task(trial=trial(epochs=9), parts=(until,))])
    assert result.outcome is Outcome.FAILED
    assert f"trained up to epoch {until} without reporting it" in str(result.failure)
    assert worker.run([Task(trial=trial(epochs=9), parts=(4,))])[0].outcome is Outcome.STOPPED
    assert result_of(sparse, epochs=9).outcome is Outcome.COMPLETED


def test_a_function_that_returns_early_completes() -> None:
    def gives_up(params: Params, trial: TrialContext) -> None:
        for epoch in trial.remaining():
            trial.report(epoch, value=1.0)
            if epoch == 2:
                return

    worker = Worker("here", "here", Function(gives_up), None)
    (result,) = worker.run([Task(trial=trial(epochs=9), parts=(5,))])
    assert (result.outcome, len(result.measurements)) == (Outcome.COMPLETED, 2)


def test_a_function_without_reports_trains_each_epoch_once() -> None:
    trained: list[int] = []

    def returns(params: Params, trial: TrialContext) -> float:
        done = trial.restore() or 0
        for epoch in trial.remaining():
            assert epoch == done + 1
            done = epoch
            trained.append(epoch)
            trial.save(done)
        return float(done)

    worker = Worker("here", "here", Function(returns), None)
    so_far = None
    for until in (1, 3, 9):
        (so_far,) = worker.run([Task(trial=trial(epochs=9), parts=(until,), so_far=so_far)])
        assert so_far.value == until
    assert trained == list(range(1, 10))


def test_users_make_contexts_to_test_their_functions() -> None:
    def walks(params: Params, trial: TrialContext) -> None:
        place = trial.restore() or 0.0
        for epoch in trial.remaining():
            place += params["x"]
            trial.report(epoch, loss=place, size=np.float32(1))
            trial.save(place)

    first = cv.TrialContext({"x": 0.5}, epochs=5, until=2, seed=2**40 + 3, stage="final")
    walks(first.params, first)
    assert first.reported == {1: {"loss": 0.5, "size": 1.0}, 2: {"loss": 1.0, "size": 1.0}}
    assert (first.seed, first.stage, first.restore()) == (3, "final", 1.0)
    second = first.continued()
    walks(second.params, second)
    assert (second.trained, list(second.reported)) == (2, [3, 4, 5])
    with pytest.raises(ValueError, match="must be a number"):
        second.report(6, loss="small")
    refused: Any
    for refused in (
        {"epochs": 0},
        {"epochs": 2, "until": 3},
        {"params": 3},
        {"stage": "last"},
        {"seed": 0.5},
    ):
        with pytest.raises(StudyError, match="TrialContext"):
            cv.TrialContext(**refused)


def test_an_error_of_the_engine_in_its_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(params: Params, trial: TrialContext) -> float:
        raise RuntimeError("of the function")

    def breaks(*_: object) -> str:
        raise LookupError("of the engine")

    monkeypatch.setattr("caviar.training.function.engine.describe_failure", breaks)
    with pytest.raises(LookupError, match="of the engine"):
        part(fails)


def test_a_failing_function_may_wrap_itself() -> None:
    def fails(params: Params, trial: TrialContext) -> float:
        fails.__wrapped__ = fails  # type: ignore[attr-defined]
        raise RuntimeError("boom")

    assert result_of(fails).failure == "RuntimeError: boom"
