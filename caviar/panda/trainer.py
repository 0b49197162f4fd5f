"""The trainer of a session: one engine, which trains one epoch at a time, in a process of its own or in this one.

In a process of its own it neither holds up the screen nor takes the session with it: user code may print, crash or use
a core for minutes. What it prints is passed on line by line.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from caviar.backends.objective_pickle import (
    PickledObjective,
    copy_objective,
    pickle_objective,
    unpickle_objective,
)
from caviar.data.splits import Dataset, Split
from caviar.engine import Engine, Part, PartDone, Progress
from caviar.errors import StudyError, one_line
from caviar.objective import Objective
from caviar.training.function.import_path import ImportPath
from caviar.trial import Measurement, Outcome

END_S = 2.0
"""Seconds for which a trainer's process may end by itself before it is killed."""


@dataclass(frozen=True, slots=True)
class Request:
    """An epoch to train, or a network to score."""

    ticket: int
    part: Part
    test: Split | None = None
    """The test split, if the checkpoint of the part is to be scored."""
    is_final: bool = False
    """True to score the checkpoint instead of training."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request."""

    ticket: int
    end: PartDone
    measurements: tuple[Measurement, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    predictions: npt.NDArray[np.floating] | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """The trainer has made its engine."""

    engine: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Printed:
    """A line that user code printed."""

    text: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The trainer's process is dead, or could not make its engine."""

    why: str


News = Ready | Reply | Printed | Lost
Deliver = Callable[[News], object]


class Trainer(Protocol):
    """A trainer; what it does is delivered as `News`, by any thread."""

    def start(self, request: Request) -> None:
        """Begin a request; no other may be under way."""

    def interrupt(self) -> None:
        """Stop what it works at, if it can: `Lost` is delivered then, and the next request starts it again."""

    def close(self) -> None:
        """End it."""


class LocalTrainer:
    """A trainer in this process, which replies before `start` returns: for tests and a debugger.

    Args:
        objective: the objective.
        dataset: train and dev split.
        device: "cpu" or "cuda".
        deliver: takes the news.
    """

    def __init__(self, objective: Objective, dataset: Dataset | None, device: str, deliver: Deliver) -> None:
        self._engine, self._deliver = copy_objective(objective).make_engine(dataset, device), deliver
        deliver(Ready(self._engine.name, self._engine.warnings))

    def start(self, request: Request) -> None:
        self._deliver(answer(self._engine, request))

    def interrupt(self) -> None:
        """Do nothing: it has replied already."""

    def close(self) -> None:
        """Do nothing."""


class ProcessTrainer:
    """A trainer in a process of its own. One that dies is replaced for the next request.

    Args:
        objective: the objective.
        dataset: train and dev split.
        device: "cpu" or "cuda".
        deliver: takes the news.

    Raises:
        StudyError: the objective cannot be pickled.
    """

    def __init__(self, objective: Objective, dataset: Dataset | None, device: str, deliver: Deliver) -> None:
        self._packed, self._dataset, self._device, self._deliver = (
            pickle_objective(objective),
            dataset,
            device,
            deliver,
        )
        self._is_closing = False
        self._begin()

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        printed, output = context.Pipe(duplex=False)
        arguments = (theirs, output, self._packed, ImportPath.here(), self._dataset, self._device)
        self._process = context.Process(target=serve, args=arguments, name="caviar-panda-trainer")
        self._process.start()
        theirs.close()
        output.close()
        for target in (self._listen, self._read):
            source = self._connection if target == self._listen else printed
            threading.Thread(target=target, args=(source, self._process), daemon=True).start()

    def start(self, request: Request) -> None:
        if not self._process.is_alive():
            self._begin()
        with suppress(OSError):  # it dies now; its listener says so
            self._connection.send(request)

    def interrupt(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._is_closing = True
        with suppress(OSError):
            self._connection.send(None)
        self._process.join(END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _listen(self, connection: Connection, process: Any) -> None:
        """Deliver what the process sends, and its death."""
        try:
            while True:
                self._deliver(connection.recv())
        except (EOFError, OSError):
            process.join()
            if not self._is_closing:
                self._deliver(Lost(f"the training process died ({exit_text(process.exitcode)})"))

    def _read(self, printed: Connection, _process: Any) -> None:
        """Deliver the lines that the process prints."""
        with os.fdopen(os.dup(printed.fileno()), encoding="utf-8", errors="backslashreplace") as lines:
            for line in lines:
                if line.strip():
                    self._deliver(Printed(line.rstrip()))


def serve(
    connection: Connection,
    output: Connection,
    packed: PickledObjective,
    path: ImportPath,
    dataset: Dataset | None,
    device: str,
) -> None:
    """Make an engine and answer requests until the connection ends; the main function of a trainer's process.

    Args:
        connection: brings requests and takes news.
        output: takes what user code prints.
        packed: the objective.
        path: the import path of the session's process.
        dataset: train and dev split.
        device: "cpu" or "cuda".
    """
    for number in (signal.SIGINT, signal.SIGHUP):  # the session's process decides
        signal.signal(number, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    try:
        engine = unpickle_objective(packed, path).make_engine(dataset, device)
    except Exception as error:
        connection.send(Lost(one_line(error)))
        return
    connection.send(Ready(engine.name, engine.warnings))
    try:
        while (request := connection.recv()) is not None:
            connection.send(answer(engine, request))
    except (EOFError, OSError):  # the session's process is gone
        return


def answer(engine: Engine, request: Request) -> Reply:
    """Train or score what a request asks for."""
    part, number = request.part, request.part.trial.number
    if request.is_final:
        return _score(engine, request)
    end: PartDone | None = None
    measurements = []
    try:
        for event in engine.train([part]):
            if isinstance(event, Progress):
                measurements.append(event.measurement)
            else:
                end = event
    except (Exception, SystemExit) as error:
        end = PartDone(trial=number, outcome=Outcome.FAILED, failure=one_line(error))
    if end is None:
        end = PartDone(trial=number, outcome=Outcome.FAILED, failure="the engine gave no end")
    return Reply(request.ticket, end, tuple(measurements))


def _score(engine: Engine, request: Request) -> Reply:
    """Score a trained network on the test split, and predict its rows."""
    part, test = request.part, request.test
    end = PartDone(trial=part.trial.number, outcome=Outcome.COMPLETED, checkpoint=part.checkpoint)
    try:
        scores = dict(engine.score_winner(part.trial, part.checkpoint, test))
        predictions = None
        if scores and test is not None and part.checkpoint is not None:
            predictions = engine.predict(part.trial, part.checkpoint, test)
    except StudyError as error:
        return Reply(
            request.ticket, PartDone(trial=part.trial.number, outcome=Outcome.FAILED, failure=str(error))
        )
    return Reply(request.ticket, end, scores=scores, predictions=predictions)


def exit_text(code: int | None) -> str:
    """Return how a process ended, in words.

    Example:
        >>> exit_text(-11), exit_text(3)
        ('killed by SIGSEGV', 'exit code 3')
    """
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
