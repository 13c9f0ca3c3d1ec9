"""The cluster's metadata: records, the image that they make, and the decisions of the active controller.

Pure: no clock, no I/O, no randomness but what is passed in.
"""

from ottla.controller.metadata.apply import BrokenInvariant, apply
from ottla.controller.metadata.balance import Plan, plan_balance, plan_evacuation
from ottla.controller.metadata.broker_config import TOPIC_DEFAULTS
from ottla.controller.metadata.brokers import fence
from ottla.controller.metadata.client_quotas import client_quotas
from ottla.controller.metadata.config_def import (
    LONG_MAX,
    ConfigDef,
    ConfigSource,
    ConfigType,
    ConfigValue,
    InvalidConfig,
    Synonym,
)
from ottla.controller.metadata.decide import decide
from ottla.controller.metadata.decision import Decision, Policy
from ottla.controller.metadata.election import MAX_REBALANCE, elect_leaderless, rebalance
from ottla.controller.metadata.feature_levels import FEATURES, GROUP_VERSION, TRANSACTION_VERSION
from ottla.controller.metadata.group_config import GROUP_CONFIGS
from ottla.controller.metadata.image import (
    CLIENT_QUOTA,
    NO_LEADER,
    BrokerImage,
    Delta,
    Listener,
    MetadataImage,
    PartitionImage,
    TopicImage,
    diff,
)
from ottla.controller.metadata.layout import Key, Layout, Site
from ottla.controller.metadata.limits import Limits
from ottla.controller.metadata.records import BrokerAway, Record, decode_records, encode_records
from ottla.controller.metadata.recovery import ReplicaLog, Reported, Reports
from ottla.controller.metadata.repair import repair
from ottla.controller.metadata.resolve import Candidate, Resolved, resolve, resolve_group, resolve_one
from ottla.controller.metadata.snapshot import SnapshotMismatch, decode_snapshot, encode_snapshot
from ottla.controller.metadata.topic_config import TOPIC_CONFIGS
from ottla.controller.metadata.topic_name import topic_name_error

__all__ = [
    "CLIENT_QUOTA",
    "FEATURES",
    "GROUP_CONFIGS",
    "GROUP_VERSION",
    "LONG_MAX",
    "MAX_REBALANCE",
    "NO_LEADER",
    "TOPIC_CONFIGS",
    "TOPIC_DEFAULTS",
    "TRANSACTION_VERSION",
    "BrokenInvariant",
    "BrokerAway",
    "BrokerImage",
    "Candidate",
    "ConfigDef",
    "ConfigSource",
    "ConfigType",
    "ConfigValue",
    "Decision",
    "Delta",
    "InvalidConfig",
    "Key",
    "Layout",
    "Limits",
    "Listener",
    "MetadataImage",
    "PartitionImage",
    "Plan",
    "Policy",
    "Record",
    "ReplicaLog",
    "Reported",
    "Reports",
    "Resolved",
    "Site",
    "SnapshotMismatch",
    "Synonym",
    "TopicImage",
    "apply",
    "client_quotas",
    "decide",
    "decode_records",
    "decode_snapshot",
    "diff",
    "elect_leaderless",
    "encode_records",
    "encode_snapshot",
    "fence",
    "plan_balance",
    "plan_evacuation",
    "rebalance",
    "repair",
    "resolve",
    "resolve_group",
    "resolve_one",
    "topic_name_error",
]
