"""The consumer group protocol of KIP-848 as a state machine without I/O: the broker makes the assignment."""

from ottla.broker.groups.consumer.assignors import ASSIGNORS, DEFAULT_ASSIGNOR
from ottla.broker.groups.consumer.group import AWAY, LEAVING, ConsumerGroup, Topic
from ottla.broker.groups.consumer.heartbeat import Beat, BeatAnswer, Decision, beat, remove
from ottla.broker.groups.consumer.records import (
    KEYS,
    EpochKey,
    Key,
    Partitions,
    TargetEpochKey,
    Value,
    by_topic,
    decode_key,
    decode_value,
    encode_key,
    encode_value,
)
from ottla.broker.groups.consumer.regex import compiled

__all__ = [
    "ASSIGNORS",
    "AWAY",
    "DEFAULT_ASSIGNOR",
    "KEYS",
    "LEAVING",
    "Beat",
    "BeatAnswer",
    "ConsumerGroup",
    "Decision",
    "EpochKey",
    "Key",
    "Partitions",
    "TargetEpochKey",
    "Topic",
    "Value",
    "beat",
    "by_topic",
    "compiled",
    "decode_key",
    "decode_value",
    "encode_key",
    "encode_value",
    "remove",
]
