"""What all tests share: hypothesis profiles, and one Ray cluster for the whole session."""

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.object_store import ObjectStore

# Before anything imports Ray: access control decided, no network, no surprises from the environment.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.pop("RAY_ADDRESS", None)

for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]

settings.register_profile("quick", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=2_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(scope="session")
def store_process() -> Iterator[ObjectStore]:
    """An object store that the tests of a session share."""
    store = ObjectStore()
    yield store
    store.close()


@pytest.fixture
def store(store_process: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The object store, found by the environment."""
    for name, value in store_process.environment.items():
        monkeypatch.setenv(name, value)
    return store_process


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A Ray of two cores that the tests of a session share: starting one takes seconds."""
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield
    ray.shutdown()
