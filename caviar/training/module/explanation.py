"""Explanation of which modules can train together on a GPU, and of what keeps the others apart."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from caviar.data.splits import Dataset, Split
from caviar.engine import Part
from caviar.training.function.random_generators import restore_generators, save_generators
from caviar.training.module.engine import ModuleEngine
from caviar.training.module.rehearsal import copies_of
from caviar.training.module.stack import NotStackableError, Stack
from caviar.training.module.structure import structure
from caviar.training.module.user_code import UserCode
from caviar.trial import Trial, Value

ROWS = 8
"""Rows of the train split that a first mini-batch takes."""


def explain_stacks(code: UserCode, draws: Sequence[Mapping[str, Value]], dataset: Dataset, lanes: int) -> str:
    """Return in sentences which modules train together on a GPU.

    Args:
        code: the user's functions, in what is sent to workers.
        draws: points of the space.
        dataset: all splits.
        lanes: largest number of modules that train together.

    Raises:
        StudyError: the functions cannot be pickled.
    """
    few = replace(dataset, train=Split(dataset.train.x[:ROWS], dataset.train.y[:ROWS]), test=None)
    engine = ModuleEngine(copies_of(code).copy, few)
    generators = save_generators()
    try:
        reason, sizes = _find_structures(engine, draws)
        varied = [] if reason else _structural(engine, draws)
    finally:
        restore_generators(generators)
    if reason is not None:
        return f"one module at a time, because {reason}; resources=cv.Resources(gpus=0.25) starts four workers a GPU"
    if len(sizes) == 1:
        return f"up to {lanes} modules at a time: all have the same structure"
    named = f", which depends on {', '.join(varied)}" if varied else ""
    advice = "; choices of few values let more of them train together" if varied else ""
    return (
        f"up to {lanes} modules at a time, those of the same structure{named}. Of {sum(sizes):,} draws, "
        f"{max(sizes):,} have the most frequent of {len(sizes):,} structures{advice}"
    )


def _find_structures(
    engine: ModuleEngine, draws: Sequence[Mapping[str, Value]]
) -> tuple[str | None, list[int]]:
    """Return why no modules train together, or how often each structure is drawn."""
    found: Counter[bytes] = Counter()
    for number, params in enumerate(draws):
        try:
            training = engine.begin(_part(number, params))
            kind = structure(training)
            if not found:
                Stack([training, engine.begin(_part(number + len(draws), params))]).check()
        except NotStackableError as error:
            return str(error), []
        except (Exception, SystemExit):  # it fails alone
            continue
        found[kind] += 1
    return None, list(found.values())


def _structural(engine: ModuleEngine, draws: Sequence[Mapping[str, Value]]) -> list[str]:
    """Return the names of the searched params that change the structure of a module."""
    base, names = draws[0], []
    for name in base:
        values = [params[name] for params in draws if name in params][:8]
        kinds = set()
        for value in values:
            try:
                kinds.add(structure(engine.begin(_part(0, {**base, name: value}))))
            except (Exception, SystemExit):
                continue
        if len(kinds) > 1:
            names.append(name)
    return names


def _part(number: int, params: Mapping[str, Value]) -> Part:
    return Part(trial=Trial(number=number, round=1, params=params, epochs=1, seed=number))
