"""Monitoring of machines: one that accepts or refuses connections is responsive, one that is silent is not."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from threading import Thread

import pytest

from caviar.backends.ray.node_monitor import Address, NodeMonitor


@pytest.fixture
def monitor() -> NodeMonitor:
    return NodeMonitor(interval_s=0.02, timeout_s=0.1)


@pytest.fixture
def listening() -> Iterator[Address]:
    """A machine that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=accept_all, args=[server], daemon=True).start()
        yield server.getsockname()
        server.shutdown(socket.SHUT_RDWR)  # ends the thread


def accept_all(server: socket.socket) -> None:
    with suppress(OSError):
        while True:
            server.accept()[0].close()


@pytest.fixture
def silent() -> Iterator[Address]:
    """A machine that drops packets: its queue of connections is full, and nobody accepts one."""
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()


def becomes_true(condition: Callable[[], bool], timeout_s: float = 100.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_only_the_silent_machine_is_unresponsive(
    monitor: NodeMonitor, listening: Address, silent: Address
) -> None:
    with monitor:
        monitor.watch({"listening": listening, "silent": silent})
        assert monitor.unresponsive() == frozenset(), "nothing is known yet"
        assert becomes_true(lambda: monitor.unresponsive() == {"silent"})


def test_a_machine_that_refuses_connections_is_responsive(monitor: NodeMonitor, silent: Address) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        refusing = server.getsockname()
    with monitor:
        monitor.watch({"refusing": refusing, "silent": silent})
        assert becomes_true(lambda: monitor.unresponsive() == {"silent"})


def test_a_machine_that_answers_again_is_responsive_again(
    monitor: NodeMonitor, listening: Address, silent: Address
) -> None:
    with monitor:
        monitor.watch({"machine": silent})
        assert becomes_true(lambda: monitor.unresponsive() == {"machine"})
        monitor.watch({"machine": listening})
        assert becomes_true(lambda: monitor.unresponsive() == frozenset())


def test_a_machine_that_left_is_not_unresponsive(monitor: NodeMonitor, silent: Address) -> None:
    with monitor:
        monitor.watch({"machine": silent})
        assert becomes_true(lambda: monitor.unresponsive() == {"machine"})
        monitor.watch({})
        assert monitor.unresponsive() == frozenset()


def test_one_missed_check_is_forgiven(monitor: NodeMonitor, silent: Address) -> None:
    """A driver that was suspended misses one check of every machine."""
    monitor.watch({"machine": silent})
    asyncio.run(monitor._check("machine", silent))
    assert monitor.unresponsive() == frozenset()
    asyncio.run(monitor._check("machine", silent))
    assert monitor.unresponsive() == {"machine"}
