"""The things that a study takes from another run: its best configurations, and how near to them it draws."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

from caviar.trial import Value

WHOLE_SHARE = 1 / 3
"""Share of the draws from the whole space, until the study has an elite of its own."""


class Origin(StrEnum):
    """The way in which the params of a search trial came about, in a study that starts from another run."""

    GIVEN = "given"
    """The study gives them (`try_first`)."""
    START = "start"
    """They are one of the best configurations of the other run."""
    NEAR_START = "near start"
    """They were drawn near these configurations."""
    WHOLE_SPACE = "whole space"
    """They were drawn from the whole space."""
    SEARCH = "search"
    """They were drawn near the best trials of this study."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartingPoint:
    """The things that a study takes from another run, found once when it starts, and recorded in `study.json`."""

    source: str
    """The run, as the study names it: a path or URI."""
    study: str
    """The name of its study."""
    digest: str
    """Digest of its study and trials."""
    elite: tuple[Mapping[str, Value], ...]
    """Its best configurations, best first, without what the new space does not hold."""
    trained_first: int
    """Number of these that are trained before anything is drawn."""
    width: float
    """Width of the window around each of their values, as a share of the parameter's range on its scale."""
    notes: tuple[str, ...] = ()
    """Sentences about what could not be taken, or is uncertain."""
    is_compared: bool = False
    """True if a search of its own is compared with what was taken, and learns nothing from it (`caviar retune`)."""

    def to_json(self) -> dict[str, Any]:
        """Return it in a plain form."""
        return asdict(self) | {"elite": [dict(params) for params in self.elite], "notes": list(self.notes)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Return it from its plain form."""
        return cls(**{**plain, "elite": tuple(plain["elite"]), "notes": tuple(plain["notes"])})

    @property
    def first(self) -> tuple[Mapping[str, Value], ...]:
        """The configurations that are trained before anything is drawn."""
        return self.elite[: self.trained_first]

    @property
    def whole_share(self) -> float:
        """The share of the draws that come from the whole space."""
        return 0.0 if self.is_compared else WHOLE_SHARE
