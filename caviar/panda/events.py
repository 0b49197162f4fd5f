"""The events of a session in its journal, and the session that follows from them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from caviar.panda.commands import say
from caviar.panda.rules import Rules, Values
from caviar.panda.session import End, Session, Trained
from caviar.study import Study
from caviar.trial import Measurement, Outcome

Event = dict[str, Any]


def begun(values: Values, epochs: int, pace_s: float, time: float) -> Event:
    """Return the first event of a session."""
    return {"event": "begun", "time": time, "values": dict(values), "epochs": epochs, "pace_s": pace_s}


def said(session: Session, line: str, time: float, scripted: bool) -> Event:
    """Return the event of a command, at the state before it."""
    place = session.at
    return {
        "event": "said",
        "time": time,
        "trial": place.branch,
        "epoch": place.epoch,
        "line": line,
        "scripted": scripted,
    }


def trained(epoch: Trained) -> Event:
    """Return the event of an epoch."""
    measurement = epoch.measurement
    return {
        "event": "trained",
        "time": epoch.time,
        "epoch": None if measurement is None else measurement.epoch,
        "metrics": None if measurement is None else dict(measurement.metrics),
        "outcome": epoch.outcome.value,
        "failure": epoch.failure,
        "setup_s": epoch.setup_s,
        "train_s": epoch.train_s,
    }


def resumed(time: float) -> Event:
    """Return the event of a session that goes on after its user has left it."""
    return {"event": "resumed", "time": time}


def first_session(study: Study, values: Values, epochs: int, pace_s: float) -> Session:
    """Return the session of a study before its first epoch.

    Raises:
        StudyError: a value is outside its limits.
    """
    rules = Rules.of(study, values)
    rules.params(values)
    return Session(
        rules=rules,
        values=dict(values),
        epochs=epochs,
        metric=study.objective.metric,
        maximize=study.objective.maximize,
        metrics=tuple(study.objective.metric_names),
        pace_s=pace_s,
    )


def replayed(study: Study, events: Sequence[Mapping[str, Any]]) -> Session:
    """Return the session that follows from a journal."""
    first, *others = events
    session = first_session(study, first["values"], first["epochs"], first["pace_s"])
    for event in others:
        session = after(session, event)
    return session


def after(session: Session, event: Mapping[str, Any]) -> Session:
    """Return the session after an event of a journal."""
    if event["event"] == "said":
        return say(session, event["line"], event["time"])
    if event["event"] == "resumed":
        return replace(session, end=None, is_left=session.end is End.QUIT, is_running=False)
    metrics = event["metrics"]
    return session.after(
        Trained(
            measurement=None if metrics is None else Measurement(event["epoch"], metrics),
            outcome=Outcome(event["outcome"]),
            failure=event["failure"],
            setup_s=event["setup_s"],
            train_s=event["train_s"],
            time=event["time"],
        )
    )


def said_lines(journal: Sequence[Mapping[str, Any]]) -> int:
    """Return how many lines of its present script a session has heard: since its user left it last."""
    since = max((place for place, event in enumerate(journal) if event["event"] == "resumed"), default=0)
    has_ended = any(event["event"] == "said" and event["line"] == "quit" for event in journal[since:])
    return 0 if has_ended else sum(bool(event.get("scripted")) for event in journal[since:])
