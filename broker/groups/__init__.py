"""Consumer groups: who coordinates a group, who is in it, and how far it has come.

A group belongs to a partition of the internal topic `__consumer_offsets`, and the leader of that partition coordinates
it. What is promised to a group's members stands in that log, replicated, before they are told.
"""

from ottla.broker.groups.config import GroupConfig
from ottla.broker.groups.coordinator import GroupCoordinator
from ottla.broker.groups.inspection import GroupSummary, described, overviews, topics_in_use
from ottla.broker.groups.offsets import At, Position
from ottla.broker.groups.partitioning import INTERNAL_TOPICS, OFFSETS_TOPIC, partition_for
from ottla.broker.groups.records import OffsetValue
from ottla.broker.groups.shard import Shard
from ottla.broker.groups.topic import OffsetsTopic, internal_configs
from ottla.broker.groups.views import client_host

__all__ = [
    "INTERNAL_TOPICS",
    "OFFSETS_TOPIC",
    "At",
    "GroupConfig",
    "GroupCoordinator",
    "GroupSummary",
    "OffsetValue",
    "OffsetsTopic",
    "Position",
    "Shard",
    "client_host",
    "described",
    "internal_configs",
    "overviews",
    "partition_for",
    "topics_in_use",
]
