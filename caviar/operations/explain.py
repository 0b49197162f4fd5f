"""Explanation of how the trials of a study would be trained, found without training any."""

from dataclasses import dataclass

from caviar.rounds import Narrowing
from caviar.search.region import Region
from caviar.search.sampling import draw_params
from caviar.study import Study

DRAWS = 100
"""Number of points of the space that are looked at."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Ways in which the trials of a study would be trained."""

    on_cpu: str
    """The way on a CPU worker, in a sentence."""
    on_gpu: str
    """The way on a GPU worker, in one or more sentences."""


def explain(study: Study) -> Explanation:
    """Explain how the trials of a study would be trained on each kind of worker, and why.

    It reads the data, draws points of the space, and builds a few modules if the objective has them.

    Args:
        study: the study.

    Raises:
        DataError: the data cannot be read.
        StudyError: no trial can be trained.
    """
    whole = Region(declared=study.space)
    draws = list(draw_params(whole, Narrowing(), count=DRAWS, seed=study.seed, round_number=1))
    objective = study.objective
    return Explanation(*objective.explain(draws, objective.load()))
