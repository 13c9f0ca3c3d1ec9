"""Client quotas (KIP-13, KIP-124, KIP-546): who uses more than its share is told to wait, and waits."""

from ottla.broker.quotas.clients import FETCH, PRODUCE, REQUESTS, ClientQuotas
from ottla.broker.quotas.limits import Limit, Limits
from ottla.broker.quotas.usage import BURST_S, MAX_THROTTLE_S, Usage

__all__ = ["BURST_S", "FETCH", "MAX_THROTTLE_S", "PRODUCE", "REQUESTS", "ClientQuotas", "Limit", "Limits", "Usage"]
