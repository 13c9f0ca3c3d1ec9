"""One run from one seed: traffic under faults, then healing, then the question whether every promise was kept."""

from __future__ import annotations

import asyncio
import dataclasses
import time
import traceback
from collections.abc import Coroutine, Mapping, Sequence
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
from ottla.simulation.plan import Plan, Report
from ottla.simulation.whims import draw_rate, draw_settings
from ottla.simulation.world import World

T = TypeVar("T")

TOPIC, PARTITIONS = "orders", 2
# Virtual seconds after the last fault within which everything has to be well again.
HEALED_S = 30.0
_CHUNK = 1 << 20


def storm(
    seed: int | str,
    *,
    nodes: int = 3,
    seconds: float = 20.0,
    kinds: Sequence[str] | None = None,
    schedule: Sequence[Fault] | None = None,
    rate: float | None = None,
    settings: Mapping[str, str] | None = None,
) -> Report:
    """Run a plan (see there for what the arguments mean). Raises Anomaly, which has the report with all that is known
    and shows the last events."""
    report, error = _attempt(
        Plan(
            seed,
            nodes,
            seconds,
            None if kinds is None else tuple(kinds),
            None if schedule is None else tuple(schedule),
            rate,
            settings,
        )
    )
    if error is not None:
        last = "\n".join(map(str, report.timeline[-80:]))
        raise Anomaly(f"seed {seed}: {report.anomaly}\n{last}", report) from error
    return report


def attempt(plan: Plan) -> Report:
    """Run a plan; whatever goes wrong is in the report."""
    return _attempt(plan)[0]


def _attempt(plan: Plan) -> tuple[Report, Exception | None]:
    began = time.process_time()
    world = World(plan.seed)
    whole = _complete(plan, world)
    run = _Storm(world, whole)
    failure: Exception | None = None
    try:
        world.run(run.go)
    except Exception as error:  # noqa: BLE001  whatever it is, it is what this run has found
        failure = error
    return run.report(failure, time.process_time() - began), failure


def _complete(plan: Plan, world: World) -> Plan:
    """With what the seed decides. Each thing has its own randomness: one that is given changes no other."""
    rng = world.rng("nemesis")
    kinds = plan.kinds if plan.kinds is not None else tuple(swarm(rng, kinds_for(plan.nodes)))
    faults = plan.schedule if plan.schedule is not None else draw(rng, kinds, plan.seconds)
    synced = needs_sync({*kinds, *(fault.kind for fault in faults)})
    settings, rate = plan.settings, plan.rate
    if settings is None:
        settings = draw_settings(world.rng("settings"), synced=synced)
    if rate is None:
        rate = draw_rate(world.rng("rate"))
    return dataclasses.replace(plan, kinds=kinds, schedule=faults, settings=settings, rate=rate)


class _Storm:
    """One run, and what can be told of it at any moment."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world = world
        self._plan = plan
        self._nemesis: Nemesis | None = None
        self._traffic: Traffic | None = None
        self._began_at = 0.0
        self._ended_at = 0.0
        self._healed_in: float | None = None

    async def go(self) -> None:
        """Raises whatever was found."""
        world, plan = self._world, self._plan
        assert plan.rate is not None and plan.schedule is not None
        try:
            async with SimulatedCluster(nodes=plan.nodes, settings=plan.settings) as cluster:
                await cluster.create_topic(TOPIC, PARTITIONS)
                invariants = Invariants(cluster)
                watching = asyncio.ensure_future(invariants.watch())
                self._nemesis = Nemesis(cluster, TOPIC, PARTITIONS)
                self._began_at = world.loop.time()
                try:
                    async with cluster.traffic(TOPIC, PARTITIONS, interval=PARTITIONS / plan.rate) as traffic:
                        self._traffic = traffic
                        await traffic.start_reading()
                        await _unless(watching, self._nemesis.play(plan.schedule, plan.seconds))
                        world.trace.note("simulation", "no more faults")
                        self._healed_in = await _unless(watching, _heal(cluster, traffic))
                        world.trace.note("simulation", "healed")
                        await _unless(watching, check_everything(cluster, traffic))
                finally:
                    watching.cancel()
                    self._ended_at = world.loop.time()
                invariants.look()
                failures = {node.id: node.failures for node in cluster.nodes.values() if node.failures}
                if world.complaints or failures:
                    raise Anomaly(f"nobody handled {world.complaints[:3]}; nodes that ended by themselves: {failures}")
        finally:
            self._ended_at = self._ended_at or world.loop.time()

    def report(self, failure: Exception | None, cpu: float) -> Report:
        world, traffic, counts = self._world, self._traffic, self._world.trace.counts
        acknowledged = 0 if traffic is None else sum(len(part.acknowledged) for part in traffic.ledger.partitions)
        failed = 0 if traffic is None else len(traffic.failed)
        return Report(
            plan=self._plan,
            anomaly=None if failure is None else _said(failure),
            trouble="" if failure is None else "".join(traceback.format_exception(failure)[-12:]),
            lasted=self._ended_at - START,
            began_at=self._began_at - START,
            cpu=cpu,
            acknowledged=acknowledged,
            failed=failed,
            operations={"ok": acknowledged, "info": failed},
            faults={} if self._nemesis is None else dict(sorted(self._nemesis.done.items())),
            elections={"controllers": counts["active_controller"], "leaders": counts["became_leader"]},
            truncations=counts["log_truncated"] + counts["log_restarted"],
            healed_in=self._healed_in,
            callbacks=world.loop.callbacks,
            fingerprint=world.trace.fingerprint,
            timeline=tuple(world.trace.happenings),
        )


def _said(failure: Exception) -> str:
    text = str(failure).strip()
    if isinstance(failure, Anomaly) and text:
        return text
    return f"{type(failure).__name__}: {text}" if text else type(failure).__name__


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
