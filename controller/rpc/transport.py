"""Raft's messages to the other nodes: best effort, bounded, never in the core's way."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import structlog

from ottla.controller.rpc.errors import PeerRejected, PeerUnreachable
from ottla.controller.rpc.framing import FRAME_OVERHEAD
from ottla.controller.rpc.http_client import RpcClient
from ottla.controller.rpc.server import RAFT_PATH
from ottla.controller.rpc.stream import MAX_FRAME_BYTES, RaftStream
from ottla.tasks import start_task, stop_tasks

log = structlog.get_logger(__name__)

Message = TypeVar("Message")
Received = Callable[[int, bytes], None]

QUEUE_MESSAGES = 512
QUEUE_BYTES = 2 * MAX_FRAME_BYTES
BATCH_BYTES = 1024 * 1024
OPEN_TIMEOUT_S = 3.0
# Something that was sent and of which the peer has taken nothing: asked after so long, and given up after so long.
PROBE_S = 0.5
SILENCE_S = 1.5


def _ignore(_peer: int, _frame: bytes) -> None:
    """For senders that expect no messages in return."""


class _Link:
    """The way to one peer: a stream, opened when there is something to send, and the queue in front of it.

    A message goes to the stream at once as long as that takes it; else the queue gathers, and goes in batches when
    there is room again. When the queue is full the oldest messages go: Raft repeats what matters, and the newest term,
    commit index and heartbeat are worth more than old ones. A stream of which the peer takes nothing for 1.5 to 2 s
    is given up, and the next message opens another.
    """

    def __init__(self, rpc: RpcClient, peer: int, received: Received) -> None:
        self._loop = asyncio.get_running_loop()
        self._rpc = rpc
        self._peer = peer
        self._received = received
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._put = 0
        self._wake = asyncio.Event()
        self._rejection: str | None = None
        self._stream: RaftStream | None = None
        self._unheard: deque[tuple[int, int]] = deque()  # (bytes sent up to here, messages) of each frame
        self._waits_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.dropped = 0
        self.task = start_task(self._run(), f"raft-link-{peer}")

    def put(self, message: bytes) -> None:
        stream = self._stream
        if stream is not None and not self._queue and stream.writable:
            self._send(stream, (message,))
            return
        self._queue.append(message)
        self._bytes += len(message)
        self._put += 1
        while len(self._queue) > QUEUE_MESSAGES or (self._bytes > QUEUE_BYTES and len(self._queue) > 1):
            self._drop_oldest()
        self._wake.set()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._stream is not None:
            self._stream.close()

    def _drop_oldest(self) -> None:
        self._bytes -= len(self._queue.popleft())
        self.dropped += 1

    def _take(self) -> list[bytes]:
        """As much of the queue as one frame should hold."""
        batch: list[bytes] = []
        size = 0
        while self._queue and (not batch or size + len(self._queue[0]) + FRAME_OVERHEAD <= BATCH_BYTES):
            message = self._queue.popleft()
            size += len(message) + FRAME_OVERHEAD
            self._bytes -= len(message)
            batch.append(message)
        return batch

    # -- the stream

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._queue:
                continue
            before = self._put
            try:
                stream = await self._rpc.stream(
                    self._peer, RAFT_PATH, self._delivered, self._not_understood, timeout=OPEN_TIMEOUT_S
                )
            except PeerUnreachable:
                # Expected while a peer is down; the watch is what reports it. No pause: Raft's own pace bounds this.
                self._give_up(before)
            except PeerRejected as error:
                self._complain("raft_messages_refused", str(error))
                self._give_up(before)
            else:
                self._rejection = None
                await self._use(stream)
            if self._queue:
                self._wake.set()

    def _give_up(self, before: int) -> None:
        """What was put before that goes; what came while the stream was being opened may still get there."""
        while self._queue and self._put - len(self._queue) < before:
            self._drop_oldest()

    async def _use(self, stream: RaftStream) -> None:
        self._stream = stream
        stream.on_progress = self._progress
        stream.on_writable = self._flush
        self._flush()
        try:
            await stream.lost
        finally:
            stream.abort()
            self._stream = self._waits_since = None
            self.dropped += sum(messages for _, messages in self._unheard)
            self._unheard.clear()

    def _flush(self) -> None:
        stream = self._stream
        while stream is not None and stream.writable and self._queue:
            self._send(stream, self._take())

    def _send(self, stream: RaftStream, messages: Sequence[bytes]) -> None:
        stream.send(messages)
        self._unheard.append((stream.sent, len(messages)))
        if self._waits_since is None:
            self._waits_since = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(PROBE_S, self._look)

    def _progress(self) -> None:
        stream = self._stream
        if stream is not None:
            while self._unheard and self._unheard[0][0] <= stream.heard:
                self._unheard.popleft()
            self._waits_since = None if stream.heard >= stream.sent else self._loop.time()

    def _look(self) -> None:
        """Whether the peer takes what is sent: by what it has said, or by asking."""
        self._timer = None
        stream = self._stream
        if stream is None or self._waits_since is None:
            return
        waited = self._loop.time() - self._waits_since
        if waited >= SILENCE_S:
            stream.abort()
            return
        if waited >= PROBE_S and stream.writable:
            stream.send(())
        self._timer = self._loop.call_later(PROBE_S, self._look)

    def _delivered(self, message: bytes) -> None:
        self._received(self._peer, message)

    def _not_understood(self, reason: str) -> None:
        self._complain("raft_answer_not_understood", reason)

    def _complain(self, event: str, reason: str) -> None:
        if self._rejection != reason:
            self._rejection = reason
            log.warning(event, peer=self._peer, reason=reason)


class RaftTransport(Generic[Message]):
    """Implements the Raft driver's Transport over streams. `encode` turns a message into bytes.

    Every node opens a stream of its own to each peer that it has to say something to. Answers (`is_answer`) go back on
    the stream that the peer has opened, as long as that stands (`accepted`), so that one connection serves a leader and
    its follower, and each of the two kinds stays in order. `received(peer, message)` gets what comes back on the own
    streams, as the server's `raft` handler gets what comes in on the others; ValueError: it cannot be decoded.

    `send` may be called as soon as the loop runs; messages for nodes without a known address are dropped.
    """

    def __init__(
        self,
        rpc: RpcClient,
        encode: Callable[[Message], bytes],
        received: Received = _ignore,
        *,
        is_answer: Callable[[Message], bool] = lambda _message: False,
    ) -> None:
        self._rpc = rpc
        self._encode = encode
        self._received = received
        self._is_answer = is_answer
        self._links: dict[int, _Link] = {}
        self._accepted: dict[int, RaftStream] = {}
        self._closed = False

    def accepted(self, peer: int, stream: RaftStream) -> None:
        """The peer has opened a stream; an older one of it is of no use any more."""
        before = self._accepted.get(peer)
        self._accepted[peer] = stream
        if before is not None:
            before.abort()

    def send(self, to: int, message: Message) -> None:
        """Queue a message. Never blocks and never raises for a peer's sake; at most 512 messages wait per peer."""
        if self._closed or to not in self._rpc.addresses:
            return
        data = self._encode(message)
        if len(data) + FRAME_OVERHEAD > MAX_FRAME_BYTES:
            raise ValueError(f"a Raft message of {len(data)} bytes can never be sent")
        if self._is_answer(message):
            stream = self._accepted.get(to)
            if stream is not None and stream.writable:
                stream.send((data,))
                return
        link = self._links.get(to)
        if link is None:
            link = self._links[to] = _Link(self._rpc, to, self._received)
        link.put(data)

    @property
    def dropped(self) -> int:
        """Messages given up since the start, because a queue was full, a stream could not be opened, or it broke before
        the peer had confirmed them (which it may have received all the same). Answers on a peer's stream do not count.
        """
        return sum(link.dropped for link in self._links.values())

    async def close(self) -> None:
        """Stop sending; what is queued is dropped."""
        self._closed = True
        for link in self._links.values():
            link.close()
        await stop_tasks(link.task for link in self._links.values())
