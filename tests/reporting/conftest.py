"""Fixtures of the tests of what people look at."""

from collections.abc import Iterator

import pytest
from IPython.core.interactiveshell import InteractiveShell


@pytest.fixture
def shell() -> Iterator[None]:
    """A shell of IPython, which takes what is displayed."""
    InteractiveShell.instance()
    yield
    InteractiveShell.clear_instance()
