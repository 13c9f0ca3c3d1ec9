"""One end of a Raft stream: a connection that was authenticated as an HTTP request and speaks frames from then on."""

import asyncio
from collections.abc import Callable, Iterable

from ottla.controller.rpc.framing import split_frames
from ottla.controller.rpc.stream_codec import Opener, Sealer

PROTOCOL = "tcp"
"""What the connection is upgraded to. aiohttp's parser in Python, which it has where there is no compiled one, lets go
of a connection only for this and for "websocket"."""
MAX_FRAME_BYTES = 64 * 1024 * 1024
# How often a peer that waits for the rest of a large frame says how far it has come, in seconds.
_PROGRESS_S = 0.25


class RaftStream(asyncio.Protocol):
    """Takes a connection over from aiohttp's protocol, which is told of the end and of nothing else.

    Messages go in both directions. The end that accepted it answers empty frames at once, so that the other one can
    find out whether anybody is there. `deliver(message)` must not block; what it raises as ValueError (a message that
    cannot be decoded) ends the stream, as does a frame that is not signed for its place: `refuse(reason)` is told.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        before: asyncio.BaseProtocol,
        keys: tuple[bytes, bytes],
        deliver: Callable[[bytes], None],
        refuse: Callable[[str], None],
        *,
        accepted: bool,
    ) -> None:
        """`keys`: of what is sent and of what is received."""
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._before = before
        self._sealer = Sealer(keys[0])
        self._opener = Opener(keys[1], MAX_FRAME_BYTES)
        self._deliver = deliver
        self._refuse = refuse
        self._accepted = accepted
        self._received = 0
        self._told_at = 0.0
        self._paused = False
        self.open = True
        self.sent = 0  # bytes
        self.heard = 0  # as many of them have reached the peer's process
        self.on_progress: Callable[[], None] = _nothing
        self.on_writable: Callable[[], None] = _nothing
        self.lost: asyncio.Future[None] = self._loop.create_future()
        transport.set_protocol(self)

    @property
    def writable(self) -> bool:
        """Whether the connection stands and takes more than it has in its buffer."""
        return self.open and not self._paused

    def send(self, messages: Iterable[bytes]) -> None:
        """One frame with these messages. Without any: a question whether the peer is there, or the answer to it."""
        frame = self._sealer.seal(messages, self._received)
        self.sent += len(frame)
        if self._accepted:
            self._told_at = self._loop.time()
        self._transport.write(frame)

    def close(self) -> None:
        """What was sent still leaves."""
        self.open = False
        self._transport.close()

    def abort(self) -> None:
        """At once."""
        self.open = False
        self._transport.abort()

    # -- called by the transport

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        try:
            for heard, body in self._opener.feed(data):
                if heard > self.heard:
                    self.heard = heard
                    self.on_progress()
                if body:
                    for message in split_frames(body):
                        self._deliver(message)
                elif self._accepted:
                    self.send(())
                if not self.open:
                    return  # by what was delivered
        except ValueError as error:  # BadFrame, or a message that cannot be decoded
            self._refuse(str(error))
            self.abort()
            return
        if self._accepted and self._opener.incomplete and self._loop.time() - self._told_at >= _PROGRESS_S:
            self.send(())

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self.open:
            self.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._before.connection_lost(exc)
        if not self.lost.done():
            self.lost.set_result(None)


def _nothing() -> None:
    pass
