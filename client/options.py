"""What every kind of client is told: where the cluster is, and how patient to be."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ottla.client.backoff import Backoff

DEFAULT_PORT = 9092

Clock = Callable[[], int]


def wall_clock_ms() -> int:
    """Milliseconds since the epoch; the default clock of a client outside of simulations."""
    return time.time_ns() // 1_000_000


class Address(NamedTuple):
    """Where to connect."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_bootstrap(servers: str | Iterable[str]) -> tuple[Address, ...]:
    """Addresses from `"host:port,host:port"` or a list of such; IPv6 in brackets; the port defaults to 9092.

    Raises ValueError for anything else.
    """
    listed = servers.split(",") if isinstance(servers, str) else list(servers)
    addresses = tuple(_parse_one(item.strip()) for item in listed if item.strip())
    if not addresses:
        raise ValueError("no bootstrap server given")
    return addresses


def _parse_one(text: str) -> Address:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not HOST:PORT")
        port = rest[1:]
    else:
        host, _, port = text.partition(":")
    number = int(port) if port.isascii() and port.isdigit() else (-1 if port else DEFAULT_PORT)
    if not host or not 0 < number < 65536:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return Address(host, number)


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Times in seconds.

    `connect_timeout` is short, because a broker that cannot be reached has replicas elsewhere. `hedge` is how long
    one broker may take over metadata before another is asked as well: a paused process keeps its connections.
    """

    bootstrap: tuple[Address, ...]
    client_id: str = "ottla"
    request_timeout: float = 30.0
    connect_timeout: float = 1.0
    metadata_max_age: float = 300.0
    hedge: float = 0.25
    backoff: Backoff = field(default_factory=Backoff)
    ssl: ssl.SSLContext | None = None
    rng: random.Random = field(default_factory=random.Random)


def make_options(
    bootstrap_servers: str | Iterable[str],
    *,
    client_id: str | None,
    request_timeout_ms: float,
    metadata_max_age_ms: float,
    retry_backoff_ms: float,
    retry_backoff_max_ms: float,
    connect_timeout_ms: float,
    ssl_context: ssl.SSLContext | None,
    rng: random.Random | None,
) -> ClientOptions:
    """`ClientOptions` from the keyword arguments that producer, consumer and admin share."""
    return ClientOptions(
        bootstrap=parse_bootstrap(bootstrap_servers),
        client_id=client_id or "ottla",
        request_timeout=request_timeout_ms / 1000,
        connect_timeout=connect_timeout_ms / 1000,
        metadata_max_age=metadata_max_age_ms / 1000,
        backoff=Backoff(retry_backoff_ms / 1000, max(retry_backoff_max_ms, retry_backoff_ms) / 1000),
        ssl=ssl_context,
        rng=rng or random.Random(),
    )
