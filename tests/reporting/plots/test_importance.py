"""Tests of caviar/reporting/plots/importance.py and contours.py."""

import numpy as np
import pytest

import caviar as cv
from caviar.records.frames import Run
from tests.reporting.plots.runs import with_trials


def test_bars_are_those_of_the_frame(run: Run) -> None:
    found = run.importance()
    bars = run.plot.importance().data[0]
    assert bars.x.tolist() == found["importance"].dropna().tolist()
    assert [bool(shape) for shape in bars.marker.pattern.shape] == [
        not sure for sure in found.loc[found["importance"].notna(), "reliable"]
    ]


def test_pairs_of_named_parameters_are_drawn(run: Run) -> None:
    figure = run.plot.contours(["rate", "beta"])
    bins, best = figure.data
    search = run.trials.query("stage == 'search' and outcome == 'completed'")
    assert np.nansum(bins.customdata[..., 1]) == search["params_beta"].notna().sum()
    assert 0 < len(best.x) <= 10


def test_pairs_that_few_trials_have_are_left_out(run: Run) -> None:
    beta = run.trials["params_beta"]
    part = with_trials(run, run.trials.assign(params_beta=beta.where(beta.notna().cumsum() < 5)))
    drawn = [title.text for title in part.plot.contours().layout.annotations]
    assert any("rate" in title for title in drawn)
    assert not any("beta" in title for title in drawn)
    assert "both" in part.plot.contours(["rate", "beta"]).layout.annotations[0].text


def test_unknown_parameters_are_refused(run: Run) -> None:
    with pytest.raises(cv.RunError, match="rate"):
        run.plot.contours(["rat", "beta"])


def test_importance_of_a_method_can_be_given(run: Run) -> None:
    found = run.importance(method="fanova")
    assert run.plot.importance(found).data[0].x.tolist() == found["importance"].dropna().tolist()
