"""The same things done to three nodes of Apache Kafka and to three of Ottla, in turns, by librdkafka.

Run by hand: ``python benchmarks/beside_kafka.py JARS [RECORDS] [ROUNDS]``, where JARS is a directory with Kafka's jars
(see ``kafka_nodes.py``; needs java). Both write to the page cache and answer acks=all when the ISR has the records,
with their default settings and min.insync.replicas 2. Every round starts both on empty directories.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from common import cpu_seconds, load, megabytes, memory_mb, show
from confluent_kafka import KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from kafka_nodes import KafkaNodes

from ottla.cluster import Supervisor, free_base_port, prepare

PARTITIONS = 4
KILLS = 2
INTERVAL_S = 0.005
PATIENCE_S = 60.0
LOOK_S = 0.05


class Nodes(Protocol):
    """Three nodes of either kind."""

    name: str

    @property
    def bootstrap(self) -> str: ...

    @property
    def pids(self) -> dict[int, int]: ...

    async def start(self, *nodes: int) -> None: ...

    async def kill(self, node: int) -> None: ...

    async def stop(self) -> None: ...


class OttlaNodes:
    """Nodes under a supervisor."""

    name = "Ottla"

    def __init__(self, directory: Path, base_port: int) -> None:
        settings: dict[str, str | int | bool] = {"min.insync.replicas": 2}
        layout = prepare(directory, nodes=3, base_port=base_port, settings=settings)
        self._supervisor = Supervisor(layout)
        self.bootstrap = layout.bootstrap

    @property
    def pids(self) -> dict[int, int]:
        found = {number: node.pid for number, node in self._supervisor.nodes.items()}
        return {number: pid for number, pid in found.items() if pid is not None}

    async def start(self, *nodes: int) -> None:
        if not nodes:
            await self._supervisor.start()
        for node in nodes:
            await self._supervisor.node(node).start()

    async def kill(self, node: int) -> None:
        self._supervisor.node(node).kill()
        await self._supervisor.node(node).gone()

    async def stop(self) -> None:
        await self._supervisor.stop()


async def main(jars: Path, records: int, rounds: int) -> None:
    """Measure and print."""
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for kind in ("Kafka", "Ottla"):
            with tempfile.TemporaryDirectory(prefix="beside-kafka-") as directory:
                nodes = await _make(kind, jars, Path(directory))
                found.setdefault(kind, []).append(await _measure(nodes, records))
    rows = []
    for what in found["Kafka"][0]:
        kafka, ottla = (statistics.median(each[what] for each in found[kind]) for kind in ("Kafka", "Ottla"))
        rows.append([what, f"{kafka:,.1f}", f"{ottla:,.1f}", f"{ottla / kafka:.2f}"])
    show(
        f"Three nodes on one machine, RF 3, acks=all, {records:,} records of 1 KiB; medians of {rounds}",
        ["", "Kafka", "Ottla", "Ottla / Kafka"],
        rows,
    )


async def _make(kind: str, jars: Path, directory: Path) -> Nodes:
    if kind == "Ottla":
        return OttlaNodes(directory, free_base_port(3))
    nodes = KafkaNodes(jars, directory, free_base_port(3))
    await nodes.format()
    return nodes


async def _measure(nodes: Nodes, records: int) -> dict[str, float]:
    began = time.perf_counter()
    await nodes.start()
    try:
        await _topic(nodes, "load")
        await load(nodes.bootstrap, "load", 1_000, "all")
        ready = time.perf_counter() - began
        await load(nodes.bootstrap, "load", records, "all")  # a virtual machine has to warm up
        cpu = _cpu(nodes)
        written = [await load(nodes.bootstrap, "load", records, "all") for _ in range(3)]
        cpu = _cpu(nodes) - cpu
        read = await load(nodes.bootstrap, "load", records, "all", "--read")
        await load(nodes.bootstrap, "load", 5_000, "all", "--latency")
        slow = await load(nodes.bootstrap, "load", 5_000, "all", "--latency")
        memory = [memory_mb(pid)[1] for pid in nodes.pids.values()]
        silences = [await _kill(nodes, "load") for _ in range(KILLS)]
    finally:
        await nodes.stop()
    return {
        "from nothing to the first acknowledged records, s": ready,
        "written, MB/s": statistics.median(map(megabytes, written)),
        "all nodes' CPU, us a record written": cpu / sum(each["records"] for each in written) * 1e6,
        "read, MB/s": megabytes(read),
        "p50 at 1,000 records/s, ms": slow["p50_ms"],
        "p99 at 1,000 records/s, ms": slow["p99_ms"],
        "memory of a node after that, MB": statistics.mean(memory),
        "longest silence after kill -9 of a leader, ms": statistics.median(silences) * 1000,
    }


def _cpu(nodes: Nodes) -> float:
    return sum(map(cpu_seconds, nodes.pids.values()))


async def _topic(nodes: Nodes, name: str) -> None:
    """Make it as soon as three brokers are there to take it."""
    admin = AdminClient({"bootstrap.servers": nodes.bootstrap, "log_level": 0})

    def made() -> bool:
        try:
            admin.create_topics([NewTopic(name, PARTITIONS, 3)], request_timeout=5)[name].result(10)
        except KafkaException:
            return False
        return True

    await _until(made)
    await _until(lambda: _isr_is_full(admin, name))


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await asyncio.to_thread(done):
            await asyncio.sleep(LOOK_S)


def _isr_is_full(admin: AdminClient, topic: str) -> bool:
    try:
        partitions = admin.list_topics(topic, timeout=5).topics[topic].partitions
    except KafkaException:
        return False
    return len(partitions) == PARTITIONS and all(len(each.isrs) == 3 for each in partitions.values())


async def _kill(nodes: Nodes, topic: str) -> float:
    """Kill the leader of partition 0 while all partitions are written to, and let it come back. Returns the longest
    time (s) without an acknowledgement on one of its partitions, from the kill on."""
    admin = AdminClient({"bootstrap.servers": nodes.bootstrap, "log_level": 0})
    leaders = {
        index: each.leader for index, each in admin.list_topics(topic, timeout=10).topics[topic].partitions.items()
    }
    writing = _Writing(nodes.bootstrap, topic)
    task = asyncio.create_task(writing.run())
    await _until(lambda: all(len(times) > 100 for times in writing.acknowledged.values()))
    killed = time.perf_counter()
    await nodes.kill(leaders[0])
    hit = [index for index, leader in leaders.items() if leader == leaders[0]]
    await _until(lambda: all(writing.since(index, killed) > 100 for index in hit))
    writing.stop()
    await task
    await nodes.start(leaders[0])
    await _until(lambda: _isr_is_full(admin, topic))
    return max(writing.silence(index, killed) for index in hit)


class _Writing:
    """A record to every partition each 5 ms, and when each of them was acknowledged."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.acknowledged: dict[int, list[float]] = {index: [] for index in range(PARTITIONS)}
        self._topic = topic
        self._going_on = True
        self._producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 0, "log_level": 0})

    async def run(self) -> None:
        while self._going_on:
            for index in self.acknowledged:
                self._producer.produce(self._topic, b"x", partition=index, on_delivery=self._delivered)
            self._producer.poll(0)
            await asyncio.sleep(INTERVAL_S)
        if await asyncio.to_thread(self._producer.flush, PATIENCE_S):
            raise RuntimeError("not everything was acknowledged")

    def stop(self) -> None:
        self._going_on = False

    def _delivered(self, error: object, message: Message) -> None:
        partition = message.partition()
        if error is None and partition is not None:
            self.acknowledged[partition].append(time.perf_counter())

    def since(self, index: int, moment: float) -> int:
        return sum(at > moment for at in self.acknowledged[index])

    def silence(self, index: int, moment: float) -> float:
        times = [moment, *(at for at in self.acknowledged[index] if at > moment)]
        return max(later - earlier for earlier, later in itertools.pairwise(times))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    numbers = [int(word) for word in sys.argv[2:]]
    asyncio.run(main(Path(sys.argv[1]), *(numbers + [300_000, 3][len(numbers) :])))
