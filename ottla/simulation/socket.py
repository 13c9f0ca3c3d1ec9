"""One end of a simulated TCP connection, as the kernel of its machine keeps it."""

from __future__ import annotations

import enum
import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.simulation.hold import Tap
    from ottla.simulation.link import Link
    from ottla.simulation.network import Network
    from ottla.simulation.process import Machine, Process
    from ottla.simulation.transport import SimulatedTransport

# Bytes of one direction that may be under way or unread at once: both socket buffers together.
WINDOW = 256 * 1024


class Kind(enum.Enum):
    DATA = 0
    FIN = 1
    RST = 2


DATA = Kind.DATA


class Socket:
    """Sends to its `peer` in order; keeps what came for its process to read.

    It outlives the process that had it: what was handed to the kernel is still sent, and what then still comes is
    answered with a reset. Nothing arrives, and nothing is acknowledged, over a link that is cut; TCP repeats it, so it
    does arrive once the link is healed.
    """

    def __init__(self, network: Network, process: Process, address: tuple[str, int]) -> None:
        self.network = network
        self.process = process
        self.machine: Machine = process.machine
        self.address = address
        self.peer = self  # until it is connected
        self._link: Link | None = None
        self._label = b""
        # Mostly one message at a time, which then is never copied; a bytearray once there is more than one.
        self.inbox: bytes | bytearray = b""
        self.ended = False
        self.error: OSError | None = None
        self.gone = False
        self.transport: SimulatedTransport | None = None
        self._tap: Tap | None = None
        # Where what leaves here goes: onto the link, or to who listens in on it.
        self.push: Callable[[Kind, bytes], None] = self.depart
        self._flight: deque[tuple[float, Kind, bytes]] = deque()
        self._arrival = 0.0
        self._armed = False
        # Bytes under way or unread, never more than WINDOW; whoever sends data counts it first.
        self.outstanding = 0
        self._owed = 0
        self._finished = False
        process.sockets[self] = None

    def __repr__(self) -> str:
        return f"<Socket {self.machine.name}:{self.address[1]} -> {self.peer.machine.name}:{self.peer.address[1]}>"

    @property
    def link(self) -> Link:
        link = self._link
        if link is None:
            link = self.network.link(self.machine, self.peer.machine)
            if self.peer is not self:
                self._link = link
        return link

    @property
    def label(self) -> bytes:
        """Which connection this is, the same in every run from one seed."""
        if not self._label and self.peer is not self:
            self._label = f"{self.machine.name}:{self.address[1]}:{self.peer.address[1]}".encode()
        return self._label

    @property
    def blocked(self) -> bool:
        """Whether nothing gets from here to the peer."""
        link = self._link or self.link
        return not link.clear and (link.blocked or link.drops(self.address[1], self.peer.address[1]))

    @property
    def tap(self) -> Tap | None:
        """Who listens in."""
        return self._tap

    @tap.setter
    def tap(self, tap: Tap | None) -> None:
        self._tap = tap
        self.push = self.depart if tap is None else tap.push

    # -- out

    def finish(self) -> None:
        """No more data will come from here."""
        if not self._finished:
            self._finished = True
            self.push(Kind.FIN, b"")

    def depart(self, kind: Kind, data: bytes) -> None:
        """Onto the link."""
        network, link, flight = self.network, self._link or self.link, self._flight
        loop = network.loop
        if link.plain:
            low, high = link.latency
            arrival = loop._now + (low + (high - low) * network.draw())  # random.uniform
        else:
            arrival = link.carries(len(data), loop._now, network.rng)
        # Bytes of one direction never overtake each other.
        if arrival > self._arrival:
            self._arrival = arrival
        else:
            arrival = self._arrival
        flight.append((arrival, kind, data))
        if not self._armed:
            self._armed = True
            loop.at(flight[0][0], self._arrive)

    def _arm(self) -> None:
        if not self._armed and self._flight:
            self._armed = True
            self.network.at(self._flight[0][0], self._arrive)

    def _arrive(self) -> None:
        self._armed = False
        flight = self._flight
        if not flight:
            return
        link = self._link or self.link
        if not link.clear and self.blocked:
            link.stalled[self] = None
            return
        now, peer = self.network.loop._now, self.peer
        while flight and flight[0][0] <= now:
            _, kind, data = flight.popleft()
            peer._arrived(kind, data)
        if flight:
            self._arm()

    def unstall(self) -> None:
        """The link carries again: what was lost is sent once more."""
        if self.blocked:
            self.link.stalled[self] = None
            return
        owed, self._owed = self._owed, 0
        if owed:
            self.peer.credit(owed)
        self._arm()

    def credit(self, size: int) -> None:
        """The peer's process has read so many bytes."""
        self.outstanding -= size
        transport = self.transport
        if transport is not None and transport._buffer:
            transport.writable()

    # -- in

    def _arrived(self, kind: Kind, data: bytes) -> None:
        if self.gone:
            if kind is not Kind.RST:
                self.push(Kind.RST, b"")
            return
        if kind is DATA:
            self.network.carried(self, data)
            inbox = self.inbox
            if not inbox:
                self.inbox = data
            else:
                if type(inbox) is bytes:
                    self.inbox = inbox = bytearray(inbox)
                inbox += data
        elif kind is Kind.FIN:
            self.ended = True
        else:
            self.fail(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))
            return
        transport = self.transport
        if transport is not None:
            transport.readable()

    def read(self, size: int) -> bytes | bytearray:
        """So many bytes of the inbox, which has them."""
        inbox = self.inbox
        self.inbox = inbox[size:]
        link = self._link or self.link
        if link.clear or not self.blocked:
            self.peer.credit(size)
        else:
            self._owed += size
            link.stalled[self] = None
        return inbox[:size]

    def fail(self, error: OSError) -> None:
        """The connection is broken from now on."""
        self.error = error
        self.inbox = b""
        self._flight.clear()
        if self.tap is not None:
            self.tap.broken()
        if self.transport is not None:
            self.transport.readable()

    # -- the end

    def reset(self) -> None:
        """Something between the two ends breaks the connection; both hear of it."""
        for each in (self, self.peer):
            each.fail(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))

    def close(self) -> None:
        """The process is done with it. The peer hears that; as a reset if there was something unread."""
        if self.gone:
            return
        self.gone = True
        self.process.sockets.pop(self, None)
        self.transport = None
        if self.error is not None or self.peer is self:
            return
        if self.inbox:
            self.push(Kind.RST, b"")
        else:
            self.finish()

    def refuse(self) -> None:
        """Nobody will ever take this connection: reset it."""
        self.gone = True
        self.process.sockets.pop(self, None)
        self.push(Kind.RST, b"")

    def vanish(self) -> None:
        """The machine lost its power: nothing more leaves here, and nobody is told."""
        self.gone = True
        self.process.sockets.pop(self, None)
        self.transport = None
        self._flight.clear()
        self._finished = True
