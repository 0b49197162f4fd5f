"""The declaration of a study: objective, space, rounds and seed."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from caviar.durations import parse_duration
from caviar.errors import StudyError
from caviar.fingerprint import fingerprint
from caviar.notebook_kernel import quiet_notebook
from caviar.objective import Objective
from caviar.retries import Retries
from caviar.rounds import Confirmation, Halving, Narrowing, Round, Search, Stages, default_confirmation
from caviar.space import Space
from caviar.space_draws import complete, refused_share
from caviar.starting_point import StartingPoint
from caviar.trial import Value, derive_seed
from caviar.validation import plain_value, require_type, set_fields, whole_number

if TYPE_CHECKING:
    from caviar.operations.try_one import TriedTrial
    from caviar.records.frames import Run

SamplerFactory = Callable[[int], Any]
"""A function that makes an Optuna sampler from a seed."""
SAMPLERS = ("random", "qmc", "tpe", "grid")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """The declaration of one search.

    Args:
        name: the name of the run directory.
        objective: what each trial trains and measures, such as `Classifier`.
        space: the hyperparameters to search.
        rounds: `coarse_to_fine(...)`, or a list of `Round`s (or `Search`es) with a `Confirmation` at the end. Without
            one, a confirmation is added, as `cv.coarse_to_fine` does.
        seed: determines all draws and all trainings.
        narrowing: how the space narrows between rounds, unless `sampler` is a function.
        sampler: "random"; "qmc", scrambled Sobol points (Owen 1998); "tpe", the tree-structured Parzen estimator
            (Bergstra et al. 2011); "grid", for comparison, a grid of as many points as there are trials, without
            narrowing: each number has the same number of values (one more or less), evenly spaced on its scale, and a
            choice all its options; or a function that makes any Optuna sampler from a seed, such as
            `lambda seed: GridSampler({"layers": [1, 2, 4]}, seed=seed)`. A sampler is made anew for each round and sees
            the results of earlier rounds, not those of its own. The sampler of a function draws every trial, and always
            from the whole space: nothing is narrowed. Optuna has no reverse-log scale: there a sampler sees
            log10(1 - x), while values that it holds itself, such as those of a grid, are x.
        retries: how often a failed trial is tried again, by cause.
        try_first: configurations to train first, each a dict of hyperparameters, in the place of as many draws of the
            search. Those left out are drawn. The search learns from them as from any other trial, and the column
            `given` of the trials says which ones they are.
        start_from: another run, finished or not: its run directory or URI, or a `Run`. Its best few configurations are
            trained first. Until the study has an elite of its own, a third of the draws come from the whole space, and
            the others lie near the best configurations of that run, as far as both spaces have the same parameters and
            values. What is taken is found when the study starts, and recorded in `study.json`. The column `origin` of
            the trials says how each came about, and `run.start_effect` and `caviar show` whether it helped.

    Raises:
        StudyError: a part of the declaration is invalid.
        SpaceError: the objective needs another space, or the constraints refuse nearly all of its draws.

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
    try_first: Sequence[Mapping[str, Value]] = ()
    start_from: "str | Path | Run | StartingPoint | None" = None

    def __post_init__(self) -> None:
        where = f"Study {check_name(self.name)}"
        require_type(
            f"{where}: objective", self.objective, Objective, "an objective such as cv.Classifier(...)"
        )
        require_type(f"{where}: space", self.space, Space, "cv.Space(...)")
        require_type(f"{where}: narrowing", self.narrowing, Narrowing, "cv.Narrowing(...)")
        require_type(f"{where}: retries", self.retries, Retries, "cv.Retries(...)")
        _check_sampler(where, self.sampler)
        set_fields(
            self,
            seed=whole_number(f"{where}: seed", self.seed),
            rounds=_with_confirmation(where, self.rounds),
            space=self.objective.adapt(self.space),
        )
        self.refused  # noqa: B018  draws from the space, and raises what its constraints raise
        set_fields(self, try_first=_check_try_first(where, self.try_first, self.search_rounds))
        _check_start_from(where, self)
        for params in self.given_params:
            self.objective.check(params)
        if any(r.halving for r in self.search_rounds) and not self.objective.has_checkpoints:
            raise StudyError(
                f"{where}: halving pauses trials, and this objective cannot continue a paused trial; "
                "a function can if it takes the trial, as in def train(params, trial): ..."
            )

    @property
    def search_rounds(self) -> tuple[Round | Search, ...]:
        """The rounds and searches without the confirmation."""
        return tuple(stage for stage in self.rounds if not isinstance(stage, Confirmation))

    @property
    def confirmation(self) -> Confirmation:
        """The stage after the last round."""
        last = self.rounds[-1]
        assert isinstance(last, Confirmation)
        return last

    @property
    def search_trials(self) -> int:
        """The number of trials of all rounds and searches."""
        return sum(this.trials for this in self.search_rounds)

    @property
    def start(self) -> StartingPoint | None:
        """The things that the study takes from another run; None if it takes nothing, or has not started."""
        return self.start_from if isinstance(self.start_from, StartingPoint) else None

    @property
    def narrows(self) -> bool:
        """True if the search narrows. A grid and the sampler of a function draw from the whole space to the end."""
        return isinstance(self.sampler, str) and self.sampler != "grid"

    @cached_property
    def refused(self) -> float:
        """The share of the draws from the whole space that its constraints refuse, measured by many draws."""
        return refused_share(self.space)

    @cached_property
    def given_params(self) -> tuple[Mapping[str, Value], ...]:
        """The params of the first trials: of `try_first`, then of `start_from`, with draws of what is left out."""
        start = [] if self.start is None else self.start.first
        named = [(f"try_first[{number}]", given) for number, given in enumerate(self.try_first)]
        named += [
            (f"start_from, configuration {number}", given) for number, given in enumerate(start, start=1)
        ]
        return tuple(
            complete(
                self.space,
                given,
                Random(derive_seed(self.seed, "try_first", number)),
                f"Study {self.name}: {name}",
            )
            for number, (name, given) in enumerate(named)
        )

    def to_json(self) -> dict[str, Any]:
        """Return the declaration in a plain form; two studies are the same if and only if these are equal."""
        plain = {
            "name": self.name,
            "objective": _plain_form(self.objective.describe()),
            "space": self.space.to_json(),
            **stages_to_json(self.rounds),
            "narrowing": asdict(self.narrowing),
            "sampler": self.sampler if isinstance(self.sampler, str) else _describe_function(self.sampler),
            "retries": asdict(self.retries),
            "seed": self.seed,
        }
        if self.space.constraints:
            plain["constraints"] = [fingerprint(constraint) for constraint in self.space.constraints]
        if self.try_first:
            plain["try_first"] = [dict(given) for given in self.try_first]
        if self.start_from is not None:
            start = self.start
            plain["start_from"] = start.to_json() if start else {"source": start_source(self.start_from)}
        return plain

    def try_one(
        self, params: Mapping[str, Value] | None = None, *, epochs: int | None = None
    ) -> "TriedTrial":
        """Train one trial in this process, before anything is distributed.

        Prints appear, breakpoints stop, and an exception of your function has its whole traceback. Nothing is recorded.
        If the rounds use halving, the trial is trained again in two parts, to warn of a checkpoint that lacks
        something, such as the optimizer.

        Args:
            params: hyperparameters of the trial, also outside the space; those left out are drawn. By default those of
                the study's first trial.
            epochs: epochs to train for; by default those of the first round.

        Returns:
            The trial: its `.outcome`, `.value`, and `.curve`, a frame of its metrics with one row an epoch.

        Raises:
            StudyError: a name is not in the space, a parameter does not apply beside the others, the constraints refuse
                the params, the objective cannot be sent to workers, or the trial failed in caviar's own code.
            DataError: the data cannot be found, read or split.
            Exception: whatever your function raises.

        Example:
            >>> import caviar as cv
            >>> def descend(params, trial):
            ...     x, velocity = trial.restore() or (0.0, 0.0)
            ...     for epoch in trial.remaining():
            ...         velocity = 0.5 * velocity - params["learning_rate"] * 2 * (x - 3)
            ...         x += velocity
            ...         trial.report(epoch, loss=(x - 3) ** 2)
            ...         trial.save((x, velocity))
            >>> study = cv.Study(
            ...     name="descent",
            ...     objective=cv.Function(descend, metric="loss"),
            ...     space=cv.Space(learning_rate=cv.log(1e-3, 1.0)),
            ...     rounds=cv.coarse_to_fine(trials=100, epochs=9, halving=cv.Halving()),
            ... )
            >>> tried = study.try_one({"learning_rate": 0.25}, epochs=2)
            >>> print(tried)  # doctest: +ELLIPSIS
            completed: value 0 after 2 epochs in ... s
            >>> print(tried.curve)
               epoch  loss
            0      1  2.25
            1      2  0.00
        """
        quiet_notebook()
        from caviar.operations.try_one import try_one

        return try_one(self, params, epochs)

    def run(
        self,
        *,
        workers: int | None = None,
        gpus: int | None = None,
        address: str = "local",
        runs: str | Path = "runs",
        name: str | None = None,
        time: str | float | None = None,
        progress: bool = True,
    ) -> "Run":
        """Run the study to its end. It never overwrites an earlier run.

        Args:
            time: a time budget, such as "10m", or seconds. Some trials are measured first, and the study gets as many
                as fit in place of those that it declares. The run records the number, so a resumed run has the same.
            workers: number of CPU workers; by default one for each core.
            gpus: number of GPU workers; by default one for each GPU of the cluster.
            address: "local" starts a Ray cluster on this machine, "auto" finds a running one, and HOST:PORT names one.
                "here" trains in this process, without Ray, with one worker: for tiny studies, tests and a debugger.
                The frames are the same. A trial that never ends, takes too much memory or crashes takes the process
                with it; a time limit is checked when a trial has ended.
            runs: folder of the run directories, or its URI, such as "s3://bucket/runs".
            name: name of the run directory; by default the study's name, with a number appended if it exists.
            progress: True shows live progress and prints the result.

        Returns:
            The finished run: `.trials`, `.curves`, `.rounds`, `.best`.

        Raises:
            CaviarError: the study cannot run or was interrupted; what it recorded is safe.
        """
        quiet_notebook()
        from caviar.operations.run import declaring_script, run_study

        return run_study(
            self,
            workers=workers,
            gpus=gpus,
            address=address,
            runs=runs,
            name=name,
            time_s=None if time is None else parse_duration(time),
            progress=progress,
            script=declaring_script(self),
        )

    def resume(
        self,
        run: str | Path,
        *,
        workers: int | None = None,
        gpus: int | None = None,
        address: str = "local",
        progress: bool = True,
        same_function: bool = False,
    ) -> "Run":
        """Continue an interrupted run of this study. The frames are the same as without the interruption.

        Args:
            run: the run directory, or its URI.
            workers: as for `run`; the number may differ from before.
            gpus: as for `run`; the number may differ from before.
            address: as for `run`; the cluster may be another one.
            progress: as for `run`.
            same_function: accept that the function of `cv.Function`, or those of `cv.Module`, were edited, and note it
                in the run.

        Returns:
            The finished run.

        Raises:
            RunError: the folder is not a run directory, belongs to another study or version, or is in use.
            CaviarError: the study cannot run or was interrupted again.
        """
        quiet_notebook()
        from caviar.operations.resume import resume_study

        return resume_study(
            self,
            run,
            workers=workers,
            gpus=gpus,
            address=address,
            progress=progress,
            same_function=same_function,
        )

    def finish(
        self,
        run: str | Path,
        *,
        workers: int | None = None,
        gpus: int | None = None,
        address: str = "local",
        progress: bool = True,
        same_function: bool = False,
    ) -> "Run":
        """End the search of an interrupted run, confirm the best of its trials, and hand over a winner.

        Args:
            run: the run directory, or its URI.
            workers: as for `run`.
            gpus: as for `run`.
            address: as for `run`.
            progress: as for `run`.
            same_function: as for `resume`.

        Returns:
            The finished run.

        Raises:
            RunError: as for `resume`, or no trial of the run has completed.
            CaviarError: the study cannot run or was interrupted again.
        """
        quiet_notebook()
        from caviar.operations.resume import resume_study

        return resume_study(
            self,
            run,
            workers=workers,
            gpus=gpus,
            address=address,
            progress=progress,
            finish=True,
            same_function=same_function,
        )

    def extend(
        self,
        run: str | Path,
        *,
        trials: int,
        workers: int | None = None,
        gpus: int | None = None,
        address: str = "local",
        progress: bool = True,
        same_function: bool = False,
    ) -> "Run":
        """Go on with a finished run of this study: more search trials, and another confirmation.

        The new trials learn from all before, and the rows of these stay as they are. The winner so far is among the
        contenders. If it wins again, its network and its test score stay; otherwise the new winner is trained and
        scored, and `run.best.test_uses` counts one more use of the test split. An interrupted extension is continued by
        `resume`, and ended early by `finish`; until its end, `run.best` is the winner before it.

        Args:
            run: the run directory, or its URI.
            trials: number of search trials; the confirmation trains as often again as the first one, and at least
                two contenders.
            workers: as for `run`.
            gpus: as for `run`.
            address: as for `run`.
            progress: as for `run`.
            same_function: as for `resume`.

        Returns:
            The finished run.

        Raises:
            RunError: as for `resume`, or the run is not finished.
            StudyError: the number of trials is out of bounds.
            CaviarError: the study cannot run or was interrupted.

        Example:
            >>> run = study.run()  # doctest: +SKIP
            >>> run = study.extend(run.path, trials=100)  # doctest: +SKIP
        """
        quiet_notebook()
        from caviar.operations.resume import extend_study

        return extend_study(
            self,
            run,
            trials,
            workers=workers,
            gpus=gpus,
            address=address,
            progress=progress,
            same_function=same_function,
        )


def check_name(name: str) -> str:
    """Return a name if it can be the name of a run directory: one folder, safe in a shell.

    Raises:
        StudyError: it cannot.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise StudyError(
            f"the name {name!r} cannot name a run directory: use letters, digits, '.', '_' and '-', "
            "and start with a letter or a digit"
        )
    return name


def _check_sampler(where: str, sampler: object) -> None:
    """Refuse unknown names, and classes, which would ignore the study's seed."""
    if isinstance(sampler, type):
        raise StudyError(
            f"{where}: sampler={sampler.__name__} is a class, which would get no seed; "
            f"use lambda seed: {sampler.__name__}(seed=seed)"
        )
    if not callable(sampler) and sampler not in SAMPLERS:
        raise StudyError(
            f"{where}: sampler={sampler!r} is unknown; use {', '.join(map(repr, SAMPLERS))} (qmc: Sobol sequences), "
            "or a function that makes an Optuna sampler from a seed"
        )


def start_source(start_from: "str | Path | Run | StartingPoint") -> str:
    """Return the name of the run that a study starts from: a path or URI."""
    if isinstance(start_from, StartingPoint):
        return start_from.source
    return str(start_from if isinstance(start_from, str | Path) else start_from.location)


def _check_start_from(where: str, study: Study) -> None:
    """Refuse what names no run, and samplers that do not narrow."""
    start = study.start_from
    if start is None:
        return
    if not isinstance(start, str | Path | StartingPoint) and not hasattr(start, "study_file"):
        raise StudyError(f'{where}: start_from must be a run directory such as "runs/digits", not {start!r}')
    if not study.narrows:
        raise StudyError(
            f"{where}: start_from draws near the best of another run, and sampler={study.sampler!r} draws from the "
            'whole space to the end; use sampler="random"'
        )
    if len(study.given_params) > study.search_trials:
        raise StudyError(f"{where}: the search has fewer trials than try_first and start_from give it")


def _check_try_first(
    where: str, given: object, rounds: Sequence[Round | Search]
) -> tuple[Mapping[str, Value], ...]:
    """Return the configurations to train first; refuse other things than dicts, and more than the search has trials."""
    expected = 'a list of dicts such as [{"learning_rate": 0.1}]'
    if isinstance(given, str | Mapping):
        raise StudyError(f"{where}: try_first must be {expected}, not {given!r}")
    require_type(f"{where}: try_first", given, Sequence, expected)
    assert isinstance(given, Sequence)
    for number, params in enumerate(given):
        require_type(
            f"{where}: try_first[{number}]", params, Mapping, 'a dict such as {"learning_rate": 0.1}'
        )
    trials = sum(this.trials for this in rounds)
    if len(given) > trials:
        raise StudyError(
            f"{where}: try_first has {len(given):,} configurations, but the search trains {trials:,} trials: "
            "give fewer, or search longer"
        )
    return tuple({name: plain_value(value) for name, value in params.items()} for params in given)


def _with_confirmation(where: str, stages: Stages) -> tuple[Round | Search | Confirmation, ...]:
    """Return the rounds and a confirmation at the end, the default one if none is declared."""
    declared = tuple(stages) if isinstance(stages, Sequence) else (stages,)
    is_confirmed = bool(declared) and isinstance(declared[-1], Confirmation)
    rounds = [stage for stage in declared if isinstance(stage, Round | Search)]
    for stage in declared[:-1] if is_confirmed else declared:
        if not isinstance(stage, Round | Search):
            raise StudyError(
                f"{where}: {stage!r} is not a Round; give a list of rounds, with a Confirmation at the end only"
            )
    if not rounds:
        raise StudyError(f"{where}: rounds is empty; try rounds=cv.coarse_to_fine(trials=200, epochs=20)")
    return declared if is_confirmed else (*declared, default_confirmation(rounds))


def _plain_form(described: Any) -> Any:
    """Convert NumPy scalars, tuples and mappings, at any depth, to what JSON can hold."""
    if isinstance(described, Mapping):
        return {name: _plain_form(value) for name, value in described.items()}
    if isinstance(described, list | tuple):
        return [_plain_form(value) for value in described]
    return plain_value(described)


def _round_to_json(this: Round | Search) -> dict[str, Any]:
    plain: dict[str, Any] = {"trials": this.trials, "epochs": this.epochs}
    if isinstance(this, Search):
        plain["in_flight"] = this.in_flight
    if this.halving is not None:
        rungs = list(this.halving.rung_epochs(this.epochs))
        plain["halving"] = {"keep": this.halving.keep, "rungs": rungs, "cohort": this.halving.cohort}
    return plain


def stages_to_json(stages: Stages) -> dict[str, Any]:
    """Return stages in a plain form, in two entries: the rounds, and the confirmation at their end."""
    *rounds, confirmation = stages
    assert isinstance(confirmation, Confirmation)
    return {
        "rounds": [_round_to_json(r) for r in rounds if not isinstance(r, Confirmation)],
        "confirmation": asdict(confirmation),
    }


def declared_stages(plain: Mapping[str, Any]) -> Stages:
    """Return the stages of a study from its plain form, the confirmation last; see `Study.to_json`."""
    rounds = [_round_from_json(this) for this in plain["rounds"]]
    return (*rounds, Confirmation(**plain["confirmation"]))


def _round_from_json(plain: Mapping[str, Any]) -> Round | Search:
    halving = Halving(**plain["halving"]) if "halving" in plain else None
    kind = Search if "in_flight" in plain else Round
    return kind(**{**plain, "halving": halving})


def _describe_function(function: SamplerFactory) -> str:
    """Return a function's name and the digest that tells it from others of that name."""
    found = fingerprint(function)
    return f"function {found['name']} {found['source']}"
