"""The Kubernetes files satisfy KubeRay's schemas, require a token and have no privileges."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from caviar.cli.main import create_parser
from tests.deployment.files import CLUSTER, documents, pins, schema

FILES = ["raycluster", "rayjob"]


def strict(tree: Any) -> Any:
    """Return a schema that refuses unknown fields, which the operator itself would drop."""
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
def test_files_satisfy_the_operators_schema(name: str) -> None:
    assert declared(name)["apiVersion"] == "ray.io/v1"
    check(name, declared(name))


@pytest.mark.parametrize("name", FILES)
def test_misspelt_fields_would_be_found(name: str) -> None:
    for harm in ({"enableInTreeAutoscalling": True}, {"authOptions": {"mode": "tokens"}}):
        document = declared(name)
        (document["spec"] if name == "raycluster" else document["spec"]["rayClusterSpec"]).update(harm)
        with pytest.raises(jsonschema.ValidationError):
            check(name, document)


@pytest.mark.parametrize("name", FILES)
def test_clusters_require_a_token_and_scale(name: str) -> None:
    spec = cluster(name)
    assert spec["authOptions"] == {"mode": "token"}  # the operator creates one in a Secret
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert {group["groupName"]: group["minReplicas"] for group in spec["workerGroupSpecs"]} == {
        "cpu": 2,  # a study starts on the cores that are there
        "gpu": 0,
    }


@pytest.mark.parametrize("name", FILES)
def test_pods_have_no_privileges(name: str) -> None:
    for pod in pods(name):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("name", FILES)
def test_containers_are_limited_and_probed(name: str) -> None:
    for pod in pods(name):
        for container in pod["containers"]:
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
            for probe in ("readinessProbe", "livenessProbe"):
                assert container[probe]["httpGet"] == {"path": "/api/healthz", "port": 52365}


@pytest.mark.parametrize("name", FILES)
def test_gpu_pods_request_a_gpu(name: str) -> None:
    *_, gpu = pods(name)
    (container,) = gpu["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["image"].endswith("-gpu")
    assert gpu["tolerations"][0]["key"] == "nvidia.com/gpu"


@pytest.mark.parametrize("name", FILES)
def test_ray_version_is_declared(name: str) -> None:
    assert cluster(name)["rayVersion"] == pins()["ray"]


def test_runs_are_on_a_persistent_volume() -> None:
    claim, policy = documents(CLUSTER / "kubernetes.yaml")
    assert claim["kind"] == "PersistentVolumeClaim"
    assert policy["kind"] == "NetworkPolicy"
    for name in FILES:
        head, *workers = pods(name)
        volumes = {volume["name"]: volume for volume in head["volumes"]}
        assert volumes["runs"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert {"name": "runs", "mountPath": "/runs"} in head["containers"][0]["volumeMounts"]
        assert not any("volumes" in worker for worker in workers)  # only the driver writes


def test_rayjob_resumes_and_removes_its_cluster() -> None:
    spec = declared("rayjob")["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["activeDeadlineSeconds"] > 0
    assert spec["backoffLimit"] > 0
    words = spec["entrypoint"].split()
    options = create_parser().parse_args(words[1:])
    assert (words[0], options.action.__name__, options.resume) == ("caviar", "_run", True)
    assert (options.runs, options.name, options.address) == ("/runs", "STUDY", "auto")


def test_both_files_declare_one_cluster() -> None:
    one, other = cluster("raycluster"), cluster("rayjob")
    pod = other["headGroupSpec"]["template"]["spec"]  # it also mounts the experiment
    pod["volumes"] = [volume for volume in pod["volumes"] if volume["name"] != "experiment"]
    mounts = pod["containers"][0]["volumeMounts"]
    pod["containers"][0]["volumeMounts"] = [mount for mount in mounts if mount["name"] != "experiment"]
    assert one == other
