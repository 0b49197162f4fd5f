"""Command that tunes again on other data: retune."""

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caviar.cli import studies
from caviar.errors import RunError, StudyError
from caviar.experiment_script import load_study

if TYPE_CHECKING:
    from caviar.study import Study

RETUNE = """Tune again on other data: is the old best still good?

One study trains the old best of RUN on the new data, neighbours of it, and a
fresh search of as many trials. The best of each trains again with the same
number of fresh seeds. The verdict: keep the old best, use a neighbour of it,
or tune again. The run directory is like any other; the column `origin` of its
trials says where each came from.

--data is what the objective of RUN's script takes as data: a table, arrays in
an .npz file, or a name such as sklearn:wine. For any other change give
--script: a script with the objective and the space to use now.

examples:
  caviar retune runs/digits --data new_digits.csv
  caviar retune runs/digits --data new_digits.csv --trials 200 --json
  caviar retune runs/mine --script experiments/mine_again.py
"""
TRIALS = 80
SEEDS = 4


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the parser of this command, and return it in a list."""
    usage = "caviar retune RUN [EXPERIMENT.py] (--data NEW | --script OTHER.py) [OPTIONS]"
    retune = commands.add_parser("retune", usage=usage, description=RETUNE)
    studies.add_run(retune)
    new = retune.add_mutually_exclusive_group(required=True)
    new.add_argument("--data", metavar="NEW", help="the new data: a file, or a name such as sklearn:wine")
    new.add_argument(
        "--script", type=Path, metavar="OTHER.py", help="script with the objective and space to use now"
    )
    retune.add_argument("--target", metavar="COLUMN", help="with --data: the column that holds the class")
    retune.add_argument("--study", metavar="NAME", help="with --script: which study (default: the only one)")
    retune.add_argument(
        "--trials",
        type=int,
        default=TRIALS,
        metavar="N",
        help=f"search trials: half near the old best, half a fresh search (default: {TRIALS})",
    )
    retune.add_argument(
        "--seeds",
        type=int,
        default=SEEDS,
        metavar="N",
        help=f"fresh trainings of the best of each kind; the better two train twice as many more (default: {SEEDS})",
    )
    retune.add_argument("--resume", metavar="RETUNED", help="continue this run directory of the same command")
    retune.add_argument("--json", action="store_true", help="print the verdict as JSON")
    studies.add_report_option(retune)
    studies.add_results(retune, "that of the study of RUN with -retuned")
    studies.add_address(studies.add_worker_options(retune))
    retune.set_defaults(action=_retune, verb="retune")
    return [retune]


def _retune(options: argparse.Namespace) -> None:
    from caviar.operations.resume import resume_study
    from caviar.operations.retune import begin_at, declare
    from caviar.operations.run import run_study
    from caviar.records.frames import load
    from caviar.reporting.retuning import data
    from caviar.reporting.run_json import json_text
    from caviar.starting_point import StartingPoint

    studies.require_report_packages(options)
    resumed = None if options.resume is None else load(options.resume)
    study = _new_study(options)
    if resumed is None:
        run = load(options.run)
        study = declare(study, options.trials, options.seeds, f"{run.study['name']}-retuned")
        study = begin_at(study, run, options.run)
    elif not resumed.study_file.is_retuning:
        raise RunError(f"--resume {resumed.location}: it is no run of `caviar retune`")
    else:  # what it takes from RUN is recorded
        study = declare(study, options.trials, options.seeds, str(resumed.study["name"]))
        study = replace(study, start_from=StartingPoint.from_json(resumed.study["start_from"]))
    confirmation = study.confirmation
    print(
        f"{study.name}: {study.search_rounds[0].trials:,} trials near the best of {options.run}, "
        f"{study.search_rounds[1].trials:,} of a fresh search, at most {confirmation.trials:,} fresh trainings",
        file=sys.stderr,
    )
    machines = {"workers": options.workers, "gpus": options.gpus, "address": options.address}
    if resumed is not None:
        finished = resume_study(study, resumed.location, **machines, progress=not options.json)
    else:
        finished = run_study(
            study,
            **machines,
            runs=options.runs,
            name=options.name,
            progress=not options.json,
            command=_command(options),
        )
    if options.json:
        print(json_text(data(finished)))
    studies.report(options, finished)


def _new_study(options: argparse.Namespace) -> "Study":
    """Return the study with the new objective.

    Raises:
        RunError: the script of the run is not known or not trusted.
        StudyError: the objective has no data to replace.
    """
    from caviar.records.run_files import StudyFile
    from caviar.storage.uri import locate

    if options.script is not None:
        if options.target is not None or options.experiment is not None:
            raise RunError("--script names another objective: leave out --target and EXPERIMENT.py")
        return load_study(options.script, options.study)
    if options.study is not None:
        raise RunError("--study goes with --script: --data trains the study that the run was started with")
    if options.target is not None and options.data.startswith("sklearn:"):
        raise RunError(
            f"--target goes with a table, and {options.data} has a target of its own: leave it out"
        )
    data = str(Path(options.data).resolve()) if Path(options.data).exists() else options.data
    location = locate(options.run)
    with studies.loaded_study(options, str(location), StudyFile.read(location)) as study:
        objective: Any = study.objective
        if not hasattr(objective, "data"):
            raise StudyError(
                f"the objective of {location} has no data that --data could replace: write a script with the new "
                "objective, and give it with --script OTHER.py"
            )
        changed = {"data": data} | ({} if options.target is None else {"target": options.target})
        return replace(study, objective=replace(objective, **changed))


def _command(options: argparse.Namespace) -> str:
    """Return the command without the names of results and machines, as one that `--resume` goes after."""
    words = ["caviar", "retune", options.run]
    words += [] if options.script is not None or options.experiment is None else [str(options.experiment)]
    for name in ("data", "script", "target", "study", "trials", "seeds"):
        if (value := getattr(options, name)) is not None:
            words += [f"--{name}", str(value)]
    return shlex.join(words)
