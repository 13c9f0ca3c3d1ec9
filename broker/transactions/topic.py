"""What `__transaction_state` is to look like."""

from __future__ import annotations

from ottla.broker.coordination import TRANSACTIONS_TOPIC, TopicSpec
from ottla.broker.transactions.config import TransactionConfig


def transactions_topic(config: TransactionConfig) -> TopicSpec:
    return TopicSpec(
        name=TRANSACTIONS_TOPIC,
        partitions=config.transaction_state_log_num_partitions,
        replication_factor=config.transaction_state_log_replication_factor,
        configs={
            "cleanup.policy": "compact",
            "segment.bytes": str(config.transaction_state_log_segment_bytes),
            "unclean.leader.election.enable": "false",
        },
        min_insync_replicas=config.transaction_state_log_min_isr,
    )
