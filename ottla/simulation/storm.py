"""One run from one seed: traffic under faults, then healing, then the question whether every promise was kept."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ottla.client import TopicPartition
from ottla.cluster import Verdict
from ottla.cluster.traffic import Traffic
from ottla.log import PartitionLog
from ottla.records import iter_headers
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.errors import Anomaly
from ottla.simulation.faults import Fault, draw, kinds_for, needs_sync, swarm
from ottla.simulation.invariants import Invariants
from ottla.simulation.loop import START
from ottla.simulation.nemesis import Nemesis
from ottla.simulation.world import World

T = TypeVar("T")

TOPIC, PARTITIONS = "orders", 2
# Virtual seconds after the last fault within which everything has to be well again.
HEALED_S = 30.0
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Report:
    """A run that kept every promise. `seconds` are virtual, `faults` counts by kind, `failed` are records refused."""

    seed: int | str
    seconds: float
    faults: Mapping[str, int]
    acknowledged: int
    failed: int
    healed_in: float
    callbacks: int
    fingerprint: str


def storm(
    seed: int | str,
    *,
    nodes: int = 3,
    seconds: float = 20.0,
    kinds: list[str] | None = None,
    schedule: Sequence[Fault] | None = None,
    interval: float = 0.05,
) -> Report:
    """Faults for `seconds`, one record per partition every `interval` seconds. Raises Anomaly with the last events."""
    world = World(seed)
    try:
        return world.run(lambda: _storm(world, nodes, seconds, kinds, schedule, interval))
    except Exception as error:
        last = "\n".join(map(str, list(world.trace.happenings)[-80:]))
        raise Anomaly(f"seed {seed}: {type(error).__name__}: {error}\n{last}") from error


async def _storm(
    world: World,
    nodes: int,
    seconds: float,
    kinds: list[str] | None,
    schedule: Sequence[Fault] | None,
    interval: float,
) -> Report:
    rng = world.rng("nemesis")
    chosen = kinds if kinds is not None else swarm(rng, kinds_for(nodes))
    faults = draw(rng, chosen, seconds) if schedule is None else schedule
    # Drawn before and apart, so that a part of the schedule meets the same cluster as the whole of it.
    whims = world.rng("settings")
    synced = needs_sync({*chosen, *(fault.kind for fault in faults)}) or whims.random() < 0.3
    settings = {"ottla.flush": "synced" if synced else "os"}
    async with SimulatedCluster(nodes=nodes, settings=settings) as cluster:
        await cluster.create_topic(TOPIC, PARTITIONS)
        invariants = Invariants(cluster)
        watching = asyncio.ensure_future(invariants.watch())
        nemesis = Nemesis(cluster, TOPIC, PARTITIONS)
        try:
            async with cluster.traffic(TOPIC, PARTITIONS, interval=interval) as traffic:
                await traffic.start_reading()
                await _unless(watching, nemesis.play(faults, seconds))
                healed_in = await _unless(watching, _heal(cluster, traffic))
                await _unless(watching, check_everything(cluster, traffic))
        finally:
            watching.cancel()
        invariants.look()
        failures = {node.id: node.failures for node in cluster.nodes.values() if node.failures}
        if world.complaints or failures:
            raise Anomaly(f"nobody handled {world.complaints[:3]}; nodes that ended by themselves: {failures}")
        return Report(
            seed=world.seed,
            seconds=world.loop.time() - START,
            faults=dict(sorted(nemesis.done.items())),
            acknowledged=traffic.ledger.verdict().acknowledged,
            failed=len(traffic.failed),
            healed_in=healed_in,
            callbacks=world.loop.callbacks,
            fingerprint=world.trace.fingerprint,
        )


async def _unless(watching: asyncio.Future[None], work: Coroutine[Any, Any, T]) -> T:
    """The work's result, or the anomaly that was seen meanwhile."""
    task = asyncio.ensure_future(work)
    await asyncio.wait((task, watching), return_when=asyncio.FIRST_COMPLETED)
    if watching.done():
        task.cancel()
        watching.result()
    return await task


async def _heal(cluster: SimulatedCluster, traffic: Traffic) -> float:
    """Until every node is up, every partition takes writes, and every ISR is full; returns how long it took."""
    began = cluster.world.loop.time()
    async with asyncio.timeout(HEALED_S):
        for node in cluster.nodes.values():
            if await node.stopping():
                node.start()
            await node.ready()
        for partition in range(PARTITIONS):
            await traffic.acknowledged_again(partition, began, within=HEALED_S)
        await cluster.until(lambda: cluster.full(TOPIC), "every replica is in sync", within=HEALED_S)
    return cluster.world.loop.time() - began


async def check_everything(cluster: SimulatedCluster, traffic: Traffic) -> None:
    """After healing: nothing acknowledged is lost, doubled or out of order, and the replicas are the same bytes.

    Raises Anomaly, TimeoutError (no liveness).
    """
    await traffic.stop_writing(within=HEALED_S)
    await traffic.read_everything(within=HEALED_S)
    _judge("read along", traffic.ledger.verdict())
    await cluster.until(lambda: _settled(cluster), "every high watermark is at the end", within=HEALED_S)
    replicas_are_equal(cluster, TOPIC, PARTITIONS)
    traffic.ledger.forget_reads()
    await _read_all(cluster, traffic)
    _judge("read at the end", traffic.ledger.verdict())


def _judge(when: str, verdict: Verdict) -> None:
    if not verdict.clean:
        raise Anomaly(f"{when}: {verdict}")


def _settled(cluster: SimulatedCluster) -> bool:
    for index in range(PARTITIONS):
        ends = set()
        for node_id in cluster.nodes:
            found = cluster.partition_on(node_id, TOPIC, index)
            if found is not None:
                ends |= {found.high_watermark, found.log_end_offset}
        if len(ends) != 1:
            return False
    return True


def replicas_are_equal(cluster: SimulatedCluster, topic: str, partitions: int) -> None:
    """Every replica holds the same bytes below its high watermark. Raises Anomaly."""
    for index in range(partitions):
        copies: dict[int, bytes] = {}
        for node_id in cluster.nodes:
            found = cluster.partition_on(node_id, topic, index)
            if found is not None and found.log is not None:
                copies[node_id] = _contents(found.log, found.high_watermark)
        if len(set(copies.values())) > 1:
            sizes = {node_id: len(copy) for node_id, copy in copies.items()}
            raise Anomaly(f"replicas of {topic}-{index} differ below the high watermark; bytes: {sizes}")


def _contents(log: PartitionLog, end: int) -> bytes:
    chunks, at = [], log.log_start_offset
    while at < end:
        chunk = log.read(at, _CHUNK, up_to=end)
        chunks.append(chunk)
        for _, header in iter_headers(chunk):
            at = header.next_offset
    return b"".join(chunks)


async def _read_all(cluster: SimulatedCluster, traffic: Traffic) -> None:
    """Somebody who comes late reads everything."""
    async with cluster.consumer(auto_offset_reset="earliest") as consumer:
        ends = {}
        for index in range(PARTITIONS):
            found = cluster.partition_on(cluster.leader(TOPIC, index), TOPIC, index)
            assert found is not None
            ends[TopicPartition(TOPIC, index)] = found.high_watermark
        consumer.assign(list(ends))
        async with asyncio.timeout(HEALED_S):
            while any([await consumer.position(where) < end for where, end in ends.items()]):
                for where, records in (await consumer.getmany(timeout_ms=1000)).items():
                    for record in records:
                        traffic.ledger.saw(where.partition, record.offset, int(record.value or b""))
