"""Consumer groups: who coordinates a group, who is in it, and how far it has come.

A group belongs to a partition of the internal topic `__consumer_offsets`, and the leader of that partition coordinates
it. What is promised to a group's members stands in that log, replicated, before they are told.
"""

from ottla.broker.groups.config import GroupConfig
from ottla.broker.groups.coordinator import GroupCoordinator
from ottla.broker.groups.inspection import GroupSummary, described, overviews, topics_in_use
from ottla.broker.groups.offsets import At, Position
from ottla.broker.groups.records import OffsetValue
from ottla.broker.groups.shard import Shard
from ottla.broker.groups.topic import offsets_topic
from ottla.broker.groups.views import client_host

__all__ = [
    "At",
    "GroupConfig",
    "GroupCoordinator",
    "GroupSummary",
    "OffsetValue",
    "Position",
    "Shard",
    "client_host",
    "described",
    "offsets_topic",
    "overviews",
    "topics_in_use",
]
