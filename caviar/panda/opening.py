"""Beginning and resuming sessions: study, data, run directory and trainer."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from caviar.data.splits import Dataset
from caviar.errors import RunError, StudyError
from caviar.panda import events
from caviar.panda.checkpoints import DEFAULT_LIMIT_MIB, Checkpoints
from caviar.panda.driver import Driver
from caviar.panda.rules import Rules, Values, start_values
from caviar.panda.script import Script
from caviar.panda.session import End, Session
from caviar.panda.trainer import Deliver, LocalTrainer, ProcessTrainer, Trainer
from caviar.records.frames import Run
from caviar.records.journal import Journal, read_journal
from caviar.records.ledger import Ledger
from caviar.records.run_files import StudyFile
from caviar.records.same_study import (
    accept_edited_function,
    load_same_data,
    require_same_study,
    require_same_version,
)
from caviar.storage.location import Location
from caviar.storage.uri import locate
from caviar.study import Study, check_name
from caviar.trial import derive_seed

SUFFIX = "-panda"
"""End of the name of a session's run directory, after the name of its study."""
PACE_S = 0.2
"""Shortest time between two epochs of a session without a script, in seconds: a small network trains many in one."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options with which a session is begun or resumed."""

    runs: str | Path = "runs"
    """Folder of run directories, or its URI."""
    name: str | None = None
    """Name of the run directory; by default that of the study with `SUFFIX`, numbered if it is taken."""
    chosen: Mapping[str, str] | None = None
    """Hyperparameters at the start, by name, as the user wrote them."""
    base: str | Path | None = None
    """Run whose best params are those at the start."""
    epochs: int | None = None
    """Epochs to train; by default those of the longest round."""
    pace_s: float | None = None
    """Shortest time between two epochs, in seconds; by default `PACE_S`, or 0 with a script."""
    script: Script | None = None
    """Commands to say; by default those of the user."""
    checkpoints_mib: int = DEFAULT_LIMIT_MIB
    """MiB that checkpoints may take."""
    is_local: bool = False
    """True to train in this process."""
    listen: Callable[[Session], object] = lambda session: None
    """Called after each event with the session."""


@contextmanager
def begun(study: Study, options: Options, file: Path | None = None) -> Iterator[Driver]:
    """Begin a session in a new run directory, and close it afterwards.

    Args:
        study: the study that declares objective and space.
        options: what it begins with.
        file: the script that declares the study.

    Yields:
        The driver of the session.

    Raises:
        CaviarError: the session cannot begin.
    """
    _require_checkpoints(study)
    folder = locate(options.runs)
    folder.require_writable()
    name = check_name(options.name or f"{study.name}{SUFFIX}")
    if options.name is not None:
        folder.require_free(name)
    base = _best_params(options.base) or next(iter(study.given_params), None)
    values = start_values(study, options.chosen or {}, base)
    epochs = options.epochs or max(this.epochs for this in study.search_rounds)
    pace_s = options.pace_s if options.pace_s is not None else 0.0 if options.script else PACE_S
    session = events.first_session(study, values, epochs, pace_s)
    if options.script is not None:
        options.script.check(session)
    dataset = study.objective.load()
    study.objective.rehearse(study.space, dataset)
    declared = StudyFile.describe(study, dataset, file)
    plain = {name: value for name, value in declared.study.items() if name != "try_first"}
    plain["space"] = session.rules.space.to_json()
    declared = replace(declared, study=plain, panda=True)
    ledger = Ledger.create(folder, name, declared, numbered=options.name is None, remove_if_empty=True)
    try:
        journal = Journal(ledger.location)
        journal.write(events.begun(values, epochs, pace_s, time.time()))
        yield _driver(study, dataset, session, ledger, journal, options)
    finally:
        ledger.close()


@contextmanager
def resumed(
    study: Study, path: str | Path, options: Options, same_function: bool = False
) -> Iterator[Driver]:
    """Resume a session where it was left or killed, and close it afterwards.

    Args:
        study: the study that the session was begun with.
        path: the run directory, or its URI.
        options: only script, pace, checkpoints, trainer and listener count.
        same_function: accept that the function was edited, and note it in the run.

    Yields:
        The driver of the session.

    Raises:
        RunError: the run is no session, belongs to another study or version, is finished, or is in use.
        CaviarError: the session cannot go on.
    """
    location = locate(path)
    declared = StudyFile.read(location)
    if not declared.panda:
        raise RunError(
            f"{location} is no session of `caviar panda`: continue it with `caviar resume {location.quoted}`, or begin "
            f"a session with its best params, with `caviar panda EXPERIMENT.py --from {location.quoted}`"
        )
    require_same_version(location, declared.versions)
    now = accept_edited_function(declared, study, Run(location)) if same_function else declared
    kept = {name: now.study[name] for name in ("objective", "seed", "name")}
    require_same_study(location, replace(now, study={**study.to_json(), **kept}), study)
    ledger = Ledger.reopen(location, declared)
    try:
        if Run(location).finished:
            raise RunError(f"{location} is finished: `caviar show {location.quoted}` shows it")
        recorded = read_journal(location)
        if not recorded:
            raise RunError(f"{location} has no journal, so the session cannot go on: begin another one")
        session = events.replayed(study, recorded)
        _require_same_space(location, study, recorded[0]["values"], now)
        journal = Journal(location, recorded)
        if session.end is End.QUIT:
            event = events.resumed(time.time())
            journal.write(event)
            session = events.after(session, event)
        if options.script is not None:
            options.script.check(session)
        if now != declared:
            ledger.write_study(now)
        dataset = load_same_data(study, location, declared)
        yield _driver(study, dataset, session, ledger, journal, options, events.said_lines(recorded))
    finally:
        ledger.close()


def _driver(
    study: Study,
    dataset: Dataset | None,
    session: Session,
    ledger: Ledger,
    journal: Journal,
    options: Options,
    said: int = 0,
) -> Driver:
    resources = study.objective.resources
    device = "cuda" if resources is not None and resources.gpus else "cpu"
    kind: Any = LocalTrainer if options.is_local else ProcessTrainer

    def make_trainer(deliver: Deliver) -> Trainer:
        trainer: Trainer = kind(
            study.objective, None if dataset is None else dataset.without_test(), device, deliver
        )
        return trainer

    return Driver(
        session,
        objective=study.objective,
        dataset=dataset,
        seed=derive_seed(study.seed, "panda"),
        ledger=ledger,
        journal=journal,
        checkpoints=Checkpoints(ledger.location, options.checkpoints_mib * 2**20),
        make_trainer=make_trainer,
        device=device,
        script=options.script,
        said=said,
        listen=options.listen,
    )


def _require_checkpoints(study: Study) -> None:
    """Refuse an objective whose training cannot be continued."""
    if not study.objective.has_checkpoints:
        raise StudyError(
            f"study {study.name}: {study.objective} has no checkpoints to step back to: a function needs the trial, as "
            "in def train(params, trial): ..., with trial.restore(), trial.remaining() and trial.save(...)"
        )


def _best_params(base: str | Path | None) -> Values | None:
    """Return the best params of a run."""
    if base is None:
        return None
    best = Run(locate(base)).best_so_far
    if best is None:
        raise RunError(f"--from {base}: the run has no completed trial")
    return best.params


def _require_same_space(location: Location, study: Study, values: Values, declared: StudyFile) -> None:
    """Refuse a study whose space gives other columns than the session has."""
    if Rules.of(study, values).space.to_json() != declared.study["space"]:
        raise RunError(
            f"{location} was begun with another space of {study.name}: restore it, or begin another session"
        )
