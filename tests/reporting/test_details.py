"""Tests of caviar/reporting/details.py and round_details.py: what is printed, and the same as JSON."""

import io
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

import caviar as cv
from caviar.columns import param_column
from caviar.errors import RunError
from caviar.records.frames import Run, load
from caviar.records.run_files import write_recorded
from caviar.reporting.details import View, failed, overview, schema, top
from caviar.reporting.round_details import one_round
from caviar.reporting.run_json import FORMAT, json_text
from caviar.reporting.terminal import print_parts
from caviar.trial import Outcome, Stage
from tests.objectives import Bowl, bowl_study
from tests.records.ledgers import new_ledger
from tests.runs import run_inline, run_until_failure

HARMED = frozenset({3, 7, 31})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_inline(bowl_study(objective=Bowl("raise", HARMED)), tmp_path_factory.mktemp("runs"))


def printed(view: View, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    print_parts(view.parts(width), console)
    return "\n".join(line.rstrip() for line in console.export_text().splitlines())


def as_json(view: View) -> Any:
    return json.loads(json_text(view.data()))


def test_best_trials_are_listed_with_their_fresh_means(run: Run) -> None:
    rows = as_json(top(run, 3))
    best = run.trials[run.trials["stage"] == Stage.SEARCH].nsmallest(3, "value")
    assert [row["trial"] for row in rows] == best["trial"].tolist()
    means = run.confirmed.set_index("trial")["mean"]
    assert [row["confirmed"] for row in rows] == means.loc[best["trial"]].tolist()
    assert rows[0]["metrics"] == {name: best.iloc[0][name] for name in ("loss", "speed")}
    assert rows[0]["params"]["rate"] == best.iloc[0][param_column("rate")]
    header, *lines = printed(top(run, 3)).splitlines()[1:]
    assert header.split() == ["trial", "loss", "confirmed", "params"]
    assert [int(line.split()[0]) for line in lines] == best["trial"].tolist()


def test_more_trials_than_there_are_may_be_asked_for(run: Run) -> None:
    assert len(as_json(top(run, 1_000))) == 50 - len(HARMED)


def test_failures_have_a_cause_and_an_example(run: Run) -> None:
    (cause,) = as_json(failed(run))
    assert (cause["outcome"], cause["trials"], cause["example"]) == ("failed", len(HARMED), 3)
    assert cause["params"]["rate"] == run.trials.set_index("trial").loc[3, param_column("rate")]
    text = printed(failed(run))
    assert "3 failed  ArithmeticError: two and two are five" in text
    assert "after 0 of 3 epochs" in text


def test_diverged_trials_are_listed_with_failed_ones(tmp_path: Path) -> None:
    study = cv.Study(
        name="diverging",
        objective=cv.Function(lambda params: params["x"] or math.nan),
        space=cv.Space(x=cv.choice(0.0, 1.0)),
        rounds=[cv.Round(9, 1)],
    )
    (cause,) = as_json(failed(run_inline(study, tmp_path)))
    assert cause["outcome"] == Outcome.DIVERGED
    assert cause["params"] == {"x": 0.0}


def test_a_round_has_its_decisions_and_best_trials(run: Run) -> None:
    shown = as_json(one_round(run, 2))
    assert (shown["trials"], shown["completed"], shown["failed"]) == (20, 19, 1)
    rounds = run.rounds[run.rounds["round"] == 2]
    assert [row["parameter"] for row in shown["parameters"]] == rounds["parameter"].tolist()
    assert [row["round"] for row in shown["top"]] == [2, 2, 2]
    text = printed(one_round(run, 2), width=200)
    assert "draws near the best trials" in text
    assert all(reason in text for reason in rounds["reason"])
    assert "draws from the whole space" in printed(one_round(run, 1))


def test_steps_of_the_confirmation_list_contenders(run: Run) -> None:
    shown = as_json(one_round(run, 3))
    again = run.trials[run.trials["round"] == 3]
    assert {row["trial"] for row in shown["contenders"]} == set(again["confirms"])
    means = [row["mean"] for row in shown["contenders"]]
    assert means == sorted(again.groupby("confirms")["value"].mean())
    assert "2 of 2" in printed(one_round(run, 3))
    final = as_json(one_round(run, 5))
    assert run.best is not None
    assert [row["trial"] for row in final["contenders"]] == [run.best.trial]


def test_final_training_without_noise_has_its_params(tmp_path: Path) -> None:
    study = cv.Study(
        name="exact",
        objective=cv.Function(lambda params: params["x"]),
        space=cv.Space(x=cv.linear(0.0, 1.0)),
        rounds=[cv.Round(12, 1), cv.Confirmation(4)],
    )
    run = run_inline(study, tmp_path)
    assert run.best is not None
    (winner,) = as_json(one_round(run, int(run.trials["round"].max())))["contenders"]
    assert winner["params"] == dict(run.best.params)
    assert winner["search_value"] == winner["mean"] == run.best.value


def test_rounds_that_have_not_begun_are_refused(run: Run) -> None:
    with pytest.raises(RunError, match="5 of its rounds"):
        one_round(run, 6)


def test_a_round_without_trials_is_shown(tmp_path: Path) -> None:
    run = run_until_failure(bowl_study(), tmp_path)
    for segment in (run.path / "trials").iterdir():
        segment.unlink()
    write_recorded(run.location, 0)
    assert "none of its 30 trials is recorded yet" in printed(one_round(load(run.path), 1))
    assert as_json(one_round(load(run.path), 1))["planned"] == 30


def test_document_of_a_run_has_the_described_keys(run: Run) -> None:
    document = as_json(overview(run))
    assert set(document) == {
        *("format", "run", "study", "state", "resume", "metric", "maximize", "trials", "best"),
        *("importance", "rounds", "tried_first", "extensions", "start_effect", "confirmed", "failures"),
        "worker_time",
    }
    assert document["format"] == FORMAT
    assert document["state"] == "finished"
    assert document["trials"]["search"] == {"recorded": 50, "planned": 50}
    assert run.best is not None
    assert document["best"]["params"] == dict(run.best.params)
    assert document["best"]["interval"] == list(run.best.interval or ())
    assert [row["round"] for row in document["rounds"]] == [1, 2, 3, 4, 5]
    assert document["rounds"][0]["completed"] == 28
    assert document["confirmed"][0]["winner"]
    assert document["importance"][0]["parameter"] == "rate"
    assert document["failures"][0]["trials"] == 3
    assert sum(document["worker_time"].values()) == pytest.approx(1)


def test_document_of_an_unfinished_run_says_how_to_continue(tmp_path: Path) -> None:
    document = as_json(overview(run_until_failure(bowl_study(), tmp_path, script=Path("bowl.py"))))
    assert document["state"] == "unfinished"
    assert document["resume"].startswith("caviar resume")
    assert not document["best"]["confirmed"]
    assert document["importance"] == []


def test_document_of_an_empty_run_has_no_best(tmp_path: Path) -> None:
    new_ledger(tmp_path).close()
    document = as_json(overview(load(tmp_path / "bowl")))
    assert (document["best"], document["rounds"], document["confirmed"]) == (None, [], [])


def test_schema_describes_the_columns_of_the_frames(run: Run) -> None:
    rows = as_json(schema(run))
    assert [row["column"] for row in rows if row["frame"] == "curves"] == run.curves.columns.tolist()
    text = printed(schema(run), width=60)
    assert "queue_s" in text
    assert max(map(len, text.splitlines())) <= 60


@pytest.mark.parametrize("width", [40, 60, 140])
def test_text_of_users_is_printed_as_text(tmp_path: Path, width: int) -> None:
    def train(params: dict[str, Any]) -> float:
        if params["<b>kind</b>"] == '"quoted"\n[/m3]':
            raise ValueError("no [bold]file[/x] \x1b[2J <script>")
        return float(params["opt[adam].lr"])

    choices = cv.choice("[a]", '"quoted"\n[/m3]', "\x1b[2J")
    space: dict[str, Any] = {"opt[adam].lr": cv.linear(0, 1), "<b>kind</b>": choices}
    study = cv.Study(
        name="odd",
        objective=cv.Function(train, metric="flux[/m2]"),
        space=cv.Space(**space),
        rounds=[cv.Round(12, 1), cv.Round(8, 1)],
    )
    run = run_inline(study, tmp_path)
    for view in (overview(run), top(run, 5), failed(run), one_round(run, 2), one_round(run, 3), schema(run)):
        text = printed(view, width)
        assert "\x1b" not in text
        assert "\x1b" not in json_text(view.data())
    joined = "".join(printed(failed(run), width).split())
    assert "no[bold]file[/x]\\x1b[2J<script>" in joined
    assert "<b>kind</b>=" in joined
    assert r'"quoted"\n[/m3]' in "".join(printed(one_round(run, 1), width).split())
    assert as_json(failed(run))[0]["params"]["<b>kind</b>"] == '"quoted"\n[/m3]'


def test_numbers_that_are_not_finite_become_null() -> None:
    odd = {"nan": math.nan, "low": -math.inf, "none": pd.NA, "time": pd.NaT, "count": pd.Series([3]).iloc[0]}
    assert json.loads(json_text(odd)) == dict.fromkeys(odd) | {"count": 3}
