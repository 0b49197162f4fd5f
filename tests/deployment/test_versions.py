"""All machines of a cluster get the Python, Ray and packages that constraints.txt names."""

import re
import subprocess
from importlib import metadata

import pytest
from packaging.requirements import Requirement

import caviar
from tests.deployment.files import CLUSTER, DOCKER, ROOT, pins

FILES = sorted(path for folder in (CLUSTER, DOCKER) for path in folder.iterdir() if path.is_file())
INSTALLS = ("aws.yaml", "gcp.yaml", "onprem.yaml", "Dockerfile")


def found(pattern: str) -> set[str]:
    return {version for path in FILES for version in re.findall(pattern, path.read_text(), re.IGNORECASE)}


def test_one_python_version() -> None:
    """Ray refuses machines whose Pythons differ, even in the last digit."""
    pattern = r"python[ :](3\.[\d.]*\d)"
    assert found(pattern) == {pins()["python"]}
    for name in INSTALLS:
        path = (DOCKER if name == "Dockerfile" else CLUSTER) / name
        assert re.search(pattern, path.read_text(), re.IGNORECASE), name


def test_caviar_supports_that_python() -> None:
    lowest = re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert lowest is not None
    assert int(lowest[1]) <= int(pins()["python"].split(".")[1])


def test_machines_get_their_own_python() -> None:
    for name in ("aws", "gcp", "onprem"):
        (command,) = re.findall(r"uv venv .*", (CLUSTER / f"{name}.yaml").read_text())
        assert "--managed-python --python" in command


def test_image_names_contain_the_version() -> None:
    """A machine that has an image of a name does not pull a newer one of the same name."""
    names = {f"{caviar.__version__}-{target}" for target in ("cpu", "gpu", "$target")}
    assert found(r"\bcaviar:([\w.$-]+)") == names


def test_one_ray_version() -> None:
    assert found(r"rayVersion: \"([^\"]+)\"") == {pins()["ray"]}


@pytest.mark.parametrize("name", INSTALLS)
def test_installations_use_constraints(name: str) -> None:
    text = ((DOCKER if name == "Dockerfile" else CLUSTER) / name).read_text()
    installs = re.findall(
        r"pip install(?! --no-deps)(?! --python ~/caviar [\w-]+==)[^&;]*?-c \S*constraints\.txt", text
    )
    assert (
        len(installs)
        == len(re.findall(r"pip install(?! --no-deps)(?! --python ~/caviar [\w-]+==)", text))
        > 0
    )


def test_pinned_versions_agree_with_constraints() -> None:
    for name, version in found_pins().items():
        assert pins().get(name, version) == version, name


def found_pins() -> dict[str, str]:
    return {
        name.lower(): version
        for path in FILES
        for name, version in re.findall(r"\b([\w-]+)==([\d.]+)", path.read_text())
    }


def test_nothing_downloaded_runs_unchecked() -> None:
    readmes = [folder / "README.md" for folder in (CLUSTER, DOCKER)]
    for path in {*FILES, *readmes}:
        assert not re.search(r"\b(curl|wget)\b.*\|\s*(\S+=\S+ )*(sudo )?(ba|z)?sh\b", path.read_text()), path


def test_no_token_is_in_the_repository() -> None:
    """A token is 32 bytes in hexadecimal or base64; digests of images are marked as such."""
    listed = subprocess.run(
        ["git", "ls-files", "cluster", "docker"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for path in [ROOT / name for name in listed.stdout.split()] or FILES:
        text = re.sub(r"(sha256:|checksum=)[0-9a-f]{64}|/[0-9a-f]{60}/", "", path.read_text())
        assert not re.search(r"\b[0-9a-f]{32,}\b|[A-Za-z0-9+/]{43}=", text), path
        assert not re.search(r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY", text), path


def test_images_pin_every_package() -> None:
    """constraints.txt pins the direct dependencies, pins.txt those that they bring along."""
    name = re.compile(r"^([\w.-]+)==(\S+)$", re.MULTILINE)
    pinned: dict[str, str] = dict(name.findall((DOCKER / "pins.txt").read_text()))
    direct = pins()
    assert not set(pinned) & set(direct)
    for package in ("caviar", "ray", "torch", "optuna"):
        for needed in metadata.requires(package) or []:
            requirement = Requirement(needed)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                known = re.sub(r"[-_.]+", "-", requirement.name).lower()
                version = {**pinned, **direct}.get(known)
                assert version is not None, f"{package} brings {known} along"
                assert requirement.specifier.contains(version, prereleases=True), (
                    f"{package} asks for {needed}"
                )
