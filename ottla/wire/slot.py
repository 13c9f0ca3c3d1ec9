"""The place of one answer among those of a connection."""

import asyncio
from typing import Any

from ottla.wire.api import Chunk, Later, Request
from ottla.wire.registry import Route


class Slot:
    """The place of one answer in the order of answers. `chunks` is None until it is there, and then has `held` bytes;
    `size` is that of the request."""

    __slots__ = ("chunks", "close", "future", "held", "request", "route", "size")

    def __init__(self, route: Route | None, request: Request | None, size: int) -> None:
        self.route = route
        self.request = request
        self.size = size
        self.chunks: list[Chunk] | None = None
        self.held = 0
        self.close = False
        self.future: asyncio.Future[Any] | Later | None = None
