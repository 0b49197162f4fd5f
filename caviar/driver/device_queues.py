"""Which worker gets which of the trials that wait, where some train on CPUs and some on GPUs.

Each device that has workers, or will have some, has a line of the trials that it is predicted to do best. Its
workers take from the head. When their own line is empty they help out with the other one, from its end, where those
trials stand that the other device does least better; unless a trial would be done sooner by waiting for its own device.
(HeteroPrio: Agullo, Bramas, Coulaud, Darve, Messner and Takahashi, "Task-based FMM for heterogeneous architectures",
2016.) Where all workers are alike there is one line.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, takewhile

from caviar.driver.messages import Assignment
from caviar.driver.trial_queue import Queue


@dataclass(frozen=True, slots=True)
class Pace:
    """What trials took on a device, compared with what was predicted: fading sums over finished ones."""

    predicted_s: float = 0.0
    observed_s: float = 0.0

    def after(self, predicted_s: float, observed_s: float, memory: float) -> "Pace":
        """With another chunk."""
        return Pace(memory * self.predicted_s + predicted_s, memory * self.observed_s + observed_s)

    @property
    def factor(self) -> float:
        """Observed seconds per predicted second."""
        return self.observed_s / self.predicted_s if self.predicted_s > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Lines:
    """Trials that wait, by the device whose workers are to have them; and how many workers each device has."""

    queues: Mapping[str, Queue]
    workers: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, devices: Iterable[str]) -> "Lines":
        """Empty ones."""
        names = sorted(devices)
        return cls({one: Queue(one, next((d for d in names if d != one), None)) for one in names})

    def put(
        self, assignments: Iterable[Assignment], paces: Mapping[str, Pace], place: Callable[[int], int] | None
    ) -> "Lines":
        """With some more, each in the line of the device that is predicted to do it sooner.

        Args:
            assignments: of trials that do not wait yet.
            paces: of the devices.
            place: of a trial's cohort among the others, by its number.
        """
        sorted_out: dict[str, list[Assignment]] = {device: [] for device in self.queues}
        for a in assignments:
            best = min(self.queues, key=lambda device: (a.cost_s(device) * paces[device].factor, device))
            sorted_out[best].append(a)
        return replace(self, queues={d: queue.put(sorted_out[d], place) for d, queue in self.queues.items()})

    def with_workers(
        self, workers: Mapping[str, int], paces: Mapping[str, Pace], place: Callable[[int], int] | None
    ) -> "Lines":
        """For other workers: all are lined up again where a device is new."""
        if workers.keys() <= self.queues.keys():
            return replace(self, workers=workers)
        return replace(Lines.of({*self.queues, *workers}).put(self, paces, place), workers=workers)

    def offer(self, device: str, paces: Mapping[str, Pace], idle: bool = False) -> Iterator[Assignment]:
        """What a worker of a device may be given: some of these, from the first on.

        Args:
            device: the worker's.
            paces: of the devices.
            idle: nobody has anything to do. Workers that the other device does not have are expected back,
                but where all would wait for them, none is waited for.
        """
        if queue := self.queues[device]:
            return iter(queue)
        other = queue.rival
        if other is None:
            return iter(())
        workers = self.workers.get(other, 0)
        if idle and not workers:
            return reversed(self.queues[other])
        wait_s = self.queues[other].cost_s * paces[other].factor / max(1, workers)
        return takewhile(
            lambda a: (
                a.cost_s(device) * paces[device].factor <= wait_s + a.cost_s(other) * paces[other].factor
            ),
            reversed(self.queues[other]),
        )

    def without(self, device: str, taken: int) -> "Lines":
        """What is left when a worker of a device has been given so many of those on offer."""
        if queue := self.queues[device]:
            return replace(self, queues={**self.queues, device: queue.without(taken)})
        if not taken or queue.rival is None:
            return self
        other = self.queues[queue.rival].without(taken, behind=True)
        return replace(self, queues={**self.queues, queue.rival: other})

    def __len__(self) -> int:
        return sum(len(queue) for queue in self.queues.values())

    def __iter__(self) -> Iterator[Assignment]:
        return chain.from_iterable(self.queues.values())

    def seconds(self, paces: Mapping[str, Pace]) -> float:
        """Of work that waits."""
        return sum(queue.cost_s * paces[device].factor for device, queue in self.queues.items())
