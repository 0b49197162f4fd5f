"""The parts of a session's screen as values and text, for every terminal."""

import math
import re

from caviar.analysis.branches import changes_text
from caviar.analysis.suggestions import Curve
from caviar.panda.commands import value_text
from caviar.panda.session import Session
from caviar.reporting.formatting import metric_text


def suggestion_curve(session: Session) -> Curve:
    """Return the curve of the present state as suggestions take it."""
    measurements, branch = session.curve(), session.branch
    losses = ("train_loss", "dev_loss")
    has_dev_loss = bool(measurements) and all("dev_loss" in m.metrics for m in measurements)
    dev_name = "dev_loss" if has_dev_loss else session.metric
    sign = -1 if dev_name == session.metric and session.maximize else 1
    train = [m.metrics[losses[0]] for m in measurements if losses[0] in m.metrics]
    params = session.params
    return Curve(
        epochs=[m.epoch for m in measurements],
        train=train if len(train) == len(measurements) else [],
        dev=[sign * m.metrics.get(dev_name, math.nan) for m in measurements],
        dev_name=dev_name,
        dev_sign=sign,
        params={name: params[name] for name in session.rules.changeable if name in params},
        since=0 if branch is None else branch.start.epoch,
        diverged=branch.failure if branch is not None and session.has_diverged() else None,
        rate=measurements[-1].metrics.get("learning_rate") if measurements else None,
    )


def series(session: Session) -> list[tuple[str, list[tuple[int, float]]]]:
    """Return what is drawn: the name and the points (epoch, value) of each line.

    The present branch with its ancestors comes first, then the branch that is compared.
    """
    names = plotted_metrics(session)
    places = [("", session.at)]
    if session.compared is not None and session.compared != session.at.branch:
        places.append((f" of {session.compared}", session.tip(session.compared)))
    found = []
    for suffix, place in places:
        curve = session.curve(place)
        for name in names if not suffix else names[-1:]:
            points = [
                (m.epoch, m.metrics[name]) for m in curve if math.isfinite(m.metrics.get(name, math.nan))
            ]
            found.append((f"{name}{suffix}", points))
    return found


def plotted_metrics(session: Session) -> list[str]:
    """Return the names of the metrics that are drawn, the one of the dev split last."""
    if session.plotted is not None:
        other = session.plotted.replace("dev_", "train_", 1)
        return [*([other] if other != session.plotted and other in session.metrics else []), session.plotted]
    losses = [name for name in session.metrics if name in ("train_loss", "dev_loss")]
    return losses if "dev_loss" in losses else [session.metric]


def headline(session: Session, name: str, epochs_per_s: float | None, is_ready: bool) -> str:
    """Return the first line of the screen: run, branch, epoch, state and pace."""
    if session.stuck is not None:
        state = "diverged" if session.has_diverged() else "at the last epoch"
    elif not session.is_running:
        state = "paused"
    else:
        state = "training" if is_ready else "starting"
    place = session.at
    where = "no epoch yet" if place.branch is None else f"branch {place.branch}"
    parts = [name, where, f"epoch {place.epoch}/{session.epochs}", state]
    last = session.curve()[-1].metrics if session.curve() else {}
    if math.isfinite(last.get("learning_rate", math.nan)):
        parts.append(f"learning rate {last['learning_rate']:.3g}")
    if epochs_per_s is not None and session.is_running:
        parts.append(
            f"{epochs_per_s:.1f} epochs/s" if epochs_per_s >= 1 else f"{1 / epochs_per_s:.1f} s an epoch"
        )
    return "  ".join(parts)


def param_lines(session: Session, most: int) -> list[tuple[str, bool]]:
    """Return the hyperparameters of the next epoch, and whether each differs from the last epoch's.

    Args:
        session: the session.
        most: largest number of lines; what matters least is left out.
    """
    params, branch = session.params, session.branch
    before = dict(branch.params) if branch is not None else params
    names = sorted(
        params, key=lambda name: name.startswith("batch_norm_") or name not in session.rules.changeable
    )
    lines = []
    for name in names:
        changed = params[name] != before.get(name)
        old = f" (was {value_text(before[name])})" if changed and name in before else ""
        lines.append((f"{name} {value_text(params[name])}{old}", changed))
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], (f"and {len(lines) - most + 1} more: params", False)]


def branch_table(session: Session, most: int) -> list[tuple[str, bool]]:
    """Return the branches in short lines, the present one marked, and whether each is the present one.

    Args:
        session: the session.
        most: largest number of lines: the present branch and the last ones.
    """
    numbers = [branch.number for branch in session.branches]
    if len(numbers) > most:
        kept = {number for number in (session.at.branch, session.compared) if number is not None}
        latest = [number for number in reversed(numbers) if number not in kept]
        numbers = sorted([*kept, *latest[: max(most - 1 - len(kept), 0)]])
    lines = []
    for number in numbers:
        branch = session.branches[number]
        best = session.best(session.tip(number))
        score = "" if best is None else f" {metric_text(best.metrics[session.metric])}@{best.epoch}"
        start = branch.start.branch
        changes = (
            "" if start is None else changes_text(dict(session.branches[start].params), dict(branch.params))
        )
        mark = ">" if number == session.at.branch else "=" if number == session.compared else " "
        ended = f" {branch.outcome}" if branch.outcome else ""
        span = f"{branch.start.epoch + 1}-{branch.last}"
        lines.append((f"{mark}{number} {span}{score}{ended} {_short(changes)}", number == session.at.branch))
    if len(numbers) < len(session.branches):
        lines.append((f"and {len(session.branches) - len(numbers)} more: branch", False))
    return lines


def _short(changes: str) -> str:
    """Return changes by their new values alone.

    Example:
        >>> _short("l2 0.1 -> 0.2, decay constant -> cosine")
        'l2 0.2, decay cosine'
    """
    return re.sub(r"(\S+) \S+ -> (\S+)", r"\1 \2", changes)
