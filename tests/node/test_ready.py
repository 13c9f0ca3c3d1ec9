"""When a node may call itself ready: once every replica that somebody leads has been in sync."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import cast
from uuid import UUID

from ottla.controller import ClusterIdentity, MetadataImage, PartitionImage, TopicImage
from ottla.log import GroupCommit, ModelledDisk
from ottla.node import NodeConfig
from ottla.node.broker_part import BrokerPart


def _part() -> BrokerPart:
    rng = random.Random(1)
    return BrokerPart(
        cast(NodeConfig, SimpleNamespace(node_id=1)),
        ClusterIdentity("c", 1, "life", b"a secret of sixteen bytes"),
        ModelledDisk(rng),
        lambda: 0,
        lambda: 0.0,
        rng,
        lambda: b"",
        GroupCommit(),
    )


def _image(*partitions: PartitionImage) -> MetadataImage:
    topic = TopicImage(UUID(int=1), "t", dict(enumerate(partitions)))
    return MetadataImage("c", 1, {}, {"t": topic}, {topic.id: "t"})


def test_a_replica_that_has_not_caught_up_yet_keeps_the_node_from_being_ready() -> None:
    part = _part()
    behind, led_by_nobody = PartitionImage((1, 2), (2,), 2, 0, 0), PartitionImage((1, 2), (2,), -1, 0, 0)
    elsewhere, in_sync = PartitionImage((2, 3), (2,), 2, 0, 0), PartitionImage((1, 2), (1, 2), 2, 0, 0)
    assert part.replicas_behind(_image(behind, led_by_nobody, elsewhere, in_sync)) == 1
    assert part.replicas_behind(_image(in_sync, led_by_nobody, elsewhere)) == 0


def test_a_replica_that_falls_behind_later_does_not_make_the_node_unready() -> None:
    part = _part()
    assert part.replicas_behind(_image(PartitionImage((1, 2), (1, 2), 2, 0, 0))) == 0
    assert part.replicas_behind(_image(PartitionImage((1, 2), (2,), 2, 0, 0))) == 0
