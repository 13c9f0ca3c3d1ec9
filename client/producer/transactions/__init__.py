"""A producer's transactions."""

from ottla.client.producer.transactions.model import TRANSITIONS, State
from ottla.client.producer.transactions.transactor import Transactor

__all__ = ["TRANSITIONS", "State", "Transactor"]
