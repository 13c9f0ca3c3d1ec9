"""Hold one message on its way, then release, drop or repeat it: the races that no delay by chance would bring about."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ottla.simulation.errors import SimulationError
from ottla.simulation.messages import Message, Names, Piece, Plane
from ottla.simulation.process import Machine
from ottla.simulation.socket import Kind, Socket
from ottla.simulation.streams import HttpStream, KafkaStream, Stream

if TYPE_CHECKING:
    from ottla.simulation.network import Network

_REPLAY_S = 10.0
_REPEATED_S = 0.001
Repeat = Callable[[Machine, Machine, Message], None]
"""Hand Raft messages from one machine to the core on another."""
Where = Callable[[Message], bool]


class Hold:
    """An order to hold the next `count` messages that fit; `None`: all, until it is released.

    What follows a held message on its connection waits behind it, as TCP has it; other connections go on. The sender
    knows nothing: it may time out, close, or lose its power, and the bytes still arrive once they are released, and
    the end of the connection after them. `messages` are those caught so far, in order. As a context manager it
    releases at the end.
    """

    def __init__(
        self,
        interceptor: Interceptor,
        name: str | None,
        *,
        source: Machine | None,
        target: Machine | None,
        response: bool,
        plane: Plane | None,
        count: int | None,
        where: Where | None,
    ) -> None:
        self.messages: list[Message] = []
        self._interceptor = interceptor
        self._wants = (name, source, target, response, plane, where)
        self._left = count
        self._taps: list[Tap] = []
        self._first: asyncio.Future[Message] = interceptor.network.loop.create_future()
        self._places: list[tuple[Machine, Machine, tuple[str, int]]] = []

    def __repr__(self) -> str:
        return f"<Hold {self._wants[0]} caught={len(self.messages)}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @property
    def holding(self) -> int:
        """Connections that stand still because of it."""
        return len(self._taps)

    async def caught(self, within: float = 30.0) -> Message:
        """The first message, once it was caught. Raises TimeoutError after `within` virtual seconds."""
        try:
            async with asyncio.timeout(within):
                return await asyncio.shield(self._first)
        except TimeoutError:
            raise TimeoutError(f"no {self._wants[0] or 'message'} to hold came within {within:g} s") from None

    def release(self) -> None:
        """Catch no more, and let what is held go on its way."""
        self._left = 0
        taps, self._taps = self._taps, []
        for tap in taps:
            tap.release()
        self._interceptor.forget(self)

    def drop(self) -> None:
        """Catch no more. What is held never arrives: its connection is reset, for both ends."""
        self._left = 0
        taps, self._taps = self._taps, []
        for tap in taps:
            tap.drop()
        self._interceptor.forget(self)

    @property
    def repeatable(self) -> bool:
        """Whether `deliver_again` can do something."""
        return bool(self.messages) and self.messages[0].whole and not self.messages[0].response

    async def deliver_again(self) -> None:
        """Send the first held message once more, on a new connection from the same machine, and wait for an answer.

        For requests between controllers, which say themselves whom they are from, and for what a client sends; between
        brokers a new connection has not authenticated. Raises SimulationError for an answer, or one above 64 KiB.

        A stream takes no frame of Raft messages twice, on whatever connection. Raft must take them all the same, for it
        repeats itself, so that these are handed to the core as if they had come, unless the link is cut.
        """
        if not self.repeatable:
            raise SimulationError("only a request that was caught as a whole can be repeated")
        loop = self._interceptor.network.loop
        machine, target, address = self._places[0]
        if self.messages[0].framed:
            self._interceptor.repeat(machine, target, self.messages[0])
            await asyncio.sleep(_REPEATED_S)
            return
        _, context = loop.spawn("replay", machine)
        await loop.create_task(_replay(address, self.messages[0].data), context=context)

    # -- called by taps

    def takes(self, tap: Tap, message: Message) -> bool:
        """Whether this message is one of those; then the tap has to hold it."""
        name, source, target, response, plane, where = self._wants
        socket = tap.socket
        if (
            self._left == 0
            or message.response is not response
            or (name is not None and name not in message.names)
            or (source is not None and socket.machine is not source)
            or (target is not None and socket.peer.machine is not target)
            or (plane is not None and message.plane != plane)
            or (where is not None and not where(message))
        ):
            return False
        if self._left is not None:
            self._left -= 1
        self.messages.append(message)
        self._taps.append(tap)
        self._places.append((socket.machine, socket.peer.machine, socket.peer.address))
        if not self._first.done():
            self._first.set_result(message)
        return True

    def lost(self, tap: Tap) -> None:
        """The connection broke while it was held."""
        if tap in self._taps:
            self._taps.remove(tap)


async def _replay(address: tuple[str, int], data: bytes) -> None:
    try:
        async with asyncio.timeout(_REPLAY_S):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(data)
            await reader.read(1)
            writer.close()
    except OSError:
        pass  # nobody is there, or nobody answers: then it was lost like any other message


class Tap:
    """Stands between one end of a connection and the link; knows where messages begin."""

    def __init__(self, interceptor: Interceptor, socket: Socket, stream: Stream) -> None:
        self.socket = socket
        self._interceptor = interceptor
        self._stream = stream
        self._hold: Hold | None = None
        self._behind: deque[tuple[Kind, Piece]] = deque()

    def push(self, kind: Kind, data: bytes) -> None:
        """In place of the socket's own sending."""
        if kind is Kind.DATA:
            self._behind.extend((kind, piece) for piece in self._stream.feed(data))
        else:
            if rest := self._stream.rest():
                self._behind.append((Kind.DATA, Piece(rest, None)))
            self._behind.append((kind, Piece(b"", None)))
        if self._hold is None:
            self._go_on()

    def _go_on(self, *, released: bool = False) -> None:
        while self._behind:
            kind, piece = self._behind[0]
            if piece.message is not None and not released:
                self._hold = self._interceptor.wanted(self, piece.message)
                if self._hold is not None:
                    return
            self._behind.popleft()
            self.socket.depart(kind, piece.data)
            released = False

    def release(self) -> None:
        self._hold = None
        self._go_on(released=True)

    def drop(self) -> None:
        self._hold = None
        self._behind.clear()
        self.socket.reset()

    def leave(self) -> None:
        """Listen no more. Only when nothing is held."""
        self.socket.tap = None
        if rest := self._stream.rest():
            self.socket.depart(Kind.DATA, rest)

    def broken(self) -> None:
        """The connection was reset."""
        hold, self._hold = self._hold, None
        self._behind.clear()
        if hold is not None:
            hold.lost(self)


class Interceptor:
    """All taps and holds of a network. Connections are tapped from the first hold to the end of the last one."""

    def __init__(self, network: Network, ports: dict[int, Plane], repeat: Repeat) -> None:
        self.network = network
        self.repeat = repeat
        self._ports = ports
        self._holds: dict[Hold, None] = {}
        for process in network.loop.processes:
            for each in list(process.sockets):
                if each.tap is None and each.address[1] in ports and each.peer is not each:
                    self.tap(each.peer, each, fresh=False)

    def tap(self, client: Socket, server: Socket, *, fresh: bool = True) -> None:
        """Listen in on a connection. `fresh`: nothing was sent on it yet."""
        plane = self._ports.get(server.address[1])
        if plane == "kafka":
            asked: dict[int, Names] = {}
            client.tap = Tap(self, client, KafkaStream(asked, response=False, fresh=fresh))
            server.tap = Tap(self, server, KafkaStream(asked, response=True, fresh=fresh))
        elif plane == "controller":
            questions: deque[Names] = deque()
            client.tap = Tap(self, client, HttpStream(questions, response=False, fresh=fresh))
            server.tap = Tap(self, server, HttpStream(questions, response=True, fresh=fresh))

    def add(self, hold: Hold) -> Hold:
        self._holds[hold] = None
        return hold

    def forget(self, hold: Hold) -> None:
        self._holds.pop(hold, None)
        if self._holds or self.network.interceptor is not self:
            return
        self.network.interceptor = None
        for process in self.network.loop.processes:
            for each in list(process.sockets):
                if each.tap is not None:
                    each.tap.leave()

    def wanted(self, tap: Tap, message: Message) -> Hold | None:
        return next((hold for hold in self._holds if hold.takes(tap, message)), None)
