"""The figures of a run as methods: `run.plot.history()`."""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from caviar.analysis.history import Order
from caviar.optional_packages import packages_of

if TYPE_CHECKING:
    import pandas as pd

    from caviar.records.frames import Run

Figure = Any
"""A `plotly.graph_objects.Figure`: notebooks show it, `figure.write_image("history.svg")` saves it."""


class RunPlots:
    """The figures of a run, drawn with plotly (`pip install 'caviar[report]'`).

    A notebook shows them. `figure.write_html("history.html")` saves an interactive page, and
    `figure.write_image("history.svg")` an image (`pip install 'caviar[images]'`, and Chrome or Chromium).

    Example:
        >>> run = load("runs/digits")  # doctest: +SKIP
        >>> run.plot.history()  # doctest: +SKIP
        >>> run.plot.history().update_layout(template="caviar_dark")  # doctest: +SKIP
    """

    def __init__(self, run: "Run") -> None:
        self._run = run

    def history(self, against: Order = "trial") -> Figure:
        """Draw the value of each trial of the search, the best so far, and the winner.

        Args:
            against: "trial" for the trials' numbers, "time" for the time at which each ended.

        Raises:
            RunError: `against` is neither.
        """
        return self._draw("history", against)

    def rounds(self) -> Figure:
        """Draw how the space narrowed from round to round, or step to step, and the elite that it narrowed to."""
        return self._draw("rounds")

    def slices(self) -> Figure:
        """Draw the value of each trial of the search against each parameter, on the parameter's scale."""
        return self._draw("slices")

    def parallel(self, best: int | None = None) -> Figure:
        """Draw each trial of the search as a line through its params and its value. Ranges of an axis can be brushed.

        Args:
            best: number of the best trials that are in colour at first; by default all are.

        Raises:
            RunError: `best` is less than 1.
        """
        return self._draw("parallel", best)

    def contours(self, parameters: Sequence[str] | None = None) -> Figure:
        """Draw the median value of the trials over pairs of parameters, where there are any.

        Args:
            parameters: the parameters whose pairs are drawn; by default the most important ones.

        Raises:
            RunError: the run has no such parameter.
        """
        return self._draw("contours", parameters)

    def curves(self, metric: str | None = None) -> Figure:
        """Draw learning curves of the search by outcome, with those of the best trials on top.

        Args:
            metric: the metric; by default the one that ranks trials.

        Raises:
            RunError: the run has no such metric.
        """
        return self._draw("curves", metric)

    def importance(self, found: "pd.DataFrame | None" = None) -> Figure:
        """Draw how much each parameter mattered, with intervals.

        Args:
            found: what `run.importance(...)` returned, such as that of a round; by default that of `run.importance()`.
        """
        return self._draw("importance", found)

    def confirmation(self) -> Figure:
        """Draw the contenders of the confirmation: fresh trainings with intervals, beside their search values."""
        return self._draw("confirmation")

    def timeline(self) -> Figure:
        """Draw what the workers did over time, how well all of them were used, and where the seconds went."""
        return self._draw("timeline")

    def confusion(self) -> Figure:
        """Draw how many test rows of each class the winner predicted as each class."""
        return self._draw("confusion")

    def calibration(self) -> Figure:
        """Draw how often the winner is right against its confidence, on the test rows."""
        return self._draw("calibration")

    def _draw(self, name: str, *options: Any) -> Figure:
        """Draw the figure of a module beside this one, which imports plotly.

        Raises:
            MissingPackageError: plotly is not installed.
        """
        with packages_of("report"):
            module = import_module(f"caviar.reporting.plots.{name}")
        return module.figure(self._run, *options)
