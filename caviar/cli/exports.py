"""Commands that hand a run to other tools: export and dashboard."""

import argparse
import shlex
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from caviar.cli.numbers import port, seconds

if TYPE_CHECKING:
    from caviar.exports.following import Export
    from caviar.records.frames import Run

EXPORT = """Copy the trials of a run to another tool.

  --to optuna        a study for optuna-dashboard, plots and importances, in a
                     journal file (default: NAME.journal) or a database:
                     --out sqlite:///digits.db, --out postgresql://HOST/DB
  --to tensorboard   curves and hyperparameters, in a log folder (default:
                     NAME-tensorboard)
  --to mlflow        a run for each trial, in an experiment (default: where
                     MLFLOW_TRACKING_URI says): --out http://127.0.0.1:5000
  --to csv           trials, curves, rounds and confirmed trials, each in a
                     file of a folder (default: NAME-csv)

TensorBoard and MLflow need a package: pip install 'caviar[tensorboard]' or
'caviar[mlflow]'. A study of Optuna has the search trials alone. A reverse-log
momentum is `1 - momentum` on a log scale there.

Run it again to add the trials that are new. The study may still be running;
--watch follows it.

examples:
  caviar export runs/digits --to optuna
  caviar export s3://bucket/runs/digits --to csv --out results --watch
"""
DASHBOARD = """Open a run in optuna-dashboard.

It needs the package: pip install 'caviar[dashboard]'. The page is served on
this machine alone, and follows a study that is running. To keep what is
written in the page, export the run and open the file with optuna-dashboard.

examples:
  caviar dashboard runs/digits
  caviar dashboard s3://bucket/runs/digits --port 9000
"""
_OPEN = {"optuna": "optuna-dashboard", "tensorboard": "tensorboard --logdir"}
"""Commands that open a copy."""


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the parsers of these commands, and return them."""
    export = commands.add_parser("export", usage="caviar export RUN --to TOOL [OPTIONS]", description=EXPORT)
    export.add_argument("run", metavar="RUN", help="run directory: a path or URI")
    export.add_argument(
        "--to", required=True, choices=("optuna", "tensorboard", "mlflow", "csv"), help="the tool"
    )
    export.add_argument("--out", metavar="PLACE", help="file, folder or URL of the copy")
    export.add_argument("--name", help="name of the study or experiment there (default: that of the run)")
    export.add_argument("--watch", action="store_true", help="add new trials until the study is finished")
    export.set_defaults(action=_export)

    dashboard = commands.add_parser(
        "dashboard", usage="caviar dashboard RUN [OPTIONS]", description=DASHBOARD
    )
    dashboard.add_argument("run", metavar="RUN", help="run directory: a path or URI")
    dashboard.add_argument("--port", type=port, default=8080, help="TCP port (default: 8080)")
    dashboard.set_defaults(action=_dashboard)
    for command in (export, dashboard):
        command.add_argument(
            "--every",
            type=seconds,
            default=10.0,
            metavar="SECONDS",
            help="seconds between looks at a running study (default: 10)",
        )
    return [export, dashboard]


def _export(options: argparse.Namespace) -> None:
    from caviar.exports.following import follow
    from caviar.plurals import counted
    from caviar.records.frames import load

    run = load(options.run)
    export = _open(run, options)
    verb, noun = ("wrote", "trial") if options.to == "csv" else ("added", "new trial")
    for place, written in enumerate(follow(run, export, options.every if options.watch else None)):
        if written or place == 0:
            print(f"{verb} {counted(written, noun)} of {run.location} to {export.place}", flush=True)
    if options.to in _OPEN:
        print(f"to look at them: {_OPEN[options.to]} {shlex.quote(export.place)}")


def _open(run: "Run", options: argparse.Namespace) -> "Export":
    """Open the copy that the options name."""
    name = options.name or run.location.name
    match options.to:
        case "csv":
            from caviar.exports.csv_files import CsvExport

            return CsvExport(options.out or f"{name}-csv")
        case "tensorboard":
            from caviar.exports.tensorboard_log import TensorBoardExport

            return TensorBoardExport(run, options.out or f"{name}-tensorboard")
        case "mlflow":
            from caviar.exports.mlflow_runs import MlflowExport

            return MlflowExport(run, options.out, name)
        case _:
            from caviar.exports.optuna_study import OptunaExport

            return OptunaExport(run, options.out or f"{name}.journal", name)


def _dashboard(options: argparse.Namespace) -> None:
    from caviar.exports.dashboard import serve_dashboard
    from caviar.exports.following import follow
    from caviar.exports.optuna_study import OptunaExport
    from caviar.records.frames import load

    run = load(options.run)
    export = OptunaExport(run)
    with suppress(KeyboardInterrupt), serve_dashboard(export.study(), options.port) as url:
        print(f"{run.location} is shown at {url} (Ctrl-C ends this)", flush=True)
        for _ in follow(run, export, options.every):
            pass
        while True:
            time.sleep(3600)
