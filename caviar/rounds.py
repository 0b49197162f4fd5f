"""What a study is made of: rounds that narrow from coarse to fine, and a confirmation at the end."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from caviar.errors import StudyError
from caviar.space import plain_value

MAX_TRIALS = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowing:
    """How a round's results set the space of the next (`caviar.search.narrowing`).

    Raises:
        StudyError: a share or a count outside its limits.
    """

    elite: float = 0.06
    """Share of the trials so far, best first, near which the next round draws."""
    least_elite: int = 4
    """Never fewer than this many."""
    width: float = 0.8
    """A draw lies in a stretch around a value of the elite: in the second round, this share of the range."""
    shrink: float = 0.8
    """In each later round the stretch is this share of what it was."""
    least_width: float = 0.1
    """The stretch never gets narrower than this share of the range."""
    mix: float = 0.9
    """Share of the draws that take each parameter from another of the elite; the rest stay near one of them, but for
    choices that stray."""
    stray: float = 0.2
    """How often a choice is drawn from all its options, rather than as one of the elite has it."""
    explore: float = 0.05
    """Share of a later round's draws that still comes from the whole space."""
    draws: int = 8
    """Of so many draws near the elite, one is trained: the one whose nearest trials so far did best."""
    nearest: int = 5
    """How good the trials near a draw were is the mean rank of so many of them."""

    def __post_init__(self) -> None:
        for name in ("elite", "width", "shrink", "least_width", "mix", "stray", "explore"):
            share = getattr(self, name)
            least = 0.001 if name in ("elite", "width", "shrink", "least_width") else 0
            if isinstance(share, bool) or not isinstance(share, int | float) or not least <= share <= 1:
                raise StudyError(f"Narrowing({name}={share!r}): must be a share between {least} and 1")
        if (
            isinstance(self.least_elite, bool)
            or not isinstance(self.least_elite, int)
            or self.least_elite < 2
        ):
            raise StudyError(f"Narrowing(least_elite={self.least_elite!r}): must be a whole number from 2")
        for name in ("draws", "nearest"):
            object.__setattr__(self, name, _count("Narrowing", name, getattr(self, name), 1_000))

    def width_in(self, round_number: int) -> float:
        """Length of the stretch around a value, as a share of the range: all of it in the first round.

        Example:
            >>> Narrowing(width=0.8, shrink=0.5).width_in(3)
            0.4
        """
        if round_number < 2:
            return 1.0
        return max(self.least_width, self.width * self.shrink ** (round_number - 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Halving:
    """Trials of a round start with few epochs; the best share goes on, from where it is (`caviar.search.halving`).

    `Halving(rungs=(1,), keep=0.25)` is a screen: all train one epoch, the best quarter to the end.

    Raises:
        StudyError: a share, a number of rungs or a size outside its limits.

    Example:
        >>> Halving().ends(epochs=27)
        (3, 9)
    """

    keep: float = 1 / 3
    """The share of a cohort that goes on from each rung."""
    rungs: int | Sequence[int] = 2
    """After which epochs it is decided who goes on; or how often: then each rung ends at the next one's epoch times
    `keep`."""
    cohort: int = 27
    """About so many trials race against each other: more make a fairer choice, fewer wait less for each other."""

    def __post_init__(self) -> None:
        if (
            isinstance(self.keep, bool)
            or not isinstance(self.keep, int | float)
            or not 0.01 <= self.keep <= 0.9
        ):
            raise StudyError(f"Halving(keep={self.keep!r}): must be a share between 0.01 and 0.9")
        object.__setattr__(self, "cohort", _count("Halving", "cohort", self.cohort, MAX_TRIALS))
        if self.cohort < 2:
            raise StudyError("Halving(cohort=1): one trial cannot race; use 27, say")
        if isinstance(self.rungs, Sequence):
            ends = tuple(_count("Halving", "rungs", end, 1_000_000) for end in self.rungs)
            object.__setattr__(self, "rungs", ends)
            if not self.rungs or list(self.rungs) != sorted(set(self.rungs)):
                raise StudyError(f"Halving(rungs={self.rungs!r}): give epochs that grow, such as (1, 5)")
        else:
            object.__setattr__(self, "rungs", _count("Halving", "rungs", self.rungs, 20))

    def ends(self, epochs: int) -> tuple[int, ...]:
        """The epochs at whose end trials of so many epochs wait for a verdict."""
        if isinstance(self.rungs, Sequence):
            return tuple(self.rungs)
        spaced = {_up(epochs * self.keep**power) for power in range(1, self.rungs + 1)}
        return tuple(sorted(end for end in spaced if end < epochs))

    def places(self, size: int, epochs: int) -> tuple[int, ...]:
        """How many of a cohort of so many train in each rung."""
        return tuple(_up(size * self.keep**rung) for rung in range(len(self.ends(epochs)) + 1))

    def cost(self, epochs: int) -> float:
        """What a trial costs, about, as a share of one that trains to the end.

        Example:
            >>> Halving(rungs=(1,), keep=0.25).cost(epochs=10)
            0.325
        """
        ends = (*self.ends(epochs), epochs)
        return (
            sum(self.keep**rung * (end - start) for rung, (start, end) in enumerate(pairwise((0, *ends))))
            / epochs
        )

    def cohorts(self, trials: int) -> int:
        """How many cohorts a round of so many trials has."""
        return max(1, round(trials / self.cohort))


@dataclass(frozen=True, slots=True)
class Round:
    """A batch of trials drawn from one space with one training budget.

    Raises:
        StudyError: a budget of zero, or one that is no whole number, or a rung at or beyond its end.
    """

    trials: int
    epochs: int
    halving: Halving | None = None
    """Ends the poorer trials early, if given."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "trials", _count("Round", "trials", self.trials, MAX_TRIALS))
        object.__setattr__(self, "epochs", _count("Round", "epochs", self.epochs, 1_000_000))
        _require_halving("Round", self.halving)
        if self.halving is None:
            return
        ends = self.halving.ends(self.epochs)
        if not ends or ends[-1] >= self.epochs:
            raise StudyError(
                f"Round(epochs={self.epochs}, halving={self.halving}): its last rung must end before the last epoch"
            )


@dataclass(frozen=True, slots=True)
class Heat:
    """One step of a confirmation: so many contenders, each trained with so many fresh seeds."""

    contenders: int
    seeds: int


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The best few trained again with fresh seeds, in heats, so that the winner is no lucky draw.

    After each heat the better half at most goes on and trains with twice as many fresh seeds, until the last heat
    decides between two: most trainings are spent where it is hardest to tell. Contenders that are behind by more than
    the noise that is observed go sooner, and leave their trainings to the others (`caviar.search.confirmation`).

    Raises:
        StudyError: a count below one.

    Example:
        >>> [(heat.contenders, heat.seeds) for heat in Confirmation(top=8).heats]
        [(8, 1), (4, 2), (2, 4)]
    """

    top: int = 8
    """How many contend in the first heat."""
    seeds: int = 1
    """How often each trains in the first heat."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "top", _count("Confirmation", "top", self.top, 10_000))
        object.__setattr__(self, "seeds", _count("Confirmation", "seeds", self.seeds, 10_000))

    @property
    def heats(self) -> tuple[Heat, ...]:
        """The last heat trains each contender twice at least, so that there is a spread to speak of."""
        heats, contenders, seeds = [], self.top, self.seeds
        while contenders > 2:
            heats.append(Heat(contenders, seeds))
            contenders, seeds = (contenders + 1) // 2, seeds * 2
        return (*heats, Heat(contenders, max(2, seeds)))

    @property
    def trials(self) -> int:
        """Trainings in all heats, at most."""
        return sum(heat.contenders * heat.seeds for heat in self.heats)


Stages = Sequence[Round | Confirmation]


CONFIRMING = 0.2
"""Share of a budget that is spent on confirmation, at most."""
_MOST_CONTENDERS = 256
_MOST_ROUNDS = 8
_TRIALS_A_ROUND = 8


def coarse_to_fine(
    trials: int, epochs: int, rounds: int | None = None, halving: Halving | None = None
) -> tuple[Round | Confirmation, ...]:
    """Rounds from a budget: the first looks widely, later ones look closely, the best few are confirmed.

    Args:
        trials: trainings in all: searched and confirmed. (The winner trains once more, to be handed over.)
        epochs: how long each trains.
        rounds: how often the space is drawn from; it narrows between them. By default as many as the
            budget feeds, up to eight. Trials of one round train in parallel, so give fewer rounds where there
            are more workers than trials in a round.
        halving: ends the poorer trials of each round early, if given. A trial then costs a third or so: give more.

    Returns:
        The rounds (the first gets twice the share of each later one) and the confirmation: up to a fifth
        of the budget, and the more of it the more contend.

    Raises:
        StudyError: too small a budget, or one too small for that many rounds.

    Example:
        >>> stages = coarse_to_fine(trials=100, epochs=20)
        >>> [stage.trials for stage in stages]
        [24, 8, 8, 8, 8, 8, 8, 8, 20]
        >>> stages[-1]
        Confirmation(top=6, seeds=1)
    """
    trials = _count("coarse_to_fine", "trials", trials, MAX_TRIALS)
    epochs = _count("coarse_to_fine", "epochs", epochs, 1_000_000)
    _require_halving("coarse_to_fine", halving)
    if rounds is None:
        rounds = min(_MOST_ROUNDS, max(1, trials // _TRIALS_A_ROUND))
    rounds = _count("coarse_to_fine", "rounds", rounds, 1_000)
    if trials < max(4, 4 * rounds):
        raise StudyError(
            f"coarse_to_fine(trials={trials}, rounds={rounds}): a round needs a few trials to learn from; "
            f"give at least {max(4, 4 * rounds)} trials, or fewer rounds"
        )
    cost = halving.cost(epochs) if halving is not None else 1.0
    confirmation = _largest_confirmation(lambda c: (trials - c.trials) * cost)
    search = trials - confirmation.trials
    later = search // (rounds + 1)
    counts = [search - later * (rounds - 1)] + [later] * (rounds - 1)
    return (*(Round(count, epochs, halving) for count in counts), confirmation)


def confirmation_of(rounds: Sequence[Round]) -> Confirmation:
    """What confirms the best of these rounds, where nothing else is asked for.

    Example:
        >>> confirmation_of([Round(trials=60, epochs=5), Round(trials=20, epochs=20)])
        Confirmation(top=4, seeds=1)
    """
    longest = max(this.epochs for this in rounds)
    search = sum(
        this.trials
        * this.epochs
        / longest
        * (this.halving.cost(this.epochs) if this.halving is not None else 1)
        for this in rounds
    )
    return _largest_confirmation(lambda _: search)


def _largest_confirmation(search: Callable[[Confirmation], float]) -> Confirmation:
    """The most contenders whose heats cost no more than the confirming share of it all.

    Args:
        search: what the search beside a confirmation costs, in trainings to the end: those that stop early cost less.
    """
    confirmation = Confirmation(top=1)
    for top in range(2, _MOST_CONTENDERS + 1):
        larger = Confirmation(top)
        if larger.trials > CONFIRMING * (larger.trials + search(larger)):
            break
        confirmation = larger
    return confirmation


def _require_halving(where: str, halving: object) -> None:
    if halving is not None and not isinstance(halving, Halving):
        raise StudyError(f"{where}(halving={halving!r}): use cv.Halving(...)")


def _up(amount: float) -> int:
    """Rounded up, at least 1; what is a whole number but for rounding errors stays."""
    return max(1, math.ceil(amount - 1e-9))


def _count(where: str, name: str, count: object, most: int) -> int:
    """A whole number from 1, as Python's; NumPy's are whole numbers too."""
    count = plain_value(count)
    if isinstance(count, bool) or not isinstance(count, int):
        raise StudyError(f"{where}({name}={count!r}): must be a whole number")
    if not 1 <= count <= most:
        raise StudyError(f"{where}({name}={count!r}): must be between 1 and {most:,}")
    return count
