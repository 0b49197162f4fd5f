"""A run whose texts, which a user chose, hold markup, control codes, quotes and newlines."""

from pathlib import Path
from typing import Any

import caviar as cv
from caviar.records.frames import Run
from tests.runs import run_inline

MARKUP = "<img src=x onerror='window.harmed=1'>"
"""Text that harms a page which takes it for HTML."""
OPTIONS = (
    MARKUP,
    "[red]</script><script>window.harmed=1</script>",
    "%{x}$5 {{ 7 * 7 }}",
    'a "quoted"\nline',
    "=1+1",
    "\x1b[31mred",
)
"""Options of a choice, one for each language that a reader may take for its own."""


def fail_sometimes(params: dict[str, Any], trial: cv.TrialContext) -> None:
    """Fail with one of the texts, or report two epochs."""
    if trial.number % 7 == 3:
        raise ValueError(f"{params['kind']}: \x1b[31m{MARKUP}\n[bold]{{{{ 7 * 7 }}}}")
    for epoch in (1, 2):
        trial.report(epoch, loss=params["rate"] / epoch)


def hostile_study() -> cv.Study:
    """Return a study with such options, and with such failures."""
    return cv.Study(
        name="hostile",
        objective=cv.Function(fail_sometimes, metric="loss"),
        space=cv.Space(
            rate=cv.log(1e-3, 1.0),
            kind=cv.choice(*OPTIONS),
            share=cv.when(cv.reverse_log(0.9, 0.999), kind=OPTIONS[0]),
        ),
        rounds=[cv.Round(40, 2), cv.Round(20, 2), cv.Confirmation(3, 2)],
    )


def hostile_run(runs: Path) -> Run:
    """Run the study in this process."""
    return run_inline(hostile_study(), runs)
