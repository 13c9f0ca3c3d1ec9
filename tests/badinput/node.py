"""A whole node in this event loop, its log lines, and the oracle: whatever is sent to it, others do not notice."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kio.schema.errors import ErrorCode

from ottla.log import GroupCommit, OsDisk
from ottla.node.config import NodeConfig
from ottla.node.node import Node, Seams
from ottla.node.sources import Given
from ottla.records import Record, encode_batch
from ottla.wire import KafkaConnection, KafkaServer, Limits

CLUSTER = "badinput"
SECRET = b"the secret of the bad input tests"
TIMEOUT = 10.0


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def batch(count: int = 1, *, value: bytes = b"v", timestamp: int | None = None, **kwargs: Any) -> bytes:
    at = now_ms() if timestamp is None else timestamp
    return encode_batch([Record(i, at, b"k", value, ()) for i in range(count)], **kwargs)


async def eventually(condition: Callable[[], object]) -> None:
    """Until the condition holds; looks once in a turn of the loop."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


def framed(frame: bytes) -> bytes:
    return struct.pack(">i", len(frame)) + frame


class RawClient:
    """A connection that sends whatever it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> RawClient:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, data: bytes) -> None:
        """Raises ConnectionError only if the server has closed already, which is as good an answer as any."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            return

    async def answer(self) -> tuple[int, bytes] | None:
        """(correlation id, body) of the next answer, header tags included; None when the connection is closed."""
        try:
            async with asyncio.timeout(TIMEOUT):
                (size,) = struct.unpack(">i", await self._reader.readexactly(4))
                frame = await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return struct.unpack_from(">i", frame)[0], frame[4:]

    async def closed(self) -> bool:
        """Whether the server closes without another word."""
        return await self.answer() is None

    def close(self) -> None:
        self.writer.close()


class Running:
    """A started node, with a topic `target` to aim at and one client (`witness`) that goes on working."""

    def __init__(self, node: Node, directory: Path, controller_port: int, lines: list[Any]) -> None:
        self.node = node
        self.directory = directory
        self.controller_port = controller_port
        self.lines = lines
        assert node.broker is not None and node.broker.server is not None and node.broker.replicas is not None
        self.server = node.broker.server
        self.replicas = node.broker.replicas
        self.port: int = self.server._servers[0].sockets[0].getsockname()[1]
        self._open: list[KafkaConnection | RawClient] = []
        self._servers: list[KafkaServer] = []
        self._witnessed = itertools.count()
        self.witness: KafkaConnection

    @property
    def broker(self) -> Any:
        assert self.node.broker is not None
        return self.node.broker._broker

    async def prepare(self) -> None:
        self.witness = await self.client()
        for name in ("target", "witness"):
            assert await self.create(name) is ErrorCode.none

    async def close(self) -> None:
        for each in self._open:
            if isinstance(each, KafkaConnection):
                await each.close()
            else:
                each.close()
        for server in self._servers:
            await server.stop()
        await self.node.stop()

    # Connections

    async def client(self, port: int | None = None) -> KafkaConnection:
        opened = await KafkaConnection.open("127.0.0.1", port or self.port, client_id="test", timeout=TIMEOUT)
        self._open.append(opened)
        return opened

    async def raw(self, port: int | None = None) -> RawClient:
        opened = await RawClient.open(port or self.port)
        self._open.append(opened)
        return opened

    async def listen(self, limits: Limits) -> tuple[int, KafkaServer]:
        """One more listener of the same broker, with other limits."""
        server = KafkaServer(self.broker.registry, limits=limits)
        self._servers.append(server)
        return await server.start(asyncio.get_running_loop(), "127.0.0.1", 0, "PLAINTEXT"), server

    # Well-behaved requests

    async def create(self, name: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> ErrorCode:
        topic = {"name": name, "num_partitions": partitions, "replication_factor": 1}
        topic["configs"] = [{"name": key, "value": value} for key, value in (configs or {}).items()]
        answer = await self.witness.call(19, 7, {"topics": [topic], "timeout": 5000})
        error: ErrorCode = answer.topics[0].error_code
        return error

    def topic_id(self, name: str) -> Any:
        assert self.node.quorum is not None
        return self.node.quorum.view.image.topics[name].id

    async def produce(
        self,
        records: bytes | None,
        *,
        topic: str = "target",
        index: int = 0,
        version: int = 12,
        acks: int = -1,
        **more: Any,
    ) -> Any:
        """The one partition's answer."""
        client = more.pop("client", self.witness)
        rows = [{"index": index, "records": records}]
        values = {"acks": acks, "timeout": 1000, "topic_data": [{"name": topic, "partition_data": rows}], **more}
        answer = await client.call(0, version, values)
        return answer.responses[0].partition_responses[0]

    def fetch_values(self, rows: Mapping[str, Sequence[Mapping[str, Any]]], version: int = 17, **more: Any) -> Any:
        topics = []
        for name, partitions in rows.items():
            topic: dict[str, Any] = {"partitions": [{"partition_max_bytes": 1 << 20, **row} for row in partitions]}
            topic["topic"] = name
            if version >= 13:
                topic["topic_id"] = self.topic_id(name)
            topics.append(topic)
        return {"max_wait": 0, "min_bytes": 1, "max_bytes": 1 << 20, "session_epoch": -1, "topics": topics, **more}

    async def fetch(self, offset: int = 0, *, topic: str = "target", version: int = 17, **more: Any) -> Any:
        """The one partition's answer, or the error of the whole."""
        client = more.pop("client", self.witness)
        row = {"partition": more.pop("index", 0), "fetch_offset": offset, **more.pop("row", {})}
        answer = await client.call(1, version, self.fetch_values({topic: [row]}, version, **more))
        return answer.responses[0].partitions[0] if answer.responses else answer.error_code

    # The oracle

    def log_bytes(self, topic: str = "target") -> str:
        digest = hashlib.sha256()
        for path in sorted(self.directory.glob(f"{topic}-*/*.log")):
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()

    async def work(self) -> None:
        """The witness produces a record and reads it again, over the connection that it has had all the time."""
        value = b"witness %d" % next(self._witnessed)
        produced = await self.produce(batch(value=value), topic="witness")
        assert produced.error_code is ErrorCode.none
        fetched = await self.fetch(produced.base_offset, topic="witness")
        assert fetched.error_code is ErrorCode.none and value in bytes(fetched.records)

    @property
    def dropped(self) -> list[Any]:
        return [line for line in self.lines if line["event"] == "connection_dropped"]

    @property
    def complaints(self) -> list[Any]:
        """Lines that say that we did something wrong."""
        return [line for line in self.lines if line["log_level"] in ("error", "critical")]

    @asynccontextmanager
    async def unharmed(self, *, lines: int | None = 0, log: bool = True) -> AsyncIterator[None]:
        """What happens inside makes `lines` lines of dropped connections, writes nothing, and hurts nobody else."""
        await self.work()
        before, dropped, failures = self.log_bytes(), len(self.dropped), self.server.stats.failures
        yield
        await self.work()
        if log:
            assert self.log_bytes() == before, "the log has changed"
        assert self.server.stats.failures == failures, self.complaints
        assert self.complaints == []
        if lines is not None:
            assert len(self.dropped) - dropped == lines, self.lines[-5:]
        assert self.node.failed is not None and not self.node.failed.done()


@asynccontextmanager
async def running(
    directory: Path, lines: list[Any], *, reachable: bool = False, **settings: str
) -> AsyncIterator[Running]:
    """`reachable`: the node knows its own port, and so can ask itself as it would another broker."""
    with socket.socket() as probe, socket.socket() as other:
        probe.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        port, client_port = probe.getsockname()[1], other.getsockname()[1] if reachable else 0
    values = {
        "node.id": "1",
        "cluster.id": CLUSTER,
        "controller.quorum.voters": f"1@127.0.0.1:{port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{client_port},CONTROLLER://127.0.0.1:{port}",
        "ottla.cluster.secret": SECRET.decode(),
        "log.dirs": str(directory),
        "auto.create.topics.enable": "false",
        **settings,
    }
    config = NodeConfig.parse({name: Given(text, "test") for name, text in values.items()})
    rng = random.Random(1)
    with ThreadPoolExecutor(2) as executor:
        node = Node(
            config, Seams(OsDisk(), now_ms, time.perf_counter, rng, lambda: rng.randbytes(32)), GroupCommit(executor)
        )
        await node.start()
        found = Running(node, directory, port, lines)
        try:
            await found.prepare()
            yield found
        finally:
            await found.close()
