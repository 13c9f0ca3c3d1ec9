"""MetadataView: the cluster's metadata as one node has it, and the news of every change."""

import asyncio
import heapq
from collections.abc import Callable, Sequence
from itertools import count
from typing import Protocol

import structlog

from ottla.controller.metadata import (
    Delta,
    MetadataImage,
    apply,
    decode_records,
    decode_snapshot,
    diff,
    encode_snapshot,
)

log = structlog.get_logger(__name__)

Subscriber = Callable[[MetadataImage, Delta], None]


class CommittedEntry(Protocol):
    """The part of a Raft entry that this needs. Empty data is the entry with which a leader begins its term."""

    @property
    def index(self) -> int: ...
    @property
    def data(self) -> bytes: ...


class MetadataView:
    """Every node has one; Raft's driver feeds it (`on_apply`, `on_snapshot`) and asks it for snapshots.

    Exceptions from applying or from a subscriber are not caught: they mean that this node's state cannot be trusted,
    and end it.
    """

    def __init__(self, cluster_id: str) -> None:
        self._image = MetadataImage(cluster_id=cluster_id)
        self._subscribers: list[Subscriber] = []
        self._waiting: list[tuple[int, int, asyncio.Future[MetadataImage]]] = []
        self._tickets = count()

    @property
    def image(self) -> MetadataImage:
        """The metadata with every entry that was committed and applied here."""
        return self._image

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """`subscriber(image, delta)` is called after every change, in order, on the loop, and must not block.

        It is not called for what is there already: look at `image` first. Returns what ends the subscription.
        """
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    async def wait_for(self, offset: int, timeout: float) -> MetadataImage:
        """The image once it has the entry at this Raft index and subscribers know it. Raises TimeoutError."""
        if self._image.offset >= offset:
            return self._image
        future: asyncio.Future[MetadataImage] = asyncio.get_running_loop().create_future()
        waiting = (offset, next(self._tickets), future)
        heapq.heappush(self._waiting, waiting)
        try:
            async with asyncio.timeout(timeout):
                return await future
        finally:
            if not future.done() or future.cancelled():
                self._waiting.remove(waiting)
                heapq.heapify(self._waiting)

    # For Raft's driver

    def on_apply(self, entries: Sequence[CommittedEntry]) -> None:
        """Committed entries, in order and each once. Raises BrokenInvariant, or ValidationError for damage."""
        for entry in entries:
            records = decode_records(entry.data) if entry.data else []
            self._change(*apply(self._image, records, entry.index))

    def on_snapshot(self, data: bytes, index: int, term: int) -> None:
        """A snapshot in place of all entries up to `index`. Raises SnapshotMismatch for another cluster's."""
        image = decode_snapshot(data, self._image.cluster_id)
        delta = diff(self._image, image)
        log.info("metadata_snapshot_loaded", offset=index, term=term, topics=len(image.topics))
        self._change(image, delta)

    def snapshot_source(self) -> Callable[[], bytes]:
        """Takes hold of the present image (it never changes); the result encodes it, off the loop if need be."""
        image = self._image
        return lambda: encode_snapshot(image)

    def _change(self, image: MetadataImage, delta: Delta) -> None:
        self._image = image
        if delta:
            for subscriber in tuple(self._subscribers):
                subscriber(image, delta)
        while self._waiting and self._waiting[0][0] <= image.offset:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(image)
