"""Runs that the tests of figures share."""

import pytest

from caviar.records.frames import Run
from tests.reporting.plots.runs import full_run, hostile_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An ordinary run."""
    return full_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with hostile names."""
    return hostile_run(tmp_path_factory.mktemp("runs"))
