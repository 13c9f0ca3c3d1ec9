"""The listening side: accepts connections, holds them to common limits, counts what passes."""

import asyncio
import ssl as ssl_module
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from ottla.wire.api import Api, Request
from ottla.wire.arrivals import Arrivals
from ottla.wire.framing import Spares
from ottla.wire.registry import Registry
from ottla.wire.session import Session

log = structlog.get_logger(__name__)

_PRODUCE = 0
_NO_RATE = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes. Sizes in bytes, times in seconds.

    `max_request_bytes` is Kafka's socket.request.max.bytes; only Produce may be larger than `max_small_request_bytes`.
    `per_ip` has the addresses that may have another number of connections than `max_connections_per_ip` at once.
    `max_connection_rate` connections may come in a second, those of the listener `unhurried` aside; others are heard
    later. `frame_deadline_s` is for a whole frame from its first byte. `max_pending` requests of a connection may wait
    for their answers. `max_buffered_bytes` bounds the frames that are arriving or waiting on all connections together:
    above it, nothing more of a large frame is read. When the answers that clients do not take exceed
    `max_unsent_bytes`, those who have taken nothing for longest are dropped.
    """

    max_request_bytes: int = 100 * 1024 * 1024
    max_small_request_bytes: int = 8 * 1024 * 1024
    frame_deadline_s: float = 30.0
    max_pending: int = 128
    max_connections: int = 10_000
    max_connections_per_ip: int = 2**31 - 1
    per_ip: Mapping[str, int] = field(default_factory=dict)
    max_connection_rate: int = _NO_RATE
    unhurried: str = ""
    max_buffered_bytes: int = 512 * 1024 * 1024
    max_unsent_bytes: int = 512 * 1024 * 1024
    idle_s: float = 600.0


@dataclass(slots=True)
class Stats:
    """Counters since the start. `requests` is by api key; `errors` counts connections dropped for the peer's
    fault, `failures` handlers that raised."""

    connections: int = 0
    accepted: int = 0
    refused: int = 0
    errors: int = 0
    failures: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    requests: dict[int, int] = field(default_factory=dict)


OnError = Callable[[Request | None, BaseException], None]


class KafkaServer:
    """Serves one registry on any number of listeners.

    `on_error` hears of every exception that a handler raised; without it they are logged.
    """

    def __init__(self, registry: Registry, *, limits: Limits | None = None, on_error: OnError | None = None) -> None:
        self.registry = registry
        self.limits = limits or Limits()
        self.stats = Stats()
        self.spares = Spares()
        self._on_error = on_error
        self._servers: list[asyncio.Server] = []
        # Dicts, as the order of a set of objects is that of their addresses in memory.
        self._sessions: dict[Session, None] = {}
        self._by_address: dict[str, int] = {}
        self._arrivals = Arrivals()
        self._starved: dict[Session, None] = {}
        self._arriving = 0
        self._waiting = 0
        self._unsent = 0
        self._stalled: dict[Session, None] = {}  # in the order in which they ceased to take their answers
        self._privileged: Session | None = None
        self._full = False
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._all_gone: asyncio.Future[None] | None = None
        self.loop: asyncio.AbstractEventLoop

    async def start(
        self,
        loop: asyncio.AbstractEventLoop,
        host: str | None,
        port: int,
        listener_name: str,
        *,
        ssl: ssl_module.SSLContext | None = None,
        backlog: int = 128,
    ) -> int:
        """Listen; returns the port, which the system chooses for port 0. Raises OSError.

        So many connections as `backlog` says are accepted at once, those that are refused then included.
        """
        self.loop = loop
        server = await loop.create_server(
            lambda: Session(self, listener_name), host, port, ssl=ssl, backlog=backlog, reuse_address=True
        )
        self._servers.append(server)
        if self._sweep_timer is None:
            self._sweep_timer = loop.call_later(self._sweep_interval, self._sweep)
        bound: int = server.sockets[0].getsockname()[1]
        log.info("listening", listener=listener_name, host=host, port=bound)
        return bound

    async def stop(self, grace_s: float = 1.0) -> None:
        """Stop accepting and close every connection: what is answered is still sent, for `grace_s` at most."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        if self._sessions:
            self._all_gone = self.loop.create_future()
            for session in list(self._sessions):
                session.close()
            try:
                async with asyncio.timeout(grace_s):
                    await asyncio.shield(self._all_gone)
            except TimeoutError:
                for session in list(self._sessions):
                    session.abort()
                await self._all_gone

    @property
    def connections(self) -> int:
        return len(self._sessions)

    # -- called by sessions

    def admit(self, session: Session) -> bool:
        """False for one connection too many."""
        if len(self._sessions) >= self.limits.max_connections:
            self.stats.refused += 1
            if not self._full:
                self._full = True
                log.warning("connections_full", limit=self.limits.max_connections)
            return False
        address = session.address
        there = self._by_address.get(address, 0)
        if there >= self.limits.per_ip.get(address, self.limits.max_connections_per_ip):
            self.stats.refused += 1
            return False
        self._by_address[address] = there + 1
        self._sessions[session] = None
        self.stats.accepted += 1
        self.stats.connections = len(self._sessions)
        return True

    def arrival_wait(self, listener: str) -> float:
        """For how many seconds a connection that has just come stands still, so that they come no faster than they
        may. How many can stand still is bounded as how many can be there."""
        rate = self.limits.max_connection_rate
        if rate >= _NO_RATE or listener == self.limits.unhurried:
            return 0.0
        return self._arrivals.wait(rate, self.loop.time())

    def forget(self, session: Session) -> None:
        if session in self._sessions:
            del self._sessions[session]
            self._by_address[session.address] -= 1
            if not self._by_address[session.address]:
                del self._by_address[session.address]
        self._starved.pop(session, None)
        self.hold_unsent(session, 0)
        self.frame_complete(session)
        self._full = self._full and len(self._sessions) >= self.limits.max_connections
        self.stats.connections = len(self._sessions)
        if self._all_gone is not None and not self._sessions and not self._all_gone.done():
            self._all_gone.set_result(None)

    def request_limit(self, api: Api) -> int:
        limits = self.limits
        return limits.max_request_bytes if api.key == _PRODUCE else limits.max_small_request_bytes

    def handler_failed(self, request: Request | None, error: BaseException) -> None:
        self.stats.failures += 1
        if self._on_error is not None:
            self._on_error(request, error)
        else:
            api = None if request is None else request.api_key
            log.error("request_failed", api=api, version=request and request.api_version, exc_info=error)

    @property
    def buffered(self) -> int:
        """Bytes of large frames that are arriving and of frames that wait for their answers."""
        return self._arriving + self._waiting

    @property
    def full(self) -> bool:
        """Whether requests hold as much as they may: connections that have one waiting bring no more."""
        return self.buffered >= self.limits.max_buffered_bytes

    def stalled(self, session: Session) -> None:
        """This session's client does not take its answers fast enough."""
        self._stalled[session] = None

    def hold_unsent(self, session: Session, size: int) -> None:
        """The answers of this session that its client has not taken; 0 when it takes them again, or is gone."""
        self._unsent += size - session.unsent
        session.unsent = size
        if size == 0:
            self._stalled.pop(session, None)
        while self._unsent > self.limits.max_unsent_bytes and self._stalled:
            slowest = next(iter(self._stalled))
            slowest.give_up("it does not take its answers, and others need the memory")
            self.hold_unsent(slowest, 0)

    def account(self, *, arriving: int = 0, waiting: int = 0) -> None:
        """Bytes more, or less, that frames hold."""
        self._arriving += arriving
        self._waiting += waiting
        if self._starved and (arriving < 0 or waiting < 0):
            starved, self._starved = self._starved, {}
            for session in starved:
                self.loop.call_soon(session.memory_available)

    def grant_memory(self, session: Session) -> bool:
        """May this session's frame grow? If not, the session is told when to ask again.

        When all the memory is held by frames that are arriving, nobody would ever give any back: then one of
        them may go beyond the limit.
        """
        if self.buffered < self.limits.max_buffered_bytes or self._privileged is session:
            return True
        if self._waiting == 0 and self._privileged is None:
            self._privileged = session
            return True
        self._starved[session] = None
        return False

    def frame_complete(self, session: Session) -> None:
        if self._privileged is session:
            self._privileged = None

    # -- deadlines

    @property
    def _sweep_interval(self) -> float:
        return min(self.limits.frame_deadline_s, self.limits.idle_s) / 4

    def _sweep(self) -> None:
        # One timer for all connections: a deadline is late by a quarter of itself, and no read arms a timer.
        now = self.loop.time()
        for session in list(self._sessions):
            session.check(now)
        self._sweep_timer = self.loop.call_later(self._sweep_interval, self._sweep)
