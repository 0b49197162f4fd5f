"""A saved run as pandas frames: `caviar.load("runs/digits").trials` is a plain DataFrame, and so is all else."""

from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from caviar.columns import CIRCUMSTANCES
from caviar.errors import RunError
from caviar.records import schema
from caviar.records.ledger import read_header, to_frame
from caviar.records.segments import Segments
from caviar.records.winner import Best, read_best
from caviar.space import Space, space_from_json
from caviar.storage.json_files import read_json, understood
from caviar.storage.local import Disk
from caviar.storage.location import Location
from caviar.storage.uri import locate
from caviar.trial import Stage

_DECISION = {"parameter": str, "action": str, "before": str, "after": str, "reason": str}
_ROUND = {
    "round": int,
    "trials": int,
    "epochs": int,
    "width": int | float,
    "space": dict,
    "decisions": [_DECISION],
}
"""What `rounds.json` says of each round, at least."""

_ROUND_COLUMNS = {
    "round": pa.int64(),
    "trials": pa.int64(),
    "epochs": pa.int64(),
    "width": pa.float64(),
    "parameter": pa.string(),
    "low": pa.float64(),
    "high": pa.float64(),
    "options": None,
    "action": pa.string(),
    "before": pa.string(),
    "after": pa.string(),
    "elite": pa.int64(),
    "elite_low": pa.float64(),
    "elite_high": pa.float64(),
    "counts": None,
    "best": None,
    "reason": pa.string(),
}
"""The types of the columns of `Run.rounds`; None for objects: lists, and values of several kinds."""


class Run:
    """What a study left; read once when first asked for, also while the study runs.

    Args:
        location: the run directory.

    Raises:
        RunError: not a run directory, or one of another version of caviar.

    Example:
        >>> run = load("runs/digits")  # doctest: +SKIP
        >>> run.trials.nlargest(3, "value")[["trial", "round", "value"]]  # doctest: +SKIP
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        """The run directory, on a disk or in a store."""
        self.header: dict[str, Any] = read_header(location)
        """`study.json`: what was asked, of which versions, on which data."""

    def __repr__(self) -> str:
        return f"Run({str(self.location)!r}, {'finished' if self.finished else 'unfinished'})"

    @property
    def path(self) -> Path:
        """The folder of the run directory.

        Raises:
            RunError: it is in an object store.
        """
        if not isinstance(self.location, Disk):
            raise RunError(
                f"{self.location} is no folder here: copy it by `caviar fetch {self.location.typed}`"
            )
        return self.location.path

    @property
    def study(self) -> dict[str, Any]:
        """What was asked: objective, space, rounds, seed."""
        return dict(self.header["study"])

    @property
    def space(self) -> Space:
        """The space that the study began with."""
        return space_from_json(self.study["space"])

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the curves."""
        return tuple(self.header["metrics"])

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a finished trial, by trial: outcome, value, `params_<name>`, last metrics, times."""
        segments = Segments(self.location / "trials", schema.trials_schema(self.space, self.metrics))
        return to_frame(segments.read()).sort_values("trial", ignore_index=True)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row a trial and epoch: losses, accuracy, learning rate. Only of trials that have a row."""
        segments = Segments(self.location / "curves", schema.curves_schema(self.metrics))
        curves = to_frame(segments.read())
        known = curves[curves["trial"].isin(self.trials["trial"])]
        return known.sort_values(["trial", "epoch"], ignore_index=True)

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """One row a round and parameter: where it is drawn, what was done to it, and why.

        `width` is the length of the stretch around a value of the elite, as a share of the whole range; `counts` says
        how the elite is spread, such as how many took each of a choice's `options`. Columns of one kind have Arrow
        types, as those of `trials` do; `options`, `counts` and `best` hold objects.
        """
        file = self.location / "rounds.json"
        rounds = read_json(file, [_ROUND]) if file.is_file() else []
        with understood(file):
            rows = [row for entry in rounds for row in _round_rows(entry)]
            return pd.DataFrame(
                {name: _cells([row[name] for row in rows], kind) for name, kind in _ROUND_COLUMNS.items()}
            )

    @property
    def best(self) -> Best | None:
        """The winner; None until the study is finished."""
        return read_best(self.location / "best") if self.finished else None

    @property
    def finished(self) -> bool:
        """Whether the final trial is recorded, and so the winner handed over."""
        return bool((self.trials["stage"] == Stage.FINAL).any())


def load(path: str | Path) -> Run:
    """Open a saved run, finished or not.

    Args:
        path: its run directory, such as "runs/digits" or "s3://bucket/runs/digits".

    Returns:
        The run: `.trials`, `.curves`, `.rounds`, `.best`.

    Raises:
        RunError: not a run directory, or one of another version of caviar.
    """
    return Run(locate(path))


def reproducible(trials: pd.DataFrame) -> pd.DataFrame:
    """The columns that are the same in every run of a study, whatever trained it, where and how fast (law 1)."""
    return trials.drop(columns=list(CIRCUMSTANCES))


def _round_rows(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """A round's entry in `rounds.json`, as rows."""
    decisions = {decision["parameter"]: decision for decision in entry["decisions"]}
    rows = []
    for name, domain in {**dict.fromkeys(decisions), **entry["space"]}.items():
        decision = decisions.get(name, {})
        rows.append(
            {
                "round": entry["round"],
                "trials": entry["trials"],
                "epochs": entry["epochs"],
                "width": entry["width"],
                "parameter": name,
                "low": domain.get("low") if domain else None,
                "high": domain.get("high") if domain else None,
                "options": domain.get("choice") if domain else None,
                "action": decision.get("action", "declared"),
                "before": decision.get("before"),
                "after": decision.get("after", _text(domain)),
                "elite": decision.get("elite"),
                "elite_low": decision.get("elite_low"),
                "elite_high": decision.get("elite_high"),
                "counts": decision.get("counts"),
                "best": decision.get("best"),
                "reason": decision.get("reason", "as the study declares it"),
            }
        )
    return rows


def _cells(values: list[Any], kind: pa.DataType | None) -> pd.Series:
    """A column of `rounds`."""
    if kind is None:
        return pd.Series(values, dtype=object)
    return pd.Series(pd.array(pa.array(values, kind), dtype=pd.ArrowDtype(kind)))


def _text(domain: dict[str, Any] | None) -> str:
    """A declared domain in words."""
    if domain is None:
        return ""
    return str(space_from_json({"x": {**domain, "when": {}}})["x"].domain)
