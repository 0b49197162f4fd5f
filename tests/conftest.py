"""Shared by all tests: hypothesis profiles, an object store, and one Ray cluster for the whole session."""

import atexit
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import settings

from tests.object_store import ObjectStore

MEMORY = "/dev/shm"
MIN_FREE_BYTES = 4 * 2**30
"""Least free memory with which the files of tests are kept there; a container may have very little."""

# Ray reads these when it is imported: no access control, no reports over the network, no address of the user's.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.pop("RAY_ADDRESS", None)
# Triton reads this when kernels are defined: without a GPU it interprets them.
os.environ["TRITON_INTERPRET"] = "1"
# The key that signs scripts is not the user's.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="caviar-state-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)
# Files of tests are in memory, because runs wait for the disk thousands of times.
if os.path.ismount(MEMORY) and shutil.disk_usage(MEMORY).free > MIN_FREE_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)

# A shell's background job ignores SIGINT, which tests send to themselves and to their children.
signal.signal(signal.SIGINT, signal.default_int_handler)

for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]

settings.register_profile("quick", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=2_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Let processes that share the tests take whole files, and one of them all those that need Ray."""
    from xdist.scheduler import LoadFileScheduling

    @cache
    def needs_ray(file: str) -> bool:
        source = (config.rootpath / file).read_text()
        return "mark.ray" in source or "ray_cluster" in source

    class OneRayCluster(LoadFileScheduling):  # type: ignore[misc]
        """A schedule of files, those that need the Ray cluster together."""

        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "ray" if needs_ray(file) else file

    return OneRayCluster(config, log)


@pytest.fixture(scope="session")
def store_process() -> Iterator[ObjectStore]:
    """An object store that all tests of a session share."""
    store = ObjectStore()
    yield store
    store.close()


@pytest.fixture
def store(store_process: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The object store, with the environment variables that name it."""
    for name, value in store_process.environment.items():
        monkeypatch.setenv(name, value)
    return store_process


@pytest.fixture(autouse=True)
def _start_ray(request: pytest.FixtureRequest) -> None:
    """Start the shared Ray cluster for a test that is marked `ray`."""
    if request.node.get_closest_marker("ray"):
        request.getfixturevalue("ray_cluster")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A Ray cluster with two cores that all tests of a session share: starting one takes seconds."""
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
