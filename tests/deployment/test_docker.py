"""The images and the containers: clean, without privileges and secrets, and reachable from this machine alone."""

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

from tests.deployment.files import DOCKER, ROOT, schema

DOCKERFILE = (DOCKER / "Dockerfile").read_text()
SCRIPTS = Path(sys.executable).parent
NODES = ["head", "worker", "gpu"]
VARIABLE = re.compile(r"\$\{(\w+):-((?:[^{}]|\$\{[^}]*\})*)\}")


def compose(**environment: str) -> Any:
    """The compose file, its variables filled in."""
    text = (DOCKER / "compose.yaml").read_text()
    text = VARIABLE.sub(lambda found: environment.get(found[1], found[2]), text)
    return yaml.safe_load(text.replace("${HOME}", "/home/somebody"))


def test_hadolint_has_nothing_to_say() -> None:
    said = subprocess.run(
        [SCRIPTS / "hadolint", "--no-color", DOCKER / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stdout + said.stderr == ""


def test_the_base_is_pinned_to_the_bit() -> None:
    assert re.search(r"^ARG BASE=\S+:\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    for base in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE):
        assert base == "${BASE}" or f" AS {base}\n" in DOCKERFILE


def test_images_run_as_nobody_special_under_an_init() -> None:
    runtime = DOCKERFILE[DOCKERFILE.index(" AS runtime") : DOCKERFILE.index(" AS packages")]
    assert "USER 1000:0" in runtime
    assert 'ENTRYPOINT ["/usr/bin/tini", "--"]' in runtime
    for target in ("cpu", "gpu"):
        stage = DOCKERFILE.split(f"FROM runtime AS {target}\n")[1].split("FROM ")[0]
        assert "USER" not in stage
        assert "RUN" not in stage


def test_no_secret_can_get_into_a_layer() -> None:
    assert not re.search(r"^(ENV|ARG).*(TOKEN|PASSWORD|SECRET|_KEY)", DOCKERFILE, re.MULTILINE)
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"  # only what is named after it
    named = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    assert named == {name for names in copied for name in names.split()}
    assert all((ROOT / name).exists() for name in named)


def test_compose_is_as_its_specification_says() -> None:
    checker = jsonschema.Draft7Validator(schema("compose"))
    checker.validate(compose())
    with pytest.raises(jsonschema.ValidationError):
        checker.validate({**compose(), "services": {"head": {"port": ["8265:8265"]}}})


def test_ports_are_published_to_this_machine_alone() -> None:
    ports = {name: service.get("ports", []) for name, service in compose()["services"].items()}
    assert ports == {"head": ["127.0.0.1:8265:8265"], "worker": [], "gpu": [], "job": []}


def test_the_token_is_a_file_that_compose_mounts() -> None:
    assert compose()["secrets"] == {"ray_token": {"file": "/home/somebody/.ray/auth_token"}}
    assert compose(RAY_AUTH_TOKEN_PATH="/elsewhere")["secrets"] == {"ray_token": {"file": "/elsewhere"}}
    for service in compose()["services"].values():
        assert service["environment"] == {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": "/run/secrets/ray_token",
        }
        assert service["secrets"] == ["ray_token"]


def test_containers_are_limited_watched_and_without_privileges() -> None:
    for name, service in compose()["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"] == "1000:0", name
    for name in NODES:
        service = compose()["services"][name]
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["restart"] == "unless-stopped"
        assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()
        store = next(o for o in service["command"] if o.startswith("--object-store-memory="))
        assert int(store.split("=")[1]) < 2 * 10**9  # less than shm_size
        assert service["shm_size"] == "2gb"
        assert int(service["stop_grace_period"].removesuffix("s")) > 30  # Ray's nodes take leave


def test_there_are_a_head_and_two_workers() -> None:
    services = compose()["services"]
    assert "--num-cpus=0" in services["head"]["command"]
    assert services["worker"]["deploy"]["replicas"] == 2
    assert "--address=head:6379" in services["worker"]["command"]
    assert compose(WORKERS="5")["services"]["worker"]["deploy"]["replicas"] == 5


def missing() -> str | None:
    """Why no image can be built here."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "building needs root"
    tools = [tool for tool in ("buildah", "debootstrap", "apt-get") if shutil.which(tool) is None]
    return f"building needs {' and '.join(tools)}" if tools else None


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(missing() is not None, reason=missing() or "")
def test_the_image_builds_and_a_study_runs_in_it() -> None:
    ended = subprocess.run(
        [DOCKER / "try.sh", "cpu"],
        env={**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert "101 trials" in ended.stdout
