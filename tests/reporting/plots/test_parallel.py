"""Tests of caviar/reporting/plots/parallel.py."""

from caviar.records.frames import Run


def test_best_trials_can_be_brushed(run: Run) -> None:
    value = run.plot.parallel(best=5).data[0].dimensions[-1]
    low, high = value.constraintrange
    assert ((value.values >= low) & (value.values <= high)).sum() == 5


def test_buttons_brush_the_axis_of_values(run: Run) -> None:
    figure = run.plot.parallel()
    values = figure.data[0].dimensions[-1].values
    button = next(b for b in figure.layout.updatemenus[0].buttons if b.label == "best 10")
    (key, [[low, high]]), *_ = button.args[0].items()
    assert key == f"dimensions[{len(run.space)}].constraintrange"
    assert ((values >= low) & (values <= high)).sum() == 10


def test_unused_parameters_have_a_lane(run: Run) -> None:
    beta = run.plot.parallel().data[0].dimensions[list(run.space).index("beta")]
    assert beta.ticktext[0] == "not used"
    lane = beta.tickvals[0]
    search = run.trials.query("stage == 'search' and outcome == 'completed'")
    assert (beta.values == lane).sum() == search["params_beta"].isna().sum() > 0


def test_better_trials_have_larger_numbers_as_colours(run: Run) -> None:
    lines = run.plot.parallel().data[0]
    values = lines.dimensions[-1].values
    assert lines.line.color[values.argmin()] == lines.line.color.max()
