"""Packages that a plain installation lacks. Each belongs to an extra of pyproject.toml, such as `caviar[report]`."""

from collections.abc import Iterator
from contextlib import contextmanager

from caviar.errors import MissingPackageError


@contextmanager
def packages_of(extra: str) -> Iterator[None]:
    """Import optional packages inside this, so that the error names the command that installs a missing one.

    Args:
        extra: the extra of pyproject.toml that has the packages.

    Raises:
        MissingPackageError: one is not installed.

    Example:
        >>> with packages_of("report"):
        ...     import plotly
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or str(error)).partition(".")[0]
        raise MissingPackageError(
            f"the package {package} is not installed; install it with: pip install 'caviar[{extra}]'"
        ) from error
