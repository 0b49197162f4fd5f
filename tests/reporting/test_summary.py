"""Tests of caviar/reporting/summary.py."""

import io
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import caviar as cv
from caviar.records.fetch import fetch
from caviar.records.frames import Run, load
from caviar.records.ledger import Ledger
from caviar.records.run_files import write_recorded
from caviar.reporting.summary import show
from tests.objectives import Bowl, bowl_study
from tests.runs import run_inline, run_until_failure


def shown(run: Run, *, every_round: bool = False, width: int = 100) -> str:
    """Return the summary without trailing spaces."""
    console = Console(width=width, file=io.StringIO(), record=True)
    show(run, console, every_round=every_round)
    return "\n".join(line.rstrip() for line in console.export_text().splitlines())


def function_run(tmp_path: Path, fn: Any, *rounds: Any, metric: str = "loss", **space: Any) -> Run:
    """Run a study of a function in this process."""
    objective = cv.Function(fn, metric=metric)
    study = cv.Study(name="function", objective=objective, space=cv.Space(**space), rounds=rounds)
    return run_inline(study, tmp_path)


def test_summary_leads_with_the_winner(tmp_path: Path) -> None:
    run = run_inline(bowl_study(), tmp_path)
    best = run.best
    assert best is not None
    first, params, confirmed, *_ = shown(run).splitlines()
    assert first == f"bowl is finished, saved in {run.location}. The winner is trial {best.trial}:"
    assert f"method={best.params['method']}" in params
    assert f"loss {best.value:.4f}, 95% interval" in confirmed


def test_rounds_have_counts_best_and_median(tmp_path: Path) -> None:
    lines = shown(run_inline(bowl_study(), tmp_path)).splitlines()
    header = next(number for number, line in enumerate(lines) if line.startswith("Rounds"))
    assert lines[header].split() == ["Rounds", "trials", "epochs", "completed", "best", "loss", "median"]
    assert lines[header + 1].split()[:4] == ["1", "30", "3", "30"]
    assert lines[header + 3].split()[:2] == ["confirmation", "14"]


def test_what_mattered_comes_after_the_winner(tmp_path: Path) -> None:
    lines = shown(run_inline(bowl_study(), tmp_path)).splitlines()
    header = next(number for number, line in enumerate(lines) if line.startswith("What mattered"))
    assert re.match(r"  rate \d+% \(\d+ \.\. \d+%\)", lines[header + 1])
    assert lines[header + 2].startswith("Rounds")


def test_importance_of_few_trials_is_left_out(tmp_path: Path) -> None:
    assert "What mattered" not in shown(run_until_failure(bowl_study(), tmp_path))


@pytest.mark.parametrize("width", [60, 140])
def test_table_of_rounds_fits_the_terminal(tmp_path: Path, width: int) -> None:
    study = bowl_study(objective=Bowl("raise", frozenset({3})), epochs=9, halving=cv.Halving())
    lines = shown(run_inline(study, tmp_path), width=width).splitlines()
    (header,) = (line.split() for line in lines if line.startswith("Rounds"))
    (row,) = (line.split() for line in lines if re.match(r"  confirmation ", line))
    assert ("best loss" in " ".join(header)) == (width == 140)
    assert ("epochs" in header) == (width == 140)
    assert len(row) == len(header) - (width == 140)  # "best loss" is two words
    assert row[header.index("completed")] == "14"


def test_failures_are_counted_by_cause(tmp_path: Path) -> None:
    failing = bowl_study(objective=Bowl("raise", frozenset({3, 7, 31})))
    assert re.search(r"3 failed +ArithmeticError: two and two are five", shown(run_inline(failing, tmp_path)))
    assert "Not completed" not in shown(run_inline(bowl_study(), tmp_path))


def test_stopped_and_diverged_trials_are_explained(tmp_path: Path) -> None:
    halved = run_inline(bowl_study(epochs=9, halving=cv.Halving()), tmp_path)
    assert "stopped   by halving" in shown(halved)
    diverged = function_run(tmp_path, lambda p: p["x"] or float("nan"), cv.Round(9, 1), x=cv.choice(0.0, 1.0))
    assert "diverged   the loss or metric was not finite" in shown(diverged)


def test_space_is_compared_with_the_last_round(tmp_path: Path) -> None:
    run = run_inline(bowl_study(rounds=(30, 20, 20)), tmp_path)
    last = run.rounds[(run.rounds["round"] == 3) & (run.rounds["parameter"] == "rate")].iloc[0]
    text = shown(run, every_round=True, width=200)
    assert f"0.0001 .. 1 -> {last['after']}" in text
    assert last["reason"] in text


def test_rounds_option_lists_every_change(tmp_path: Path) -> None:
    run = run_inline(bowl_study(rounds=(30, 20, 20)), tmp_path)
    text = shown(run, every_round=True, width=200)
    for number, share in ((2, "40%"), (3, "32%")):
        assert f"Round {number} draws near the best trials, at most {share} of a parameter's" in text
    changed = run.rounds[~run.rounds["action"].isin(["declared", "kept"])]
    assert len(changed) > 2
    assert all(reason in text for reason in changed["reason"])
    assert "step 2 of 2" in text


def test_other_samplers_are_named(tmp_path: Path) -> None:
    run = run_inline(replace(bowl_study(), sampler="qmc"), tmp_path)
    assert "Round 2 draws from these ranges with the sampler qmc" in shown(run, every_round=True)


def test_unfinished_run_says_how_to_continue(tmp_path: Path) -> None:
    run = run_until_failure(bowl_study(), tmp_path, script=Path("bowl.py"))
    best = run.trials.sort_values("value").iloc[0]
    text = shown(run)
    assert text.startswith("bowl is unfinished: ")
    assert "of 50 search trials are recorded" in text
    assert f"caviar resume {run.location.quoted}" in text
    assert f"loss {best['value']:.4f} (trial {best['trial']})" in text


def test_run_of_a_notebook_is_resumed_in_python(tmp_path: Path) -> None:
    run = run_until_failure(bowl_study(), tmp_path)
    assert f"study.resume({str(run.location)!r})" in shown(run)


def test_running_study_is_not_to_be_resumed(tmp_path: Path) -> None:
    run = run_until_failure(bowl_study(), tmp_path)
    with closing(Ledger.reopen(run.location, run.study_file)):
        text = shown(run)
    assert text.startswith("bowl is running (process ")
    assert "caviar resume" not in text


def test_missing_winner_is_reported(tmp_path: Path) -> None:
    copy = fetch(run_inline(bowl_study(), tmp_path / "runs").path, tmp_path / "copy", frames=True)
    assert shown(copy).startswith(
        f"bowl is finished. {tmp_path / 'copy' / 'best'} with the winner is missing."
    )


def test_run_without_trials_is_shown(tmp_path: Path) -> None:
    run = run_until_failure(bowl_study(), tmp_path)
    for segment in (run.path / "trials").iterdir():
        segment.unlink()
    write_recorded(run.location, 0)
    assert "0 of 50 search trials are recorded" in shown(load(run.path))


def test_result_fits_a_terminal_of_24_lines(tmp_path: Path) -> None:
    names = [f"parameter_{number}" for number in range(11)]

    def train(params: dict[str, Any]) -> float:
        if params["size"] == 256 and params["parameter_0"] > 0.5:
            raise ValueError(f"no memory for parameter_1 = {params['parameter_1']:.0f}")
        return float(sum(params[name] for name in names))

    space: dict[str, Any] = {name: cv.linear(0, 1) for name in names} | {"size": cv.choice(32, 256)}
    run = function_run(tmp_path, train, *cv.coarse_to_fine(trials=100, epochs=1), **space)
    assert (run.trials["outcome"] == "failed").any()
    assert len(shown(run, width=80).splitlines()) < 24


def test_middle_rounds_share_a_row(tmp_path: Path) -> None:
    run = run_inline(bowl_study(rounds=(20, 10, 10, 10)), tmp_path)
    rows = [line.split()[:4] for line in shown(run).splitlines()]
    assert ["2", "..", "3", "20"] in rows
    assert ["4", "10", "3", "10"] in rows
    assert ["3", "10", "3", "10"] in [line.split()[:4] for line in shown(run, every_round=True).splitlines()]


@pytest.mark.parametrize("width", [40, 80, 118])
def test_markup_and_control_characters_are_printed_as_text(tmp_path: Path, width: int) -> None:
    def train(params: dict[str, Any]) -> float:
        if params["[red]kind[/]"] == "[/m3]":
            raise ValueError("no [bold]file[/x] \x1b[2J")
        return float(params["opt[adam].lr"])

    run = function_run(
        tmp_path,
        train,
        cv.Round(12, 1),
        cv.Round(8, 1),
        metric="flux[/m2]",
        **{"opt[adam].lr": cv.linear(0, 1), "[red]kind[/]": cv.choice("[a]", "[/m3]", "\x1b[2J")},
    )
    for every_round in (False, True):
        text = shown(run, every_round=every_round, width=width)
        assert "\x1b" not in text
        joined = "".join(text.split())
        in_space = ("[/m3]",) if every_round else ()
        for written in ("flux[/m2]", "opt[adam].lr", "[red]kind[/]", "no[bold]file[/x]", *in_space):
            assert written in joined or width == 40


def test_tiny_values_are_not_shown_as_zero(tmp_path: Path) -> None:
    run = function_run(tmp_path, lambda p: 1e-7 * (1 + p["x"]), cv.Round(8, 1), x=cv.linear(0, 1))
    text = shown(run)
    assert "confirmed  loss 1." in text
    assert "e-07" in text
    assert "0.0000" not in text
