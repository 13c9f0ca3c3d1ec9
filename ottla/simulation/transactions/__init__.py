"""Transactions in a simulation: clients that write and copy in them, and what must hold of that."""

from ottla.simulation.transactions.check import check_transactions
from ottla.simulation.transactions.ending import PARTITIONS
from ottla.simulation.transactions.told import At, Copy, Place, Stable, Told
from ottla.simulation.transactions.workload import (
    COORDINATING,
    KINDS,
    SETTINGS,
    TOPICS,
    TransactionWorkload,
)

__all__ = [
    "COORDINATING",
    "KINDS",
    "PARTITIONS",
    "SETTINGS",
    "TOPICS",
    "At",
    "Copy",
    "Place",
    "Stable",
    "Told",
    "TransactionWorkload",
    "check_transactions",
]
