"""The Kubernetes files satisfy their schemas, require a token, and run where Pod Security Standards are restricted."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import jsonschema
import pytest

from caviar.cli.main import create_parser
from tests.deployment.files import CLUSTER, documents, pins, schema

FILES = ["raycluster", "rayjob"]
PART_OF_CAVIAR = {"app.kubernetes.io/part-of": "caviar"}
SAFE_VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
"""Types of volumes that a restricted namespace admits, as far as the files may need them."""


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


def with_container(pod: Any, container: Any) -> Any:
    return {**pod, "containers": [*pod["containers"], container]}


def templates() -> Iterator[tuple[str, Any]]:
    """Yield a name and the metadata and specification of each pod in the files, with all containers."""
    for name in FILES:
        spec = cluster(name)
        head = spec["headGroupSpec"]["template"]
        scaler = {"name": "autoscaler", "securityContext": spec["autoscalerOptions"]["securityContext"]}
        yield f"{name} head", {**head, "spec": with_container(head["spec"], scaler)}  # as KubeRay does
        for group in spec["workerGroupSpecs"]:
            yield f"{name} {group['groupName']}", group["template"]
    yield "rayjob submitter", declared("rayjob")["spec"]["submitterPodTemplate"]
    yield "fetch", declared("fetch")


each_pod = pytest.mark.parametrize(
    ("name", "template"), [pytest.param(*pod, id=pod[0].replace(" ", "-")) for pod in templates()]
)


def find_violations(pod: Any) -> list[str]:
    """Return what a namespace with the Pod Security Standard `restricted` refuses in a pod.

    The rules are those of https://kubernetes.io/docs/concepts/security/pod-security-standards, without those for
    fields that no file here uses.
    """
    own = pod.get("securityContext", {})
    refused = {field for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field)}
    refused |= {"volume" for v in pod.get("volumes", []) if not SAFE_VOLUMES & v.keys()}
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        context = container.get("securityContext", {})
        both = {**own, **context}
        if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
            refused.add("root")
        if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            refused.add("seccomp")
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            refused.add("escalation")
        capabilities = context.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
            refused.add("capabilities")
        if any("hostPort" in port for port in container.get("ports", [])):
            refused.add("hostPort")
    return sorted(refused)


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


@pytest.mark.parametrize("name", ["kubernetes", "volume", "fetch"])
def test_other_files_satisfy_kubernetes_schema(name: str) -> None:
    known = schema("kubernetes")
    for document in documents(CLUSTER / f"{name}.yaml"):
        validator = jsonschema.Draft202012Validator({**known, **known["kinds"][document["kind"]]})
        validator.validate(document)
        with pytest.raises(jsonschema.ValidationError):
            validator.validate({**document, "specs": {}})


@each_pod
def test_pods_run_in_restricted_namespaces(name: str, template: Any) -> None:
    assert find_violations(template["spec"]) == []


def test_violations_of_the_restricted_standard_are_found() -> None:
    submitter = {"containers": [{"name": "ray-job-submitter"}]}  # KubeRay's own
    assert find_violations(submitter) == ["capabilities", "escalation", "root", "seccomp"]
    harm = {"hostNetwork": True, "volumes": [{"name": "disk", "hostPath": {"path": "/"}}]}
    assert find_violations({**declared("fetch")["spec"], **harm}) == ["hostNetwork", "volume"]


@each_pod
def test_pods_share_one_service_account(name: str, template: Any) -> None:
    account, _ = documents(CLUSTER / "kubernetes.yaml")
    assert template["spec"]["serviceAccountName"] == account["metadata"]["name"]
    assert account["imagePullSecrets"] == [{"name": "caviar-registry"}]
    assert account["automountServiceAccountToken"] is False
    mounts = template["spec"].get("automountServiceAccountToken", False)
    assert mounts == name.endswith(" head")  # Ray's autoscaler is there


@pytest.mark.parametrize("name", FILES)
def test_ray_containers_get_the_keys_of_a_store(name: str) -> None:
    for pod in pods(name):
        assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "caviar-store", "optional": True}}]


@each_pod
def test_only_replaceable_pods_may_be_evicted(name: str, template: Any) -> None:
    annotations = template["metadata"].get("annotations", {})
    kept = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
    assert annotations == (kept if name.endswith(("head", "submitter")) else {})


@each_pod
def test_network_policy_covers_every_pod(name: str, template: Any) -> None:
    _, policy = documents(CLUSTER / "kubernetes.yaml")
    assert template["metadata"]["labels"] == PART_OF_CAVIAR
    assert policy["spec"]["podSelector"] == {"matchLabels": PART_OF_CAVIAR}


def test_network_policy_admits_what_is_needed() -> None:
    _, policy = documents(CLUSTER / "kubernetes.yaml")
    spec = policy["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    each_other = [{"podSelector": {"matchLabels": PART_OF_CAVIAR}}]
    own, operator = spec["ingress"]
    assert own == {"from": each_other}
    assert operator["ports"] == [{"port": 8265}]
    own, names, outside = spec["egress"]
    assert own == {"to": each_other}
    assert names == {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    assert {port["port"] for port in outside["ports"]} == {443, 6443}
    for peer in outside["to"]:
        block = peer["ipBlock"]
        metadata_server = {"0.0.0.0/0": "169.254.169.254", "::/0": "fd00:ec2::254"}[block["cidr"]]
        assert any(ip_address(metadata_server) in ip_network(excluded) for excluded in block["except"])


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


def test_each_study_has_its_own_volume() -> None:
    """A second head would wait for the volume of the first, because only one machine at a time can mount it."""
    claim = declared("volume")
    assert claim["kind"] == "PersistentVolumeClaim"
    assert claim["metadata"]["name"] == "caviar-STUDY"
    for document in documents(CLUSTER / "rayjob.yaml"):
        assert document["kind"] != "PersistentVolumeClaim"  # `kubectl delete -f` would delete the results
    names = {"rayjob": "caviar-STUDY", "raycluster": "caviar-runs"}
    for name in FILES:
        head, *workers = pods(name)
        volumes = {volume["name"]: volume for volume in head["volumes"]}
        assert volumes["runs"]["persistentVolumeClaim"]["claimName"] == names[name]
        assert {"name": "runs", "mountPath": "/runs"} in head["containers"][0]["volumeMounts"]
        for worker in workers:  # only the driver writes
            assert all(volume["name"] != "runs" for volume in worker.get("volumes", []))
    (volume,) = declared("fetch")["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == "caviar-STUDY"


def test_all_nodes_see_the_files_of_a_study() -> None:
    for pod in pods("rayjob"):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["experiment"]["configMap"]["name"] == "caviar-STUDY"
        mounts = pod["containers"][0]["volumeMounts"]
        assert {"name": "experiment", "mountPath": "/experiment", "readOnly": True} in mounts


def test_rayjob_resumes_and_removes_its_cluster() -> None:
    spec = declared("rayjob")["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["activeDeadlineSeconds"] > 0
    env, path, *words = spec["entrypoint"].split()
    assert (env, path) == ("env", "PYTHONPATH=/experiment")
    options = create_parser().parse_args(words[1:])
    assert (words[0], options.action.__name__, options.resume) == ("caviar", "_run", True)
    assert (options.runs, options.name, options.address) == ("/runs", "STUDY", "auto")


def test_failing_study_starts_one_cluster() -> None:
    """A new cluster does not help against a mistake in the script; a new submission helps against a lost head."""
    spec = declared("rayjob")["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["submitterConfig"]["backoffLimit"] > 2
    assert spec["submitterPodTemplate"]["spec"]["restartPolicy"] == "Never"
    (submitter,) = spec["submitterPodTemplate"]["spec"]["containers"]
    assert "command" not in submitter  # KubeRay's own, which submits only if the head does not know the job


def test_both_files_declare_one_cluster() -> None:
    one, other = cluster("raycluster"), cluster("rayjob")
    for group in (other["headGroupSpec"], *other["workerGroupSpecs"]):
        pod = group["template"]["spec"]  # it also mounts the experiment
        mounts = pod["containers"][0]["volumeMounts"]
        pod["volumes"] = [volume for volume in pod["volumes"] if volume["name"] != "experiment"]
        pod["containers"][0]["volumeMounts"] = [mount for mount in mounts if mount["name"] != "experiment"]
    text = str(other).replace("caviar-STUDY", "caviar-runs")
    assert str(one) == text.replace(", 'volumeMounts': []", "").replace(", 'volumes': []", "")
