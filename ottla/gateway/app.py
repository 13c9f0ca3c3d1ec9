"""The HTTP listener for people and programs: /healthz, /readyz, /metrics."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, cast

import structlog

from ottla.gateway.views import NodeViews

if TYPE_CHECKING:
    from aiohttp import web
    from prometheus_client import CollectorRegistry

log = structlog.get_logger(__name__)

MAX_CONNECTIONS = 256
# An idle connection, or a header that drips in, is cut after this.
IDLE_S = 30.0
_STOP_S = 1.0


class _Full(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not registered as asyncio's, so only the type checker is told.
        cast(asyncio.Transport, transport).abort()


class Gateway:
    """Serves one node's HTTP listener. aiohttp's server and the Prometheus client are imported when they are needed."""

    def __init__(self, views: NodeViews) -> None:
        self._views = views
        self._registry: CollectorRegistry | None = None
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.AbstractServer | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen on host:port (port 0: any free one) and return the port. Raises OSError when it cannot."""
        from aiohttp import web

        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(
            app, handle_signals=False, access_log=None, keepalive_timeout=IDLE_S, shutdown_timeout=_STOP_S
        )
        await self._runner.setup()
        server = self._runner.server
        assert server is not None

        def connect() -> asyncio.BaseProtocol:
            return _Full() if len(server.connections) >= MAX_CONNECTIONS else server()

        loop = asyncio.get_running_loop()
        listener = self._listener = await loop.create_server(connect, host or None, port)
        bound: int = listener.sockets[0].getsockname()[1]
        log.info("http_listener_open", host=host, port=bound)
        return bound

    async def stop(self) -> None:
        """Close the listener and all connections; running requests get a second."""
        if self._listener is not None:
            self._listener.close()
        if self._runner is not None:
            if self._runner.server is not None:
                self._runner.server.pre_shutdown()
            await self._runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        """200 as long as the process runs its event loop."""
        return _json(200, {"status": "ok", "node": self._views.node_id})

    async def _readyz(self, _request: web.Request) -> web.Response:
        """200 when registered, unfenced and caught up; 503 with the reasons otherwise."""
        reasons = dict(self._views.reasons_not_ready())
        return _json(503 if reasons else 200, {"ready": not reasons, "node": self._views.node_id, "reasons": reasons})

    async def _metrics(self, request: web.Request) -> web.Response:
        from aiohttp import web
        from prometheus_client.exposition import choose_encoder

        if self._registry is None:
            from ottla.gateway.metrics import make_registry

            self._registry = make_registry(self._views)
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})


def _json(status: int, value: object) -> web.Response:
    from aiohttp import web

    return web.Response(status=status, text=json.dumps(value) + "\n", content_type="application/json")
