"""The files for `ray up` are valid, require a token, open no port to the world and use none of Ray's commands."""

import re
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.deployment.files import CLUSTER, documents, values

CLOUDS = ["aws", "gcp"]
NAMES = [*CLOUDS, "onprem"]


def declared(name: str) -> Any:
    return documents(CLUSTER / f"{name}.yaml")[0]


def filled(name: str) -> Any:
    """Return a file with the defaults that `ray up` adds."""
    config = prepare_config(declared(name))
    validate_config(config)
    return config


@pytest.mark.parametrize("name", NAMES)
def test_ray_accepts_the_file(name: str) -> None:
    assert filled(name)["cluster_name"] == "caviar"


def test_ray_refuses_misspelt_fields() -> None:
    with pytest.raises(Exception, match="idle_timeout_hours"):
        validate_config({**filled("aws"), "idle_timeout_hours": 1})


@pytest.mark.parametrize("name", NAMES)
def test_rays_default_commands_are_replaced(name: str) -> None:
    """Ray's defaults install a nightly build and let the dashboard listen on all interfaces."""
    config, ours = filled(name), declared(name)
    for kind in ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands"):
        assert config[kind] == ours[kind]
    extra = [c for c in config["head_setup_commands"] if c not in ours["setup_commands"]]
    assert extra == ours.get("head_setup_commands", [])
    assert all("ray-wheels" not in value for value in values(config) if isinstance(value, str))


@pytest.mark.parametrize("name", NAMES)
def test_no_port_is_open_to_the_world(name: str) -> None:
    words = [value for value in values(filled(name)) if isinstance(value, str)]
    assert not [word for word in words if "0.0.0.0" in word or "::/0" in word]
    (head,) = (word for word in words if "ray start --head" in word)
    assert "--dashboard-host=127.0.0.1" in head


def test_networks_are_not_rays_defaults() -> None:
    """Ray's security group and Google's default network admit everyone at port 22."""
    for kind in declared("aws")["available_node_types"].values():
        assert kind["node_config"]["SecurityGroupIds"] == ["SECURITY_GROUP"]
    for kind in declared("gcp")["available_node_types"].values():
        (interface,) = kind["node_config"]["networkInterfaces"]
        assert interface["subnetwork"].endswith("/subnetworks/caviar")


@pytest.mark.parametrize("name", NAMES)
def test_nodes_require_the_token_from_a_file(name: str) -> None:
    config = filled(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]  # fails without a token
    for kind in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = (command for command in config[kind] if "ray start" in command)
        assert start.index("RAY_AUTH_MODE=token") < start.index("ray start")
        assert "ulimit -n 65536" in start
    assert not [value for value in values(config) if isinstance(value, str) and "RAY_AUTH_TOKEN=" in value]


@pytest.mark.parametrize("name", NAMES)
def test_head_runs_no_trials(name: str) -> None:
    (start,) = (c for c in declared(name)["head_start_ray_commands"] if "ray start" in c)
    assert "--num-cpus=0" in start


@pytest.mark.parametrize("name", CLOUDS)
def test_clouds_use_spot_workers_and_an_on_demand_head(name: str) -> None:
    config = filled(name)
    head, workers = split_types(config)
    assert head["resources"] == {"CPU": 0}
    assert head["max_workers"] == 0
    assert "spot" not in str(head["node_config"]).lower()
    for kind in workers:
        assert "spot" in str(kind["node_config"]).lower()
        if "GPU" in kind["resources"]:
            assert kind["min_workers"] == 0
    assert config["max_workers"] == sum(kind["max_workers"] for kind in workers)
    assert 0 < config["idle_timeout_minutes"] <= 10


@pytest.mark.parametrize("name", CLOUDS)
@pytest.mark.parametrize("processor", ["CPU", "GPU"])
def test_spot_workers_are_of_several_types(name: str, processor: str) -> None:
    """A cloud may have no spot capacity for one type, and Ray's autoscaler does not give up on it."""
    _, workers = split_types(filled(name))
    kinds = [kind for kind in workers if ("GPU" in kind["resources"]) == (processor == "GPU")]
    machines = {
        kind["node_config"].get("InstanceType", kind["node_config"].get("machineType")) for kind in kinds
    }
    assert len(machines) == len(kinds) > 1
    assert len({str(kind["resources"]) for kind in kinds}) == 1
    assert all(kind["max_workers"] <= sum(k["max_workers"] for k in kinds) / 2 for kind in kinds)
    if processor == "CPU":  # a study starts on the cores that are there
        assert sum(kind["min_workers"] > 0 for kind in kinds) > 1


def split_types(config: Any) -> tuple[Any, list[Any]]:
    """Return the type of the head, and those of the workers."""
    kinds = dict(config["available_node_types"])
    return kinds.pop("head"), list(kinds.values())


def test_all_files_set_up_machines_alike() -> None:
    """Only onprem.yaml knows the head's address in advance, and only aws.yaml sets a region."""
    own = re.compile(r" --node-ip-address=HEAD_ADDRESS|export AWS_REGION=EC2_REGION; ")
    one, *others = [yaml.safe_load(own.sub("", str(declared(name)))) for name in NAMES]
    for other in others:
        for key in ("file_mounts", "setup_commands", "head_start_ray_commands", "worker_start_ray_commands"):
            assert other[key] == one[key]


def test_head_on_aws_knows_the_region() -> None:
    config = declared("aws")
    (start,) = (c for c in config["head_start_ray_commands"] if "ray start" in c)
    assert f"export AWS_REGION={config['provider']['region']};" in start
