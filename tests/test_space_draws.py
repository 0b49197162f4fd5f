"""Constraints and given values are checked when a study is declared, and measured by draws of the space."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

import caviar as cv
from caviar.errors import RunError, SpaceError, StudyError
from caviar.operations.resume import resume_study
from caviar.records.frames import load
from caviar.reporting.summary import show
from caviar.space import Space, choice, integer, linear, log, reverse_log, when
from caviar.space_draws import complete, draw, refused_share
from tests.functions import function_study
from tests.runs import inline, resume_inline, run_inline, run_until_failure

WIDTHS = {"first": integer(1, 100), "second": integer(1, 100)}


def narrower(p: dict[str, Any]) -> bool:
    return bool(p["second"] <= p["first"])


def study(space: Space, **more: Any) -> cv.Study:
    return cv.Study(
        name="small", objective=cv.Function(lambda p: 0.0), space=space, rounds=[cv.Round(6, 1)], **more
    )


def test_the_refused_share_is_measured() -> None:
    assert refused_share(Space(**WIDTHS)) == 0.0
    assert refused_share(Space(**WIDTHS, where=narrower)) == pytest.approx(0.495, abs=0.05)
    both = [narrower, lambda p: p["first"] > 50]
    assert refused_share(Space(**WIDTHS, where=both)) == pytest.approx(0.625, abs=0.05)
    assert study(Space(**WIDTHS, where=narrower)).refused == refused_share(Space(**WIDTHS, where=narrower))


@pytest.mark.parametrize(
    "where",
    [
        lambda p: p["first"] > 100,
        lambda p: p["first"] == p["second"] == 7,
        lambda p: p["third"] > 1,
        lambda p: p["first"] / 0 > 1,
        lambda p: None,
        lambda p: p["first"],
        [narrower, lambda p: "yes"],
        narrower.__get__(1),
    ],
)
def test_constraints_that_cannot_be_kept_are_refused_at_declaration(where: Any) -> None:
    with pytest.raises(SpaceError):
        study(Space(**WIDTHS, where=where))


def test_a_nearly_empty_space_says_which_constraint_is_to_blame() -> None:
    where = [narrower, lambda p: p["first"] == p["second"] == 7]
    with pytest.raises(SpaceError, match=r"alone: [45]\d\d, [0-3]\)"):
        study(Space(**WIDTHS, where=where))


@pytest.mark.parametrize("where", [3, "p.first > 1", None, [narrower, 3], Random])
def test_constraints_that_are_no_functions_are_refused(where: Any) -> None:
    with pytest.raises(SpaceError, match="where="):
        Space(**WIDTHS, where=where)


def test_an_exception_names_the_draw_and_the_constraint() -> None:
    space = Space(kind=choice("a", "b"), x=when(linear(0, 1), kind="b"), where=lambda p: p["x"] > 0.5)
    with pytest.raises(SpaceError, match=r"<lambda>.*KeyError.*'kind': 'a'.*p\.get\('x'\)"):
        study(space)


def test_a_constraint_with_an_unknown_name_is_told_the_names() -> None:
    with pytest.raises(SpaceError, match=r"no parameter 'frist': it has first, second"):
        study(Space(**WIDTHS, where=lambda p: p["frist"] > 5))


def test_an_error_tells_constraints_from_conditions() -> None:
    space = Space(**WIDTHS, kind=choice("a", "b"), deep=when(linear(0, 1), kind="b"), where=narrower)
    with pytest.raises(StudyError, match=r"constraints refuse .* drawn for kind"):
        complete(space, {"first": 2, "second": 3, "deep": 0.5}, Random(0), "here")
    with pytest.raises(StudyError, match=r"deep does not apply in .*'kind': 'a'"):
        complete(space, {"kind": "a", "deep": 0.5}, Random(0), "here")


def test_a_constraint_sees_a_copy_of_the_params_that_apply() -> None:
    seen: list[dict[str, Any]] = []

    def spoil(p: dict[str, Any]) -> np.bool_:
        seen.append(dict(p))
        p.clear()
        return np.bool_(True)

    objective = cv.Classifier(data="sklearn:iris", fixed={"layers": 1})
    space = Space(optimizer=choice("sgd", "adam"), beta2=log(0.9, 0.99), where=spoil)
    cv.Study(name="iris", objective=objective, space=space, rounds=[cv.Round(4, 1)])
    assert {frozenset(p) for p in seen} == {frozenset({"optimizer"}), frozenset({"optimizer", "beta2"})}
    params = {"optimizer": "sgd"}
    assert space.allows(params)
    assert params


def test_a_parameter_may_be_named_where() -> None:
    space = Space(where=choice("here", "there"), x=linear(0, 1))
    assert set(space) == {"where", "x"}
    assert space.constraints == ()
    assert set(space.with_parameters(dict(space))) == {"where", "x"}


def test_draws_and_completions_keep_constraints_and_conditions() -> None:
    space = Space(
        **WIDTHS, kind=choice("a", "b"), deep=when(reverse_log(0.9, 0.99), kind="b"), where=narrower
    )
    for seed in range(50):
        assert narrower(draw(space, Random(seed)))
        params = complete(space, {"second": 60, "deep": 0.95}, Random(seed), "here")
        assert (params["second"], params["deep"], params["kind"]) == (60, 0.95, "b")
        assert narrower(params)
    assert complete(space, {"first": np.int64(9)}, Random(1), "") == complete(
        space, {"first": 9.0}, Random(1), ""
    )


@pytest.mark.parametrize(
    "given",
    [
        {"third": 1},
        {"first": 101},
        {"first": 1.5},
        {"kind": "c"},
        {"first": True},
        {"first": 2, "second": 3},
        {"kind": "a", "deep": 0.95},
        ["first"],
        "first",
    ],
)
def test_configurations_that_do_not_fit_are_refused(given: Any) -> None:
    space = Space(
        **WIDTHS, kind=choice("a", "b"), deep=when(reverse_log(0.9, 0.99), kind="b"), where=narrower
    )
    with pytest.raises(StudyError, match=r"try_first"):
        study(space, try_first=[{}, given])


@pytest.mark.parametrize("given", [{"first": 1}, 3, "first", [{}] * 7])
def test_try_first_of_another_form_is_refused(given: Any) -> None:
    with pytest.raises(StudyError, match="try_first"):
        study(Space(**WIDTHS), try_first=given)


def test_the_objective_refuses_configurations_that_it_cannot_train() -> None:
    with pytest.raises(StudyError, match="batch_size"):
        cv.Study(
            name="iris",
            objective=cv.Classifier(data="sklearn:iris"),
            space=Space(batch_size=choice(1, 32)),
            rounds=[cv.Round(4, 1)],
            try_first=[{"batch_size": 1}],
        )


def test_constraints_and_given_values_tell_studies_apart(tmp_path: Path) -> None:
    def declared(where: Any, *given: dict[str, Any]) -> cv.Study:
        space = Space(x=linear(0.0, 1.0), y=linear(0.0, 1.0), where=where)
        return replace(function_study(lambda p: p["x"]), space=space, try_first=given)

    plain = declared(())
    assert not {"constraints", "try_first"} & set(plain.to_json())
    study = declared(lambda p: p["x"] > 0.1, {"x": 0.5})
    run = run_until_failure(study, tmp_path)
    others = [plain, declared(lambda p: p["x"] > 0.1), declared(lambda p: p["x"] > 0.1, {"x": 0.6})]
    for other in others:
        with pytest.raises(RunError, match="differs in") as refused:
            resume_inline(other, run.path)
        assert "--same-function" not in str(refused.value)
    edited = declared(lambda p: p["x"] > 0.2, {"x": 0.5})
    with pytest.raises(RunError, match="--same-function"):
        resume_inline(edited, run.path)
    finished = resume_study(edited, run.path, progress=False, same_function=True, backend=inline(edited))
    assert [edit["what"] for edit in finished.study_file.edits] == ["constraints"]


def test_the_summary_says_how_given_values_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = Space(x=linear(0.0, 1.0), y=linear(0.0, 1.0), where=lambda p: p["x"] < p["y"])
    given = [{"x": 0.0}, {"x": 0.2, "y": 0.3}]
    study = replace(function_study(lambda p: p["x"]), space=space, try_first=given)
    run = run_inline(study, tmp_path)
    show(run)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"refuse {run.study_file.refused:.0%} of the draws" in printed
    assert "trial 0 0 1 of" in printed
    assert run.trials.query("given")["trial"].tolist() == [0, 1]
    assert run.trials["params_x"].head(2).tolist() == [0.0, 0.2]
    assert load(run.path).trials.equals(run.trials)
