"""Constraints between the parameters of a space: functions of a user's that say which draws may be trained.

A constraint gets the params of a draw, as a trial would have them: conditional parameters that do not apply are absent,
and so are hyperparameters that the objective fixes. It returns True if the draw may be trained. It must depend on the
params alone, because a study draws the same trials each time.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from caviar.errors import SpaceError, one_line
from caviar.trial import Value
from caviar.validation import plain_value

Constraint = Callable[[dict[str, Any]], Any]
"""A function from the params of a draw to True, if it may be trained, or False."""


def check_constraints(where: Any) -> tuple[Constraint, ...]:
    """Return one constraint or several as a tuple.

    Raises:
        SpaceError: one is no function.
    """
    constraints = tuple(where) if isinstance(where, Sequence) and not isinstance(where, str) else (where,)
    for constraint in constraints:
        if not callable(constraint) or isinstance(constraint, type):
            raise SpaceError(
                f"Space: where={constraint!r} is not a function; "
                'write where=lambda p: p["units_2"] <= p["units_1"], or a list of such functions'
            )
    return constraints


def allows(
    constraints: Sequence[Constraint], params: Mapping[str, Value], names: Collection[str] = ()
) -> bool:
    """Return True if params keep all constraints.

    Args:
        constraints: the constraints.
        params: the params of a draw.
        names: names of all parameters of the space, for errors.

    Raises:
        SpaceError: a constraint raises an exception, or returns something else than True or False.
    """
    return all(_holds(constraint, params, names) for constraint in constraints)


def _holds(constraint: Constraint, params: Mapping[str, Value], names: Collection[str]) -> bool:
    try:
        answer = plain_value(constraint(dict(params)))
    except Exception as error:
        raise SpaceError(
            f"{_place(constraint)} raises {one_line(error)}, for the draw {dict(params)}"
            f"{_advice(error, params, names)}"
        ) from error
    if not isinstance(answer, bool):
        raise SpaceError(
            f"{_place(constraint)} returns {answer!r:.100}, and must return True or False; "
            f"the draw is {dict(params)}"
        )
    return answer


def _advice(error: Exception, params: Mapping[str, Value], names: Collection[str]) -> str:
    """Return what to do about a param that a constraint looks for in vain; nothing about other errors."""
    name = error.args[0] if isinstance(error, KeyError) and error.args else None
    if name is None or name in params:
        return ""
    if name in names or not names:
        return f"; params that do not apply are absent: use p.get({name!r})"
    return f"; the space has no parameter {name!r}: it has {', '.join(names)}"


def _place(constraint: Constraint) -> str:
    """Return what to call a constraint in an error: its name, and the line that defines it."""
    name = getattr(constraint, "__qualname__", type(constraint).__qualname__).rpartition(".")[-1]
    code = getattr(constraint, "__code__", None)
    line = f" in line {code.co_firstlineno}" if code is not None else ""
    return f"Space: the constraint {name}{line}"
