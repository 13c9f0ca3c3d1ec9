"""Replication of partitions between brokers: where an acknowledged record is kept or lost.

Request handlers come in through `ReplicaManager`; the decisions are in the machines of `leader` and `follower`.
"""

from ottla.broker.replication.config import ReplicationConfig, TopicSettings, topic_settings
from ottla.broker.replication.fetch_wait import WAKE, FetchWait, Unwatch, Watcher
from ottla.broker.replication.follower import EpochEnd
from ottla.broker.replication.manager import ReplicaManager
from ottla.broker.replication.partition import Acks, Partition
from ottla.broker.replication.produce_wait import ProduceWait
from ottla.broker.replication.reading import FetchResult, FetchWant

__all__ = [
    "WAKE",
    "Acks",
    "EpochEnd",
    "FetchResult",
    "FetchWait",
    "FetchWant",
    "Partition",
    "ProduceWait",
    "ReplicaManager",
    "ReplicationConfig",
    "TopicSettings",
    "Unwatch",
    "Watcher",
    "topic_settings",
]
