"""Replication of partitions between brokers: where an acknowledged record is kept or lost.

Request handlers come in through `ReplicaManager`; the decisions are in the machines of `leader` and `follower`.
"""

from ottla.broker.replication.authentication import (
    MECHANISM,
    NONCE_SIZE,
    AuthenticationFailed,
    ClientExchange,
    ClusterCredentials,
    ServerExchange,
    principal_of,
)
from ottla.broker.replication.config import ReplicationConfig, TopicSettings, topic_settings
from ottla.broker.replication.connecting import ClusterConnector, Endpoint, OpenConnection
from ottla.broker.replication.fetch_wait import NEWS_WITHIN_S, WAKE, FetchWait, Unwatch, Watcher
from ottla.broker.replication.follower import EpochEnd
from ottla.broker.replication.leader import LeaderState
from ottla.broker.replication.leading import damaged
from ottla.broker.replication.log_start import delete_records, low_watermark
from ottla.broker.replication.manager import ReplicaManager
from ottla.broker.replication.marking import MarkerOrder, append_marker
from ottla.broker.replication.nearby import nearest_replica
from ottla.broker.replication.partition import Acks, Partition
from ottla.broker.replication.produce_wait import ProduceWait
from ottla.broker.replication.reading import FetchResult, FetchWant

__all__ = [
    "MECHANISM",
    "NEWS_WITHIN_S",
    "NONCE_SIZE",
    "WAKE",
    "Acks",
    "AuthenticationFailed",
    "ClientExchange",
    "ClusterConnector",
    "ClusterCredentials",
    "Endpoint",
    "EpochEnd",
    "FetchResult",
    "FetchWait",
    "FetchWant",
    "LeaderState",
    "MarkerOrder",
    "OpenConnection",
    "Partition",
    "ProduceWait",
    "ReplicaManager",
    "ReplicationConfig",
    "ServerExchange",
    "TopicSettings",
    "Unwatch",
    "Watcher",
    "append_marker",
    "damaged",
    "delete_records",
    "low_watermark",
    "nearest_replica",
    "principal_of",
    "topic_settings",
]
