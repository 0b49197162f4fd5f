"""What the user declares: a study is an objective, a space, rounds and a seed."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caviar.errors import StudyError
from caviar.fingerprint import identity
from caviar.objective import Objective
from caviar.retries import Retries
from caviar.rounds import Confirmation as Confirmation
from caviar.rounds import Halving as Halving
from caviar.rounds import Narrowing as Narrowing
from caviar.rounds import Round as Round
from caviar.rounds import Stages, confirmation_of
from caviar.rounds import coarse_to_fine as coarse_to_fine
from caviar.space import Space, plain_value
from caviar.trial import derive_seed

if TYPE_CHECKING:
    from caviar.records.frames import Run

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


SamplerFactory = Callable[[int], Any]
"""Given a seed, an Optuna sampler."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """One search.

    Args:
        name: the name of its run directory.
        objective: what a trial trains and measures, such as `Classifier`.
        space: what may vary.
        rounds: `coarse_to_fine(...)`, or a list of `Round`s with a `Confirmation` at its end; where there is none,
            the best few are confirmed by trainings that come on top, a fifth of them all at most.
        seed: all draws and all trainings follow from it.
        narrowing: how the space narrows between rounds.
        sampler: "random", "qmc" (scrambled Sobol), "tpe", or a function from a seed to any Optuna sampler.
            Within a round, samplers see the results of the rounds before.
        retries: how often a trial is tried again, by what went wrong.

    Raises:
        StudyError, SpaceError: what cannot run is refused here, before any work starts.

    Example:
        >>> import caviar as cv
        >>> study = cv.Study(
        ...     name="digits",
        ...     objective=cv.Classifier(data="sklearn:digits"),
        ...     space=cv.Space(learning_rate=cv.log(1e-4, 1.0)),
        ...     rounds=cv.coarse_to_fine(trials=500, epochs=20),
        ... )
    """

    name: str
    objective: Objective
    space: Space
    rounds: Stages
    seed: int = 0
    narrowing: Narrowing = field(default_factory=Narrowing)
    sampler: str | SamplerFactory = "random"
    retries: Retries = field(default_factory=Retries)

    def __post_init__(self) -> None:
        check_name(self.name)
        if not isinstance(self.objective, Objective):
            raise StudyError(
                f"Study {self.name}: objective must be a caviar objective, not {self.objective!r}"
            )
        if not isinstance(self.space, Space):
            raise StudyError(f"Study {self.name}: space must be cv.Space(...), not {self.space!r}")
        object.__setattr__(self, "seed", plain_value(self.seed))
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise StudyError(f"Study {self.name}: seed must be a whole number from 0, not {self.seed!r}")
        if not callable(self.sampler) and self.sampler not in ("random", "qmc", "tpe"):
            raise StudyError(
                f"Study {self.name}: sampler={self.sampler!r} is unknown; use "
                '"random", "qmc", "tpe" or a function that makes an Optuna sampler from a seed'
            )
        if isinstance(self.sampler, type):
            raise StudyError(
                f"Study {self.name}: sampler={self.sampler.__name__} is a class, which would not be seeded; "
                f"use lambda seed: {self.sampler.__name__}(seed=seed)"
            )
        if not isinstance(self.narrowing, Narrowing):
            raise StudyError(
                f"Study {self.name}: narrowing must be cv.Narrowing(...), not {self.narrowing!r}"
            )
        if not isinstance(self.retries, Retries):
            raise StudyError(f"Study {self.name}: retries must be cv.Retries(...), not {self.retries!r}")
        object.__setattr__(self, "rounds", _checked_stages(self.name, self.rounds))
        object.__setattr__(self, "space", self.objective.adapt(self.space))
        if any(r.halving for r in self.search_rounds) and not self.objective.in_parts:
            raise StudyError(
                f"Study {self.name}: halving gives a trial a few epochs first and more later, and this objective "
                "cannot go on: a function can if it takes the trial, as in def train(params, trial): ..."
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Study) and _equal(vars(self), vars(other))

    @property
    def search_rounds(self) -> tuple[Round, ...]:
        """The rounds without the confirmation."""
        return tuple(stage for stage in self.rounds if isinstance(stage, Round))

    @property
    def confirmation(self) -> Confirmation:
        """What is trained again before a winner is named."""
        last = self.rounds[-1]
        assert isinstance(last, Confirmation)
        return last

    def to_json(self) -> dict[str, Any]:
        """What was asked, in a plain form: two studies are the same if and only if these are equal."""
        sampler = self.sampler if isinstance(self.sampler, str) else _sampler_text(self.sampler)
        return {
            "name": self.name,
            "objective": _plain_form(self.objective.describe()),
            "space": self.space.to_json(),
            "rounds": [_round_to_json(r) for r in self.search_rounds],
            "confirmation": {"top": self.confirmation.top, "seeds": self.confirmation.seeds},
            "narrowing": {name: getattr(self.narrowing, name) for name in Narrowing.__slots__},
            "sampler": sampler,
            "retries": {name: getattr(self.retries, name) for name in Retries.__slots__},
            "seed": self.seed,
        }

    def trial_seed(self, round_number: int, index: int, replicate: int = 0) -> int:
        """The seed of a trial's training: it depends on its place in the study alone."""
        return derive_seed(self.seed, "trial", round_number, index, replicate)

    def run(
        self,
        *,
        workers: int | None = None,
        gpus: int | None = None,
        address: str = "local",
        runs: str | Path = "runs",
        name: str | None = None,
        progress: bool = True,
    ) -> "Run":
        """Run the study to its end; it never overwrites an earlier run.

        Args:
            workers: CPU workers; one a core by default.
            gpus: GPU workers; all that the cluster has by default.
            address: "local" starts a Ray cluster of its own, "auto" finds a running one, HOST:PORT names one.
            runs: the folder of run directories, or its URI, such as "s3://bucket/runs".
            name: the run directory's name; by default the study's, numbered if it is taken.
            progress: show live progress and the result.

        Returns:
            The finished run: `.trials`, `.curves`, `.rounds`, `.best`.

        Raises:
            CaviarError: what cannot be done, in a sentence; what was recorded stays intact.
        """
        from caviar import runner

        return runner.run_study(
            self,
            workers=workers,
            gpus=gpus,
            address=address,
            runs=runs,
            name=name,
            progress=progress,
            script=runner.calling_script(),
        )

    def resume(
        self,
        run: str | Path,
        *,
        workers: int | None = None,
        gpus: int | None = None,
        address: str = "local",
        progress: bool = True,
    ) -> "Run":
        """Go on with an interrupted run of this study; the frames come out as if nothing had happened.

        Args:
            run: its run directory, or its URI.
            workers: as for `run`; where and how fast may differ from before.
            gpus: likewise.
            address: likewise.
            progress: likewise.

        Raises:
            RunError: not a run directory, one of another study or version, or in use.
        """
        from caviar import runner

        return runner.resume_study(self, run, workers=workers, gpus=gpus, address=address, progress=progress)


def check_name(name: str) -> str:
    """The name, if it can be that of a run directory and cannot leave its folder.

    Raises:
        StudyError: it cannot.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise StudyError(
            f"the name {name!r} cannot name a run directory: use letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit"
        )
    return name


def _checked_stages(study: str, stages: Stages) -> tuple[Round | Confirmation, ...]:
    found = tuple(stages) if isinstance(stages, Sequence) else (stages,)
    if found and isinstance(found[-1], Confirmation):
        stages, confirmation = found[:-1], found[-1]
    else:
        stages, confirmation = found, None
    if not stages:
        raise StudyError(
            f"Study {study}: rounds is empty; try rounds=cv.coarse_to_fine(trials=200, epochs=20)"
        )
    rounds = [stage for stage in stages if isinstance(stage, Round)]
    for stage in stages:
        if not isinstance(stage, Round):
            raise StudyError(
                f"Study {study}: {stage!r} is not a Round; rounds come first, one Confirmation at the end"
            )
    return (*rounds, confirmation or confirmation_of(rounds))


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are equal, in which arrays may stand: those compare by their content."""
    if one is other or type(one) is not type(other):
        return one is other
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if is_dataclass(one):
        return all(_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one) if f.compare)
    if hasattr(one, "__array__"):
        import numpy as np

        return np.array_equal(one, other)
    return bool(one == other)


def _plain_form(described: Any) -> Any:
    """What an objective says of itself, with Python numbers in place of NumPy's."""
    if isinstance(described, Mapping):
        return {name: _plain_form(value) for name, value in described.items()}
    if isinstance(described, list | tuple):
        return [_plain_form(value) for value in described]
    return plain_value(described)


def _round_to_json(this: Round) -> dict[str, Any]:
    plain: dict[str, Any] = {"trials": this.trials, "epochs": this.epochs}
    if this.halving is not None:
        rungs = list(this.halving.ends(this.epochs))
        plain["halving"] = {"keep": this.halving.keep, "rungs": rungs, "cohort": this.halving.cohort}
    return plain


def _sampler_text(function: SamplerFactory) -> str:
    """Return a sampler function's name and the digest that tells it from others of that name."""
    known = identity(function)
    return f"function {known['name']} {known['source']}"
