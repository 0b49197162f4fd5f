"""Monitoring of machines: one that accepts or refuses connections is responsive, one that is silent is not."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from threading import Thread

import pytest

from caviar.backends.ray.backend import RayBackend, Timing
from caviar.backends.ray.node_monitor import Address, NodeMonitor
from caviar.driver.backend import BackendEvent
from caviar.driver.messages import WorkerLost
from caviar.trial import Cause
from tests.objectives import Bowl


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


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_workers_of_an_unresponsive_machine_are_lost(monitor: NodeMonitor, silent: Address) -> None:
    backend = RayBackend(Bowl(), None, workers=2, timing=Timing(node_check_s=1e9))
    events: list[BackendEvent] = []
    with monitor, closing(backend):
        while len(events) < 2:
            events += backend.poll(0.5)
        monitor.watch({backend._ray.get_runtime_context().get_node_id(): silent})
        backend._monitor = monitor
        assert becomes_true(lambda: len(monitor.unresponsive()) == 1)
        lost = [event for event in backend.poll(0.0) if isinstance(event, WorkerLost)]
    assert {event.worker for event in lost} == {"cpu-0", "cpu-1"}
    assert {event.cause for event in lost} == {Cause.NODE}


def test_one_missed_check_is_forgiven(monitor: NodeMonitor, silent: Address) -> None:
    """A driver that was suspended misses one check of every machine."""
    monitor.watch({"machine": silent})
    asyncio.run(monitor._check("machine", silent))
    assert monitor.unresponsive() == frozenset()
    asyncio.run(monitor._check("machine", silent))
    assert monitor.unresponsive() == {"machine"}
