"""The interface between a study and what its trials train."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from caviar.resources import Resources
from caviar.space import Parameter, Space
from caviar.trial import Value

if TYPE_CHECKING:
    from caviar.data.splits import Dataset
    from caviar.engine import Engine


class Objective(ABC):
    """The training and the measurements of each trial of a study.

    An implementation is an immutable value, such as a frozen dataclass. It is pickled and sent to the workers. The
    driver calls `adapt` when the study is declared, then `load` and `rehearse` once, and `costs` for each trial. Each
    worker calls `make_engine` once and trains its trials with that engine (`caviar.engine.Engine`). The shortest
    example is `caviar/training/function/objective.py`.
    """

    @property
    @abstractmethod
    def metric(self) -> str:
        """The name of the metric that ranks trials, by its last measurement. It is measured on the dev split."""

    @property
    @abstractmethod
    def maximize(self) -> bool:
        """True if larger values of the metric are better."""

    @property
    @abstractmethod
    def metric_names(self) -> tuple[str, ...]:
        """The names of all metrics that a measurement has, `metric` among them, in the order of the curves' columns."""

    @property
    def has_checkpoints(self) -> bool:
        """True if a trial can be paused after some epochs and continued later from its checkpoint.

        Halving needs this, and the winner's last checkpoint is handed over.
        """
        return False

    @property
    def refit(self) -> bool:
        """True if the winner's final training learns from the train and the dev split together.

        It has no value then, and its metrics on the dev split (`dev_...`) are not recorded.
        """
        return False

    @property
    def resources(self) -> Resources | None:
        """The resources of each worker; None for one core, or one whole GPU."""
        return None

    @property
    def time_limit_s(self) -> float | None:
        """Seconds after which a trial is killed and counts as failed; None for no limit."""
        return None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the user about a worker's copy: what it cannot keep from later trials."""
        return ()

    @abstractmethod
    def adapt(self, space: Space) -> Space:
        """Return the space with the conditions that the objective adds, such as beta2 only for Adam.

        Raises:
            StudyError: the objective has no parameter of that name, or a value is out of its limits.
        """

    def check(self, params: Mapping[str, Value]) -> None:  # noqa: B027
        """Refuse params that the user gives and that no trial could train.

        Args:
            params: params of the space that `adapt` returned.

        Raises:
            StudyError: no trial could train them.
        """

    def recipe(self, params: Mapping[str, Value]) -> Mapping[str, Value]:
        """Return all hyperparameters of a trial, by default its params; for `best.json`."""
        return dict(params)

    def changeable(self, space: Space, params: Mapping[str, Value]) -> Mapping[str, Parameter]:
        """Return the hyperparameters that may change between two epochs of one training, and what they may become.

        The next epoch continues from the checkpoint of the one before, so a change must fit it: no layer may have
        another size. By default this is all of the space; a change that does not fit then fails as it is tried.

        Args:
            space: the space of the study, as `adapt` returned it.
            params: the hyperparameters with which the training begins.
        """
        del params
        return dict(space)

    @abstractmethod
    def load(self) -> "Dataset | None":
        """Read and split the data, in the driver; return None if the objective reads its own data.

        Trials are ranked on the dev split. The test split is used once, for the winner.

        Raises:
            DataError: the data cannot be found, read or split.
        """

    def rehearse(self, space: Space, dataset: "Dataset | None") -> None:  # noqa: B027
        """Find errors that all trials would have, in the driver, before there are workers.

        Args:
            space: the space of the study, as `adapt` returned it.
            dataset: what `load` returned.

        Raises:
            StudyError: no trial can be trained.
        """

    def for_workers(self) -> "Objective":
        """Return the objective as it is sent to workers, which need no data sources: they get what `load` returned."""
        return self

    def lanes(self, device: str) -> int:
        """Return the largest number of trials that a worker trains at the same time.

        Args:
            device: "cpu" or "cuda".
        """
        del device
        return 1

    def explain(self, draws: Sequence[Mapping[str, Value]], dataset: "Dataset | None") -> tuple[str, str]:
        """Explain how trials are trained on a CPU worker and on a GPU worker, each in a sentence.

        Args:
            draws: points of the space.
            dataset: what `load` returned.
        """
        del draws, dataset
        return "one trial at a time", "one trial at a time"

    @abstractmethod
    def make_engine(self, dataset: "Dataset | None", device: str) -> "Engine":
        """Return the engine that trains trials, in a worker's process.

        Args:
            dataset: what `load` returned.
            device: "cpu" or "cuda".
        """

    @abstractmethod
    def costs(
        self, params: Mapping[str, Value], epochs: int, dataset: "Dataset | None"
    ) -> Mapping[str, float]:
        """Predict the seconds that a trial takes on each device, which decides the order and size of chunks.

        Only ratios matter: between trials, and at the start between devices. The driver then measures the speed of
        each device.

        Args:
            params: the hyperparameters of the trial.
            epochs: epochs that it trains for.
            dataset: what `load` returned.

        Returns:
            Seconds for the keys "cpu" and "cuda".
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return a dict of JSON values for `study.json`; different objectives must return different ones."""
