"""Which broker is asked what any broker could answer."""

from __future__ import annotations

import asyncio

from ottla.client.metadata import ClusterMetadata
from ottla.client.options import Address, ClientOptions
from ottla.client.pool import ConnectionPool

DOUBT_S = 30.0


class BrokerChoice:
    """Remembers for half a minute which brokers were of no help: one that is cut off from its peers is connected to its
    clients, and takes their requests, and can do nothing for them."""

    def __init__(self, options: ClientOptions, metadata: ClusterMetadata, pool: ConnectionPool) -> None:
        self._options = options
        self._metadata = metadata
        self._pool = pool
        self._doubted: dict[Address, float] = {}

    def candidates(self) -> list[Address]:
        """Whom to ask: connected brokers first, then known ones, then the bootstrap list; each in random order.

        A doubted one comes after those, and an address that just failed comes last.
        """
        now = asyncio.get_running_loop().time()
        self._doubted = {address: until for address, until in self._doubted.items() if until > now}
        known = [Address(b.host, b.port) for b in self._metadata.brokers.values()]
        self._options.rng.shuffle(known)
        bootstrap = [address for address in self._options.bootstrap if address not in known]
        self._options.rng.shuffle(bootstrap)
        pool, doubted = self._pool, self._doubted
        return sorted(known + bootstrap, key=lambda a: (pool.wait_before(a) > 0, a in doubted, pool.peek(a) is None))

    def doubt(self, address: Address) -> None:
        """It took too long, or said that it could not do it, though another one may."""
        self._doubted[address] = asyncio.get_running_loop().time() + DOUBT_S

    def trust(self, address: Address) -> None:
        """It has been of help."""
        self._doubted.pop(address, None)
