"""Packages of extras that are missing."""

import pytest

from caviar.errors import MissingPackageError
from caviar.optional_packages import packages_of


def test_a_missing_package_is_named_with_its_installing_command() -> None:
    command = r"pip install 'caviar\[report\]'"
    with pytest.raises(MissingPackageError, match=f"nowhere .* {command}"), packages_of("report"):
        import nowhere.at.all  # type: ignore[import-not-found]  # noqa: F401


def test_other_errors_of_a_package_are_kept() -> None:
    with pytest.raises(ImportError, match="cannot import name"), packages_of("report"):
        from caviar.errors import nothing  # type: ignore[attr-defined]  # noqa: F401
