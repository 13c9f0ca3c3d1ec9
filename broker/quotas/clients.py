"""The quotas of a broker's clients: what was used, by whom, and who has to wait.

As in Kafka since KIP-219 the answer leaves at once and tells the wait; meanwhile nothing more is read from that
connection. The wait is the connection's, the usage is shared by all that the quota takes for one. Other brokers
are not limited.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from ottla.broker.quotas.limits import Limit, Limits
from ottla.broker.quotas.usage import Usage
from ottla.controller import CLIENT_QUOTA, Delta, MetadataImage, client_quotas
from ottla.wire import Connection, Request

PRODUCE: Final = "producer_byte_rate"
FETCH: Final = "consumer_byte_rate"
REQUESTS: Final = "request_percentage"
MAX_USAGES = 10_000
"""Sharers that are remembered; who was quiet for longest is forgotten first, with its debt."""
MAX_FOUND = 10_000

_Who = tuple[str, str, str]


class ClientQuotas:
    """`produces`, `fetches` and `requests` say whether there is any quota of that kind, so that without one it costs
    nothing."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._limits = Limits()
        self._found: dict[_Who, Limit | None] = {}
        self._usages: OrderedDict[tuple[str, tuple[str | None, str | None]], Usage] = OrderedDict()
        self.produces = self.fetches = self.requests = False

    def apply(self, image: MetadataImage, delta: Delta | None = None) -> None:
        """Follow the metadata; `delta` None stands for everything."""
        if delta is not None and not any(kind == CLIENT_QUOTA for kind, _ in delta.configs):
            return
        self._limits = Limits(client_quotas(image))
        self._found.clear()
        keys = self._limits.keys
        self.produces, self.fetches, self.requests = PRODUCE in keys, FETCH in keys, REQUESTS in keys

    def charge(self, key: str, amount: float, request: Request) -> int:
        """Take note of what `request` used: bytes, or for REQUESTS seconds of this process. Returns the wait in ms;
        the connection is muted for as long."""
        connection = request.connection
        limit = self._limit(key, connection, request.client_id or "")
        if limit is None:
            return 0
        now = self._now()
        rate = limit.rate / 100 if key == REQUESTS else limit.rate
        wait = self._usage(key, limit, rate, now).take(amount, rate, now)
        if wait <= 0:
            return 0
        connection.mute(wait)
        return max(1, round(wait * 1000))

    def _limit(self, key: str, connection: Connection, client_id: str) -> Limit | None:
        who = (key, connection.principal, client_id)
        if who in self._found:
            return self._found[who]
        limit = None if connection.principal.startswith("node:") else self._limits.find(*who)
        if len(self._found) >= MAX_FOUND:
            self._found.clear()
        self._found[who] = limit
        return limit

    def _usage(self, key: str, limit: Limit, rate: float, now: float) -> Usage:
        usages, place = self._usages, (key, limit.sharers)
        usage = usages.get(place)
        if usage is not None:
            usages.move_to_end(place)
            return usage
        while usages and (len(usages) >= MAX_USAGES or next(iter(usages.values())).full(now)):
            usages.popitem(last=False)
        usage = usages[place] = Usage(rate, now)
        return usage
