"""The commands in the READMEs fit the files that they use."""

import inspect
import os
import re
import subprocess

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from caviar.backends.ray import auth, autoscaler, placement
from tests.deployment.files import CLUSTER, DOCKER, ROOT, documents

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
COMMANDS = re.findall(r"^ *(sed .*) > my-([\w-]+)\.yaml$", README, re.MULTILINE)


@pytest.mark.parametrize(("command", "name"), COMMANDS, ids=[name for _, name in COMMANDS])
def test_all_placeholders_are_filled(command: str, name: str) -> None:
    filled = subprocess.run(
        ["sh", "-c", command],
        cwd=ROOT,
        env={**os.environ, **FILLED},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    code = "\n".join(line.split(" #")[0] for line in filled.splitlines() if not line.startswith("#"))
    assert not re.search(
        r"\b(REGISTRY|STUDY|SCRIPT|PROJECT|REGION|EC2_REGION|ZONE|USER|SECURITY_GROUP|\w+_(AMI|ADDRESS))\b",
        code,
    )
    config = yaml.safe_load(filled)
    if name in ("aws", "gcp", "onprem"):
        validate_config(prepare_config(config))


def test_study_finds_its_script_and_volume() -> None:
    (command,) = (command for command, name in COMMANDS if name == "rayjob")
    filled = subprocess.run(
        ["sh", "-c", command],
        cwd=ROOT,
        env={**os.environ, **FILLED},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "kubectl create configmap caviar-digits --from-file=experiments/digits.py\n" in README
    assert "/experiment/digits.py" in yaml.safe_load(filled)["spec"]["entrypoint"]
    for reference in ("configMap: { name: caviar-digits }", "claimName: caviar-digits }"):
        assert reference in filled


def test_earlier_runs_are_deleted_with_what_they_own() -> None:
    """Otherwise a new run meets the RayJob and the ConfigMap of the earlier one, or its head still has the volume."""
    (command,) = re.findall(r"kubectl delete rayjob.*", README)
    assert {"rayjob/caviar-digits", "configmap/caviar-digits"} <= set(command.split())
    assert {"--ignore-not-found", "--cascade=foreground"} <= set(command.split())


def test_time_limits_are_documented() -> None:
    (job,) = documents(CLUSTER / "rayjob.yaml")
    text = " ".join(README.split())
    for field, words, seconds in (
        ("preRunningDeadlineSeconds", "30 minutes at most (`preRunningDeadlineSeconds`)", 30 * 60),
        ("activeDeadlineSeconds", "one day at most (`activeDeadlineSeconds`)", 24 * 3600),
        ("ttlSecondsAfterFinished", "within five minutes after the end", 5 * 60),
    ):
        assert job["spec"][field] == seconds
        assert words in text


def test_every_file_with_placeholders_has_a_command() -> None:
    with_placeholders = {path.stem for path in CLUSTER.glob("*.yaml") if "UPPER CASE" in path.read_text()}
    assert {name for _, name in COMMANDS} == with_placeholders


def test_named_files_exist() -> None:
    names = re.findall(r"(?<![\w./-])((?:cluster|docker|experiments)/[\w./-]*\w)", BOTH)
    assert len(names) > 20
    for name in names:
        assert (ROOT / name).exists(), name


def test_links_have_targets() -> None:
    headings = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }
    anchors = re.findall(r"\]\(#([\w-]+)\)", README)
    assert anchors
    assert set(anchors) <= headings


def test_troubleshooting_quotes_caviars_messages() -> None:
    source = "".join(inspect.getsource(module) for module in (auth, autoscaler, placement))
    for words in (
        "asks for a token",
        "does not accept this token",
        "no workers; the cluster has",
        "may not start",
    ):
        assert words in source
        assert words in README
