"""What the READMEs tell to type fits the files that they speak of."""

import inspect
import os
import re
import subprocess

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from caviar.backends.ray import auth, autoscaler, placement
from tests.deployment.files import CLUSTER, DOCKER, ROOT

README = (CLUSTER / "README.md").read_text()
BOTH = README + (DOCKER / "README.md").read_text()
FILLED = {
    "AWS_DEFAULT_REGION": "eu-central-1",
    "ubuntu": "ami-1",
    "gpu": "ami-2",
    "group": "sg-1",
    "project": "ada",
    "region": "europe-west4",
    "zone": "europe-west4-a",
    "registry": "registry.example.org/ada",
}
COMMANDS = re.findall(r"^(sed .*) > my-([\w-]+)\.yaml$", README, re.MULTILINE)


@pytest.mark.parametrize(("command", "name"), COMMANDS, ids=[name for _, name in COMMANDS])
def test_all_placeholders_are_filled_in(command: str, name: str) -> None:
    said = subprocess.run(
        ["sh", "-c", command],
        cwd=ROOT,
        env={**os.environ, **FILLED},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    code = "\n".join(line.split(" #")[0] for line in said.splitlines() if not line.startswith("#"))
    assert not re.search(
        r"\b(REGISTRY|STUDY|PROJECT|REGION|ZONE|USER|SECURITY_GROUP|\w+_(AMI|ADDRESS))\b", code
    )
    config = yaml.safe_load(said)
    if name not in ("rayjob", "raycluster"):
        validate_config(prepare_config(config))


def test_there_is_a_command_for_every_file_that_wants_one() -> None:
    wanting = {path.stem for path in CLUSTER.glob("*.yaml") if "UPPER CASE" in path.read_text()}
    assert {name for _, name in COMMANDS} == wanting


def test_files_that_are_named_exist() -> None:
    names = re.findall(r"(?<![\w/-])((?:cluster|docker|experiments)/[\w./-]*\w)", BOTH)
    assert len(names) > 20
    for name in names:
        assert (ROOT / name).exists(), name


def test_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }
    anchors = re.findall(r"\]\(#([\w-]+)\)", README)
    assert anchors
    assert set(anchors) <= headings


def test_troubles_are_named_as_caviar_names_them() -> None:
    source = "".join(inspect.getsource(module) for module in (auth, autoscaler, placement))
    for words in ("asks for a token", "does not accept our token", "no workers; the cluster has"):
        assert words in source
        assert words in README
