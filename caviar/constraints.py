"""Constraints between the parameters of a space: functions of a user's that say which draws may be trained.

A constraint gets the params of a draw, as a trial would have them: conditional parameters that do not apply are absent,
and so are hyperparameters that the objective fixes. It returns True if the draw may be trained. It must depend on the
params alone, because a study draws the same trials each time.
"""

from collections.abc import Callable, Mapping, Sequence
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


def allows(constraints: Sequence[Constraint], params: Mapping[str, Value]) -> bool:
    """Return True if params keep all constraints.

    Raises:
        SpaceError: a constraint raises an exception, or returns something else than True or False.
    """
    return all(_holds(constraint, params) for constraint in constraints)


def _holds(constraint: Constraint, params: Mapping[str, Value]) -> bool:
    try:
        answer = plain_value(constraint(dict(params)))
    except Exception as error:
        absent = isinstance(error, KeyError) and error.args and error.args[0] not in params
        advice = f"; params that do not apply are absent: use p.get({error.args[0]!r})" if absent else ""
        raise SpaceError(
            f"{_place(constraint)} raises {one_line(error)}, for the draw {dict(params)}{advice}"
        ) from error
    if not isinstance(answer, bool):
        raise SpaceError(
            f"{_place(constraint)} returns {answer!r:.100}, and must return True or False; "
            f"the draw is {dict(params)}"
        )
    return answer


def _place(constraint: Constraint) -> str:
    """Return what to call a constraint in an error: its name, and the line that defines it."""
    name = getattr(constraint, "__qualname__", type(constraint).__qualname__).rpartition(".")[-1]
    code = getattr(constraint, "__code__", None)
    line = f" in line {code.co_firstlineno}" if code is not None else ""
    return f"Space: the constraint {name}{line}"
