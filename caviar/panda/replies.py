"""Replies of a trainer as the session takes them: an epoch that no session can go on from has failed."""

import math

from caviar.panda.session import Trained
from caviar.panda.trainer import Reply
from caviar.trial import Measurement, Outcome


def epoch_of(reply: Reply, epoch: int, metric: str, at_s: float) -> Trained:
    """Return the epoch that a trainer replied with.

    Args:
        reply: the reply.
        epoch: number of the epoch that was asked for.
        metric: name of the metric that ranks.
        at_s: time of the reply, in seconds since 1970.
    """
    end, last = reply.end, reply.measurements[-1] if reply.measurements else None
    outcome, failure = end.outcome, end.failure
    if outcome is not Outcome.FAILED and (last is None or {m.epoch for m in reply.measurements} != {epoch}):
        reported = ", ".join(str(m.epoch) for m in reply.measurements) or "none"
        outcome = Outcome.FAILED
        failure = f"epoch {epoch} alone was asked for, and {reported} reported: loop over trial.remaining()"
    elif outcome is Outcome.COMPLETED and last is not None and not _is_finite(last, metric):
        outcome = Outcome.DIVERGED
        failure = f"{metric} is not finite ({last.metrics.get(metric):g})"
    elif outcome is Outcome.COMPLETED and end.checkpoint is None:
        outcome = Outcome.FAILED
        failure = (
            "it saved no checkpoint to continue from: call trial.save(...) after each epoch, and begin with "
            "trial.restore()"
        )
    measurement = None if outcome is Outcome.FAILED else last
    return Trained(measurement, outcome, failure, end.setup_s, end.train_s, at_s)


def _is_finite(measurement: Measurement, metric: str) -> bool:
    return math.isfinite(measurement.metrics.get(metric, math.nan))
