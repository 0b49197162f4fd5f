"""The training that the chunks of a worker share."""

import threading
from collections.abc import Sequence

import pytest

from caviar.backends.shared_training import SharedTraining
from caviar.engine import Part, PartDone, Progress
from caviar.trial import Measurement, Outcome
from tests.training.networks import trial


class OneEpochEach:
    """A training that measures each part once, and breaks at the part of trial 13."""

    def __init__(self) -> None:
        self._parts: list[Part] = []

    @property
    def is_idle(self) -> bool:
        return not self._parts

    def add(self, part: Part) -> None:
        self._parts.append(part)

    def advance(self) -> list[Progress | PartDone]:
        number = self._parts.pop().trial.number
        if number == 13:
            raise RuntimeError("the device is lost")
        done = PartDone(trial=number, outcome=Outcome.COMPLETED)
        return [Progress(number, Measurement(1, {"loss": float(number)})), done]


def numbers(shared: SharedTraining, wanted: Sequence[int]) -> list[int]:
    """Return the numbers of the trials that ended, in their order."""
    parts = [Part(trial=trial(number)) for number in wanted]
    return [event.trial for event in shared.train(parts) if isinstance(event, PartDone)]


def test_each_chunk_gets_its_own_trials() -> None:
    shared, found = SharedTraining(OneEpochEach), dict[int, list[int]]()
    chunks = [range(first, first + 5) for first in (20, 40, 60)]
    threads = [
        threading.Thread(target=lambda c=chunk: found.update({c[0]: numbers(shared, c)})) for chunk in chunks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert {first: sorted(ended) for first, ended in found.items()} == {c[0]: list(c) for c in chunks}


def test_an_error_of_the_device_ends_all_chunks() -> None:
    shared = SharedTraining(OneEpochEach)
    assert numbers(shared, [1, 2]) == [2, 1]
    for wanted in ([13, 14], [15]):
        with pytest.raises(RuntimeError, match="device is lost"):
            numbers(shared, [*wanted, 13])


def test_idle_seconds_belong_to_the_trial_that_ends_them() -> None:
    shared = SharedTraining(OneEpochEach)
    assert numbers(shared, [1]) == [1]
    threading.Event().wait(0.05)
    assert numbers(shared, [2, 3]) == [3, 2]
    assert shared.idle_s_before(2) >= 0.05
    assert shared.idle_s_before(3) == 0
