"""aiohttp's low-level server with a bound on strangers: connections that have not yet proven to know the secret."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

MAX_STRANGERS = 128
STRANGER_DEADLINE_S = 10.0


class AdmittingServer(web.Server):
    """A protocol factory for `loop.create_server`.

    A new connection has ten seconds to complete one authenticated request (`admit` is called for it) and is cut
    otherwise, so a header that is dripped in byte by byte holds nothing for long; beyond 128 such connections the
    oldest is cut for a new one: a member, which proves itself at once, gets in however many strangers hang on.
    Members of the cluster are not bounded: they know the secret.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        stranger_deadline: float,
        **options: Any,
    ) -> None:
        super().__init__(handler, **options)
        self._stranger_deadline = stranger_deadline
        # In the order in which they came.
        self._strangers: dict[web.RequestHandler, tuple[asyncio.TimerHandle, asyncio.Transport]] = {}

    @property
    def strangers(self) -> int:
        """Connections that have not authenticated yet."""
        return len(self._strangers)

    def admit(self, handler: web.RequestHandler) -> None:
        """This connection carried a request with a good signature."""
        if (stranger := self._strangers.pop(handler, None)) is not None:
            stranger[0].cancel()

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._strangers) >= MAX_STRANGERS:
            oldest, (_, its_transport) = next(iter(self._strangers.items()))
            self.admit(oldest)
            # Not at once: aiohttp's own task for this connection may have yet to start, and expects to find it open.
            self._loop.call_soon(its_transport.abort)
        timer = self._loop.call_later(self._stranger_deadline, self._expire, handler, transport)
        self._strangers[handler] = timer, transport

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        self.admit(handler)
        super().connection_lost(handler, exc)

    def _expire(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        self._strangers.pop(handler, None)
        transport.abort()
