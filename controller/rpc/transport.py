"""Raft's messages to the other nodes: best effort, bounded, never in the core's way."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

from ottla.controller.rpc.errors import PeerRejected, PeerUnreachable
from ottla.controller.rpc.framing import FRAME_OVERHEAD, join_frames, split_frames
from ottla.controller.rpc.http_client import RpcClient
from ottla.controller.rpc.server import MAX_BODY_BYTES, RAFT_PATH
from ottla.tasks import start_task, stop_tasks

log = structlog.get_logger(__name__)

Message = TypeVar("Message")
Answered = Callable[[int, bytes], None]

QUEUE_MESSAGES = 512
QUEUE_BYTES = 2 * MAX_BODY_BYTES
BATCH_BYTES = 1024 * 1024
POST_TIMEOUT_S = 1.0
# What a large snapshot is allowed on top, as bytes per second of transfer.
_SLOWEST_LINK = 10_000_000


def _ignore(_peer: int, _frame: bytes) -> None:
    """For senders that expect no messages in answers."""


class _Link:
    """The queue to one peer and the one task that empties it, over one kept connection.

    While a POST is under way the queue gathers, and all of it goes with the next one: a message waits for at most
    one round trip, and the busier the link, the larger its batches. When the queue is full the oldest messages go:
    Raft repeats what matters, and the newest term, commit index and heartbeat are worth more than old ones.
    """

    def __init__(self, rpc: RpcClient, peer: int, answered: Answered) -> None:
        self._rpc = rpc
        self._peer = peer
        self._answered = answered
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._rejection: str | None = None
        self.dropped = 0
        self.task = start_task(self._run(), f"raft-link-{peer}")

    def put(self, frame: bytes) -> None:
        self._queue.append(frame)
        self._bytes += len(frame)
        while len(self._queue) > QUEUE_MESSAGES or (self._bytes > QUEUE_BYTES and len(self._queue) > 1):
            self._bytes -= len(self._queue.popleft())
            self.dropped += 1
        self._wake.set()

    def take(self) -> list[bytes]:
        """As much of the queue as one body holds."""
        batch: list[bytes] = []
        size = 0
        while self._queue and (not batch or size + len(self._queue[0]) + FRAME_OVERHEAD <= BATCH_BYTES):
            frame = self._queue.popleft()
            size += len(frame) + FRAME_OVERHEAD
            self._bytes -= len(frame)
            batch.append(frame)
        return batch

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            batch = self.take()
            if not self._queue:
                self._wake.clear()
            if not batch:
                continue  # an answer has taken it
            body = join_frames(batch)
            try:
                timeout = POST_TIMEOUT_S + len(body) / _SLOWEST_LINK
                answer = await self._rpc.post(self._peer, RAFT_PATH, body, timeout=timeout)
                self._rejection = None
                for frame in split_frames(answer):
                    self._answered(self._peer, frame)
            except PeerUnreachable:
                # Expected while a peer is down; the watch is what reports it. No pause: Raft's own pace bounds this.
                self.dropped += len(batch)
            except PeerRejected as error:
                self.dropped += len(batch)
                self._complain("raft_messages_refused", str(error))
            except ValueError as error:  # BadFrame, or a message that cannot be decoded
                self._complain("raft_answer_not_understood", str(error))

    def _complain(self, event: str, reason: str) -> None:
        if self._rejection != reason:
            self._rejection = reason
            log.warning(event, peer=self._peer, reason=reason)


class RaftTransport(Generic[Message]):
    """Implements the Raft driver's Transport over POST /v1/raft. `encode` turns a message into bytes.

    What a peer's request makes this node say to it at once goes back in the answer (`collect`), so that a heartbeat
    costs one request and not two; `answered(peer, frame)` gets what came that way, as the server's `raft` handler does.
    Messages may therefore overtake each other, which Raft allows; ValueError means that one cannot be decoded.

    `send` may be called as soon as the loop runs; messages for nodes without a known address are dropped.
    """

    def __init__(self, rpc: RpcClient, encode: Callable[[Message], bytes], answered: Answered = _ignore) -> None:
        self._rpc = rpc
        self._encode = encode
        self._answered = answered
        self._links: dict[int, _Link] = {}
        self._closed = False

    def send(self, to: int, message: Message) -> None:
        """Queue a message. Never blocks and never raises for a peer's sake; at most 512 messages wait per peer."""
        if self._closed or to not in self._rpc.addresses:
            return
        frame = self._encode(message)
        if len(frame) + FRAME_OVERHEAD > MAX_BODY_BYTES:
            raise ValueError(f"a Raft message of {len(frame)} bytes can never be sent")
        link = self._links.get(to)
        if link is None:
            link = self._links[to] = _Link(self._rpc, to, self._answered)
        link.put(frame)

    def collect(self, peer: int) -> bytes:
        """What waits to go to the peer, as a body, and does not wait any more."""
        link = self._links.get(peer)
        return b"" if link is None else join_frames(link.take())

    @property
    def dropped(self) -> int:
        """Messages given up since the start, because a queue was full or a POST failed."""
        return sum(link.dropped for link in self._links.values())

    async def close(self) -> None:
        """Stop sending; what is queued is dropped."""
        self._closed = True
        await stop_tasks(link.task for link in self._links.values())
