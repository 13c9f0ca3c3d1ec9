"""How long a Raft-sized message takes between two nodes on loopback. Run by hand: python benchmarks/rpc.py

Both ends share one process and one core here, so this is an upper bound for the CPU side of a round trip.
"""

import asyncio
import random
import socket
import statistics
import time

import uvloop

from ottla.controller.rpc import (
    ClusterIdentity,
    Handlers,
    Heartbeat,
    PeerAddresses,
    RaftTransport,
    RpcClient,
    RpcResponse,
    RpcServer,
)

ROUNDS = 3000
SIZE = 200


async def _no_controller(_request: object, _sender: int) -> RpcResponse:
    return RpcResponse()


def _row(name: str, samples: list[float]) -> None:
    ordered = sorted(samples)
    p99 = ordered[len(ordered) * 99 // 100]
    print(f"{name:<46}{statistics.median(ordered) * 1e6:>9.0f}{p99 * 1e6:>9.0f}")


async def main() -> None:
    secret = b"a secret for the benchmark only"
    got = asyncio.Event()
    ids = [ClusterIdentity("bench", node, f"life-{node}", secret) for node in (1, 2)]
    addresses = PeerAddresses({})
    links: dict[int, RaftTransport[bytes]] = {}

    def on_two(_sender: int, frame: bytes) -> None:
        links[2].send(1, frame)

    def on_one(_sender: int, _frame: bytes) -> None:
        got.set()

    servers = [
        RpcServer(me, Handlers(raft=on, controller=_no_controller), random.Random(3))
        for me, on in zip(ids, (on_one, on_two), strict=True)
    ]
    clients = [RpcClient(me, addresses, random.Random(1)) for me in ids]
    for me, server, client in zip(ids, servers, clients, strict=True):
        addresses.learn(me.node_id, ("127.0.0.1", await server.start("127.0.0.1", 0)))
        links[me.node_id] = RaftTransport(client, lambda frame: frame)
    print(f"{'':<46}{'p50 us':>9}{'p99 us':>9}")
    body = random.Random(2).randbytes(SIZE)
    beat = Heartbeat(node_id=1, epoch=0, applied_offset=0).model_dump_json().encode()
    posts, echoes = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        await clients[0].post(2, "/v1/controller/Heartbeat", beat, timeout=1)
        posts.append(time.perf_counter() - start)
    for _ in range(ROUNDS):
        got.clear()
        start = time.perf_counter()
        links[1].send(2, body)
        await got.wait()
        echoes.append(time.perf_counter() - start)
    _row("POST and answer", posts)
    _row(f"message of {SIZE} bytes there and one back", echoes)
    (kept,) = clients[0]._session.connector._conns.values()  # type: ignore[union-attr]
    sock = kept[0][0].transport.get_extra_info("socket")
    print(f"TCP_NODELAY {sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0}, dropped {links[1].dropped}")
    for link in links.values():
        await link.close()
    for client in clients:
        await client.close()
    for server in servers:
        await server.stop()


if __name__ == "__main__":
    uvloop.run(main())
