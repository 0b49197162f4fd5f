"""Values as figures show them: an accuracy as its error, and errors and losses on a log scale."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from caviar.records.frames import Run
from caviar.trial import Outcome, Stage

Numbers = npt.NDArray[np.float64]
MAX_SHOWN = 1e37
"""Largest number that is shown: figures hold numbers of 32 bits."""
MIN_DECADES = 0.3
"""Range of the values in decades from which a log scale shows more than a linear one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueScale:
    """The scale of a metric in a figure, and the range in which most of its values lie.

    Example:
        >>> scale = ValueScale.of_values("dev_accuracy", [0.5, 0.9, 0.99], maximize=True)
        >>> scale.name, scale.is_log, scale.shown([0.99]).round(2).tolist()
        ('dev_error', True, [0.01])
    """

    name: str
    """Name of the metric that is shown."""
    is_error: bool
    """True if 1 - value is shown."""
    is_log: bool
    maximize: bool
    """True if larger numbers are better, as they are shown."""
    low: float
    """Lower limit of the axis, in what is shown."""
    high: float
    """Upper limit of the axis: poor values beyond it are drawn at the edge."""
    floor: float = -np.inf
    """Smallest number that is shown: an error of 0 has no place on a log scale."""

    @classmethod
    def of_run(cls, run: Run) -> "ValueScale":
        """Return the scale for the values of a run's search trials."""
        trials = run.trials
        completed = trials[(trials["stage"] == Stage.SEARCH) & (trials["outcome"] == Outcome.COMPLETED)]
        values = completed["value"] if completed["value"].notna().any() else trials["value"]
        return cls.of_values(run.metric, values.to_numpy(), run.study_file.maximize)

    @classmethod
    def of_values(
        cls, metric: str, values: npt.ArrayLike, maximize: bool, poorest: float = 0.1, log: bool = True
    ) -> "ValueScale":
        """Return the scale for values of a metric.

        Args:
            metric: its name. If it ends with "accuracy", the error is shown.
            values: the values; those that are not finite do not count.
            maximize: True if larger values are better.
            poorest: share of the values that may lie beyond the axis.
            log: use a log scale where it shows more.
        """
        is_error = metric.endswith("accuracy")
        numbers = np.asarray(values, dtype=float)
        numbers = numbers[np.isfinite(numbers)].clip(-MAX_SHOWN, MAX_SHOWN)
        numbers = 1 - numbers if is_error else numbers
        scale = cls(
            name=metric.replace("accuracy", "error") if is_error else metric,
            is_error=is_error,
            is_log=False,
            maximize=maximize and not is_error,
            low=0.0,
            high=1.0,
        )
        if len(numbers) == 0:
            return scale
        usual = scale._usual(numbers, poorest)
        positive = numbers[numbers > 0]
        if log and not scale.maximize and numbers.min() >= 0 and len(positive):
            least = float(positive.min())
            if np.log10(max(usual[1], least) / least) >= MIN_DECADES:
                floor = least / 2 if numbers.min() == 0 else least
                low, high = max(usual[0], floor), max(usual[1], floor)
                margin = (high / low) ** 0.05
                return replace(scale, is_log=True, floor=floor, low=low / margin, high=high * margin)
        margin = (usual[1] - usual[0]) / 20 or abs(usual[0]) / 20 or 1.0
        return replace(scale, low=usual[0] - margin, high=usual[1] + margin)

    def _usual(self, numbers: Numbers, poorest: float) -> tuple[float, float]:
        """Return the range of all numbers but the poorest ones."""
        if self.maximize:
            return float(np.quantile(numbers, poorest)), float(numbers.max())
        return float(numbers.min()), float(np.quantile(numbers, 1 - poorest))

    def shown(self, values: npt.ArrayLike) -> Numbers:
        """Return the numbers that are drawn for values."""
        numbers: Numbers = np.asarray(values, dtype=float)
        shown: Numbers = np.maximum(1 - numbers if self.is_error else numbers, self.floor)
        return shown.clip(-MAX_SHOWN, MAX_SHOWN)

    def clipped(self, values: npt.ArrayLike) -> Numbers:
        """Return the numbers that are drawn for values, the poor ones at the edge of the axis."""
        shown = self.shown(values)
        clipped: Numbers = np.maximum(shown, self.low) if self.maximize else np.minimum(shown, self.high)
        return clipped

    def positions(self, shown: npt.ArrayLike) -> Numbers:
        """Return the positions of numbers that are shown: their logarithms on a log scale."""
        numbers: Numbers = np.asarray(shown, dtype=float)
        if self.is_log:
            numbers = np.log10(numbers)
        return numbers

    @property
    def worst(self) -> float:
        """The edge of the axis at which trials without a value are drawn."""
        return self.low if self.maximize else self.high


def search_trials(run: Run) -> pd.DataFrame:
    """Return the search trials of a run."""
    return run.trials[run.trials["stage"] == Stage.SEARCH]
