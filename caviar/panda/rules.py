"""The hyperparameters of a session: what they are at the start, and what they may become while a network trains."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from caviar.errors import StudyError
from caviar.objective import Objective
from caviar.space import Choice, Domain, Interval, Parameter, Space
from caviar.study import Study
from caviar.trial import Value
from caviar.validation import number

Values = Mapping[str, Value]
"""Values of hyperparameters, also of those that do not apply beside the others."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The hyperparameters of one session.

    Args:
        objective: the objective of its study.
        declared: the space of its study.
        changeable: what may change between two epochs, and what it may become.
    """

    objective: Objective
    declared: Space
    changeable: Mapping[str, Parameter]

    @classmethod
    def of(cls, study: Study, values: Values) -> Self:
        """Return the rules of a session that begins with these values."""
        params = {name: value for name, value in values.items() if name in study.space.active(values)}
        return cls(study.objective, study.space, study.objective.changeable(study.space, params))

    @property
    def space(self) -> Space:
        """The space of the session's frames: the study's, what else may change, and all options of what may."""
        own = {name: self._with_all_options(name, parameter) for name, parameter in self.declared.items()}
        return Space(**own, **{name: more for name, more in self.changeable.items() if name not in own})

    def _with_all_options(self, name: str, own: Parameter) -> Parameter:
        """Return a parameter of the study with the options that it may change to."""
        known = self.changeable.get(name)
        if known is None or not isinstance(known.domain, Choice) or not isinstance(own.domain, Choice):
            return own
        others = tuple(option for option in known.domain.options if option not in own.domain.options)
        return replace(own, domain=Choice((*own.domain.options, *others)))

    def params(self, values: Values) -> dict[str, Value]:
        """Return the hyperparameters that apply, with defaults for what is neither chosen nor declared.

        Raises:
            StudyError: a value is outside its limits.
        """
        active = self.declared.active(values)
        others = {name: value for name, value in values.items() if name not in self.declared}
        recipe = self.objective.recipe({**others, **active})
        space = self.space
        return {name: recipe[name] for name in space if name in recipe}

    def knows(self, name: str, values: Values) -> bool:
        """Return whether a name is a hyperparameter, though it may not change."""
        return (
            name in self.changeable
            or name in self.space
            or name in self.objective.recipe(self.params(values))
        )

    def change(self, values: Values, name: str, text: str) -> dict[str, Value]:
        """Return the values after a change.

        Args:
            values: the values before.
            name: the name of a hyperparameter.
            text: the new value as the user wrote it; "/3" and "*3" divide and multiply the present one.

        Raises:
            StudyError: it cannot change, or not to this.
        """
        params = self.params(values)
        if name not in self.changeable:
            raise StudyError(
                f"{name} cannot change while the network trains, because checkpoints fit its present value: "
                f"begin another session, with `--set {name}={text}`"
            )
        value = parse_value(name, self.changeable[name].domain, text, params.get(name))
        if name in self.declared:
            _check_scale(name, self.declared[name].domain, value)
        changed = {**values, name: value}
        if name not in self.params(changed):
            conditions = " and ".join(
                f"{other} is {' or '.join(map(str, allowed))}"
                for other, allowed in self.changeable[name].when.items()
            )
            raise StudyError(f"{name} would have no effect: it is used only if {conditions}")
        return changed


def parse_value(name: str, domain: Domain, text: str, present: Value = None) -> Value:
    """Return the value that a user wrote.

    Args:
        name: the name of the hyperparameter.
        domain: the values that it may have.
        text: what the user wrote.
        present: the value that it has, for "/3" and "*3".

    Raises:
        StudyError: it is not among them.

    Example:
        >>> parse_value("learning_rate", Interval(0, 1), "/4", present=0.1)
        0.025
        >>> parse_value("decay", Choice(("constant", "cosine")), "cosine")
        'cosine'
    """
    if isinstance(domain, Choice):
        by_text = {str(option): option for option in domain.options}
        if text not in by_text:
            raise StudyError(f"{name} must be {' or '.join(by_text)}, not {text!r}")
        return by_text[text]
    factor = text[:1] if text[:1] in ("*", "/") else ""
    try:
        given: float = float(text[len(factor) :])
    except ValueError:
        given = math.nan
    if factor and isinstance(present, int | float) and given:
        given = present * given if factor == "*" else present / given
    elif factor or not math.isfinite(given):
        raise StudyError(f"{name} must be a number, not {text!r}")
    if domain.integer and (factor or given.is_integer()):
        given = round(given)
    if domain.integer and not isinstance(given, int):
        raise StudyError(f"{name} must be a whole number, not {text!r}")
    return number(name, given)


def _check_scale(name: str, domain: Domain, value: Value) -> None:
    """Refuse a number that the scale of its parameter cannot show."""
    if not isinstance(domain, Interval) or not isinstance(value, int | float):
        return
    try:
        domain.coordinate(value)
    except ValueError:
        limit = "above 0" if domain.scale == "log" else "below 1"
        raise StudyError(f"{name} has a {domain.scale} scale, so it must be {limit}, not {value:g}") from None


def start_values(study: Study, chosen: Mapping[str, str], base: Values | None = None) -> dict[str, Value]:
    """Return the values with which a session begins.

    Args:
        study: the study.
        chosen: values that the user wrote, by name.
        base: values for others, such as the params of another run's winner; those in the middle of a parameter's scale
            for what it lacks.

    Raises:
        StudyError: a name is neither in the space nor changeable, or a value is invalid.
    """
    values = {name: middle(parameter.domain) for name, parameter in study.space.items()}
    values |= {name: value for name, value in (base or {}).items() if name in values}
    for name, text in chosen.items():
        if name in study.space:
            values[name] = parse_value(name, study.space[name].domain, text, values[name])
            _check_scale(name, study.space[name].domain, values[name])
    rules = Rules.of(study, values)
    for name, text in chosen.items():
        if name not in study.space and name not in rules.changeable:
            raise StudyError(
                f"--set {name}: the space of {study.name} has no such parameter: it has {', '.join(study.space)}"
            )
        if name not in study.space:
            values = rules.change(values, name, text)
    params = Rules.of(study, values).params(values)
    if unused := [name for name in chosen if name not in params]:
        raise StudyError(f"--set {unused[0]}: it does not apply beside the other values")
    return values


def middle(domain: Domain) -> Value:
    """Return the value in the middle of a domain, on its scale.

    Example:
        >>> middle(Interval(0.001, 0.1, "log"))
        0.01
    """
    if isinstance(domain, Choice):
        return domain.options[len(domain.options) // 2]
    low, high = domain.ends
    value = domain.value((low + high) / 2)
    return value if domain.integer else min(max(float(f"{value:.3g}"), domain.low), domain.high)
