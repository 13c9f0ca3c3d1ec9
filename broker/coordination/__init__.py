"""What coordinators have in common: a partition of an internal topic is the log of a state machine, and its leader the
coordinator of the names (groups, transactional ids) that belong to that partition.
"""

from ottla.broker.coordination.confirmations import Confirmations
from ottla.broker.coordination.deadlines import Deadlines
from ottla.broker.coordination.partitioning import INTERNAL_TOPICS, OFFSETS_TOPIC, TRANSACTIONS_TOPIC, partition_for
from ottla.broker.coordination.primitives import BadRecord, Reader, Writer
from ottla.broker.coordination.shard_log import Appender, Codec, InTransaction, Place, ShardLog
from ottla.broker.coordination.shards import LedShard, Shards
from ottla.broker.coordination.tickets import Ticket, Tickets
from ottla.broker.coordination.topic import InternalTopic, TopicSpec

__all__ = [
    "INTERNAL_TOPICS",
    "OFFSETS_TOPIC",
    "TRANSACTIONS_TOPIC",
    "Appender",
    "BadRecord",
    "Codec",
    "Confirmations",
    "Deadlines",
    "InTransaction",
    "InternalTopic",
    "LedShard",
    "Place",
    "Reader",
    "ShardLog",
    "Shards",
    "Ticket",
    "Tickets",
    "TopicSpec",
    "Writer",
    "partition_for",
]
