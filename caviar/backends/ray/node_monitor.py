"""Monitoring of machines that stop answering.

Ray reports at once that a worker's process died. It does not report a machine that is cut off or loses its power: with
Ray's defaults the machine is declared dead after a minute (63.8 s, measured with 2.60), and until then its trials are
lost. So the driver checks each machine itself, in a thread: whether the machine's Ray process
(the raylet) accepts connections on its port.
"""

import asyncio
import contextlib
import threading
from collections.abc import Mapping

Address = tuple[str, int]
"""Host and port of a machine's raylet."""
MAX_CHECKS_PER_S = 400
"""Limit for large clusters: a check costs the driver a quarter of a millisecond."""
MAX_MISSES = 2
"""Checks in a row after which a machine counts as unresponsive. A single miss is no proof: a driver that was suspended
misses one of every machine."""


class NodeMonitor:
    """A thread that checks whether machines answer; a context manager that ends the thread on exit.

    Args:
        interval_s: seconds between two checks of a machine.
        timeout_s: seconds that a machine may take to accept a connection or to refuse it.
    """

    def __init__(self, interval_s: float = 1.0, timeout_s: float = 4.0) -> None:
        self._interval_s, self._timeout_s = interval_s, timeout_s
        self._addresses: dict[str, Address] = {}
        self._misses: dict[str, int] = {}
        self._ended = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "NodeMonitor":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def watch(self, machines: Mapping[str, Address]) -> None:
        """Monitor exactly these machines, given by Ray's ID; a new one counts as responsive."""
        self._addresses = dict(machines)

    def unresponsive(self) -> frozenset[str]:
        """Return the IDs of the machines that do not answer."""
        misses = self._misses
        return frozenset(name for name in self._addresses if misses.get(name, 0) >= MAX_MISSES)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._check_all())

    async def _check_all(self) -> None:
        checks: dict[str, asyncio.Task[None]] = {}
        while not self._ended.is_set():
            checks = {name: task for name, task in checks.items() if not task.done()}
            for name, address in self._addresses.items():
                if name not in checks:
                    checks[name] = asyncio.create_task(self._check(name, address))
            pause_s = max(self._interval_s, len(self._addresses) / MAX_CHECKS_PER_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), pause_s)

    async def _check(self, name: str, address: Address) -> None:
        timeout = asyncio.create_task(asyncio.sleep(self._timeout_s))
        if await self._answers(address):
            timeout.cancel()
            self._misses[name] = 0
        else:
            await timeout  # a network error comes at once, but the next moment the network may be back
            self._misses[name] = self._misses.get(name, 0) + 1

    async def _answers(self, address: Address) -> bool:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(*address), self._timeout_s)
        except ConnectionRefusedError:
            return True  # only the machine's Ray is gone, which Ray reports itself
        except OSError:
            return False  # no route, or no answer in time
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True
