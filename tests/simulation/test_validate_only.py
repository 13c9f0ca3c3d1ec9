"""`validate_only`: what could be done is said, and the metadata log gets nothing of it; without it, the same call
does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ottla.client import Admin, AlterConfigOp, BrokerResponseError, ConfigResource, FeatureUpdate, NewTopic
from ottla.simulation import SimulatedCluster, run

Call = Callable[..., Awaitable[Any]]
TOPIC = ConfigResource("topic", "t")
USER: dict[str, str | None] = {"user": None}
CALLS: dict[str, tuple[Callable[[Admin], Call], Any, Any]] = {
    "create topics": (lambda admin: admin.create_topics, [NewTopic("more", 2)], [NewTopic("more", 2, 9)]),
    "create partitions": (lambda admin: admin.create_partitions, {"t": 5}, {"t": 1}),
    "alter configs": (
        lambda admin: admin.alter_configs,
        {TOPIC: {"retention.ms": "5"}},
        {TOPIC: {"retention.ms": "soon"}},
    ),
    "incremental alter configs": (
        lambda admin: admin.incremental_alter_configs,
        {TOPIC: {"cleanup.policy": AlterConfigOp("append", "compact")}},
        {TOPIC: {"cleanup.policy": AlterConfigOp("append", "none")}},
    ),
    "alter client quotas": (
        lambda admin: admin.alter_client_quotas,
        [(USER, {"producer_byte_rate": 5.0})],
        [(USER, {"producer_byte_rate": -5.0})],
    ),
    "update features": (
        lambda admin: admin.update_features,
        {"transaction.version": FeatureUpdate(1, "safe_downgrade")},
        {"transaction.version": FeatureUpdate(9, "upgrade")},
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_nothing_changes(name: str):
    method, good, bad = CALLS[name]

    async def scenario():
        async with SimulatedCluster() as cluster, cluster.admin() as admin:
            await cluster.create_topic("t", 2, segment_ms="70000")
            await cluster.advance(1)
            images = [view_of(cluster)]
            await method(admin)(good, validate_only=True)
            await cluster.advance(1)
            images.append(view_of(cluster))
            for validate_only in (True, False):
                with pytest.raises(BrokerResponseError):
                    await method(admin)(bad, validate_only=validate_only)
            await cluster.advance(1)
            images.append(view_of(cluster))
            await method(admin)(good)
            await cluster.advance(1)
            return images, view_of(cluster)

    images, after = run(scenario, 1)
    assert all(image == images[0] for image in images)
    assert after != images[0]


def view_of(cluster: SimulatedCluster):
    """All that is in the metadata of the active controller, and how much there is in its log."""
    return cluster.nodes[cluster.controller()].node.quorum.view.image
