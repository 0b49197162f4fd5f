"""The stages of a study: a search that narrows from coarse to fine, then a confirmation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from caviar.errors import StudyError
from caviar.validation import check_fields, number, require_type, set_fields, whole_number

MAX_TRIALS = 10_000_000
MAX_EPOCHS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowing:
    """Settings of narrowing: how trials are drawn near the best ones so far (`caviar.search.narrowing`).

    Args:
        elite: share of the trials so far that form the elite, the best first; at most a thousand trials. Default 0.06.
            With a larger share, the search narrows more slowly and keeps more good regions.
        min_elite: smallest size of the elite, in trials. Default 4.
        width: width of the window around each elite value when narrowing begins, as a share of the parameter's range
            on its scale. Default 0.8.
        shrink: factor by which the width shrinks in each later round, and seven times in a search without rounds.
            Default 0.8. Smaller values narrow faster.
        min_width: smallest width of a window, as a share of the range. Default 0.1.
        crossover: share of the draws that take each parameter from another member of the elite (uniform crossover),
            so that they combine what is good in several trials. Default 0.9. The others stay near one member.
        choice_mutation: probability that a choice is drawn from all its options instead of taken from the elite.
            Default 0.2. It keeps every option possible.
        explore: share of the draws that come from the whole space. Default 0.05. It finds good regions that the
            first round missed.
        candidates: number of candidates drawn for each trial; only the one with the largest expected improvement is
            trained. Default 8; with 1, the first draw is trained.

    Raises:
        StudyError: a share or a count is out of bounds.
    """

    elite: float = 0.06
    min_elite: int = 4
    width: float = 0.8
    shrink: float = 0.8
    min_width: float = 0.1
    crossover: float = 0.9
    choice_mutation: float = 0.2
    explore: float = 0.05
    candidates: int = 8

    def __post_init__(self) -> None:
        check_fields(self, "elite width shrink min_width", number, 0.001, 1)
        check_fields(self, "crossover choice_mutation explore", number, 0, 1)
        check_fields(self, "min_elite", whole_number, 2)
        check_fields(self, "candidates", whole_number, 1, 1_000)

    def width_after(self, shrinkages: float) -> float:
        """Return the width of the windows after they have shrunk so many times, as a share of the range.

        Example:
            >>> Narrowing(width=0.8, shrink=0.5).width_after(1)
            0.4
        """
        return max(self.min_width, self.width * math.pow(self.shrink, shrinkages))


@dataclass(frozen=True, slots=True, kw_only=True)
class Halving:
    """Successive halving within a round (Jamieson & Talwalkar 2016; see `caviar.search.halving`).

    All trials train for a few epochs. At each rung the best share continues from where it is, and the others are
    `stopped`. `Halving(rungs=(1,), keep=0.25)` is a screen: all train for one epoch, the best quarter to the end.

    Args:
        keep: share of a cohort that continues at each rung, between 0.01 and 0.9. Default 1/3.
        rungs: the epochs after which trials are compared, or the number of such rungs. Default 2 rungs: then each
            rung is at `keep` times the epochs of the next one.
        cohort: approximate number of trials that compete with one another. Default 27. Larger cohorts choose better,
            smaller cohorts wait less for their slowest trial.

    Raises:
        StudyError: a setting is out of bounds.

    Example:
        >>> Halving().rung_epochs(epochs=27)
        (3, 9)
    """

    keep: float = 1 / 3
    rungs: int | Sequence[int] = 2
    cohort: int = 27

    def __post_init__(self) -> None:
        check_fields(self, "keep", number, 0.01, 0.9)
        check_fields(self, "cohort", whole_number, 2, MAX_TRIALS)
        if not isinstance(self.rungs, Sequence):
            check_fields(self, "rungs", whole_number, 1, 20)
            return
        epochs = tuple(whole_number("Halving: rungs", epoch, 1, MAX_EPOCHS) for epoch in self.rungs)
        if not epochs or list(epochs) != sorted(set(epochs)):
            raise StudyError(f"Halving: rungs must be increasing epochs, such as (1, 5), not {self.rungs!r}")
        set_fields(self, rungs=epochs)

    def rung_epochs(self, epochs: int) -> tuple[int, ...]:
        """Return the epochs after which trials that train for `epochs` in all are compared."""
        if isinstance(self.rungs, Sequence):
            return tuple(self.rungs)
        spaced = {_round_up(epochs * self.keep**power) for power in range(1, self.rungs + 1)}
        return tuple(sorted(epoch for epoch in spaced if epoch < epochs))

    def rung_sizes(self, trials: int, epochs: int) -> tuple[int, ...]:
        """Return the number of trials of a cohort that train up to each rung, and then to the end."""
        return tuple(_round_up(trials * self.keep**rung) for rung in range(len(self.rung_epochs(epochs)) + 1))

    def cost(self, epochs: int) -> float:
        """Return the mean cost of a trial, as a share of the cost of training it to the end.

        Example:
            >>> Halving(rungs=(1,), keep=0.25).cost(epochs=10)
            0.325
        """
        ends = (0, *self.rung_epochs(epochs), epochs)
        trained = sum(self.keep**rung * (end - start) for rung, (start, end) in enumerate(pairwise(ends)))
        return trained / epochs

    def cohort_count(self, trials: int) -> int:
        """Return the number of cohorts of a round with so many trials."""
        return max(1, round(trials / self.cohort))


@dataclass(frozen=True, slots=True)
class Round:
    """A batch of trials drawn from one region of the space, all with the same training budget.

    Args:
        trials: number of trials.
        epochs: epochs that each trains for.
        halving: stops the poorer trials early, if given.

    Raises:
        StudyError: a number is not a whole number from 1, or the last rung is not before the last epoch.
    """

    trials: int
    epochs: int
    halving: Halving | None = None

    def __post_init__(self) -> None:
        check_fields(self, "trials", whole_number, 1, MAX_TRIALS)
        check_fields(self, "epochs", whole_number, 1, MAX_EPOCHS)
        _check_halving(self)


@dataclass(frozen=True, slots=True)
class Search:
    """Trials without rounds: each learns from all trials before it, but for the latest `in_flight`.

    The first trials, about a third, come from the whole space and learn from none. Later ones are drawn in steps of a
    few trials, and the space narrows from step to step. The last trial of a step that ends with trial i is drawn from
    what trials 0 .. i - `in_flight` showed, and so are the others of its step, whatever else has been trained by then.
    So no worker waits for a round to end, and the draws are the same for any number of workers.

    Args:
        trials: number of trials.
        epochs: epochs that each trains for.
        in_flight: number of trials that may be drawn without learning from one another. At least a hundredth of the
            trials, so that the space need not narrow more often than it helps.
        halving: stops the poorer trials early, if given. A cohort is then at most half of `in_flight`.

    Raises:
        StudyError: a number is out of bounds, or the last rung is not before the last epoch.

    Example:
        >>> Search(trials=80, epochs=20, in_flight=16)
        Search(trials=80, epochs=20, in_flight=16, halving=None)
    """

    trials: int
    epochs: int
    in_flight: int
    halving: Halving | None = None

    def __post_init__(self) -> None:
        check_fields(self, "trials", whole_number, 1, MAX_TRIALS)
        check_fields(self, "epochs", whole_number, 1, MAX_EPOCHS)
        _check_halving(self)
        check_fields(self, "in_flight", whole_number, math.ceil(self.trials / MAX_SHARES), self.trials)


@dataclass(frozen=True, slots=True)
class ConfirmationStep:
    """One step of a confirmation: a number of contenders, and of fresh trainings for each."""

    contenders: int
    seeds: int


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The last stage before the winner is named: the best trials train again with fresh seeds.

    The best of many noisy scores is biased upwards (the winner's curse), so the search scores do not decide. The
    contenders are the `top` search trials with different params, and they compete in steps:

    1. In the first step, each contender trains `seeds` times with fresh seeds.
    2. After each step, the better half stays (or another share), ranked by the mean of all fresh trainings, and trains
       more often than before. A contender that failed or diverged drops out, unless all did.
    3. The last step decides between two contenders. The winner's value is the mean of its trainings in that step.

    A contender begins a step as soon as it is certain to be in it, also while the last trials of the search or of the
    step before are still training.

    Confirmation ends early when only one contender is left. If the first step shows that training has no noise at all,
    its other trainings search instead, and the best search trial wins (`caviar.search.confirmation`).

    Args:
        top: number of contenders in the first step. Default 8.
        seeds: fresh trainings of each contender in the first step. Default 1.
        divisor: number by which each step divides the contenders. Default 2. With 4 there are half as many steps, so
            that many workers wait less often.

    Raises:
        StudyError: a number is not a whole number from 1, or the divisor is not between 2 and 10.

    Example:
        >>> [(step.contenders, step.seeds) for step in Confirmation(top=8).steps]
        [(8, 1), (4, 2), (2, 4)]
        >>> [(step.contenders, step.seeds) for step in Confirmation(top=24, divisor=4).steps]
        [(24, 1), (6, 4), (2, 12)]
    """

    top: int = 8
    seeds: int = 1
    divisor: int = 2

    def __post_init__(self) -> None:
        check_fields(self, "top seeds", whole_number, 1, 10_000)
        check_fields(self, "divisor", whole_number, 2, 10)

    @property
    def steps(self) -> tuple[ConfirmationStep, ...]:
        """The planned steps, of about as many trainings each.

        In the last one each contender trains at least twice, which shows the noise.
        """
        steps, contenders, seeds = [], self.top, self.seeds
        while contenders > 2:
            steps.append(ConfirmationStep(contenders, seeds))
            fewer = max(2, math.ceil(contenders / self.divisor))
            contenders, seeds = fewer, seeds * math.ceil(contenders / fewer)
        return (*steps, ConfirmationStep(contenders, max(2, seeds)))

    @property
    def trials(self) -> int:
        """The largest number of trainings in all steps together."""
        return sum(step.contenders * step.seeds for step in self.steps)


Stages = Sequence[Round | Search | Confirmation]


SHORT_BUDGET, LONG_BUDGET = 100, 400
"""Trainings of a short budget, and of a long one."""
SHORT_SHARE, LONG_SHARE = 0.2, 0.4
"""Largest share of a short budget that is spent on confirmation, and of a long one, where luck decides more."""
_MAX_CONTENDERS = 512
_MANY_CONTENDERS = 16
"""Number of contenders from which each step keeps a quarter of them, so that workers wait for fewer steps."""
_MIN_BUDGET = 4
MIN_RIVALS = 2
"""Smallest number of contenders of an extension: the winner so far, and one that may beat it."""
MAX_SHARES = 100
"""Largest number of times that `in_flight` trials fit into a search."""


def coarse_to_fine(
    trials: int, epochs: int, in_flight: int | None = None, halving: Halving | None = None
) -> tuple[Search, Confirmation]:
    """Split a budget of trainings into a search and a confirmation.

    Up to a fifth of a short budget is spent on confirmation, and up to two fifths of a long one: the more trials, the
    luckier the best of them.

    Args:
        trials: trainings in all, of the search and the confirmation. The winner trains once more after these.
        epochs: epochs that each trial trains for.
        in_flight: number of trials that may be drawn without learning from one another, so that many run at once. By
            default a tenth of a short search, up to a quarter of a long one and a third of one of many thousands. More
            in flight keep more workers busy, and know less when they are drawn. Declare about four for each worker if
            trials differ in length.
        halving: stops the poorer trials early, if given. A trial then costs about a third: give more.

    Returns:
        The search, then the confirmation.

    Raises:
        StudyError: the budget is too small, or `in_flight` does not fit it.

    Example:
        >>> coarse_to_fine(trials=100, epochs=20)
        (Search(trials=80, epochs=20, in_flight=8, halving=None), Confirmation(top=6, seeds=1, divisor=2))
    """
    trials = whole_number("coarse_to_fine: trials", trials, _MIN_BUDGET, MAX_TRIALS)
    epochs = whole_number("coarse_to_fine: epochs", epochs, 1, MAX_EPOCHS)
    _require_halving("coarse_to_fine", halving)
    cost = 1.0 if halving is None else halving.cost(epochs)
    confirmation = _largest_confirmation(lambda c: (trials - c.trials) * cost)
    search = trials - confirmation.trials
    if in_flight is None:
        in_flight = _default_in_flight(search)
    return Search(search, epochs, in_flight, halving), confirmation


def extension_stages(declared: Stages, trials: int) -> tuple[Round | Search | Confirmation, ...]:
    """Return the stages that a study goes on with after its end: more search trials, and its confirmation again.

    They train for as long as the longest declared trials, and are halved as those are. A search continues with as many
    trials in flight, and rounds are about as large as the longest declared one. At least two contenders are confirmed,
    because the winner so far is one of them.

    Args:
        declared: the stages of the study, with the confirmation at the end.
        trials: number of search trials.

    Raises:
        StudyError: the number of trials is out of bounds.

    Example:
        >>> *rounds, _ = extension_stages([Round(60, epochs=5), Round(20, epochs=20), Confirmation()], trials=30)
        >>> [(this.trials, this.epochs) for this in rounds]
        [(15, 20), (15, 20)]
    """
    trials = whole_number("extend: trials", trials, 1, MAX_TRIALS)
    *searching, confirmation = declared
    if isinstance(confirmation, Confirmation):
        confirmation = replace(confirmation, top=max(MIN_RIVALS, confirmation.top))
    rules = [this for this in searching if isinstance(this, Round | Search)]
    longest = max(reversed(rules), key=lambda this: this.epochs)
    if isinstance(longest, Search):
        in_flight = max(math.ceil(trials / MAX_SHARES), min(longest.in_flight, trials))
        return replace(longest, trials=trials, in_flight=in_flight), confirmation
    count = math.ceil(trials / longest.trials)
    ends = [trials * place // count for place in range(count + 1)]
    return *(replace(longest, trials=end - start) for start, end in pairwise(ends)), confirmation


def _default_in_flight(trials: int) -> int:
    """Return how many trials of a search may learn nothing from one another: fewer where each of them counts more."""
    return max(1, trials // 10, trials // 4 - 16, trials // 3 - 200)


def training_count(stages: Stages) -> int:
    """Return the number of trainings in all stages together, the confirmation's largest number among them.

    Example:
        >>> training_count(coarse_to_fine(trials=100, epochs=20))
        100
    """
    return sum(stage.trials for stage in stages)


def resize(stages: Stages, trials: int) -> tuple[Round | Search | Confirmation, ...]:
    """Return the stages of a study for another number of trainings.

    What `coarse_to_fine` chose is chosen anew, and so is a default confirmation. Rounds keep their proportions, all
    stages their epochs and their halving, and a confirmation of the user's stays as it is.

    Args:
        stages: rounds or searches, and the confirmation at the end.
        trials: number of trainings in all. Rounds of few trials come near it.

    Example:
        >>> resize(coarse_to_fine(trials=100, epochs=20), 200) == coarse_to_fine(trials=200, epochs=20)
        True
        >>> resize([Round(60, 5), Round(20, 20), Confirmation(top=4)], 160)
        (Round(trials=114, epochs=5, halving=None), Round(trials=38, epochs=20, halving=None), \
Confirmation(top=4, seeds=1, divisor=2))
    """
    *search, confirmation = stages
    assert isinstance(confirmation, Confirmation)
    rounds = [stage for stage in search if isinstance(stage, Round | Search)]
    before = training_count(stages)
    this = rounds[0]
    if isinstance(this, Search) and _is_coarse_to_fine(stages, this):
        chosen, again = coarse_to_fine(trials, this.epochs, halving=this.halving)
        return _with_in_flight(this, chosen), again
    is_default = confirmation == default_confirmation(rounds)
    if is_default:
        confirmation = default_confirmation([_scaled(this, trials / before) for this in rounds])
    factor = max(0, trials - confirmation.trials) / sum(this.trials for this in rounds)
    return (*(_scaled(this, factor) for this in rounds), confirmation)


def _is_coarse_to_fine(stages: Stages, search: Search) -> bool:
    """Return whether `coarse_to_fine` chose these stages, which begin with a search."""
    trials = training_count(stages)
    if trials < _MIN_BUDGET:
        return False
    return coarse_to_fine(trials, search.epochs, search.in_flight, search.halving) == tuple(stages)


def _scaled(this: Round | Search, factor: float) -> Round | Search:
    """Return a round or a search with another number of trials."""
    count = max(1, round(factor * this.trials))
    if isinstance(this, Round):
        return replace(this, trials=count)
    return _with_in_flight(this, replace(this, trials=count, in_flight=count))


def _with_in_flight(declared: Search, resized: Search) -> Search:
    """Return a resized search with as many trials in flight as declared, or as chosen by default."""
    in_flight = declared.in_flight
    if in_flight == _default_in_flight(declared.trials):
        in_flight = _default_in_flight(resized.trials)
    least = math.ceil(resized.trials / MAX_SHARES)
    return replace(resized, in_flight=min(max(in_flight, least), resized.trials))


def default_confirmation(search: Sequence[Round | Search]) -> Confirmation:
    """Return the confirmation of a study that declares a search alone.

    Example:
        >>> default_confirmation([Round(trials=60, epochs=5), Round(trials=20, epochs=20)])
        Confirmation(top=4, seeds=1, divisor=2)
    """
    longest = max(this.epochs for this in search)
    cost = sum(
        this.trials
        * this.epochs
        / longest
        * (1.0 if this.halving is None else this.halving.cost(this.epochs))
        for this in search
    )
    return _largest_confirmation(lambda _: cost)


def _largest_confirmation(search_cost: Callable[[Confirmation], float]) -> Confirmation:
    """Return the confirmation with most contenders that costs at most its share of the whole budget.

    Args:
        search_cost: returns the cost of the search beside a given confirmation, in complete trainings.
    """
    confirmation = Confirmation(top=1)
    for top in range(2, _MAX_CONTENDERS + 1):
        larger = Confirmation(top, divisor=2 if top < _MANY_CONTENDERS else 4)
        budget = larger.trials + search_cost(larger)
        if larger.trials > _confirmation_share(budget) * budget:
            break
        confirmation = larger
    return confirmation


def _confirmation_share(budget: float) -> float:
    """Return the share of a budget, in complete trainings, that confirmation may cost."""
    longer = (budget - SHORT_BUDGET) / (LONG_BUDGET - SHORT_BUDGET)
    return SHORT_SHARE + (LONG_SHARE - SHORT_SHARE) * min(1.0, max(0.0, longer))


def _check_halving(this: Round | Search) -> None:
    """Refuse a halving whose rungs do not fit the epochs."""
    where = type(this).__name__
    _require_halving(where, this.halving)
    if this.halving is None:
        return
    rungs = this.halving.rung_epochs(this.epochs)
    if not rungs or rungs[-1] >= this.epochs:
        raise StudyError(
            f"{where}: halving compares trials at its rungs, which must be before the last epoch, {this.epochs}: "
            "train longer, or give Halving(rungs=(epoch, ...))"
        )


def _require_halving(where: str, halving: object) -> None:
    if halving is not None:
        require_type(f"{where}: halving", halving, Halving, "cv.Halving(...)")


def _round_up(amount: float) -> int:
    """Round up to a whole number of at least 1; rounding errors do not count."""
    return max(1, math.ceil(amount - 1e-9))
