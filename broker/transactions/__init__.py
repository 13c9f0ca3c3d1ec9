"""Transactions: who coordinates a transactional id, what its producer may do, and that every partition gets to know.

A transactional id belongs to a partition of the internal topic `__transaction_state`, and the leader of that partition
coordinates it. The outcome of a transaction is decided when it stands in that log, replicated; the partitions are told
afterwards, by whoever coordinates then.
"""

from ottla.broker.transactions import decisions
from ottla.broker.transactions.config import TransactionConfig
from ottla.broker.transactions.coordinator import TransactionCoordinator, TransactionSummary
from ottla.broker.transactions.model import (
    IDLE,
    TRANSITIONS,
    VERSION_1,
    VERSION_2,
    Decision,
    Producer,
    State,
    Transaction,
)
from ottla.broker.transactions.shard import Shard
from ottla.broker.transactions.topic import transactions_topic
from ottla.broker.transactions.turns import Outcome
from ottla.broker.transactions.verifier import Verifier

__all__ = [
    "IDLE",
    "TRANSITIONS",
    "VERSION_1",
    "VERSION_2",
    "Decision",
    "Outcome",
    "Producer",
    "Shard",
    "State",
    "Transaction",
    "TransactionConfig",
    "TransactionCoordinator",
    "TransactionSummary",
    "Verifier",
    "decisions",
    "transactions_topic",
]
