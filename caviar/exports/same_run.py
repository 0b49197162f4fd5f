"""The identity of a run: an export that is repeated finds out that it belongs to the same run."""

from caviar.records.frames import Run


def identity(run: Run) -> dict[str, str]:
    """Return what tells a run from all others, wherever it is copied to, in a form for JSON."""
    return {
        "study": run.study["name"],
        "seed": str(run.study["seed"]),  # as text, because it may have more than 53 bits
        "created": run.study_file.created,
    }
