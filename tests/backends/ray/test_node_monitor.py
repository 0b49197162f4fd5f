"""A machine that does not answer is noticed; one that answers, in whatever way, is there."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from threading import Thread

import pytest

from caviar.backends.ray import node_monitor
from caviar.backends.ray.node_monitor import Address, NodeMonitor


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_monitor, "PAUSE_S", 0.02)
    monkeypatch.setattr(node_monitor, "ANSWER_S", 0.2)


@pytest.fixture
def there() -> Iterator[Address]:
    """A machine that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=accept_all, args=[server], daemon=True).start()
        yield server.getsockname()
        server.shutdown(socket.SHUT_RDWR)  # which ends the thread


def accept_all(server: socket.socket) -> None:
    with suppress(OSError):
        while True:
            server.accept()[0].close()


@pytest.fixture
def gone() -> Iterator[Address]:
    """One that drops what it is sent: its queue of connections is full, and nobody takes any of them."""
    with ExitStack() as open_, socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        for _ in range(4):
            waiting = open_.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()


def comes_true(true: Callable[[], bool], within_s: float = 100.0) -> bool:
    until = time.monotonic() + within_s
    while not true() and time.monotonic() < until:
        time.sleep(0.01)
    return true()


def test_one_that_listens_is_there_and_one_that_nobody_reaches_is_silent(
    there: Address, gone: Address
) -> None:
    with NodeMonitor() as watch:
        watch.watch({"there": there, "gone": gone})
        assert watch.unresponsive() == frozenset(), "as long as nothing is known"
        assert comes_true(lambda: watch.unresponsive() == {"gone"})


def test_one_that_refuses_is_there(gone: Address) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        refuses = server.getsockname()
    with NodeMonitor() as watch:
        watch.watch({"refuses": refuses, "gone": gone})
        assert comes_true(lambda: watch.unresponsive() == {"gone"})


def test_one_that_answers_again_is_there_again(there: Address, gone: Address) -> None:
    with NodeMonitor() as watch:
        watch.watch({"machine": gone})
        assert comes_true(lambda: watch.unresponsive() == {"machine"})
        watch.watch({"machine": there})
        assert comes_true(lambda: watch.unresponsive() == frozenset())


def test_one_that_is_watched_no_longer_is_not_silent(gone: Address) -> None:
    with NodeMonitor() as watch:
        watch.watch({"gone": gone})
        assert comes_true(lambda: watch.unresponsive() == {"gone"})
        watch.watch({})
        assert watch.unresponsive() == frozenset()


def test_a_question_missed_once_is_forgiven(gone: Address) -> None:
    """A driver that was suspended misses one answer of all machines."""
    watch = NodeMonitor()
    watch.watch({"gone": gone})
    asyncio.run(watch._ask("gone", gone))
    assert watch.unresponsive() == frozenset()
    asyncio.run(watch._ask("gone", gone))
    assert watch.unresponsive() == {"gone"}
