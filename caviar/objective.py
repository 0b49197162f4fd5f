"""What a trial trains and measures: the interface that classifiers and functions implement."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from caviar.resources import Resources
from caviar.space import Space
from caviar.trial import Value

if TYPE_CHECKING:
    from caviar.data.splits import Dataset
    from caviar.engine import Engine


class Objective(ABC):
    """What a trial trains and measures. Implementations are frozen values that can be pickled."""

    @property
    @abstractmethod
    def metric(self) -> str:
        """The metric whose last measurement is the trial's value; always of the dev split."""

    @property
    @abstractmethod
    def maximize(self) -> bool:
        """Whether more of the metric is better."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """The metrics of each measurement, in the order of the curves' columns."""

    @property
    def in_parts(self) -> bool:
        """Whether a trial can train a few epochs, give back its state, and go on from there later."""
        return False

    @property
    def resources(self) -> Resources | None:
        """What each worker is given; None for a core, or a whole GPU."""
        return None

    @property
    def time_limit_s(self) -> float | None:
        """A trial that takes longer is killed."""
        return None

    @abstractmethod
    def adapt(self, space: Space) -> Space:
        """The space with the conditions that the objective knows of.

        Raises:
            StudyError: a parameter that the objective does not have, or a value outside its limits.
        """

    @abstractmethod
    def load(self) -> "Dataset | None":
        """Read and split the data; None where the objective brings its own."""

    @abstractmethod
    def make_engine(self, dataset: "Dataset | None", device: str) -> "Engine":
        """What trains the trials on this device ("cpu" or "cuda"), in the worker's process."""

    @abstractmethod
    def costs(
        self, params: Mapping[str, Value], epochs: int, dataset: "Dataset | None"
    ) -> Mapping[str, float]:
        """Predicted seconds of a trial on each device ("cpu" and "cuda").

        Only ratios need to be right, between trials and, in the beginning, between devices: finished trials tell
        how fast each really is.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """A plain form for `study.json`, in which two different objectives differ."""
