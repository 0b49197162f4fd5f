"""Queues of the trials that wait, one a device, for studies that train on CPUs and on GPUs.

Each trial waits in the queue of the device that is predicted to train it sooner. Workers take from the start of their
device's queue. When it is empty they help out from the end of the other one, where the trials stand that suit the other
device least, unless a trial would be done sooner by waiting for its own device. (HeteroPrio: Agullo, Bramas, Coulaud,
Darve, Messner and Takahashi, "Task-based FMM for heterogeneous architectures", 2016.) If all workers are alike there is
one queue.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, takewhile

from caviar.driver.messages import Task
from caviar.driver.trial_queue import TrialQueue


@dataclass(frozen=True, slots=True)
class Pace:
    """Observed against predicted seconds of the trials on one device, as exponentially fading sums."""

    predicted_s: float = 0.0
    observed_s: float = 0.0

    def after(self, predicted_s: float, observed_s: float, decay: float) -> "Pace":
        """Return the pace after another chunk; earlier sums are multiplied by `decay`."""
        return Pace(decay * self.predicted_s + predicted_s, decay * self.observed_s + observed_s)

    @property
    def factor(self) -> float:
        """Observed seconds per predicted second."""
        return self.observed_s / self.predicted_s if self.predicted_s > 0 else 1.0


@dataclass(frozen=True, slots=True)
class DeviceQueues:
    """A queue of waiting trials for each device, and the number of workers of each device."""

    queues: Mapping[str, TrialQueue]
    workers: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, devices: Iterable[str]) -> "DeviceQueues":
        """Return empty queues for these devices."""
        names = sorted(devices)
        return cls({one: TrialQueue(one, next((d for d in names if d != one), None)) for one in names})

    def put(self, tasks: Iterable[Task], paces: Mapping[str, Pace]) -> "DeviceQueues":
        """Return the queues with more tasks, each in the queue of the device that is predicted to train it sooner.

        Args:
            tasks: tasks of trials that do not wait yet.
            paces: the pace of each device.
        """
        by_device: dict[str, list[Task]] = {device: [] for device in self.queues}
        for task in tasks:
            best = min(self.queues, key=lambda device: (task.cost_s(device) * paces[device].factor, device))
            by_device[best].append(task)
        return replace(self, queues={d: queue.put(by_device[d]) for d, queue in self.queues.items()})

    def with_workers(self, workers: Mapping[str, int], paces: Mapping[str, Pace]) -> "DeviceQueues":
        """Return the queues for other numbers of workers; a new device redistributes all tasks.

        Args:
            workers: number of workers of each device.
            paces: the pace of each device.
        """
        if workers.keys() <= self.queues.keys():
            return replace(self, workers=workers)
        queues = DeviceQueues.of({*self.queues, *workers}).put(self, paces)
        return replace(queues, workers=workers)

    def offer(self, device: str, paces: Mapping[str, Pace], idle: bool = False) -> Iterator[Task]:
        """Yield the tasks that a worker may be given, in the order in which it should take them.

        Args:
            device: the worker's device.
            paces: the pace of each device.
            idle: True if no worker has anything to do. A device without workers is expected to get them back, but
                not if every other worker would wait for it.
        """
        if queue := self.queues[device]:
            return iter(queue)
        other = queue.other_device
        if other is None:
            return iter(())
        workers = self.workers.get(other, 0)
        if idle and not workers:
            return reversed(self.queues[other])
        wait_s = self.queues[other].cost_s * paces[other].factor / max(1, workers)
        return takewhile(
            lambda task: (
                task.cost_s(device) * paces[device].factor
                <= wait_s + task.cost_s(other) * paces[other].factor
            ),
            reversed(self.queues[other]),
        )

    def without(self, device: str, taken: int) -> "DeviceQueues":
        """Return what is left after a worker of a device took the first `taken` tasks of its offer."""
        if queue := self.queues[device]:
            return replace(self, queues={**self.queues, device: queue.without(taken)})
        if not taken or queue.other_device is None:
            return self
        other = self.queues[queue.other_device].without(taken, at_end=True)
        return replace(self, queues={**self.queues, queue.other_device: other})

    def __len__(self) -> int:
        return sum(len(queue) for queue in self.queues.values())

    def __iter__(self) -> Iterator[Task]:
        return chain.from_iterable(self.queues.values())

    def seconds(self, paces: Mapping[str, Pace]) -> float:
        """Return the seconds of all waiting work, predicted and corrected by the pace."""
        return sum(queue.cost_s * paces[device].factor for device, queue in self.queues.items())
