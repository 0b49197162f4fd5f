"""Run on the head of a cluster before a study: whether what caviar needs is installed there.

It says all that is lacking at once, before a worker starts.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import metadata

RAY = "ray"
"""What a cluster has in any case, and pip must not touch."""


def required() -> list[str]:
    """What caviar requires, as its package says."""
    from packaging.requirements import Requirement

    found = [Requirement(text) for text in metadata.requires("caviar") or ()]
    return [str(r) for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]


def to_install() -> list[str]:
    """What pip is to see to on a cluster: it leaves alone what is there already."""
    from packaging.requirements import Requirement

    return [text for text in required() if Requirement(text).name != RAY]


def lacking(requirements: Sequence[str], version_of: Callable[[str], str]) -> list[str]:
    """Which requirements are not met, each with what is there instead.

    Args:
        requirements: such as "optuna>=5,<6".
        version_of: the installed version of a package; raises `PackageNotFoundError` where there is none.

    Example:
        >>> lacking(["optuna>=5,<6"], lambda name: "4.8.0")
        ['optuna<6,>=5 (4.8.0 is there)']
    """
    from packaging.requirements import Requirement

    missing = []
    for requirement in map(Requirement, requirements):
        try:
            version = version_of(requirement.name)
        except metadata.PackageNotFoundError:
            missing.append(f"{requirement.name}{requirement.specifier}")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            missing.append(f"{requirement.name}{requirement.specifier} ({version} is there)")
    return missing


def main() -> None:
    """Exit with 1 and a sentence where something is lacking."""
    missing = lacking(required(), metadata.version)
    if missing:
        sys.exit(
            f"caviar: the cluster lacks {', '.join(missing)}: `caviar submit --install` has pip install it on "
            "every machine first; an image that holds it starts sooner"
        )


if __name__ == "__main__":
    main()
