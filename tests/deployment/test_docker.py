"""Images and containers have no privileges and no secrets, and only this machine can reach them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from caviar.submission.client import find_token_risk
from tests.deployment.files import DOCKER, ROOT, schema

DOCKERFILE = (DOCKER / "Dockerfile").read_text()
SCRIPTS = Path(sys.executable).parent
NODES = ["head", "worker", "gpu"]
VARIABLE = re.compile(r"\$\{(\w+):-((?:[^{}]|\$\{[^}]*\})*)\}")


def compose(**environment: str) -> Any:
    """Return the compose file with its variables filled in."""
    text = (DOCKER / "compose.yaml").read_text()
    text = VARIABLE.sub(lambda found: environment.get(found[1], found[2]), text)
    return yaml.safe_load(text.replace("${HOME}", "/home/somebody"))


def test_hadolint_finds_nothing() -> None:
    result = subprocess.run(
        [SCRIPTS / "hadolint", "--no-color", DOCKER / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout + result.stderr == ""


def test_base_image_is_pinned_by_digest() -> None:
    assert re.search(r"^ARG BASE=\S+:\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    for base in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE):
        assert base == "${BASE}" or f" AS {base}\n" in DOCKERFILE


def test_images_run_unprivileged_under_an_init() -> None:
    runtime = DOCKERFILE[DOCKERFILE.index(" AS runtime") : DOCKERFILE.index(" AS packages")]
    assert "USER 1000:0" in runtime
    assert 'ENTRYPOINT ["/usr/bin/tini", "--"]' in runtime
    for target in ("cpu", "gpu"):
        stage = DOCKERFILE.split(f"FROM runtime AS {target}\n")[1].split("FROM ")[0]
        assert "USER" not in stage
        assert "RUN" not in stage


def test_only_named_files_enter_an_image() -> None:
    assert not re.search(r"^(ENV|ARG).*(TOKEN|PASSWORD|SECRET|_KEY)", DOCKERFILE, re.MULTILINE)
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"  # only files named after it are sent to the build
    named = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    assert named == {name for names in copied for name in names.split()}
    assert all((ROOT / name).exists() for name in named)


def test_compose_file_satisfies_its_schema() -> None:
    checker = jsonschema.Draft7Validator(schema("compose"))
    checker.validate(compose())
    with pytest.raises(jsonschema.ValidationError):
        checker.validate({**compose(), "services": {"head": {"port": ["8265:8265"]}}})


def test_ports_are_published_on_loopback_only() -> None:
    ports = {name: service.get("ports", []) for name, service in compose()["services"].items()}
    assert ports == {"head": ["127.0.0.1:8265:8265"], "worker": [], "gpu": [], "job": []}


def test_token_is_mounted_as_a_file() -> None:
    assert compose()["secrets"] == {"ray_token": {"file": "/home/somebody/.ray/auth_token"}}
    assert compose(RAY_AUTH_TOKEN_PATH="/elsewhere")["secrets"] == {"ray_token": {"file": "/elsewhere"}}
    for service in compose()["services"].values():
        assert service["environment"] == {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": "/run/secrets/ray_token",
        }
        assert service["secrets"] == ["ray_token"]


def test_rootless_docker_can_read_the_token() -> None:
    """There, the user who owns the token is user 0 in a container."""
    assert {service["user"] for service in compose(CAVIAR_UID="0")["services"].values()} == {"0:0"}
    readme = (DOCKER / "README.md").read_text()
    assert readme.count("export CAVIAR_UID=$(docker info | grep -q rootless && echo 0 || id -u)") == 2
    assert '--user "$CAVIAR_UID:0"' in readme


def test_job_sends_the_token_over_loopback_only() -> None:
    job = compose()["services"]["job"]
    words = job["entrypoint"]
    address = words[words.index("--address") + 1]
    assert job["network_mode"] == "service:head"
    assert "networks" not in job  # it excludes network_mode
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "a token")
        assert find_token_risk(address) is None
        assert find_token_risk("http://head:8265") is not None


def test_containers_are_limited_checked_and_unprivileged() -> None:
    for name, service in compose()["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"] == "1000:0", name
        assert 0 < service["pids_limit"] < 10_000, name
        assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys(), name
    for name in NODES:
        service = compose()["services"][name]
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["restart"] == "unless-stopped"
        store = next(o for o in service["command"] if o.startswith("--object-store-memory="))
        assert int(store.split("=")[1]) < 2 * 10**9  # less than shm_size
        assert service["shm_size"] == "2gb"
        # A node needs 30 s to leave the cluster
        assert int(service["stop_grace_period"].removesuffix("s")) > 30


def test_compose_starts_a_head_and_two_workers() -> None:
    services = compose()["services"]
    assert "--num-cpus=0" in services["head"]["command"]
    assert services["worker"]["deploy"]["replicas"] == 2
    assert "--address=head:6379" in services["worker"]["command"]
    assert compose(WORKERS="5")["services"]["worker"]["deploy"]["replicas"] == 5


def missing() -> str | None:
    """Return why no image can be built on this machine; None if one can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "building needs root"
    tools = [tool for tool in ("buildah", "debootstrap", "apt-get") if shutil.which(tool) is None]
    return f"building needs {' and '.join(tools)}" if tools else None


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(missing() is not None, reason=missing() or "")
def test_image_builds_and_runs_a_study() -> None:
    ended = subprocess.run(
        [DOCKER / "try.sh", "cpu"],
        env={**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert "101 trials" in ended.stdout
