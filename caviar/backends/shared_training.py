"""A training that the chunks of a worker share, if its engine trains many trials at once.

The trials of all chunks that a worker has train side by side. A thread of its own trains them; the threads that brought
the chunks wait for what becomes of their trials.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue

from caviar.engine import Part, PartDone, Progress, SideBySide

_Event = Progress | PartDone | BaseException
_Inbox = tuple[Sequence[Part], "SimpleQueue[_Event]"]


class SharedTraining:
    """A training of the trials of several chunks.

    Args:
        begin: returns the training; called in the thread that trains.
    """

    def __init__(self, begin: Callable[[], SideBySide]) -> None:
        self._begin = begin
        self._inbox: SimpleQueue[_Inbox] = SimpleQueue()
        self._idle_s: dict[int, float] = {}
        threading.Thread(target=self._run, daemon=True, name="training").start()

    def train(self, parts: Sequence[Part]) -> Iterator[Progress | PartDone]:
        """Train parts beside those of other threads.

        Args:
            parts: what to train; no other part of these trials is in training.

        Yields:
            For each part its measurements in the order of epochs, then one `PartDone`.

        Raises:
            Exception: what ended the training of all trials, such as an error of the device.
        """
        events: SimpleQueue[_Event] = SimpleQueue()
        self._inbox.put((parts, events))
        left = len(parts)
        while left:
            event = events.get()
            if isinstance(event, BaseException):
                raise event
            left -= isinstance(event, PartDone)
            yield event

    def idle_s_before(self, trial: int) -> float:
        """Return the seconds in which nothing was trained before this trial came, once; 0 if it was not the first."""
        return self._idle_s.pop(trial, 0.0)

    def _run(self) -> None:
        """Train whatever comes, until an error ends it; then every chunk gets the error."""
        readers: dict[int, SimpleQueue[_Event]] = {}
        try:
            training = self._begin()
            while True:
                idle_since = time.perf_counter()
                while training.is_idle or not self._inbox.empty():
                    was_idle = training.is_idle
                    parts, events = self._inbox.get()
                    if was_idle:
                        self._idle_s[parts[0].trial.number] = time.perf_counter() - idle_since
                    for part in parts:
                        readers[part.trial.number] = events
                        training.add(part)
                for event in training.advance():
                    reader = readers.pop(event.trial) if isinstance(event, PartDone) else readers[event.trial]
                    reader.put(event)
        except BaseException as error:
            for reader in {id(reader): reader for reader in readers.values()}.values():
                reader.put(error)
            while True:  # the worker is about to be replaced
                self._inbox.get()[1].put(error)
