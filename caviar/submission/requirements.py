"""A check that the head of a cluster has the packages that caviar requires.

A job runs `python -m caviar.submission.requirements [EXTRA]` before its study. It reports all missing packages at once.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import metadata

RAY = "ray"
"""Package that every cluster has. pip must not replace it."""


def read_requirements(extra: str = "") -> list[str]:
    """Return the requirements that caviar's package metadata declares.

    Args:
        extra: an extra whose requirements are among them, such as "report".
    """
    from packaging.requirements import Requirement

    found = [Requirement(text) for text in metadata.requires("caviar") or ()]
    return [
        f"{r.name}{r.specifier}" for r in found if r.marker is None or r.marker.evaluate({"extra": extra})
    ]


def list_installable(extra: str = "") -> list[str]:
    """Return the requirements that pip may install on a cluster: all but Ray."""
    from packaging.requirements import Requirement

    return [text for text in read_requirements(extra) if Requirement(text).name != RAY]


def find_unmet(requirements: Sequence[str], version_of: Callable[[str], str]) -> list[str]:
    """Return the requirements that are not met, each with the version that is installed instead.

    Args:
        requirements: requirements such as "optuna>=5,<6".
        version_of: function that returns the installed version of a package, or raises `PackageNotFoundError`.

    Example:
        >>> find_unmet(["optuna>=5,<6"], lambda name: "4.8.0")
        ['optuna<6,>=5 (4.8.0 is installed)']
    """
    from packaging.requirements import Requirement

    unmet = []
    for requirement in map(Requirement, requirements):
        try:
            version = version_of(requirement.name)
        except metadata.PackageNotFoundError:
            unmet.append(f"{requirement.name}{requirement.specifier}")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            unmet.append(f"{requirement.name}{requirement.specifier} ({version} is installed)")
    return unmet


def main() -> None:
    """Exit with code 1 and a message if packages are missing."""
    if unmet := find_unmet(read_requirements(*sys.argv[1:]), metadata.version):
        sys.exit(
            f"caviar: the cluster does not have {', '.join(unmet)}: submit with --install to let pip install them on "
            "every machine, or start the cluster from an image that has them, which is faster"
        )


if __name__ == "__main__":
    main()
