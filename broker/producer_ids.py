"""Producer ids, handed out from blocks that the controller gave to this broker (KIP-360, KIP-730).

An id is never handed out twice in the cluster's life: a block belongs to one run of one broker, and what is left of
it at the end of the run is thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProducerIdBlock:
    """The ids `first` .. `first + count - 1`."""

    first: int
    count: int


class ProducerIds:
    """Hands out ids at once while the block lasts; a caller waits only when it is the first to find it empty."""

    def __init__(self, allocate: Callable[[], Awaitable[ProducerIdBlock]]) -> None:
        """`allocate` asks the controller for the next block; what it raises, `next` raises."""
        self._allocate = allocate
        self._next = 0
        self._end = 0
        self._refill: asyncio.Task[None] | None = None

    def try_next(self) -> int | None:
        """The next id, or None when a block has to be fetched first."""
        if self._next >= self._end:
            return None
        self._next += 1
        return self._next - 1

    async def next(self) -> int:
        """The next id.

        Raises what `allocate` raises. A hundred callers that find the block empty share one call to the controller.
        """
        while True:
            producer_id = self.try_next()
            if producer_id is not None:
                return producer_id
            if self._refill is None:
                self._refill = asyncio.get_running_loop().create_task(self._fill(), name="producer-id-block")
            await asyncio.shield(self._refill)

    async def _fill(self) -> None:
        try:
            block = await self._allocate()
            if block.count <= 0:
                raise RuntimeError(f"the controller gave an empty block of producer ids: {block}")
            self._next, self._end = block.first, block.first + block.count
        finally:
            self._refill = None
