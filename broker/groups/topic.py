"""What `__consumer_offsets` is to look like."""

from __future__ import annotations

from ottla.broker.coordination import OFFSETS_TOPIC, TopicSpec
from ottla.broker.groups.config import GroupConfig


def offsets_topic(config: GroupConfig) -> TopicSpec:
    return TopicSpec(
        name=OFFSETS_TOPIC,
        partitions=config.offsets_topic_num_partitions,
        replication_factor=config.offsets_topic_replication_factor,
        configs={"cleanup.policy": "compact", "segment.bytes": str(config.offsets_topic_segment_bytes)},
    )
