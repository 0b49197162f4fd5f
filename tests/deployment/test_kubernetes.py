"""What Kubernetes gets is what KubeRay's operator knows, asks for a token and has no privileges."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from caviar.cli.main import create_parser
from tests.deployment.files import CLUSTER, documents, pins, schema

FILES = ["raycluster", "rayjob"]


def strict(tree: Any) -> Any:
    """The schema of an operator, which drops what it does not know, as one that refuses it."""
    if isinstance(tree, list):
        return [strict(branch) for branch in tree]
    if not isinstance(tree, dict):
        return tree
    closed = {key: strict(branch) for key, branch in tree.items()}
    is_open = "additionalProperties" in tree or tree.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(tree.get("properties"), dict) and not is_open:
        closed["additionalProperties"] = False
    return closed


def declared(name: str) -> Any:
    (document,) = documents(CLUSTER / f"{name}.yaml")
    return document


def check(name: str, document: Any) -> None:
    jsonschema.Draft202012Validator(strict(schema(name))).validate(document)


def cluster(name: str) -> Any:
    spec = declared(name)["spec"]
    return spec if name == "raycluster" else spec["rayClusterSpec"]


def pods(name: str) -> Iterator[Any]:
    spec = cluster(name)
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        yield group["template"]["spec"]


@pytest.mark.parametrize("name", FILES)
def test_the_operator_knows_all_of_it(name: str) -> None:
    assert declared(name)["apiVersion"] == "ray.io/v1"
    check(name, declared(name))


@pytest.mark.parametrize("name", FILES)
def test_a_misspelt_or_wrong_field_would_be_found(name: str) -> None:
    for harm in ({"enableInTreeAutoscalling": True}, {"authOptions": {"mode": "tokens"}}):
        document = declared(name)
        (document["spec"] if name == "raycluster" else document["spec"]["rayClusterSpec"]).update(harm)
        with pytest.raises(jsonschema.ValidationError):
            check(name, document)


@pytest.mark.parametrize("name", FILES)
def test_it_asks_for_a_token_and_scales(name: str) -> None:
    spec = cluster(name)
    assert spec["authOptions"] == {"mode": "token"}  # the operator makes one, into a Secret
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert {group["groupName"]: group["minReplicas"] for group in spec["workerGroupSpecs"]} == {
        "cpu": 2,  # a study starts on the cores that it finds
        "gpu": 0,
    }


@pytest.mark.parametrize("name", FILES)
def test_no_pod_has_privileges(name: str) -> None:
    for pod in pods(name):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("name", FILES)
def test_every_container_is_limited_and_watched(name: str) -> None:
    for pod in pods(name):
        for container in pod["containers"]:
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
            for probe in ("readinessProbe", "livenessProbe"):
                assert container[probe]["httpGet"] == {"path": "/api/healthz", "port": 52365}


@pytest.mark.parametrize("name", FILES)
def test_gpu_pods_ask_for_a_gpu_and_its_image(name: str) -> None:
    *_, gpu = pods(name)
    (container,) = gpu["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["image"].endswith("-gpu")
    assert gpu["tolerations"][0]["key"] == "nvidia.com/gpu"


@pytest.mark.parametrize("name", FILES)
def test_the_operator_is_told_the_version_of_ray(name: str) -> None:
    assert cluster(name)["rayVersion"] == pins()["ray"]


def test_runs_outlive_jobs_and_clusters() -> None:
    claim, policy = documents(CLUSTER / "kubernetes.yaml")
    assert claim["kind"] == "PersistentVolumeClaim"
    assert policy["kind"] == "NetworkPolicy"
    for name in FILES:
        head, *workers = pods(name)
        volumes = {volume["name"]: volume for volume in head["volumes"]}
        assert volumes["runs"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert {"name": "runs", "mountPath": "/runs"} in head["containers"][0]["volumeMounts"]
        assert not any("volumes" in worker for worker in workers)  # the driver alone writes


def test_a_job_goes_on_with_what_was_recorded_and_removes_its_cluster() -> None:
    spec = declared("rayjob")["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["activeDeadlineSeconds"] > 0
    assert spec["backoffLimit"] > 0
    words = spec["entrypoint"].split()
    options = create_parser().parse_args(words[1:])
    assert (words[0], options.action.__name__, options.resume) == ("caviar", "_run", True)
    assert (options.runs, options.name, options.address) == ("/runs", "STUDY", "auto")


def test_both_files_declare_the_same_cluster() -> None:
    one, other = cluster("raycluster"), cluster("rayjob")
    pod = other["headGroupSpec"]["template"]["spec"]  # which has the experiment besides
    pod["volumes"] = [volume for volume in pod["volumes"] if volume["name"] != "experiment"]
    mounts = pod["containers"][0]["volumeMounts"]
    pod["containers"][0]["volumeMounts"] = [mount for mount in mounts if mount["name"] != "experiment"]
    assert one == other
