"""The data plane: what answers Kafka's clients, and what replicates partitions."""

from ottla.broker.api import TABLE, build_registry, load_schemas
from ottla.broker.api.coverage import Coverage, coverage
from ottla.broker.broker import Broker
from ottla.broker.context import BrokerConfig, BrokerContext, Clock, QuorumMember, QuorumStatus
from ottla.broker.fetch_sessions import SessionCache
from ottla.broker.groups import GroupConfig, GroupSummary
from ottla.broker.producer_ids import ProducerIdBlock, ProducerIds
from ottla.broker.replication import (
    ClusterConnector,
    ClusterCredentials,
    LeaderState,
    Partition,
    ReplicaManager,
    ReplicationConfig,
    TopicSettings,
    topic_settings,
)
from ottla.broker.transactions import TransactionConfig, TransactionSummary

__all__ = [
    "TABLE",
    "Broker",
    "BrokerConfig",
    "BrokerContext",
    "Clock",
    "ClusterConnector",
    "ClusterCredentials",
    "Coverage",
    "GroupConfig",
    "GroupSummary",
    "LeaderState",
    "Partition",
    "ProducerIdBlock",
    "ProducerIds",
    "QuorumMember",
    "QuorumStatus",
    "ReplicaManager",
    "ReplicationConfig",
    "SessionCache",
    "TopicSettings",
    "TransactionConfig",
    "TransactionSummary",
    "build_registry",
    "coverage",
    "load_schemas",
    "topic_settings",
]
