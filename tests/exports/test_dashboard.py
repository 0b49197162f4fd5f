"""The dashboard of Optuna on a run, in a real browser."""

import json
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import caviar as cv
from caviar.exports.dashboard import serve_dashboard
from caviar.exports.optuna_study import OptunaExport
from caviar.records.frames import Run
from tests.browser import chromium, opened
from tests.exports.conftest import HOSTILE
from tests.objectives import bowl_study
from tests.runs import resume_inline, run_until_failure


@pytest.mark.slow
def test_only_this_machine_may_read_the_page(run: Run) -> None:
    with serve_dashboard(run.to_optuna(), 0) as url:
        with urllib.request.urlopen(url) as answer:
            assert b"<html" in answer.read().lower()
        elsewhere = urllib.request.Request(url, headers={"Host": "evil.example:80"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(elsewhere)
        port = int(url.split(":")[2].split("/")[0])
        with pytest.raises(cv.RunError, match="--port"), serve_dashboard(run.to_optuna(), port):
            pass


@pytest.mark.slow
def test_the_dashboard_draws_the_trials(run: Run) -> None:
    study = run.to_optuna()
    moving = next(trial.number for trial in study.trials if "1 - momentum" in trial.params)
    with serve_dashboard(study, 0) as url, chromium() as browser, opened(browser, url) as page:
        page.wait_for_selector("text=exported")
        page.wait_for_selector(".js-plotly-plot .scatterlayer", timeout=120_000)
        page.goto(f"{url}/trials?numbers={moving}")
        page.wait_for_selector("text=1 - momentum", timeout=120_000)
        assert HOSTILE in page.inner_text("body")
        assert page.query_selector("b[onmouseover]") is None


@pytest.mark.slow
def test_the_dashboard_follows_a_running_study(tmp_path: Path) -> None:
    study = bowl_study(rounds=(12, 8))
    run = run_until_failure(study, tmp_path)
    export = OptunaExport(run)
    export.update(run)
    with serve_dashboard(export.study(), 0) as url:
        api = url.replace("/dashboard/", "/api/")
        before = count_trials(api)
        export.update(resume_inline(study, run.path))
        deadline = time.monotonic() + 60  # it looks at the storage every ten seconds
        while (after := count_trials(api)) == before and time.monotonic() < deadline:
            time.sleep(1)
    assert after > before > 0


def count_trials(api: str) -> int:
    with urllib.request.urlopen(api) as answer:
        return len(json.load(answer)["trials"])
