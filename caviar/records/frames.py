"""Saved runs as pandas frames: `caviar.load("runs/digits").trials` is a plain DataFrame."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyarrow import compute

from caviar.columns import params_from_row
from caviar.errors import RunError
from caviar.frame_columns import CIRCUMSTANCES, FrameColumns
from caviar.records.journal import interventions
from caviar.records.lineage import branch_curve
from caviar.records.run_files import StudyFile, read_recorded, read_rounds
from caviar.records.schema import to_frame
from caviar.records.segments import Segment, open_tables
from caviar.records.winner import Best, read_best
from caviar.search.confirmation import last_winner, score_contenders
from caviar.search.schedule import phase_of
from caviar.space import Space
from caviar.storage.local import Disk
from caviar.storage.location import Location
from caviar.storage.uri import locate
from caviar.trial import Outcome, Stage

if TYPE_CHECKING:
    from caviar.analysis.start_effect import StartEffect
    from caviar.exports.optuna_study import OptunaStudy
    from caviar.reporting.plots.run_plots import RunPlots


class Run:
    """A saved run, finished or not. Each frame is read once, when it is first used, also while the study runs.

    Args:
        location: the run directory.

    Raises:
        RunError: it is not a run directory, or was written in another format.

    Example:
        >>> run = load("runs/digits")  # doctest: +SKIP
        >>> run.trials.nlargest(3, "value")[["trial", "round", "value"]]  # doctest: +SKIP
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        """The run directory, on a disk or in a store."""
        self.study_file = StudyFile.read(location)
        """The content of `study.json`."""
        self._numbers_in: dict[Segment, npt.NDArray[np.int64]] = {}
        """The numbers of the trials in each file of `trials`."""

    def __repr__(self) -> str:
        state = "damaged"
        with suppress(RunError):
            state = "finished" if self.finished else "unfinished"
        return f"Run({str(self.location)!r}, {state})"

    def _repr_html_(self) -> str:
        from caviar.reporting.html_forms import run_html

        return run_html(self)

    @property
    def path(self) -> Path:
        """The folder of the run directory.

        Raises:
            RunError: it is in an object store.
        """
        if not isinstance(self.location, Disk):
            raise RunError(
                f"{self.location} is not a local folder; copy it with `caviar fetch {self.location.quoted}`"
            )
        return self.location.path

    @property
    def study(self) -> dict[str, Any]:
        """The declaration of the study: objective, space, rounds, seed."""
        return self.study_file.study

    @property
    def space(self) -> Space:
        """The space that the study declares."""
        return self.study_file.space()

    @property
    def metric(self) -> str:
        """The metric that ranks the trials."""
        return str(self.study["objective"].get("metric", "value"))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the curves."""
        return self.study_file.metrics

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a finished trial, sorted by trial: outcome, value, `params_<name>`, last metrics, times."""
        recorded = read_recorded(self.location)  # first, because a study that runs records more meanwhile
        trials, curves = open_tables(self.location, self.study_file)
        curves.complete(recorded)
        files = trials.read_files(recorded)
        self._numbers_in = {segment: table["trial"].to_numpy() for segment, table in files.items()}
        table = pa.concat_tables(files.values()) if files else trials.schema.empty_table()
        return to_frame(table).sort_values("trial", ignore_index=True)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row an epoch of each trial in `trials`: losses, accuracy, learning rate. See `read_curves`."""
        return self.read_curves()

    def read_curves(
        self, trials: int | Iterable[int] | None = None, columns: str | Iterable[str] | None = None
    ) -> pd.DataFrame:
        """Read a part of the curves, without the files of other trials: for runs whose curves are long.

        Args:
            trials: numbers of trials; by default all in `trials`.
            columns: metrics; by default all. The columns `trial` and `epoch` come with them.

        Returns:
            The rows and columns of `curves` that were asked for, sorted by trial and epoch.

        Raises:
            RunError: there is no such trial or column.
            DamagedError: a segment is missing, or one that is read cannot be read back.

        Example:
            >>> best = run.trials.nlargest(10, "value")["trial"]  # doctest: +SKIP
            >>> run.read_curves(best, "dev_loss").pivot(index="epoch", columns="trial")  # doctest: +SKIP
        """
        known, recorded = self.trials["trial"].to_numpy(), read_recorded(self.location)
        _, curves = open_tables(self.location, self.study_file)
        names = curves.schema.names if columns is None else _curve_columns(columns, self.metrics)
        if trials is None:
            table = curves.read(recorded, columns=names)
            rows = pd.Index(table["trial"].to_numpy()).isin(known)
            table = table if rows.all() else table.filter(pa.array(rows))  # the study may have recorded more
        else:
            numbers = _known_numbers(trials, known)
            within = [file for file, held in self._numbers_in.items() if pd.Index(held).isin(numbers).any()]
            rows = compute.field("trial").isin(pa.array(numbers))
            table = curves.read(recorded, columns=names, rows=rows, within=within)
        frame = to_frame(table)
        order = np.lexsort((frame["epoch"].to_numpy(), frame["trial"].to_numpy()))
        return frame.take(order).reset_index(drop=True)

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """One row a parameter and round, or step of a search: its range or options, how they changed, and why.

        `width` is the fraction of the whole range around each elite value from which trials are drawn. `counts` says
        how many elite trials took each of a choice's `options`, or lie in each quarter of a number's whole range.
        `options` and `best` are JSON, because the values of parameters are of several kinds.
        """
        return read_rounds(self.location)

    @cached_property
    def confirmed(self) -> pd.DataFrame:
        """One row a contender of the confirmation, best first: its fresh trainings, their mean, its params.

        The winner's `value`, `low` and `high` are those of `best`. While the study runs, they are what is known so far.
        Of a study that was extended, it is the confirmation at the end of the last extension that has got there.
        """
        search = self.trials[self.trials["stage"] == Stage.SEARCH]
        scores = score_contenders(search, self.confirming, self.study_file.maximize)
        if not scores.empty:
            scores = scores.merge(search.drop(columns="value"), on="trial")
            scores["winner"] = self.finished & (scores["trial"] == self.winner)
        columns = self._columns.confirmed
        return scores.reindex(columns=[c.name for c in columns]).astype({c.name: c.dtype for c in columns})

    @cached_property
    def interventions(self) -> pd.DataFrame:
        """One row a command of the user of `caviar panda`, notes too: `time`, `trial`, `epoch` and `command`."""
        return interventions(self.location)

    def branch(self, trial: int) -> pd.DataFrame:
        """Return the curve of a branch of `caviar panda` from the first epoch on, through its ancestors.

        Args:
            trial: number of the branch.

        Raises:
            RunError: there is no such trial, or the run is no session of `caviar panda`.

        Example:
            >>> load("runs/digits-panda").branch(3)[["trial", "epoch", "dev_loss"]]  # doctest: +SKIP
        """
        if not self.study_file.panda:
            raise RunError(f"{self.location} is no session of `caviar panda`, so its trials have no parents")
        return branch_curve(self.trials, self.curves, trial)

    @property
    def confirming(self) -> pd.DataFrame:
        """The rows of `trials` from the last confirmation that has begun: contenders trained with fresh seeds."""
        rows = self.trials[self.trials["stage"] == Stage.CONFIRMATION]
        if rows.empty:
            return rows
        return rows[rows["round"] >= phase_of(self.study_file.phases(), rows["round"].max()).first_stage]

    @property
    def winner(self) -> int | None:
        """The number of the search trial that has won the last confirmation that came to its end; None for none."""
        return last_winner(self.trials)

    @property
    def schema(self) -> pd.DataFrame:
        """One row a column of the frames: its `frame`, `column`, `type`, `unit`, `optional` and `meaning`."""
        return pd.DataFrame(self._columns.rows())

    @property
    def _columns(self) -> FrameColumns:
        kind, file = self.study["objective"].get("kind", ""), self.study_file
        return FrameColumns(self.space, self.metrics, kind, file.has_given, file.panda, file.has_origin)

    @property
    def plot(self) -> "RunPlots":
        """The figures of this run: `run.plot.history()` and others."""
        from caviar.reporting.plots.run_plots import RunPlots

        return RunPlots(self)

    @property
    def best(self) -> Best | None:
        """The winner; None until the study is finished. While an extension runs, it is the winner before it."""
        return None if self.winner is None else read_best(self.location)

    @property
    def best_so_far(self) -> Best | None:
        """The winner; before the end, the completed search trial with the best value, which nothing has confirmed.

        In a session of `caviar panda`, branches that the user left count as well.
        """
        if self.winner is not None:
            return self.best
        search = self.trials[self.trials["stage"] == Stage.SEARCH]
        counted = [Outcome.COMPLETED, *([Outcome.STOPPED] if self.study_file.panda else [])]
        completed = search[search["outcome"].isin(counted)]
        if completed.empty:
            return None
        ranked = completed.sort_values("value", ascending=not self.study_file.maximize, kind="stable")
        row = ranked.iloc[0].to_dict()
        params = params_from_row(self.space, row)
        return Best(
            trial=row["trial"],
            params=params,
            recipe={
                **self.study["objective"].get("fixed", {}),
                **params,
            },  # the defaults are not recorded yet
            epochs=row["epochs_trained"],
            seed=row["seed"],
            value=row["value"],
            interval=None,
            seeds=1,
        )

    @property
    def start_effect(self) -> "StartEffect | None":
        """The effect of starting from another run; None if the study did not, or has too few trials to tell.

        `print` it for a sentence. It compares the first trials that came from the other run with those from the whole
        space, which learned from nothing.
        """
        from caviar.analysis.start_effect import start_effect

        return start_effect(self)

    def importance(
        self,
        round: int | Collection[int] | None = None,
        *,
        method: Literal["ped_anova", "fanova"] | None = None,
        pairs: bool = False,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Return how much each parameter mattered, the most important first.

        Args:
            round: the number of a round or of a step of the search, or several of them. By default, the trials that
                were drawn from the whole space count: later ones are drawn near the elite, which makes all parameters
                seem important. In several rounds, trials are compared within each part of the search.
            method: "ped_anova", the default, tells what it takes to be among the best tenth of the trials; importances
                are shares that sum to 1. "fanova" tells what explains the differences of all trials in rank;
                importances are shares of their variance, of which interactions have a part.
            pairs: return the interaction of each pair of parameters (`parameter` and `other`) by fANOVA: the share of
                the variance that the two explain together, beyond what they explain alone.
            seed: the seed of the bootstrap samples and of the forest.

        Returns:
            One row a parameter:

            - `parameter`, `importance`;
            - `low` and `high`, a 95 % interval: of PED-ANOVA in bootstrap samples of the trials, of fANOVA in its
              trees, each of which has such a sample. Forests of few trials understate weak parameters a little;
            - `trials`, the number that was used. A conditional parameter is judged among the trials that have it: by
              PED-ANOVA for its share in all trials, by fANOVA for its share in these alone. fANOVA uses at most 2,000;
            - `reliable`, False if there are too few trials to say anything, the interval is wider than 0.3, or the
              parameters explain no more than chance would. With fewer than 20 trials, `importance` is NaN.

            Diverged trials count as the worst, and failed ones not at all.

        Raises:
            RunError: the run has no such round, or the method has no pairs.

        Example:
            >>> run = load("runs/digits")  # doctest: +SKIP
            >>> run.importance()  # doctest: +SKIP
                   parameter  importance    low   high  trials  reliable
            0  learning_rate       0.734  0.583  0.853      74      True
        """
        from caviar.analysis import importance

        return importance.importance(self, round, method=method, pairs=pairs, seed=seed)

    def to_optuna(self, storage: str | Path | None = None, name: str | None = None) -> "OptunaStudy":
        """Export the search trials to a study of Optuna, for its plots, importances, dashboard and samplers.

        A study that has some of the trials already, from an earlier export of this run, gets the others. See
        `caviar.exports.optuna_trials` for what becomes of outcomes, scales and conditions: a reverse-log parameter such
        as momentum becomes `1 - momentum` on a log scale.

        Args:
            storage: path of a journal file, or URL of a database, such as "sqlite:///digits.db" or
                "postgresql://USER:PASSWORD@HOST/DATABASE". By default the study is in memory.
            name: name of the study; by default that of the run directory.

        Returns:
            The study.

        Raises:
            RunError: the storage cannot be used, or its study of this name is not an export of this run.

        Example:
            >>> study = load("runs/digits").to_optuna()  # doctest: +SKIP
            >>> optuna.visualization.plot_slice(study)  # doctest: +SKIP
        """
        from caviar.exports.optuna_study import OptunaExport

        export = OptunaExport(self, storage, name)
        export.update(self)
        return export.study()

    def to_mlflow(self, tracking: str | Path | None = None, name: str | None = None) -> str:
        """Export all trials to MLflow: an experiment for the run, and in it a run for each trial.

        An experiment that has some of the trials already, from an earlier export of this run, gets the others.

        Args:
            tracking: URL of a tracking server or of a database, or path of a folder; by default what the environment
                variable MLFLOW_TRACKING_URI says, as for MLflow itself.
            name: name of the experiment; by default that of the run directory.

        Returns:
            The ID of the experiment.

        Raises:
            RunError: MLflow refuses, or its experiment of this name is not an export of this run.
            MissingPackageError: MLflow is not installed.

        Example:
            >>> experiment = load("runs/digits").to_mlflow("http://127.0.0.1:5000")  # doctest: +SKIP
            >>> mlflow.search_runs([experiment])  # doctest: +SKIP
        """
        from caviar.exports.mlflow_runs import MlflowExport

        export = MlflowExport(self, tracking, name)
        export.update(self)
        return export.experiment_id

    def to_tensorboard(self, folder: str | Path) -> None:
        """Export curves and hyperparameters of all trials to a log folder of TensorBoard.

        A folder that has some of the trials already, from an earlier export of this run, gets the others.

        Args:
            folder: path of the folder; it is created.

        Raises:
            RunError: the folder cannot be used, or holds something else than an export of this run.
            MissingPackageError: TensorBoard is not installed.

        Example:
            >>> load("runs/digits").to_tensorboard("digits-tensorboard")  # doctest: +SKIP
        """
        from caviar.exports.tensorboard_log import TensorBoardExport

        TensorBoardExport(self, folder).update(self)

    def to_csv(self, folder: str | Path) -> None:
        """Write trials, curves, rounds and confirmed trials to CSV files for spreadsheets.

        Text that a spreadsheet would run as a formula has an apostrophe before it. For exact values, read the Parquet
        files of the run directory.

        Args:
            folder: path of the folder, which is created; files of an earlier export are replaced.

        Raises:
            RunError: the disk refuses.

        Example:
            >>> load("runs/digits").to_csv("digits-csv")  # doctest: +SKIP
        """
        from caviar.exports.csv_files import CsvExport

        CsvExport(folder).update(self)

    @property
    def finished(self) -> bool:
        """True if the study has come to its end, and its last extension too: then the winner is there."""
        return self.study_file.is_finished_by(self.trials)


def load(path: str | Path) -> Run:
    """Open a saved run, finished or not.

    Args:
        path: the run directory, such as "runs/digits" or "s3://bucket/runs/digits".

    Returns:
        The run, with `.trials`, `.curves`, `.rounds`, `.confirmed` and `.best`.

    Raises:
        RunError: it is not a run directory, or was written in another format.
    """
    return Run(locate(path))


def _curve_columns(columns: str | Iterable[str], metrics: Sequence[str]) -> list[str]:
    """Return the columns of the curves to read, `trial` and `epoch` first.

    Raises:
        RunError: there is no such metric.
    """
    keys = ["trial", "epoch"]
    asked = [columns] if isinstance(columns, str) else list(columns)
    if unknown := [name for name in asked if name not in (*keys, *metrics)]:
        raise RunError(f"the curves have no column {unknown[0]!r}: their metrics are {', '.join(metrics)}")
    return [*keys, *(name for name in metrics if name in asked)]


def _known_numbers(trials: int | Iterable[int], known: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return numbers of trials as an array.

    Raises:
        RunError: there is no such trial.
    """
    asked = pd.Series(trials if isinstance(trials, Iterable) else [trials]).to_numpy()
    if len(unknown := asked[~pd.Index(asked).isin(known)]):
        raise RunError(f"there is no trial {unknown[0]} among the {len(known):,} that are recorded")
    return asked.astype(np.int64)


def reproducible(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that are the same in every run of a study, without those of machines and times (law 1)."""
    return trials.drop(columns=list(CIRCUMSTANCES))
