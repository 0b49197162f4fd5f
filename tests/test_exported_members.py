"""The names that caviar exports are those in `__all__`, and those that the README uses."""

import re
from pathlib import Path
from types import ModuleType

import pytest

import caviar

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_all_lists_the_public_names_in_order() -> None:
    public = {
        name
        for name in dir(caviar)
        if not name.startswith("_")
        and name != "TYPE_CHECKING"
        and not isinstance(getattr(caviar, name), ModuleType)
    }
    assert caviar.__all__ == sorted(public)


def test_every_exported_member_is_defined_in_the_package() -> None:
    for name in caviar.__all__:
        member = getattr(caviar, name)
        assert member.__name__ == name
        assert member.__module__.startswith("caviar."), name
        assert member.__doc__, name


def test_the_readme_uses_exported_members_only() -> None:
    used = set(re.findall(r"\b(?:cv|caviar)\.([A-Za-z]\w*)\b(?=\()", README))
    assert used
    assert used <= set(caviar.__all__)


def test_every_error_that_users_meet_is_exported() -> None:
    for name in dir(caviar.errors):
        error = getattr(caviar.errors, name)
        if isinstance(error, type) and issubclass(error, caviar.CaviarError):
            assert name in caviar.__all__ or name in {
                "SubmissionError",
                "UnreachableError",
            }  # command line only


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Tuner'"):
        caviar.Tuner  # noqa: B018
