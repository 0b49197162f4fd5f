"""Tests of caviar/reporting/plots/curves.py."""

import numpy as np
import pytest

import caviar as cv
from caviar.records.frames import Run


def test_curves_of_an_outcome_are_one_line_with_gaps(run: Run) -> None:
    figure = run.plot.curves()
    lines = [trace for trace in figure.data if trace.type == "scattergl" and trace.hoverinfo == "skip"]
    assert len(lines) == 2
    curves = sum(np.isnan(line.y).sum() + 1 for line in lines)
    best = sum(trace.legendgroup == "best" for trace in figure.data)
    search = run.trials.query("stage == 'search' and epochs_trained > 0")
    assert curves + best == len(search)


def test_other_metrics_can_be_drawn(run: Run) -> None:
    assert run.plot.curves("speed").layout.yaxis.title.text == "speed"


def test_unknown_metrics_are_refused(run: Run) -> None:
    with pytest.raises(cv.RunError, match="speed"):
        run.plot.curves("accuracy")
