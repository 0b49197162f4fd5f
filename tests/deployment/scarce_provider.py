"""A cloud that has no capacity for one type of machine."""

from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException

SCARCE = "scarce"


class ScarceProvider(FakeMultiNodeProvider):
    """Ray's fake provider, which refuses machines of the scarce type as AWS refuses spot machines."""

    def create_node_with_resources_and_labels(self, node_config: Any, tags: Any, *other: Any) -> Any:
        if tags["ray-user-node-type"] == SCARCE:
            raise NodeLaunchException("InsufficientInstanceCapacity", "no spot capacity", None)
        create: Any = super().create_node_with_resources_and_labels
        return create(node_config, tags, *other)
