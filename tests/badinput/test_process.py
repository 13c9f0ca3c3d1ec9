"""What only a process of its own shows: how much memory it takes, and what happens when descriptors run out."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kio.schema.errors import ErrorCode

from ottla.node.run import bounded_by_descriptors
from ottla.wire import KafkaConnection
from tests.badinput.node import TIMEOUT, RawClient, batch, framed
from tests.badinput.process import NodeProcess, node_process

MIB = 1024 * 1024


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[NodeProcess]:
    # Small common limits, so that a test shows in seconds what would otherwise need gigabytes.
    async with node_process(tmp_path, config='"queued.max.request.bytes" = 67108864') as started:
        yield started


@pytest.fixture
async def witness(process: NodeProcess) -> AsyncIterator[KafkaConnection]:
    client = await KafkaConnection.open("127.0.0.1", process.port, client_id="witness", timeout=30)
    assert await create(client, "target") is ErrorCode.none
    yield client
    await client.close()


async def create(client: KafkaConnection, name: str, partitions: int = 1) -> ErrorCode:
    topic = {"name": name, "num_partitions": partitions, "replication_factor": 1}
    error: ErrorCode = (await client.call(19, 7, {"topics": [topic], "timeout": 30_000})).topics[0].error_code
    return error


async def produce(client: KafkaConnection, records: bytes) -> None:
    rows = [{"name": "target", "partition_data": [{"index": 0, "records": records}]}]
    answer = await client.call(0, 8, {"acks": -1, "timeout": 5000, "topic_data": rows})
    assert answer.responses[0].partition_responses[0].error_code is ErrorCode.none


def header(key: int, version: int) -> bytes:
    return struct.pack(">hhih", key, version, 1, -1)


def fetch(correlation_id: int, *, max_wait: int = 0, min_bytes: int = 1) -> bytes:
    """Fetch v4: whatever there is in partition 0 of `target`, up to 2 GiB."""
    return framed(
        struct.pack(">hhih", 1, 4, correlation_id, -1)
        + struct.pack(">iiiib", -1, max_wait, min_bytes, 2**31 - 1, 0)
        + struct.pack(">ih6siiqi", 1, 6, b"target", 1, 0, 0, 2**31 - 1)
    )


async def test_declared_and_half_sent_frames(process: NodeProcess, witness: KafkaConnection) -> None:
    """A hundred senders of 100 MiB each, of which they send two."""
    before = process.peak_mib
    peers = [await RawClient.open(process.port) for _ in range(100)]
    for peer in peers:
        peer.writer.write(struct.pack(">i", 100 * MIB) + bytes(2 * MIB))
    await asyncio.wait([asyncio.ensure_future(peer.writer.drain()) for peer in peers], timeout=2)
    await produce(witness, batch())
    assert process.peak_mib - before < 200
    for peer in peers:
        peer.writer.transport.abort()
    await produce(witness, batch())


async def test_huge_arrays(process: NodeProcess, witness: KafkaConnection) -> None:
    assert await create(witness, "big", 300) is ErrorCode.none
    before = process.peak_mib
    bodies = {
        "four million empty names": header(3, 1) + struct.pack(">i", 4_000_000) + bytes(8_000_000),
        "names that there are none of": header(3, 1) + struct.pack(">i", 1_000_000) + b"\0\1x" * 1_000_000,
        "two bytes a struct": header(20, 1) + struct.pack(">i", 4_000_000) + bytes(8_000_000),
        "partitions": header(2, 1) + struct.pack(">iih6si", -1, 1, 6, b"target", 600_000) + bytes(7_200_000),
    }
    for body in bodies.values():
        peer = await RawClient.open(process.port)
        await peer.send(framed(body))
        assert await peer.closed()
        peer.close()
    # A large topic, named as often as a request may name anything.
    peer = await RawClient.open(process.port)
    await peer.send(framed(header(3, 1) + struct.pack(">i", 19_000) + b"\0\3big" * 19_000))
    answer = await peer.answer()
    assert answer is not None and len(answer[1]) < 100_000
    peer.close()
    await produce(witness, batch())
    assert process.peak_mib - before < 100


@pytest.mark.parametrize("max_wait", [0, 300])
async def test_hundreds_of_large_answers_that_nobody_takes(
    process: NodeProcess, witness: KafkaConnection, max_wait: int
) -> None:
    """Requests of seventy bytes, each worth 30 MB, at once or after a wait, on connections that read nothing."""
    for _ in range(30):
        await produce(witness, batch(value=bytes(1_000_000)))
    before = process.peak_mib
    peers = [await RawClient.open(process.port) for _ in range(3)]
    asked = b"".join(fetch(i, max_wait=max_wait, min_bytes=2**31 - 1 if max_wait else 1) for i in range(500))
    for peer in peers:
        await peer.send(asked)
    answers = [await peer.answer() for peer in peers]  # all of them are at it now
    assert all(answer is not None and len(answer[1]) > 30_000_000 for answer in answers)
    await produce(witness, batch())
    # Per connection: what is being sent, and its parts on their way through the socket.
    assert process.peak_mib - before < 3 * 30 * 4
    for peer in peers:
        peer.writer.transport.abort()


async def test_a_bomb_is_not_opened(process: NodeProcess, witness: KafkaConnection) -> None:
    bomb = batch(value=bytes(200 * MIB), compression=1)
    assert len(bomb) < MIB
    before = process.peak_mib
    await produce(witness, bomb)
    peer = await RawClient.open(process.port)
    await peer.send(fetch(1))
    assert await peer.answer() is not None
    peer.close()
    assert process.peak_mib - before < 20


async def test_a_flood_of_connections_leaves_descriptors_for_the_logs(tmp_path: Path) -> None:
    async with node_process(tmp_path, descriptors=200) as process:
        witness = await KafkaConnection.open("127.0.0.1", process.port, client_id="witness", timeout=30)
        assert await create(witness, "target") is ErrorCode.none
        flood = [await RawClient.open(process.port) for _ in range(300)]
        assert await asyncio.wait_for(flood[-1].closed(), TIMEOUT)
        assert await create(witness, "another", 5) is ErrorCode.none
        await produce(witness, batch())
        for peer in flood:
            peer.close()
        assert process.alive
        assert process.log.count("connections_full") == 1
        await witness.close()


def test_clients_get_half_of_the_descriptors() -> None:
    class Config:
        def __init__(self, max_connections: int) -> None:
            self.max_connections = max_connections

        def model_copy(self, update: dict[str, int]) -> Config:
            return Config(update["max_connections"])

    def bounded(configured: int, limit: int | None) -> int:
        found: int = bounded_by_descriptors(Config(configured), limit).max_connections  # type: ignore[arg-type]
        return found

    assert bounded(10_000, None) == 10_000
    assert bounded(10_000, 1024) == 512
    assert bounded(100, 1024) == 100
    assert bounded(10, 1) == 1
