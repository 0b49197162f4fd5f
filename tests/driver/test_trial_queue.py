"""The queue behaves as a sorted list, and an earlier value never changes."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from caviar.driver.messages import Task
from caviar.driver.trial_queue import TrialQueue
from caviar.trial import Trial


def make_task(number: int, start_by: float = 0.0, attempt: int = 1, cost_s: float = 1.0) -> Task:
    trial = Trial(number=number, round=1, params={}, epochs=1, seed=number)
    return Task(trial=trial, costs={"cpu": cost_s}, attempt=attempt, start_by=start_by)


def numbers(queue: TrialQueue) -> list[int]:
    return [task.trial.number for task in queue]


def test_begun_trials_go_first_and_then_those_that_must_start() -> None:
    queue = TrialQueue().put([make_task(0, 9.0), make_task(1, 5.0), make_task(2, 9.0)])
    queue = queue.put([make_task(3, 8.0), make_task(4, 9.5, attempt=2)])
    assert numbers(queue) == [4, 1, 3, 0, 2]


@given(st.lists(st.integers(0, 9) | st.lists(st.floats(0.01, 100.0), max_size=9), max_size=30))
def test_the_queue_behaves_as_a_sorted_list(steps: list[int | list[float]]) -> None:
    """A step takes a number of tasks from the start, or puts in tasks with these places and costs."""
    queue, expected, drawn = TrialQueue(), list[Task](), 0
    for step in steps:
        before, copy = queue, list(queue)
        if isinstance(step, int):
            queue, expected = queue.without(min(step, len(queue))), expected[step:]
        else:
            new = [make_task(drawn + n, place, cost_s=place) for n, place in enumerate(step)]
            drawn += len(new)
            queue = queue.put(new)
            expected = sorted((*expected, *new), key=lambda task: (task.start_by, task.trial.number))
        assert list(queue) == expected
        assert len(queue) == len(expected)
        assert queue.cost_s == pytest.approx(sum(task.cost_s("cpu") for task in expected), abs=1e-6)
        assert list(before) == copy, "a value does not change"


def test_taken_tasks_are_released() -> None:
    queue = TrialQueue().put([make_task(n) for n in range(1_000)])
    for _ in range(990):
        queue = queue.without(1)
    assert len(queue._entries) <= 2 * len(queue)
