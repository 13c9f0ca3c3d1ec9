"""The network between simulated machines: links with delays and faults, listeners, and how connections are made."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import random
import socket as real
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ottla.simulation.hold import Interceptor, Repeat
from ottla.simulation.link import Harm, Link
from ottla.simulation.messages import Plane
from ottla.simulation.process import Machine, Process
from ottla.simulation.socket import Socket
from ottla.simulation.transport import SimulatedTransport

if TYPE_CHECKING:
    from ottla.simulation.loop import SimulatedLoop

# How long TCP waits before it repeats a SYN that nobody answered, in seconds (Linux: tcp_syn_retries = 6).
_SYN_WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
# Nor does it repeat data at once when a link carries again: its timer has grown while it did not.
_MAX_RETRANSMISSION = 3.0

Undo = Callable[[], None]
Factory = Callable[[], asyncio.BaseProtocol]
Carried = Callable[[Socket, bytes], None]


class Listener:
    """A port that a process listens on."""

    def __init__(self, process: Process, factory: Factory, port: int, backlog: int) -> None:
        self.process = process
        self.factory = factory
        self.port = port
        self.backlog = backlog
        self.context = contextvars.copy_context()
        self.waiting: deque[Socket] = deque()


class _BoundSocket:
    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address

    def getsockname(self) -> tuple[str, int]:
        return self._address


class SimulatedServer(asyncio.AbstractServer):
    """What create_server returns."""

    def __init__(self, network: Network, listener: Listener) -> None:
        self._network = network
        self._listener: Listener | None = listener

    @property
    def sockets(self) -> tuple[_BoundSocket, ...]:
        listener = self._listener
        return () if listener is None else (_BoundSocket((listener.process.machine.address, listener.port)),)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._network.loop

    def is_serving(self) -> bool:
        return self._listener is not None

    def close(self) -> None:
        if self._listener is not None:
            self._network.unlisten(self._listener)
            self._listener = None

    async def start_serving(self) -> None:
        """It serves from the beginning."""

    async def serve_forever(self) -> None:
        raise NotImplementedError("a simulated server serves by itself")

    async def wait_closed(self) -> None:
        """As in Python 3.11: returns at once; connections that exist go on."""


class Network:
    """`carried` is told of every piece of data that arrives, for the trace."""

    def __init__(self, loop: SimulatedLoop, rng: random.Random, carried: Carried) -> None:
        self.loop = loop
        self.rng = rng
        self.draw = rng.random
        self.carried = carried
        self._names: dict[str, Machine] = {}
        self._addresses: dict[str, Machine] = {}
        self._links: dict[tuple[Machine, Machine], Link] = {}
        self._listeners: dict[tuple[str, int], Listener] = {}
        self.interceptor: Interceptor | None = None

    @property
    def now(self) -> float:
        return self.loop.time()

    def at(self, when: float, callback: Callable[..., object], *args: object) -> None:
        """An event of the network itself, which no process owns."""
        self.loop.at(when, callback, *args)

    # -- machines and links

    def add(self, machine: Machine) -> None:
        self._names[machine.name] = self._addresses[machine.address] = machine

    def resolve(self, host: str) -> str:
        machine = self._names.get(host) or self._addresses.get(host)
        if machine is None:
            raise real.gaierror(real.EAI_NONAME, f"Name or service not known: {host}")
        return machine.address

    def link(self, source: Machine, target: Machine) -> Link:
        """The direction from `source` to `target`."""
        link = self._links.get((source, target))
        if link is None:
            latency = (0.00002, 0.00005) if source is target else (0.0001, 0.0006)
            link = self._links[source, target] = Link(target, latency)
        return link

    def links(self, sources: Iterable[Machine], targets: Iterable[Machine]) -> list[Link]:
        """The directions from any of `sources` to any of `targets`, but for those to itself."""
        into = list(targets)
        return [self.link(source, target) for source in sources for target in into if source is not target]

    def harm(self, links: Iterable[Link], harm: Harm) -> Undo:
        """Do this to the links, besides what others do to them. Returns what takes back just that."""
        harmed = list(links)
        for link in harmed:
            was_cut = link.silences
            link.suffer(harm)
            if link.silences and not was_cut:
                link.cut_at = self.now
            if link.resets and not link.resetting:
                link.resetting = True
                self.at(self.now + self.rng.random(), self._reset_some, link)
        return lambda: self.heal(harmed, lambda each: each is harm)

    def cut(self, links: Iterable[Link], *ports: int) -> Undo:
        """Silently drop everything; if ports are given, only what goes to or comes from those."""
        return self.harm(links, Harm(cut_ports=frozenset(ports)) if ports else Harm(cut=True))

    def heal(self, links: Iterable[Link], which: Callable[[Harm], bool]) -> None:
        """End these harms."""
        for link in links:
            before = link.cut, link.cut_ports
            link.recover(which)
            if before != (link.cut, link.cut_ports):
                self._release(link, self.now - link.cut_at)

    def _reset_some(self, link: Link) -> None:
        link.resetting = bool(link.resets)
        if link.resets:
            for process in self.loop.processes:
                for each in list(process.sockets):
                    if each.peer is not each and each.link is link and self.rng.random() < link.resets:
                        each.reset()
            self.at(self.now + 1.0, self._reset_some, link)

    def _release(self, link: Link, silence: float) -> None:
        stalled, link.stalled = link.stalled, {}
        for each in stalled:
            self.at(self.now + self.rng.uniform(0.0, min(silence, _MAX_RETRANSMISSION)), each.unstall)

    def power(self, machine: Machine, *, on: bool) -> None:
        machine.powered = on
        for (_, target), link in self._links.items():
            if target is machine:
                link.settle()
                if on and not link.cut:
                    self._release(link, _MAX_RETRANSMISSION)

    def reset(self, one: Machine, other: Machine) -> None:
        """Break every connection between two machines; both ends hear of it."""
        for process in self.loop.processes:
            if process.machine in (one, other):
                for each in list(process.sockets):
                    if {each.machine, each.peer.machine} == {one, other}:
                        each.fail(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))

    def intercept(self, ports: dict[int, Plane], repeat: Repeat) -> Interceptor:
        """Who can hold messages, from now on; `ports` says what is spoken where, `repeat` is for `deliver_again`."""
        if self.interceptor is None:
            self.interceptor = Interceptor(self, ports, repeat)
        return self.interceptor

    def leave(self, process: Process, *, silently: bool) -> None:
        """The process is gone: its kernel closes what it had, unless that lost its power too."""
        for listener in list(process.listeners):
            self.unlisten(listener, silently=silently)
        for each in list(process.sockets):
            if silently:
                each.vanish()
            else:
                each.close()

    # -- listening

    def listen(self, process: Process, factory: Factory, host: str | None, port: int, backlog: int) -> SimulatedServer:
        address = process.machine.address
        if host and host not in ("0.0.0.0", "::") and self.resolve(host) != address:
            raise OSError(errno.EADDRNOTAVAIL, f"{host} is not an address of {process.machine.name}")
        port = port or process.machine.ephemeral_port()
        if (address, port) in self._listeners:
            raise OSError(errno.EADDRINUSE, f"address already in use: {address}:{port}")
        listener = self._listeners[address, port] = Listener(process, factory, port, backlog)
        process.listeners[listener] = None
        return SimulatedServer(self, listener)

    def unlisten(self, listener: Listener, *, silently: bool = False) -> None:
        del self._listeners[listener.process.machine.address, listener.port]
        listener.process.listeners.pop(listener, None)
        for each in listener.waiting:
            if silently:
                each.vanish()
            else:
                each.refuse()
        listener.waiting.clear()

    def _accept(self, listener: Listener) -> None:
        # In the listening process, which may have been busy or paused since the kernel took the connection.
        if listener.waiting:
            accepted = listener.waiting.popleft()
            SimulatedTransport(self.loop, accepted, listener.factory()).begin()

    # -- connecting

    async def connect(
        self, process: Process, factory: Factory, host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """As loop.create_connection. Raises OSError: gaierror, ConnectionRefusedError, TimeoutError (ETIMEDOUT)."""
        address = self.resolve(host)
        client = Socket(self, process, (process.machine.address, process.machine.ephemeral_port()))
        established: asyncio.Future[None] = self.loop.create_future()
        _Handshake(self, client, self._addresses[address], port, established).start()
        try:
            await established
        except BaseException:
            client.close()
            raise
        protocol = factory()
        transport = SimulatedTransport(self.loop, client, protocol)
        made = transport.begin()
        try:
            await made
        except BaseException:
            transport.close()
            raise
        return transport, protocol


class _Handshake:
    """A SYN and what becomes of it: the kernels do this; no process has to run for it."""

    def __init__(
        self, network: Network, client: Socket, target: Machine, port: int, established: asyncio.Future[None]
    ) -> None:
        self._network = network
        self._client = client
        self._port = port
        self._established = established
        self._waits = iter(_SYN_WAITS)
        self._to = network.link(client.machine, target)
        self._back = network.link(target, client.machine)

    def start(self) -> None:
        if self._abandoned:
            return
        self._network.at(self._network.now + self._to.delay(self._network.rng), self._syn)

    @property
    def _abandoned(self) -> bool:
        return self._client.gone or self._established.done()

    def _again(self) -> None:
        wait = next(self._waits, None)
        if wait is not None:
            self._network.at(self._network.now + wait, self.start)
        elif not self._abandoned:
            self._established.set_exception(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))

    def _syn(self) -> None:
        network, target = self._network, self._to.target
        if self._abandoned:
            return
        listener = network._listeners.get((target.address, self._port))
        full = listener is not None and len(listener.waiting) >= listener.backlog
        if self._to.blocked or self._back.blocked or self._to.drops(self._port) or self._back.drops(self._port) or full:
            self._again()
            return
        back = network.now + self._back.delay(network.rng)
        if listener is None or self._to.refused:
            network.at(back, self._refused)
            return
        accepted = Socket(network, listener.process, (target.address, self._port))
        accepted.peer, self._client.peer = self._client, accepted
        if network.interceptor is not None:
            network.interceptor.tap(self._client, accepted)
        listener.waiting.append(accepted)
        network.loop.call_soon(network._accept, listener, context=listener.context)
        network.at(back, self._accepted)

    def _refused(self) -> None:
        if not self._abandoned:
            where = (self._to.target.address, self._port)
            self._established.set_exception(ConnectionRefusedError(errno.ECONNREFUSED, f"Connect call failed {where}"))

    def _accepted(self) -> None:
        if not self._abandoned:
            self._established.set_result(None)
