"""Connections as TCP has them: order, end, reset, refusal, silence, back-pressure."""

import asyncio
import errno
import socket

import aiohttp
import pytest
from aiohttp import web

from ottla.controller.rpc.connector import LoopConnector
from ottla.simulation import Machine, Network, Process, current_world, run
from ottla.simulation.link import Harm, Link


class Server:
    """An echo server on a machine of its own, and the links between it and the scenario."""

    def __init__(self) -> None:
        world = current_world()
        self.loop = world.loop
        self.network: Network = world.network
        self.machine = Machine("server", "10.0.0.1")
        self.network.add(self.machine)
        self.to = [self.network.link(world.home, self.machine)]
        self.back = [self.network.link(self.machine, world.home)]
        self.process: Process = self.spawn()

    def spawn(self) -> Process:
        process, context = self.loop.spawn("server", self.machine)
        self.loop.create_task(self.serve(), context=context)
        return process

    async def serve(self) -> None:
        await asyncio.start_server(self.echo, "10.0.0.1", 80)

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(100_000):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    def kill(self) -> None:
        self.loop.kill(self.process)
        self.network.leave(self.process, silently=False)

    def power_off(self) -> None:
        self.loop.kill(self.process)
        self.network.leave(self.process, silently=True)
        self.network.power(self.machine, on=False)

    def power_on(self) -> None:
        self.network.power(self.machine, on=True)
        self.process = self.spawn()


def scenario(work, seed: int = 1):
    """Run `work(server, reader, writer)` with a connection."""

    async def main():
        server = Server()
        await asyncio.sleep(0.1)
        reader, writer = await asyncio.open_connection("server", 80)
        return await work(server, reader, writer)

    return run(main, seed)


@pytest.mark.parametrize("seed", range(5))
def test_bytes_arrive_in_order_and_whole(seed: int):
    sent = bytes(range(256)) * 8000

    async def work(_server, reader, writer):
        async def send():
            for start in range(0, len(sent), 70_001):
                writer.write(sent[start : start + 70_001])
                await writer.drain()
            writer.write_eof()

        sending = asyncio.ensure_future(send())
        received = await reader.read(-1)
        await sending
        return received

    assert scenario(work, seed) == sent


def test_a_writer_is_held_back_by_a_reader_that_does_not_read():
    async def work(server, reader, writer):
        server.loop.pause(server.process)
        written = 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                while True:
                    writer.write(bytes(10_000))
                    written += 10_000
                    await writer.drain()
        server.loop.resume(server.process)
        await reader.readexactly(written)
        return written

    assert 200_000 < scenario(work) < 1_000_000


def test_a_killed_process_ends_its_connections_and_is_refused():
    async def work(server, reader, writer):
        server.kill()
        assert await reader.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("10.0.0.1", 80)
        # Whoever goes on writing is reset.
        writer.write(b"x")
        await asyncio.sleep(1)
        writer.write(b"y")
        with pytest.raises(ConnectionResetError):
            await writer.drain()
            await asyncio.sleep(1)
            await writer.drain()

    scenario(work)


def test_a_paused_process_still_takes_connections_and_says_nothing():
    async def work(server, _reader, _writer):
        server.loop.pause(server.process)
        reader, writer = await asyncio.open_connection("10.0.0.1", 80)
        writer.write(b"hello")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await reader.read(5)
        server.loop.resume(server.process)
        assert await reader.read(5) == b"hello"

    scenario(work)


def test_a_machine_without_power_is_silent_until_it_is_back():
    async def work(server, reader, writer):
        server.power_off()
        writer.write(b"hello")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await reader.read(5)
        with pytest.raises(TimeoutError) as silence:
            await asyncio.open_connection("10.0.0.1", 80)
        assert silence.value.errno == errno.ETIMEDOUT
        server.power_on()
        with pytest.raises(ConnectionResetError):
            await reader.read(5)
        reader, writer = await asyncio.open_connection("10.0.0.1", 80)
        writer.write(b"again")
        assert await reader.read(5) == b"again"

    scenario(work)


@pytest.mark.parametrize("direction", ["to", "back", "both"])
def test_what_is_sent_over_a_cut_link_arrives_once_it_is_healed(direction: str):
    async def work(server, reader, writer):
        links = {"to": server.to, "back": server.back, "both": [*server.to, *server.back]}[direction]
        undo = server.network.cut(links)
        writer.write(b"hello")
        connecting = asyncio.ensure_future(asyncio.open_connection("10.0.0.1", 80))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await reader.read(5)
        assert not connecting.done()
        undo()
        async with asyncio.timeout(20):
            assert await reader.read(5) == b"hello"
            await connecting

    scenario(work)


def test_harms_of_one_link_add_up_and_each_ends_by_itself():
    async def scenario():
        world = current_world()
        machine = Machine("server", "10.0.0.1")
        world.network.add(machine)
        link = world.network.link(world.home, machine)
        healthy = state(link)
        harms = [
            Harm(cut=True),
            Harm(cut_ports=frozenset({80})),
            Harm(cut_ports=frozenset({80, 81})),
            Harm(refused=True),
            Harm(latency=(0.5, 0.6), loss=0.2, bandwidth=1e6),
            Harm(latency=(0.1, 0.2), loss=0.3, bandwidth=1e5, resets=0.2),
        ]
        undos = [world.network.harm([link], harm) for harm in harms]
        assert state(link) == (True, {80, 81}, True, (0.5, 0.6), 0.3, 1e5, 0.2)
        undos[0]()
        undos[2]()
        undos[4]()
        assert state(link) == (False, {80}, True, (0.1, 0.2), 0.3, 1e5, 0.2)
        undos[2]()  # again: there is nothing left of it
        assert state(link) == (False, {80}, True, (0.1, 0.2), 0.3, 1e5, 0.2)
        for undo in (undos[1], undos[3], undos[5]):
            undo()
        assert state(link) == healthy

    run(scenario, 1)


def state(link: Link) -> tuple[object, ...]:
    return link.cut, set(link.cut_ports), link.refused, link.latency, link.loss, link.bandwidth, link.resets


def test_a_reset_is_heard_at_both_ends():
    async def work(server, reader, writer):
        writer.write(b"hello")
        await reader.read(5)
        server.network.reset(server.machine, current_world().home)
        with pytest.raises(ConnectionResetError):
            await reader.read(5)
        await asyncio.sleep(1)
        assert not server.process.sockets

    scenario(work)


def test_a_refusing_link_refuses_new_connections_only():
    async def work(server, reader, writer):
        server.network.harm(server.to[:1], Harm(refused=True))
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("10.0.0.1", 80)
        writer.write(b"hello")
        assert await reader.read(5) == b"hello"

    scenario(work)


def test_addresses_are_in_use_once_and_names_resolve():
    async def work(server, _reader, writer):
        loop = asyncio.get_running_loop()
        assert writer.get_extra_info("peername") == ("10.0.0.1", 80)
        assert (await loop.getaddrinfo("server", 80))[0][4] == ("10.0.0.1", 80)
        with pytest.raises(socket.gaierror):
            await loop.create_connection(asyncio.Protocol, "nobody", 80)
        first = await loop.create_server(asyncio.Protocol, None, 7000)
        with pytest.raises(OSError, match="in use"):
            await loop.create_server(asyncio.Protocol, None, 7000)
        first.close()
        await loop.create_server(asyncio.Protocol, None, 7000)
        with pytest.raises(OSError, match="not an address"):
            await loop.create_server(asyncio.Protocol, "server", 7000)

    scenario(work)


def test_aiohttp_runs_unchanged_at_both_ends():
    async def main():
        world = current_world()
        machine = Machine("web", "10.0.0.2")
        world.network.add(machine)
        process, context = world.loop.spawn("web", machine)

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            body = await request.read()
            await asyncio.sleep(5)
            return web.Response(body=body[::-1])

        async def serve():
            await world.loop.create_server(web.Server(handle), "10.0.0.2", 80)

        world.loop.create_task(serve(), context=context)
        await asyncio.sleep(1)
        async with aiohttp.ClientSession(connector=LoopConnector()) as session:
            async with session.post("http://web/", data=b"abc" * 100_000) as response:
                assert await response.read() == b"cba" * 100_000
            world.loop.kill(process)
            world.network.leave(process, silently=False)
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get("http://web/")

    run(main, 1)
