"""Writing and reading of a run directory's `study.json`, `rounds.json` and `ledger.json`."""

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from caviar.control_chars import replace_control_chars
from caviar.data.splits import Dataset
from caviar.errors import DamagedError, RunError
from caviar.frame_columns import ROUND_COLUMNS
from caviar.records.json_files import errors_as_damage, read_checked, read_json, write_checked, write_json
from caviar.records.script_signature import is_signed, sign_script
from caviar.rounds import Stages
from caviar.search.schedule import Phase, plan_phases
from caviar.space import Space, space_from_json
from caviar.storage.location import Location
from caviar.study import Study, declared_stages, stages_to_json
from caviar.trial import Stage

if TYPE_CHECKING:
    import pandas as pd

    from caviar.search.stages import StagePlan

FORMAT: Final = 7
"""Format of the run directory; raised when a caviar before or after the change could not read the other's runs."""
_STUDY = "study.json"
_STUDY_SHAPE = {
    "study": {
        "name": str,
        "objective": dict,
        "space": dict,
        "rounds": [{"trials": int, "epochs": int}],
        "narrowing": {"candidates": int},
        "sampler": str,
    },
    "metrics": [str],
    "maximize": bool,
    "data": dict | None,
    "script": str | None,
    "folder": str,
    "created": str,
    "versions": dict,
    "signature": str | None,
    "search_ended": bool | None,
    "edits": list | None,
    "time_budget": dict | None,
    "refused": int | float | None,
    "extensions": list | None,
    "command": str | None,
    "panda": bool | None,
}
ROUNDS: Final = "rounds.json"
_ROUNDS_SHAPE = {
    "rounds": [
        {
            "round": int,
            "trials": int,
            "epochs": int,
            "learned_from": int,
            "width": int | float,
            "space": dict,
            "decisions": [
                {"parameter": str, "action": str, "before": str, "after": str, "elite": int, "reason": str}
            ],
        }
    ]
}
LEDGER: Final = "ledger.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFile:
    """The content of `study.json`: the study, its data, and the versions and the script that began the run."""

    study: dict[str, Any]
    """The declaration, as `Study.to_json` writes it."""
    metrics: tuple[str, ...]
    maximize: bool
    data: dict[str, Any] | None
    """Name, fingerprint and sizes of the data set; None where the objective has none."""
    script: str | None
    """Path of the script that declares the study; None for a run begun from Python."""
    folder: str
    """Working directory in which the run was begun."""
    created: str
    """Date and time in UTC, as ISO 8601 writes them."""
    versions: dict[str, str]
    """Versions of Python and of the packages that compute the numbers."""
    signature: str | None = None
    """Signature of `script` and `folder` by the user who began the run."""
    search_ended: bool = False
    """True once `caviar finish` has ended the search before its last trial."""
    time_budget: dict[str, Any] | None = None
    """Origin of the number of trials, if a time budget chose it: see `caviar.planning.budget.TimeBudget`."""
    edits: tuple[dict[str, Any], ...] = ()
    """Functions that were edited during the run: before, after, and after how many trials."""
    refused: float | None = None
    """Share of the draws from the whole space that the constraints refuse; None without constraints."""
    extensions: tuple[dict[str, Any], ...] = ()
    """Extensions of the study (`caviar extend`): `rounds` and `confirmation` as in `study`, `search_ended` as here, and
    `keeps_winner`: True once it has come to the same winner as before."""
    panda: bool = False
    """True for a session of `caviar panda`: one network, changed by hand while it trains, and its branches."""

    command: str | None = None
    """Command that began the run, if it was none of `run` and `submit`; with `--resume RUN` it continues the run."""

    @classmethod
    def describe(cls, study: Study, dataset: Dataset | None, script: Path | None) -> Self:
        """Describe a run that begins now."""
        packages = ("caviar", "numpy", "torch", "optuna", "pandas", "ray")
        path, folder = None if script is None else str(script.resolve()), str(Path.cwd())
        return cls(
            study=study.to_json(),
            metrics=tuple(study.objective.metric_names),
            maximize=study.objective.maximize,
            data=None if dataset is None else _describe_data(dataset),
            script=path,
            folder=folder,
            signature=None if path is None else sign_script(path, folder),
            refused=study.refused if study.space.constraints else None,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            versions={"python": platform.python_version(), **{p: metadata.version(p) for p in packages}},
        )

    @classmethod
    def read(cls, run: Location) -> Self:
        """Read the file of a run directory.

        Raises:
            RunError: it is not a run directory, was written in another format, or holds links.
            DamagedError: the file holds something else.
        """
        file = run / _STUDY
        if not file.is_file():
            if runs := [name for name in run.folders() if is_run_directory(run / name)]:
                raise RunError(
                    f"{run} is not a run directory but a folder of runs: `caviar list {run.quoted}` lists them; "
                    f"one of them is {run / runs[0]}"
                )
            if run.files() or run.folders():
                raise RunError(f"{run} is not a run directory: it has no {_STUDY}")
            raise RunError(f"{run}: there is no such run directory")
        run.require_no_links()
        version = read_json(file, {"format": int, "versions": {"caviar": str}})
        if version["format"] != FORMAT:
            raise RunError(
                f"{run} was written by caviar {version['versions']['caviar']} (format {version['format']}), "
                f"and this one reads format {FORMAT}: use that version to read it"
            )
        content = read_json(file, _STUDY_SHAPE)
        names = [field.name for field in fields(cls)]
        lists = {name: tuple(content.get(name) or ()) for name in ("metrics", "edits", "extensions")}
        panda = {"panda": bool(content.get("panda"))}
        found = cls(**{name: content[name] for name in names if name in content} | lists | panda)
        with errors_as_damage(file):
            found.space()
            found.phases()
        return found

    def write(self, run: Location) -> None:
        """Write the file of a run directory."""
        write_json(run / _STUDY, {"format": FORMAT, **asdict(self)})

    def phases(self) -> tuple[Phase, ...]:
        """Return the phases of the study: what it declares, and its extensions."""
        parts = (self.study | {"search_ended": self.search_ended}, *self.extensions)
        return plan_phases(
            [declared_stages(part) for part in parts], [part["search_ended"] for part in parts]
        )

    def is_finished_by(self, trials: "pd.DataFrame") -> bool:
        """Return True if, with these trials, the last phase has its winner."""
        if self.panda:
            return bool((trials["stage"] == Stage.FINAL).any())
        keeps_winner = bool(self.extensions) and bool(self.extensions[-1]["keeps_winner"])
        is_final = (trials["stage"] == Stage.FINAL) & (trials["round"] == self.phases()[-1].final)
        return keeps_winner or bool(is_final.any())

    def extended(self, stages: Stages) -> Self:
        """Return the study file of a study that goes on with an extension."""
        extension = {**stages_to_json(stages), "search_ended": False, "keeps_winner": False}
        return replace(self, extensions=(*self.extensions, extension))

    def with_search_ended(self) -> Self:
        """Return the study file of a study whose search, or that of its last extension, the user ends."""
        return self._with_note("search_ended") if self.extensions else replace(self, search_ended=True)

    def with_winner_kept(self) -> Self:
        """Return the study file of a study whose last extension has come to the same winner as before."""
        return self._with_note("keeps_winner")

    def _with_note(self, name: str) -> Self:
        *before, last = self.extensions
        return replace(self, extensions=(*before, {**last, name: True}))

    @property
    def is_script_trusted(self) -> bool:
        """True if the user of this process began the run with its script."""
        return self.script is not None and is_signed(self.script, self.folder, self.signature)

    def is_repeated_by(self, other: Self) -> bool:
        """Return whether a run of the other study file comes to the same numbers; no session does, by itself."""
        same_data = (self.data or {}).get("fingerprint") == (other.data or {}).get("fingerprint")
        return (
            same_data
            and not (self.panda or other.panda)
            and self.versions == other.versions
            and self.study == json.loads(json.dumps(other.study))  # JSON has no tuples
        )

    def resume_command(self, run: Location, verb: str = "resume") -> str:
        """Return the command that continues the run, or the call if no script declares its study.

        Args:
            run: the run directory.
            verb: "resume", or "finish" for the command that ends the search and confirms what is there.
        """
        if self.command is not None:
            return f"{self.command} --resume {run.quoted}"
        if self.panda:
            verb = "panda"
        elif self.script is None:
            return f"study.{verb}({str(run)!r})"
        return f"caviar {verb} {run.quoted}{'' if self.is_script_trusted else ' EXPERIMENT.py'}"

    def extend_command(self, run: Location, trials: int) -> str:
        """Return the command that extends the finished run, or the call if no script declares its study.

        Args:
            run: the run directory.
            trials: number of search trials to add.
        """
        if self.script is None:
            return f"study.extend({str(run)!r}, trials={trials})"
        script = "" if self.is_script_trusted else " EXPERIMENT.py"
        return f"caviar extend {run.quoted}{script} --trials {trials}"

    @property
    def can_end_early(self) -> bool:
        """True if `caviar finish` can end the search: not that of `caviar retune`, nor a session of `caviar panda`."""
        return self.command is None and not self.panda

    @property
    def has_given(self) -> bool:
        """True if the study gives the params of some trials (`try_first`)."""
        return "try_first" in self.study

    @property
    def has_origin(self) -> bool:
        """True if the study starts from another run, so that its trials have an origin."""
        return "start_from" in self.study

    @property
    def is_retuning(self) -> bool:
        """True if the study compares the best of another run with a search of its own (`caviar retune`)."""
        return self.has_origin and bool(self.study["start_from"]["is_compared"])

    def space(self) -> Space:
        """Return the space that the study declares."""
        return space_from_json(self.study["space"])


def is_run_directory(location: Location) -> bool:
    """Return whether a study has left its `study.json` here."""
    return (location / _STUDY).is_file()


def round_entry(plan: "StagePlan") -> dict[str, Any]:
    """Return the entry of a round in `rounds.json`: where it draws its trials, and why."""
    assert plan.region is not None
    return {
        "round": plan.round,
        "trials": plan.count,
        "epochs": plan.epochs,
        "learned_from": plan.known,
        "width": plan.region.width,
        "space": plan.region.space.to_json(),
        "decisions": [asdict(decision) for decision in plan.decisions],
    }


def read_rounds(run: Location) -> "pd.DataFrame":
    """Read the rounds so far as a frame of one row a round and parameter.

    Raises:
        DamagedError: the file holds something else.
    """
    import pandas as pd  # a driver that writes does not wait for it

    file = run / ROUNDS
    with repair_hint(run):
        rounds = read_checked(file, _ROUNDS_SHAPE)["rounds"] if file.is_file() else []
        with errors_as_damage(file):
            rows = [row for entry in rounds for row in _rows(entry)]
            cells = {column.name: [_cell(row[column.name]) for row in rows] for column in ROUND_COLUMNS}
            return pd.DataFrame({c.name: pd.Series(cells[c.name], dtype=c.dtype) for c in ROUND_COLUMNS})


def write_recorded(run: Location, segments: int) -> None:
    """Write how many segments each table has."""
    write_checked(run / LEDGER, {"segments": segments})


def read_recorded(run: Location) -> int:
    """Read how many segments each table has at least: a driver may be killed just before it counts the last one.

    Raises:
        DamagedError: the file is missing, or not as it was written.
    """
    file = run / LEDGER
    with repair_hint(run):
        if not file.is_file():
            raise DamagedError(f"{file} is missing")
        recorded: int = read_checked(file, {"segments": int})["segments"]
        return recorded


@contextmanager
def repair_hint(run: Location) -> Iterator[None]:
    """Say what to do about a file of a run directory that is damaged or missing."""
    try:
        yield
    except DamagedError as error:
        raise DamagedError(
            f"{error}; copy the run again, or `caviar resume {run.quoted} --repair` trains again what is lost"
        ) from error


def _describe_data(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "features": dataset.features,
        "classes": list(dataset.classes),
        "train": len(dataset.train.y),
        "dev": len(dataset.dev.y),
        "test": 0 if dataset.test is None else len(dataset.test.y),
    }


def _rows(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of one round, one a parameter; those with a decision come first."""
    decisions = {
        decision["parameter"]: decision | {"best": _as_json(decision.get("best"))}
        for decision in entry["decisions"]
    }
    rows = []
    for name, domain in {**dict.fromkeys(decisions), **entry["space"]}.items():
        domain = domain or {}
        declared = {
            "parameter": name,
            "action": "declared",
            "after": _domain_text(domain),
            "reason": "as the study declares it",
        }
        rows.append(
            dict.fromkeys(column.name for column in ROUND_COLUMNS)
            | {key: entry[key] for key in ("round", "trials", "epochs", "learned_from", "width")}
            | {
                "low": domain.get("low"),
                "high": domain.get("high"),
                "options": _as_json(domain.get("choice")),
            }
            | decisions.get(name, declared)
        )
    return rows


def _cell(value: Any) -> Any:
    return replace_control_chars(value) if isinstance(value, str) else value


def _as_json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _domain_text(domain: Mapping[str, Any]) -> str:
    """Return a declared domain in words."""
    return str(space_from_json({"x": {**domain, "when": {}}})["x"].domain) if domain else ""
