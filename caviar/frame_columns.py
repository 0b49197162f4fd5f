"""The columns of every frame of a run, each with its type, its unit and its meaning: the one place that says so.

`Run.schema` and `caviar show --schema` print them, and the files and frames are made from them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from caviar.columns import ColumnType, column_type, param_column
from caviar.space import Parameter, Space


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a frame."""

    name: str
    type: ColumnType
    meaning: str
    unit: str = ""
    """Unit of its numbers; empty for text and for counts."""
    optional: bool = False
    """True if cells may be empty."""

    @property
    def dtype(self) -> str:
        """Its type in pandas. Integers with empty cells are floats there, which are exact up to 2**53.

        Example:
            >>> [Column("confirms", "int64", "", optional=optional).dtype for optional in (False, True)]
            ['int64', 'float64']
        """
        if self.optional and self.type in ("int64", "bool"):
            return "float64" if self.type == "int64" else "boolean"
        return {"string": "str", "time": "datetime64[us, UTC]", "list": "object"}.get(self.type, self.type)


_BEFORE_PARAMS = (
    Column("trial", "int64", "Number of the trial, from 0: the same in every run of the study. It has gaps."),
    Column("round", "int64", "Number of its round, step of the search or step of the confirmation, from 1."),
    Column(
        "stage", "string", "Purpose: search, confirmation (a contender trained again), or final (winner)."
    ),
    Column("outcome", "string", "How it ended: completed, stopped (by halving), diverged or failed."),
    Column(
        "value",
        "float64",
        "The number that ranks it: the study's metric after its last epoch.",
        optional=True,
    ),
)
_TIMES = (
    Column("queue_s", "float64", "From being drawn to being sent to the worker that trained it.", "s"),
    Column("dispatch_s", "float64", "The worker was idle and waited for its message or checkpoint.", "s"),
    Column("setup_s", "float64", "Building the model and its random streams, and packing the results.", "s"),
    Column("train_s", "float64", "Training and evaluating.", "s"),
    Column("record_s", "float64", "The driver's work to record it: its share of its batch.", "s"),
)
TIMES = tuple(column.name for column in _TIMES)
"""Columns of the seconds that a trial took (`caviar.trial.Times`)."""
_CIRCUMSTANCES = (
    Column("engine", "string", "Engine that trained it; empty text if its worker was lost."),
    Column(
        "device", "string", "Device that it was trained on: cpu or cuda; empty text if its worker was lost."
    ),
    Column("worker", "string", "Name of the worker; empty text if it was lost."),
    Column("node", "string", "Host name of the worker's machine; empty text if its worker was lost."),
    Column("attempt", "int64", "Number of the attempt that is recorded, from 1."),
    *_TIMES,
    Column("started", "time", "When its worker began it, in UTC.", optional=True),
    Column("ended", "time", "When its worker was done with it, in UTC.", optional=True),
)
CIRCUMSTANCES = tuple(column.name for column in _CIRCUMSTANCES)
"""Columns that say where, when and how fast a trial was trained. All others are the same in every run (law 1)."""
PANDA_COLUMNS = (
    Column(
        "parent",
        "int64",
        "Sessions of caviar panda alone: number of the trial that it continues; empty from the first epoch.",
        optional=True,
    ),
    Column(
        "parent_epoch",
        "int64",
        "Sessions of caviar panda alone: epoch of that trial from which it continues.",
        "epochs",
        optional=True,
    ),
)
"""Columns that the trials of a session of `caviar panda` have before all others that follow their metrics."""
INTERVENTION_COLUMNS = (
    Column("time", "time", "When it was said, in UTC."),
    Column("trial", "int64", "Number of the branch that was trained; empty before the first.", optional=True),
    Column("epoch", "int64", "Epoch after which it was said; 0 before the first.", "epochs"),
    Column("command", "string", "The command: a change of a hyperparameter, a step back, a note and so on."),
)
"""Columns of `Run.interventions`: one row a command of the user of `caviar panda`."""
_AFTER_METRICS = (
    Column("test_accuracy", "float64", "Accuracy on the test split; the final trial alone.", optional=True),
    Column(
        "test_loss", "float64", "Mean loss on the test split; the final trial alone.", "nats", optional=True
    ),
    Column("epochs", "int64", "Epochs that it was to train.", "epochs"),
    Column("epochs_trained", "int64", "Epochs that it trained.", "epochs"),
    Column("seed", "int64", "Seed of all randomness in its training."),
    Column("learned_from", "int64", "Trials numbered below this decided about it; 0 if none did.", "trials"),
    Column("confirms", "int64", "Number of the search trial that it trains again.", optional=True),
    Column(
        "failure", "string", "Why it failed or diverged, or why the winner has no test score.", optional=True
    ),
    *_CIRCUMSTANCES,
)
_PARAM_TEMPLATE = Column(
    "params_<name>",
    "float64",
    "A hyperparameter, one column each; empty where its condition does not hold. Numbers are float64 or int64, "
    "choices bool, int64, float64 or string; options of several kinds are JSON.",
    optional=True,
)
_METRIC_TEMPLATE = Column("<metric>", "float64", "A metric that the objective measures.", optional=True)
_CLASSIFIER_METRICS = {
    column.name: column
    for column in (
        Column("train_loss", "float64", "Mean cross-entropy on the train split", "nats", optional=True),
        Column("dev_loss", "float64", "Mean cross-entropy on the dev split", "nats", optional=True),
        Column("dev_accuracy", "float64", "Share of dev rows that are classified rightly", optional=True),
        Column("learning_rate", "float64", "Learning rate of the epoch", optional=True),
    )
}
_LAYER_STATISTICS = {
    f"{name}_{layer}": Column(f"{name}_{layer}", "float64", f"Hidden layer {layer}: {meaning}", optional=True)
    for layer in range(1, 21)  # the most that a network has
    for name, meaning in {
        "z_mean": "mean of z, before batch norm, over dev rows and units",
        "z_std": "standard deviation of z, before batch norm, over dev rows and units",
        "z_tilde_mean": "mean of what its activation receives, over dev rows and units",
        "z_tilde_std": "standard deviation of what its activation receives, over dev rows and units",
        "batch_mean_noise": "root mean square of (mean of z in a mini-batch - in all train rows) / std",
        "batch_std_noise": "root mean square of (std of z in a mini-batch - in all train rows) / std",
    }.items()
}
_MODULE_METRICS = {
    **_CLASSIFIER_METRICS,
    **{
        f"{split}_loss": Column(
            f"{split}_loss",
            "float64",
            f"Mean loss, the sum of its terms, on the {split} split",
            optional=True,
        )
        for split in ("train", "dev")
    },
}
_CURVES = (
    Column("trial", "int64", "Number of the trial."),
    Column("epoch", "int64", "Epochs trained so far, from 1.", "epochs"),
)
ROUND_COLUMNS = (
    Column("round", "int64", "Number of the round, or step of the search, from 1."),
    Column("trials", "int64", "Trials that it draws.", "trials"),
    Column("epochs", "int64", "Epochs that each of them trains.", "epochs"),
    Column("learned_from", "int64", "Trials numbered below this decided about it.", "trials"),
    Column(
        "width", "float64", "Width of the window around an elite value, as a share of the declared range."
    ),
    Column("parameter", "string", "Name of the hyperparameter."),
    Column(
        "low", "float64", "Smallest value that is drawn; numbers alone.", "the parameter's", optional=True
    ),
    Column(
        "high", "float64", "Largest value that is drawn; numbers alone.", "the parameter's", optional=True
    ),
    Column("options", "string", "Options as a JSON list; choices alone.", optional=True),
    Column(
        "action",
        "string",
        "What was decided: declared, narrowed, widened, shifted, weighted, kept or dropped.",
    ),
    Column("before", "string", "Range or weighted options of the round before, in words.", optional=True),
    Column("after", "string", "Range or weighted options of this round, in words."),
    Column("elite", "int64", "Elite trials that decided; empty if declared.", "trials", optional=True),
    Column(
        "elite_low",
        "float64",
        "Smallest value of the elite; numbers alone.",
        "the parameter's",
        optional=True,
    ),
    Column(
        "elite_high",
        "float64",
        "Largest value of the elite; numbers alone.",
        "the parameter's",
        optional=True,
    ),
    Column(
        "counts",
        "list",
        "Elite trials with each option, or in each quarter of the declared range.",
        "trials",
        optional=True,
    ),
    Column("best", "string", "Value of the best elite trial, as JSON.", optional=True),
    Column("reason", "string", "The reason, in words."),
)
"""Columns of `Run.rounds`: one row a parameter and round."""
_BEFORE_CONFIRMED_PARAMS = (
    Column("trial", "int64", "Number of the contender: the search trial that is trained again."),
    Column("winner", "bool", "True for the winner of a finished study."),
    Column("step", "int64", "Last step of the confirmation that it reached, from 1."),
    Column("trainings", "int64", "Number of its fresh trainings that completed, in all steps.", "trainings"),
    Column("failures", "int64", "Number of its fresh trainings that diverged or failed.", "trainings"),
    Column("mean", "float64", "Mean value of its fresh trainings in all steps: it ranks.", optional=True),
    Column(
        "value",
        "float64",
        "Mean value of its fresh trainings in the last step that it reached.",
        optional=True,
    ),
    Column("low", "float64", "Lower end of the 95 % confidence interval of `value`.", optional=True),
    Column("high", "float64", "Upper end of that interval.", optional=True),
    Column("search_value", "float64", "Its value in the search, which is too good: it was chosen for it."),
)
_GIVEN = Column("given", "bool", "True if the study gives its params, by `try_first`: they are not drawn.")
"""A column of the trials of a study that has `try_first`."""
_ORIGIN = Column(
    "origin",
    "string",
    "How its params came about, if the study starts from another run: given (try_first), start (a configuration of "
    "that run), near start, whole space, or search (near the best of this study); empty text for trainings after the "
    "search.",
)
"""A column of the trials of a study that has `start_from`."""
_FIXED_COLUMNS = (*_BEFORE_PARAMS, _GIVEN, _ORIGIN, *PANDA_COLUMNS, *_AFTER_METRICS)
RESERVED = frozenset({"epoch", *(column.name for column in _FIXED_COLUMNS)} - {"value"})
"""Names that no metric may have. `value` is allowed, if it is the metric that ranks trials."""


@dataclass(frozen=True, slots=True)
class FrameColumns:
    """The columns of the frames of one run, or of any run.

    Args:
        space: the space of its study; None for any study.
        metrics: the metrics of its curves; likewise.
        objective: the kind of its objective: the meaning of a classifier's metrics is known.
        has_given: True if the study gives the params of some trials.
        panda: True for a session of `caviar panda`; None for any run.
        has_origin: True if the study starts from another run.
    """

    space: Space | None = None
    metrics: Sequence[str] | None = None
    objective: str = ""
    has_given: bool = False
    panda: bool | None = None
    has_origin: bool = False

    @property
    def trials(self) -> tuple[Column, ...]:
        """Columns of `Run.trials`: one row a finished trial."""
        metrics = tuple(column for column in self._metrics("after its last epoch") if column.name != "value")
        given = (*((_GIVEN,) if self.has_given else ()), *((_ORIGIN,) if self.has_origin else ()))
        of_panda = () if self.panda is False else PANDA_COLUMNS
        return (*_BEFORE_PARAMS, *given, *self._params, *metrics, *of_panda, *_AFTER_METRICS)

    @property
    def curves(self) -> tuple[Column, ...]:
        """Columns of `Run.curves`: one row a trial and epoch."""
        return (*_CURVES, *self._metrics("after this epoch"))

    @property
    def confirmed(self) -> tuple[Column, ...]:
        """Columns of `Run.confirmed`: one row a contender."""
        return (*_BEFORE_CONFIRMED_PARAMS, *self._params)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each column of each frame: `frame`, `column`, `type`, `unit`, `optional`, `meaning`."""
        frames: Mapping[str, Sequence[Column]] = {
            "trials": self.trials,
            "curves": self.curves,
            "rounds": ROUND_COLUMNS,
            "confirmed": self.confirmed,
            "interventions": () if self.panda is False else INTERVENTION_COLUMNS,
        }
        return [
            {
                "frame": frame,
                "column": column.name,
                "type": column.dtype,
                "unit": column.unit,
                "optional": column.optional,
                "meaning": column.meaning,
            }
            for frame, columns in frames.items()
            for column in columns
        ]

    @property
    def _params(self) -> tuple[Column, ...]:
        if self.space is None:
            return (_PARAM_TEMPLATE,)
        return tuple(
            Column(
                param_column(name),
                column_type(parameter.domain),
                f"Hyperparameter {name}: {_domain_text(parameter)}.",
                optional=bool(parameter.when),
            )
            for name, parameter in self.space.items()
        )

    def _metrics(self, moment: str) -> tuple[Column, ...]:
        if self.metrics is None:
            return (_METRIC_TEMPLATE,)
        known = {"classifier": _CLASSIFIER_METRICS | _LAYER_STATISTICS, "module": _MODULE_METRICS}.get(
            self.objective, {}
        )
        columns = (
            known.get(name, Column(name, "float64", f"Metric {name} of the objective", optional=True))
            for name in self.metrics
        )
        return tuple(
            Column(c.name, c.type, f"{c.meaning}, {moment}.", c.unit, optional=True) for c in columns
        )


def _domain_text(parameter: Parameter) -> str:
    """Return a parameter's range or options, and its condition, in words."""
    conditions = (f"{other} is {' or '.join(map(str, allowed))}" for other, allowed in parameter.when.items())
    return ", if ".join(filter(None, (str(parameter.domain), " and ".join(conditions))))
