"""Command that shows what a study would draw, before anything is trained: space."""

import argparse
from pathlib import Path
from typing import Any

from caviar.cli.studies import add_experiment
from caviar.experiment_script import load_study
from caviar.optional_packages import packages_of

SPACE = """Show what a space draws, before anything is trained.

For each hyperparameter: the share of the draws in each order of magnitude (of
x on a linear or log scale, of 1 - x near 1), in each option, and the share in
which it applies at all. Also the share that constraints refuse, and hints
where a scale looks wrong. The draws are the study's own first ones, and as
many more of their kind as a good measurement needs.

examples:
  caviar space experiments/digits.py
  caviar space experiments/digits.py --plot space.html
  caviar space experiments/digits.py --json
"""


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the parser of this command, and return it in a list."""
    space = commands.add_parser("space", usage="caviar space EXPERIMENT.py [OPTIONS]", description=SPACE)
    add_experiment(space)
    space.add_argument(
        "--plot", type=_page, metavar="FILE.html", help="draw the shares as an interactive page"
    )
    space.add_argument("--json", action="store_true", help="print JSON")
    space.set_defaults(action=_space)
    return [space]


def _page(text: str) -> Path:
    """Return the path of a page.

    Raises:
        ArgumentTypeError: its name does not end in .html.
    """
    if not text.endswith(".html"):
        raise argparse.ArgumentTypeError(f"{text!r} must end in .html")
    return Path(text)


def _space(options: argparse.Namespace) -> None:
    study = load_study(options.experiment, options.study)
    from caviar.analysis.space_preview import preview
    from caviar.reporting.space_preview import preview_json, preview_parts

    found = preview(study)
    if options.plot is not None:
        with packages_of("report"):
            from caviar.reporting.plots.space import figure

        options.plot.parent.mkdir(parents=True, exist_ok=True)
        figure(found).write_html(options.plot)
    if options.json:
        from caviar.reporting.run_json import json_text

        print(json_text(preview_json(found)))
        return
    from caviar.reporting.terminal import open_console, print_parts

    print_parts(preview_parts(found), open_console())
    if options.plot is not None:
        print(f"the figure is {options.plot}")
