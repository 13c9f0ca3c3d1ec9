"""Transactions in a simulation: clients that write and copy in them, and what must hold of that."""

from ottla.simulation.transactions.check import check_transactions
from ottla.simulation.transactions.told import At, Copy, Place, Stable, Told

__all__ = ["At", "Copy", "Place", "Stable", "Told", "check_transactions"]
