"""PeerWatch against real processes that are killed, paused and stopped."""

import asyncio
import random
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ottla.controller.rpc import PeerAddresses, PeerWatch, RpcClient
from ottla.controller.rpc import watch as watch_module
from tests.rpc.conftest import MakeNode
from tests.rpc.nodes import eventually, identity

ROOT = Path(__file__).parents[2]


class Cluster:
    """This process is node 1 and watches node 2, which is a process of its own."""

    def __init__(self) -> None:
        self.addresses = PeerAddresses({})
        self.client = RpcClient(identity(1), self.addresses, random.Random(1))
        self.dead: list[tuple[int, float]] = []
        self.alive: list[int] = []
        self.refused: list[int] = []
        self.process: Process | None = None
        self.port = 0
        self.watch = PeerWatch(
            self.client,
            on_peer_dead=lambda node: self.dead.append((node, asyncio.get_running_loop().time())),
            on_peer_alive=self.alive.append,
            on_peer_refused=self.refused.append,
        )

    async def launch(self, incarnation: str = "first") -> Process:
        arguments = (sys.executable, "-m", "tests.rpc.watched", "2", str(self.port), incarnation)
        process = self.process = await asyncio.create_subprocess_exec(*arguments, cwd=ROOT, stdout=PIPE)
        assert process.stdout is not None
        async for line in process.stdout:
            if line.startswith(b"port "):
                self.port = int(line.split()[1])
                break
        self.addresses.learn(2, ("127.0.0.1", self.port))
        return process

    async def close(self) -> None:
        await self.watch.stop()
        await self.client.close()
        if self.process is not None:
            if self.process.returncode is None:
                self.process.kill()
            await self.process.communicate()


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster()
    yield cluster
    await cluster.close()


async def test_kill_9_is_noticed_and_so_is_the_return(cluster: Cluster) -> None:
    process = await cluster.launch()
    cluster.watch.start([1, 2])
    await eventually(lambda: cluster.alive == [2])
    assert cluster.watch.incarnation_of(2) == "first"
    process.kill()
    await eventually(lambda: cluster.dead)
    assert cluster.watch.dead_peers == {2}
    assert cluster.watch.incarnation_of(2) is None
    await eventually(lambda: cluster.refused)
    await process.communicate()
    await cluster.launch("second")
    await eventually(lambda: cluster.alive == [2, 2])
    assert cluster.watch.dead_peers == frozenset()
    assert cluster.watch.incarnation_of(2) == "second"
    assert len(cluster.dead) == 1


async def test_a_pause_is_silence_and_a_kill_while_paused_is_evidence(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "_SILENCE_S", 1.1)  # just above one beat
    process = await cluster.launch()
    cluster.watch.start([2])
    await eventually(lambda: cluster.alive == [2])
    process.send_signal(signal.SIGSTOP)
    await eventually(lambda: cluster.watch.standings == {2: "silent"})
    assert cluster.dead == []
    process.kill()
    await eventually(lambda: cluster.dead)


async def test_a_clean_stop_raises_no_suspicion(cluster: Cluster) -> None:
    process = await cluster.launch()
    cluster.watch.start([2])
    await eventually(lambda: cluster.alive == [2])
    process.terminate()
    await eventually(lambda: cluster.watch.standings == {2: "left"})
    await process.communicate()
    await cluster.launch("second")
    await eventually(lambda: cluster.alive == [2, 2])
    assert cluster.dead == []


async def test_a_peer_that_refuses_from_the_start_is_dead_until_it_comes(cluster: Cluster) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        cluster.port = reserved.getsockname()[1]
        cluster.addresses.learn(2, ("127.0.0.1", cluster.port))
        cluster.watch.start([2])
        await eventually(lambda: cluster.watch.dead_peers == {2})
    await cluster.launch()
    await eventually(lambda: cluster.alive == [2])
    assert cluster.watch.dead_peers == frozenset()


async def test_a_name_that_vanishes_after_a_break_is_evidence_but_not_before_one(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    names = {"node-2": False}
    attempts = 0

    async def resolve(host: str, port: int, **_options: object) -> list[tuple[object, ...]]:
        nonlocal attempts
        attempts += 1
        if not names[host]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    process = await cluster.launch()
    cluster.addresses.learn(2, ("node-2", cluster.port))
    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    cluster.watch.start([2])
    await eventually(lambda: attempts >= 3)
    assert cluster.dead == []
    names["node-2"] = True
    await eventually(lambda: cluster.alive == [2])
    names["node-2"] = False
    process.kill()
    await eventually(lambda: cluster.watch.dead_peers == {2})


async def test_a_node_outside_the_voters_introduces_itself(make_node: MakeNode) -> None:
    one, nine = await make_node(1), await make_node(9)
    watch = PeerWatch(
        nine.client, on_peer_dead=lambda _: None, on_peer_alive=lambda _: None, introduce_as=("nine.example", 9193)
    )
    watch.start([1])
    await eventually(lambda: one.introduced)
    assert one.introduced == [(9, ("nine.example", 9193))]
    await watch.stop()


async def test_a_peer_with_another_secret_is_neither_alive_nor_dead(make_node: MakeNode) -> None:
    one, two = await make_node(1), await make_node(2, secret=b"another cluster's secret")
    seen: list[int] = []
    watch = PeerWatch(one.client, on_peer_dead=seen.append, on_peer_alive=seen.append)
    watch.start([2])
    await eventually(lambda: two.server._http.requests_count >= 2)
    assert watch.standings == {2: "unknown"}
    assert seen == []
    await watch.stop()
