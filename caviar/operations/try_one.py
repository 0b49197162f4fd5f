"""One trial in this process: a function or a space is tried before anything is distributed.

A halving pauses trials and continues them from a checkpoint. Such a study's trial is therefore trained twice here, in
one part and in two, and the two must agree.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import pandas as pd

from caviar.backends.objective_pickle import pickle_objective
from caviar.engine import Engine, Part, PartDone, Progress
from caviar.errors import StudyError
from caviar.plurals import counted
from caviar.search.sampling import require_sampler
from caviar.search.stages import open_stage
from caviar.space_draws import fill
from caviar.study import Study
from caviar.trial import Measurement, Outcome, Trial, Value, derive_seed
from caviar.validation import plain_value, require_type, whole_number

TOLERANCE = 1e-4
"""Largest relative difference of values that does not count as one: a GPU does not repeat the last digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedTrial:
    """A trial that `Study.try_one` has trained."""

    params: Mapping[str, Value]
    """Hyperparameters that it was trained with."""
    outcome: Outcome
    """`completed`, or `diverged` if the value is not finite or the loss exploded."""
    value: float
    """Number that would rank it: the study's metric after the last epoch."""
    curve: pd.DataFrame
    """Metrics, one row an epoch."""
    train_s: float
    """Seconds of training."""
    failure: str | None = None
    """Description in one line of why it diverged; else None."""

    def __str__(self) -> str:
        epochs = counted(len(self.curve), "epoch")
        reason = f" ({self.failure})" if self.failure else ""
        return f"{self.outcome}{reason}: value {self.value:.6g} after {epochs} in {self.train_s:.2f} s"


def try_one(study: Study, params: Mapping[str, Value] | None = None, epochs: int | None = None) -> TriedTrial:
    """Train one trial of a study in this process and thread.

    Args:
        study: the study.
        params: hyperparameters of the trial, also outside the space; those left out are drawn.
        epochs: epochs to train for; those of the first round by default.

    Raises:
        StudyError: a name is not in the space, a parameter does not apply, the constraints refuse the params, the
            objective cannot be sent to workers, or the trial failed.
        Exception: whatever the user's function raises.
    """
    require_sampler(study)
    pickle_objective(study.objective)
    trial = _choose_trial(study, params, epochs)
    dataset = study.objective.load()
    train_and_dev = None if dataset is None else dataset.without_test()
    engine = study.objective.make_engine(train_and_dev, "cpu")
    measurements, end = _train(engine, Part(trial=trial, keep_checkpoint=study.objective.has_checkpoints))
    if not measurements:
        raise StudyError(f"study {study.name}: the trial ended without a measurement")
    value = float(measurements[-1].metrics[study.objective.metric])
    is_finite = end.outcome is Outcome.COMPLETED and math.isfinite(value)
    if is_finite and any(this.halving for this in study.search_rounds):
        _compare_with_parts(study, engine, trial, measurements)
    return TriedTrial(
        params=trial.params,
        outcome=Outcome.COMPLETED if is_finite else Outcome.DIVERGED,
        value=value,
        curve=_frame(study.objective.metric_names, measurements),
        train_s=end.train_s,
        failure=end.failure if end.failure or is_finite else f"{study.objective.metric} is not finite",
    )


def _choose_trial(study: Study, params: Mapping[str, Value] | None, epochs: int | None) -> Trial:
    """Return the first trial of the study, with the user's params and epochs."""
    first = next(open_stage(study, 1, pd.DataFrame(), None).trials)
    if epochs is not None:
        first = replace(first, epochs=whole_number("try_one: epochs", epochs, 1))
    if params is None:
        return first
    require_type("try_one: params", params, Mapping, 'a dict such as {"learning_rate": 0.1}')
    given = {name: plain_value(value) for name, value in params.items()}
    if not given:
        return first
    if unknown := [name for name in given if name not in study.space]:
        raise StudyError(
            f"try_one: the space has no parameter {', '.join(map(repr, unknown))}; it has {', '.join(study.space)}"
        )
    random = Random(derive_seed(study.seed, "try_one"))
    return replace(first, params=fill(study.space, given, random, "try_one"))


def _train(engine: Engine, part: Part) -> tuple[list[Measurement], PartDone]:
    """Return the measurements of a part, the last one of each epoch, and its end."""
    *progress, end = engine.train_openly(part)
    assert isinstance(end, PartDone)
    by_epoch = {p.measurement.epoch: p.measurement for p in progress if isinstance(p, Progress)}
    return list(by_epoch.values()), end


def _frame(metrics: Sequence[str], measurements: Sequence[Measurement]) -> pd.DataFrame:
    rows = [{"epoch": m.epoch, **m.metrics} for m in measurements]
    return pd.DataFrame(rows, columns=["epoch", *metrics])


def _compare_with_parts(study: Study, engine: Engine, trial: Trial, whole: Sequence[Measurement]) -> None:
    """Train a trial again in two parts, and warn if the second part does not continue the first.

    The first part tells whether the training repeats at all: if it does not, the second one is not compared.
    """
    middle = _first_rung(study, trial.epochs)
    if middle is None:
        return
    first, end = _train(engine, Part(trial=trial, until=middle, keep_checkpoint=True))
    if end.checkpoint is None:
        _warn(
            "the trial saves no checkpoint, so halving trains each part from the first epoch: "
            "call trial.save(...) after each epoch, and begin with trial.restore()"
        )
        return
    if first != list(whole[: len(first)]):
        return
    second, _ = _train(engine, Part(trial=trial, checkpoint=end.checkpoint))
    metric = study.objective.metric
    unbroken, restored = (float(part[-1].metrics[metric]) for part in (whole, second or first))
    if not math.isclose(unbroken, restored, rel_tol=TOLERANCE):
        advice = (
            "Keep what training changes in parameters and buffers of the module (register_buffer)"
            if engine.name == "module"
            else "Save all that the training needs, such as trial.save((model, optimizer))"
        )
        _warn(
            f"halving changes what the trial learns: {metric} after epoch {trial.epochs} is {unbroken:.6g} if it is "
            f"trained in one part, and {restored:.6g} if it is paused after epoch {middle} and continued. {advice}"
        )


def _first_rung(study: Study, epochs: int) -> int | None:
    """Return the epoch at which a halving would pause a trial first; None if the trial is too short for a pause."""
    halvings = [this.halving for this in study.search_rounds if this.halving is not None]
    return next((rung for halving in halvings for rung in halving.rung_epochs(epochs) if rung < epochs), None)


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=5)
