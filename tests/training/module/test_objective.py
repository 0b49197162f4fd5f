"""Declarations of modules: what follows from the loss, what belongs to caviar and what to the user, what is refused."""

import functools
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import caviar as cv
from caviar.data.splits import Dataset
from caviar.errors import DataError, RunError, StudyError
from caviar.experiment_script import load_study
from caviar.operations.resume import resume_study
from tests.runs import inline, resume_inline, run_inline, run_until_failure
from tests.training.module import modules


def linear(params: dict[str, Any]) -> nn.Module:
    del params
    return nn.Linear(13, 3)


def wine(**options: Any) -> cv.Module:
    return cv.Module(linear, **{"data": "sklearn:wine", "preprocess": "standardize", **options})


def make_study(objective: cv.Module, **space: Any) -> cv.Study:
    searched = space or {"learning_rate": cv.log(1e-3, 1.0)}
    return cv.Study(name="wine", objective=objective, space=cv.Space(**searched), rounds=[cv.Round(3, 1)])


def test_metrics_follow_from_the_loss() -> None:
    by_class, by_number = wine(), wine(loss="mse", targets="numbers")
    assert (by_class.metric, by_class.maximize, by_class.targets) == ("dev_accuracy", True, "classes")
    assert (by_number.metric, by_number.maximize, by_number.targets) == ("dev_loss", False, "numbers")
    assert by_class.metric_names == ("train_loss", "dev_loss", "dev_accuracy", "learning_rate")
    assert by_number.metric_names == ("train_loss", "dev_loss", "learning_rate")
    assert modules.two_losses_objective().metric_names == (
        "train_loss", "train_class", "train_reconstruction", "dev_loss", "dev_class", "dev_reconstruction",
        "dev_accuracy", "dev_recall", "learning_rate",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "hinge"}, "loss must be one of"),
        ({"loss": {}}, "empty dict"),
        ({"loss": lambda outputs: outputs}, r"loss is called with \(outputs, y\)"),
        ({"loss": {"a": 3}}, r"loss\['a'\] must be a function"),
        ({"metrics": {"loss": modules.recall}}, "dev_loss would be there twice"),
        ({"loss": {"accuracy": F.cross_entropy}, "targets": "classes"}, "dev_accuracy would be there twice"),
        ({"metrics": {"a\n": modules.recall}}, "cannot be a column's"),
        ({"metrics": [modules.recall]}, "metrics must be a dict"),
        ({"metric": "accuracy"}, "is not measured; there are train_loss"),
        ({"metric": "train_loss"}, "must be one of the dev split"),
        ({"metric": "dev_recall", "metrics": {"recall": modules.recall}}, "give maximize=True"),
        ({"loss": "mse", "targets": "classes"}, "does not fit"),
        ({"targets": "words"}, "targets must be"),
        ({"data": 3}, "data must be the name of a source"),
        ({"data": (1, 2, 3)}, "each must be a pair"),
        ({"fixed": {"batch_size": 0}}, "batch_size must be a whole number"),
        ({"fixed": {"layers": [1, 2]}}, "must be None, a bool, a number or a string"),
        ({"optimizer": lambda params: None}, r"optimizer is called with \(params, module\)"),
        ({"schedule": "cosine"}, "schedule must be a function"),
        ({"time_limit_s": 0}, "time_limit_s must be above 0"),
        ({"resources": 2}, "resources must be"),
        ({"refit": 1}, "refit must be"),
    ],
)  # fmt: skip
def test_invalid_declarations_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        wine(**options)


def test_build_must_take_params() -> None:
    with pytest.raises(StudyError, match=r"build is called with \(params\)"):
        cv.Module(lambda a, b: nn.Linear(1, 1), data="sklearn:wine")  # type: ignore[arg-type, misc]
    with pytest.raises(StudyError, match="build must be a function"):
        cv.Module(nn.Linear(1, 1).weight, data="sklearn:wine")  # type: ignore[arg-type]


def test_names_of_training_mean_what_they_mean_for_classifiers() -> None:
    study = make_study(
        wine(fixed={"optimizer": "adam"}),
        beta2=cv.reverse_log(0.9, 0.999),
        decay=cv.choice("constant", "step"),
        decay_epochs=cv.integer(1, 5),
        kernel=cv.when(cv.integer(1, 3), decay="step"),
        layers=cv.linear(0.5, 1.0),
    )
    assert study.space["decay_epochs"].when == {"decay": ("step",)}
    assert study.space["kernel"].when == {"decay": ("step",)}
    for space, words in (
        ({"momentum": cv.linear(0, 0.9)}, "momentum has no effect"),
        ({"optimizer": cv.choice("adam", "lion")}, "optimizer must be"),
        ({"batch_size": cv.linear(1, 9)}, "whole number"),
    ):
        with pytest.raises(StudyError, match=words):
            make_study(wine(fixed={} if "optimizer" in space else {"optimizer": "adam"}), **space)
    with pytest.raises(StudyError, match="channels is in the space and fixed"):
        make_study(wine(fixed={"channels": 3}), channels=cv.integer(1, 5))


def test_a_function_takes_over_its_names() -> None:
    own = wine(optimizer=lambda params, module: torch.optim.SGD(module.parameters(), params["momentum"]))
    space = make_study(own, momentum=cv.choice("low", "high"), batch_size=cv.choice(8, 16)).space
    assert space["momentum"].when == {}
    assert dict(own.recipe({"momentum": "low"})) == {"batch_size": 64, "momentum": "low"}
    scheduled = wine(schedule=lambda params, optimizer, epochs: None)
    assert "decay" not in scheduled.recipe({})
    assert make_study(scheduled, decay=cv.choice("none", "mine")).space["decay"].when == {}


def test_params_hold_fixed_and_default_values() -> None:
    seen: list[dict[str, Any]] = []

    def build(params: dict[str, Any]) -> nn.Module:
        seen.append(params)
        return nn.Linear(13, 3)

    objective = cv.Module(build, data="sklearn:wine", fixed={"depth": 2, "optimizer": "adam"})
    run_trial(objective, {"learning_rate": 0.1})
    assert seen[0]["learning_rate"] == 0.1
    assert (seen[0]["depth"], seen[0]["beta1"], seen[0]["batch_size"]) == (2, 0.9, 64)
    assert "momentum" not in seen[0]


def run_trial(objective: cv.Module, params: dict[str, Any]) -> Any:
    return make_study(objective).try_one(params, epochs=1)


# Errors that all trials would have, found before the first


def returns(thing: Any) -> Any:
    return lambda params: thing


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "no module": ({"build": returns(3)}, "must return a torch.nn.Module, not int"),
    "a class": ({"build": returns(nn.Linear)}, "must return a torch.nn.Module, not type"),
    "no parameters": ({"build": returns(nn.ReLU())}, "has no parameters that are trained"),
    "frozen": ({"build": returns(nn.Linear(13, 3).requires_grad_(False))}, "has no parameters"),
    "wrong shape": ({"build": returns(nn.Linear(14, 3))}, r"in the module, called with x \(2, 13\) float32"),
    "wrong width": (
        {"build": returns(nn.Linear(13, 4))},
        r"a tensor \(2, 4\), and must be a tensor \(2, 3\)",
    ),
    "wrong number": (
        {"build": returns(nn.Linear(4, 2)), "loss": "mse", "data": modules.numbers()},
        "must be a tensor of the shape of y",
    ),
    "missing name": ({"build": lambda params: nn.Linear(params["width"], 3)}, "KeyError: 'width'.*in build"),
    "loss of rows": (
        {"loss": lambda outputs, y: F.cross_entropy(outputs, y, reduction="none"), "targets": "classes"},
        "must return the mean over the rows",
    ),
    "loss is a number": ({"loss": lambda outputs, y: 0.5, "targets": "classes"}, "not a float"),
    "loss is a dict": (
        {"loss": lambda outputs, y: {"a": outputs.mean()}, "targets": "classes"},
        "loss={'name'",
    ),
    "no gradient": (
        {"loss": lambda outputs, y: outputs.detach().mean(), "targets": "classes"},
        "the loss has no gradient",
    ),
    "metric is text": ({"metrics": {"m": lambda outputs, y: "good"}}, "'m' must return one number, not str"),
    "metric of rows": ({"metrics": {"m": lambda outputs, y: outputs}}, r"not a tensor \(36, 3\)"),
    "metric raises": ({"metrics": {"m": lambda outputs, y: 1 / 0}}, "ZeroDivisionError.*in the metric m"),
    "optimizer": ({"optimizer": lambda params, module: module}, "must return a torch.optim.Optimizer"),
    "schedule": ({"schedule": lambda params, optimizer, epochs: 0.1}, "must return a scheduler"),
}


@pytest.mark.parametrize("harm", HOSTILE)
def test_errors_of_all_trials_are_found_before_the_first(harm: str, tmp_path: Any) -> None:
    options, words = HOSTILE[harm]
    study = make_study(cv.Module(**{"build": linear, "data": "sklearn:wine", **options}))
    with pytest.raises(StudyError, match=words):
        run_inline(study, tmp_path)
    assert not list(tmp_path.iterdir())


def test_modules_for_gpus_are_not_rehearsed_without_one() -> None:
    objective = cv.Module(
        lambda params: torch.nn.Linear(1, 1), data="sklearn:wine", resources=cv.Resources(gpus=1)
    )
    study = make_study(objective)
    if not torch.cuda.is_available():
        study.objective.rehearse(study.space, objective.load())


def test_whole_numbers_that_should_be_floats_are_explained() -> None:
    pixels = torch.randint(0, 255, (60, 4), dtype=torch.uint8)
    objective = cv.Module(lambda params: nn.Linear(4, 2), data=(pixels, torch.arange(60) % 2))
    study = make_study(objective)
    with pytest.raises(StudyError, match="makes them floats"):
        objective.rehearse(study.space, objective.load())


def test_points_that_cannot_be_built_fail_alone(tmp_path: Any) -> None:
    def build(params: dict[str, Any]) -> nn.Module:
        if params["width"] > 2:
            raise ValueError("too wide")
        return nn.Sequential(nn.Linear(13, params["width"]), nn.Tanh(), nn.Linear(params["width"], 3))

    objective = cv.Module(build, data="sklearn:wine", preprocess="standardize")
    study = replace(make_study(objective, width=cv.integer(1, 4)), rounds=[cv.Round(12, 1)])
    trials = run_inline(study, tmp_path).trials
    failed = trials["params_width"] > 2
    assert set(trials.loc[failed, "outcome"]) <= {"failed"}
    assert set(trials.loc[~failed, "outcome"]) == {"completed"}
    assert trials.loc[failed, "failure"].str.contains(r"too wide \(test_objective.py, line").all()


def test_try_one_lets_exceptions_of_the_module_pass() -> None:
    objective = wine(metrics={"m": lambda outputs, y: 1 / 0})
    with pytest.raises(ZeroDivisionError):
        run_trial(objective, {"learning_rate": 0.1})


class Drifting(nn.Module):
    """A module whose attribute changes in training."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.factor = nn.Linear(13, 3), 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.factor *= 0.99
        outputs: torch.Tensor = self.linear(x) * self.factor
        return outputs


def test_state_outside_buffers_is_noticed() -> None:
    objective = cv.Module(
        lambda params: Drifting(), data="sklearn:wine", preprocess="standardize", metric="dev_loss"
    )
    study = replace(
        make_study(objective), rounds=cv.coarse_to_fine(trials=40, epochs=9, halving=cv.Halving())
    )
    with pytest.warns(UserWarning, match="register_buffer"):
        study.try_one({"learning_rate": 0.1})
    study.try_one({"learning_rate": 0.1}, epochs=1)


def test_what_cannot_be_pickled_is_refused() -> None:
    lock = threading.Lock()
    objective = cv.Module(lambda params: (lock, nn.Linear(13, 3))[1], data="sklearn:wine")
    study = make_study(objective)
    with pytest.raises(StudyError, match="cannot be sent to workers: lock, which <lambda> uses"):
        objective.rehearse(study.space, objective.load())


def test_accuracy_needs_classes(tmp_path: Any) -> None:
    objective = cv.Module(modules.perceptron, data=modules.numbers(), loss="cross_entropy")
    with pytest.raises(DataError, match="looks like a number to predict"):
        objective.load()


SCRIPT = """
import caviar as cv
from torch import nn

class Net(nn.Module):
    def __init__(self, params):
        super().__init__()
        self.layer = nn.Linear(13, {outputs}

    def forward(self, x):
        return self.layer(x)

def build(params):
    return Net(params)

study = cv.Study(
    name="script",
    objective=cv.Module(build, data="sklearn:wine"),
    space=cv.Space(learning_rate=cv.log(1e-3, 1.0)),
    rounds=[cv.Round(2, 1)],
)
"""


def test_edited_code_is_another_study(tmp_path: Any) -> None:
    described = []
    for number, outputs in enumerate(("3)  # classes", "3)", "2 + 1)")):
        script = tmp_path / f"script{number}.py"
        script.write_text(SCRIPT.format(outputs=outputs))
        described.append(load_study(script).objective.describe())
    assert described[0] == described[1]
    assert described[0] != described[2]
    assert described[0]["function"]["build"]["source"] == described[2]["function"]["build"]["source"]
    for options in (
        {"loss": modules.class_loss, "targets": "classes"},
        {"metrics": {"recall": modules.recall}},
        {"schedule": functools.partial(lambda params, optimizer, epochs: None)},
        {"preprocess": "none"},
    ):
        assert wine(**options).describe() != wine().describe()


def test_edited_functions_are_accepted_on_request(tmp_path: Any) -> None:
    study = make_study(wine(metrics={"recall": modules.recall}))
    run = run_until_failure(replace(study, rounds=[cv.Round(20, 1)]), tmp_path)
    edited = replace(
        study,
        objective=wine(metrics={"recall": lambda outputs, y: modules.recall(outputs, y)}),
        rounds=[cv.Round(20, 1)],
    )
    with pytest.raises(RunError, match="--same-function"):
        resume_inline(edited, run.path)
    resumed = resume_study(edited, run.path, progress=False, same_function=True, backend=inline(edited))
    assert resumed.finished
    assert len(resumed.study_file.edits) == 1


def ping(params: dict[str, Any]) -> nn.Module:
    return pong(params) if params["deep"] else nn.Linear(13, 3)


def pong(params: dict[str, Any]) -> nn.Module:
    return ping({**params, "deep": False})


def test_functions_that_call_each_other_have_fingerprints() -> None:
    one, other = (cv.Module(build, data="sklearn:wine").describe() for build in (ping, pong))
    assert one["function"]["build"]["uses"] not in (None, other["function"]["build"]["uses"])


class Broken(nn.Module):
    """A module whose forward fails."""

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__()
        self.linear = nn.Linear(13, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ArithmeticError(f"{len(x)} rows")


def test_errors_of_a_class_have_their_line() -> None:
    study = make_study(cv.Module(Broken, data="sklearn:wine"))
    with pytest.raises(StudyError, match=r"2 rows \(test_objective.py, line \d+\), in the module"):
        study.objective.rehearse(study.space, study.objective.load())


def test_workers_get_no_data_with_the_objective() -> None:
    sent = modules.numbers_objective().for_workers()
    assert sent.data == "arrays"
    assert sent.describe() == modules.numbers_objective().describe()


def test_costs_grow_with_the_work() -> None:
    objective = wine()
    dataset: Dataset = objective.load()
    few, more = (objective.costs({"batch_size": size}, 5, dataset)["cpu"] for size in (64, 8))
    assert 0 < few < more


def test_a_module_is_rehearsed_where_the_constraints_allow() -> None:
    def build(params: dict[str, Any]) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 12 // params["heads"] * params["heads"]), nn.LazyLinear(3))

    objective = cv.Module(build, data="sklearn:iris")
    space = cv.Space(heads=cv.integer(0, 12), where=lambda p: 0 < p["heads"] < 6)
    objective.rehearse(space, objective.load())
