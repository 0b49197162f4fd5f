"""Noticing that a machine no longer answers.

A worker whose process dies is reported by Ray at once. One whose machine is cut off or loses its power is not: with
Ray's defaults it takes a minute until its machine is declared dead (63.8 s, measured with 2.60), and all that time the
trials that it was sent are under way nowhere. So the driver asks each machine itself, in a thread of its own: whether
its Ray process (the raylet) still takes connections on its port.
"""

import asyncio
import contextlib
import threading
from collections.abc import Mapping

Address = tuple[str, int]
"""Of a machine's raylet."""
PAUSE_S = 1.0
"""Between an answer and the next question ..."""
MOST_A_SECOND = 400
"""... or longer, where so many machines are asked: a question costs the driver a quarter of a millisecond."""
ANSWER_S = 4.0
"""How long an answer may take: an opened connection, or a refusal, for then the machine is there."""
MISSES = 2
"""A machine that misses so many questions in a row is taken to be gone, until it answers again. One is not enough:
all are missed by a driver that was itself suspended for a while."""


class NodeMonitor:
    """Asks machines whether they are there; a context manager, with which its thread ends."""

    def __init__(self) -> None:
        self._addresses: dict[str, Address] = {}
        self._missed: dict[str, int] = {}
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
        """NodeMonitor these machines, by name, and no others; one that is new is taken to be there."""
        self._addresses = dict(machines)

    def unresponsive(self) -> frozenset[str]:
        """The machines that do not answer."""
        missed = self._missed
        return frozenset(name for name in self._addresses if missed.get(name, 0) >= MISSES)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._ask_all())

    async def _ask_all(self) -> None:
        asked: dict[str, asyncio.Task[None]] = {}
        while not self._ended.is_set():
            asked = {name: task for name, task in asked.items() if not task.done()}
            for name, address in self._addresses.items():
                if name not in asked:
                    asked[name] = asyncio.create_task(self._ask(name, address))
            pause_s = max(PAUSE_S, len(self._addresses) / MOST_A_SECOND)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), pause_s)

    async def _ask(self, name: str, address: Address) -> None:
        in_time = asyncio.create_task(asyncio.sleep(ANSWER_S))
        if await _answers(address):
            in_time.cancel()
            self._missed[name] = 0
        else:
            await in_time  # a network that says at once that there is no way may find one the next moment
            self._missed[name] = self._missed.get(name, 0) + 1


async def _answers(address: Address) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(*address), ANSWER_S)
    except ConnectionRefusedError:
        return True  # its Ray is gone, not the machine: Ray notices that by itself
    except OSError:
        return False  # no way there, or no answer in time
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
