"""Exports that follow a run."""

from pathlib import Path

from caviar.exports.following import follow
from caviar.exports.optuna_study import OptunaExport
from tests.objectives import bowl_study
from tests.runs import resume_inline, run_until_failure


def test_a_run_is_followed_to_its_end(tmp_path: Path) -> None:
    study = bowl_study(rounds=(12, 8))
    run = run_until_failure(study, tmp_path)
    export = OptunaExport(run)
    updates = follow(run, export, every_s=0.01)
    begun = next(updates)
    assert 0 < begun < 20
    assert next(updates) == 0
    assert list(follow(run, export, None)) == [0]
    finished = resume_inline(study, run.path)
    assert begun + sum(updates) == (finished.trials["stage"] == "search").sum()
    assert export.study().user_attrs["winner"]
