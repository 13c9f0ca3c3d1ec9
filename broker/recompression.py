"""compression.type: batches that come in another codec than their topic wants are compressed anew before the append.

What is small is done at once. The rest leaves the event loop, and whatever else comes for the same partition meanwhile
queues up behind it, whoever sent it: batches are appended in the order in which they came, as sequences ask for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple, Protocol

from kio.schema.errors import ErrorCode

from ottla.broker.batch_checks import BadBatch, BatchLimits
from ottla.broker.replication import Partition
from ottla.records import BatchHeader, Compression, CorruptBatch, read_header, recompress_batch
from ottla.tasks import start_task, stop_tasks

INLINE_BYTES = 4096
INLINE_UNCOMPRESSED = 32 * 1024
INLINE_DECOMPRESSED = 256 * 1024
MAX_AT_ONCE = 2
"""Batches that are compressed anew at a time: each may take 128 MiB while it is open, and a thread that syncs logs."""


class Batch(NamedTuple):
    """One verified batch, its header, and what its topic allows."""

    records: bytes | memoryview
    header: BatchHeader
    limits: BatchLimits

    @property
    def fits(self) -> bool:
        """Whether it is in the codec that its topic wants."""
        return self.limits.codec < 0 or self.header.compression == self.limits.codec


class RunBlocking(Protocol):
    def __call__(self, function: Callable[[], Batch | BadBatch]) -> Awaitable[Batch | BadBatch]: ...


Append = Callable[[Batch | BadBatch], None]
"""What is to be done with a batch when its turn has come. Must not raise."""


class Recompression:
    """Belongs to the event loop. `busy` has the partitions that batches wait for; most of the time it is empty."""

    def __init__(self, run_blocking: RunBlocking) -> None:
        self.busy: dict[Partition, deque[tuple[Batch, Append]]] = {}
        self._run_blocking = run_blocking
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)
        self._tasks: dict[asyncio.Task[None], None] = {}

    def at_once(self, partition: Partition, batch: Batch) -> Batch | BadBatch | None:
        """The batch as its topic wants it, None if that takes too long for the event loop or others are in front."""
        if partition in self.busy:
            return None
        if batch.fits:
            return batch
        plain = batch.header.compression == Compression.NONE
        if len(batch.records) > (INLINE_UNCOMPRESSED if plain else INLINE_BYTES):
            return None
        try:
            return recompressed(batch, INLINE_DECOMPRESSED)
        except CorruptBatch:
            # Or it is only too large when it is open.
            return None

    def put(self, partition: Partition, batch: Batch, append: Append) -> None:
        """Call `append` with the batch as its topic wants it once all that was put here before has been appended.

        The bytes are copied: they may be in a frame whose memory is used again.
        """
        entry = (batch._replace(records=bytes(batch.records)), append)
        line = self.busy.get(partition)
        if line is not None:
            line.append(entry)
            return
        line = self.busy[partition] = deque((entry,))
        task = start_task(self._drain(partition, line), f"recompress-{partition.topic}-{partition.index}")
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def _drain(self, partition: Partition, line: deque[tuple[Batch, Append]]) -> None:
        try:
            while line:
                batch, append = line[0]
                outcome = batch if batch.fits else await self._convert(batch)
                line.popleft()
                append(outcome)
        finally:
            del self.busy[partition]

    async def _convert(self, batch: Batch) -> Batch | BadBatch:
        async with self._turns:
            return await self._run_blocking(partial(_converted, batch))

    async def close(self) -> None:
        """Give up what is not appended yet."""
        await stop_tasks(tuple(self._tasks))


def _converted(batch: Batch) -> Batch | BadBatch:
    try:
        return recompressed(batch)
    except CorruptBatch as error:
        return BadBatch(ErrorCode.corrupt_message, str(error))


def recompressed(batch: Batch, max_bytes: int | None = None) -> Batch | BadBatch:
    """The batch in its topic's codec, unless that is more than the topic takes. Raises CorruptBatch."""
    records, header, limits = batch
    bound = {} if max_bytes is None else {"max_bytes": max_bytes}
    made = recompress_batch(records, header, limits.codec, limits.level, **bound)
    if len(made) > limits.max_message_bytes or len(made) > limits.segment_bytes:
        codec = Compression(limits.codec).name.lower()
        return BadBatch(
            ErrorCode.message_too_large,
            f"The batch has {len(made)} bytes in codec {codec}, the topic takes {limits.max_message_bytes}.",
        )
    return Batch(made, read_header(made), limits)
