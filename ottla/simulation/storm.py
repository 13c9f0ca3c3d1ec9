"""One run from one seed: traffic under faults, then healing, then the question whether every promise was kept."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from ottla.simulation import besides
from ottla.simulation.checker import Progress, check, judge, progress
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.errors import Anomaly, SimulationError
from ottla.simulation.faults import Fault, draw, kinds_for, moves_replicas, needs_sync, swarm
from ottla.simulation.history import Entry
from ottla.simulation.loop import START
from ottla.simulation.nemesis import Nemesis
from ottla.simulation.node import SimulatedNode
from ottla.simulation.plan import Plan, Report
from ottla.simulation.replicas import nothing_moves, nothing_too_much, replicas_are_equal, settled
from ottla.simulation.transactions import TransactionWorkload
from ottla.simulation.upkeep import RESTART_S, kept_up
from ottla.simulation.whims import (
    NEARBY,
    draw_cleaning,
    draw_rate,
    draw_readers,
    draw_repairs,
    draw_retention,
    draw_settings,
)
from ottla.simulation.workload import Workload
from ottla.simulation.world import World

TOPIC, PARTITIONS = "orders", 2
# So that there is something to share.
PARTITIONS_FOR_GROUPS = 4
# Virtual seconds after the last fault within which everything has to be well again.
HEALED_S = 30.0
# Virtual seconds of undisturbed work before the last check; after a fault ends, its effects may last so long.
CALM_S = 2.0
AFTERMATH_S = 5.0


def storm(
    seed: int | str,
    *,
    nodes: int = 3,
    seconds: float = 20.0,
    kinds: Sequence[str] | None = None,
    schedule: Sequence[Fault] | None = None,
    rate: float | None = None,
    settings: Mapping[str, str] | None = None,
    workload: str | None = None,
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
            workload,
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
    kinds = plan.kinds
    if kinds is None:
        kinds = tuple(swarm(rng, [*kinds_for(plan.nodes), *besides.KINDS.get(plan.workload, ())]))
    faults = plan.schedule if plan.schedule is not None else draw(rng, kinds, plan.seconds)
    synced = needs_sync({*kinds, *(fault.kind for fault in faults)})
    settings, rate = plan.settings, plan.rate
    if settings is None:
        settings = draw_settings(world.rng("settings"), synced=synced) | draw_readers(world.rng("readers"))
        if moves_replicas(kinds):
            settings |= draw_repairs(world.rng("repairs"))
    if plan.workload in ("groups", "transactions", "tables"):
        settings = {**draw_cleaning(world.rng("cleaning")), **settings}
    if plan.workload == "retention":
        settings = {**draw_retention(world.rng("retention")), **settings}
    settings = {**besides.SETTINGS.get(plan.workload, {}), **settings}
    if rate is None:
        rate = draw_rate(world.rng("rate"))
    return dataclasses.replace(plan, kinds=kinds, schedule=faults, settings=settings, rate=rate)


class _Storm:
    """One run, and what can be told of it at any moment."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world = world
        self._plan = plan
        self._nemesis: Nemesis | None = None
        self._workload: Workload | None = None
        self._besides: besides.Besides | None = None
        self._progress = Progress(0, 0)
        self._began_at = 0.0
        self._ended_at = 0.0
        self._healed_in: float | None = None
        self._voter_changes = 0

    async def go(self) -> None:
        """Raises whatever was found."""
        world, plan = self._world, self._plan
        assert plan.rate is not None and plan.schedule is not None
        try:
            settings = plan.settings or {}
            async with SimulatedCluster(nodes=plan.nodes, settings=settings, racks=NEARBY in settings) as cluster:
                partitions = PARTITIONS_FOR_GROUPS if plan.workload == "groups" else PARTITIONS
                await cluster.create_topic(TOPIC, partitions)
                self._nemesis = Nemesis(cluster, TOPIC, partitions, besides.PLACES.get(plan.workload, ()))
                self._began_at = world.loop.time()
                try:
                    async with AsyncExitStack() as stack:
                        workload = Workload(cluster, TOPIC, partitions, rate=plan.rate)
                        self._workload = await stack.enter_async_context(workload)
                        self._besides = await besides.begin(plan.workload, cluster, stack, TOPIC, partitions)
                        await self._nemesis.play(plan.schedule, plan.seconds)
                        world.trace.note("simulation", "no more faults")
                        await stack.enter_async_context(kept_up(cluster))
                        self._healed_in = await _heal(cluster, workload)
                        world.trace.note("simulation", "healed")
                        self._progress = await self._calm(workload)
                        await check_everything(cluster, workload, partitions)
                        await besides.check(self._besides, cluster, within=HEALED_S)
                finally:
                    self._ended_at = world.loop.time()
                    self._voter_changes = cluster.invariants.raft.voter_changes
                everybody = (*cluster.nodes.values(), *cluster.former)
                failures = {node.id: node.failures for node in everybody if node.failures}
                if world.complaints or failures:
                    raise Anomaly(f"nobody handled {world.complaints[:3]}; nodes that ended by themselves: {failures}")
        finally:
            self._ended_at = self._ended_at or world.loop.time()

    async def _calm(self, workload: Workload) -> Progress:
        """Some undisturbed work; then how much of all such work was done."""
        healed, plan = self._world.loop.time(), self._plan
        await asyncio.sleep(CALM_S)
        windows = [(self._began_at + plan.seconds, healed)]
        for fault in plan.schedule or ():
            begins = self._began_at + fault.at
            windows.append((begins, begins + fault.lasts + AFTERMATH_S))
        # What a fault does ends with the faults; after that all is healed.
        return progress(workload.history, [(begin, min(end, healed)) for begin, end in windows])

    def report(self, failure: Exception | None, cpu: float) -> Report:
        world, workload, counts = self._world, self._workload, self._world.trace.counts
        operations = {} if workload is None else workload.history.counts()
        return Report(
            plan=self._plan,
            anomaly=None if failure is None else _said(failure),
            trouble="" if failure is None else "".join(traceback.format_exception(failure)[-12:]),
            lasted=self._ended_at - START,
            began_at=self._began_at - START,
            cpu=cpu,
            acknowledged=0 if workload is None else workload.acknowledged,
            failed=operations.get("fail", 0),
            operations=operations,
            conclusive=self._progress.conclusive,
            faults={} if self._nemesis is None else dict(sorted(self._nemesis.done.items())),
            elections={"controllers": counts["active_controller"], "leaders": counts["became_leader"]},
            voter_changes=self._voter_changes,
            work_besides={} if self._besides is None else self._besides.counts,
            truncations=counts["log_truncated"] + counts["log_restarted"],
            healed_in=self._healed_in,
            callbacks=world.loop.callbacks,
            fingerprint=world.trace.fingerprint,
            timeline=tuple(world.trace.happenings),
            history=self._history(),
        )

    def _history(self) -> tuple[Entry, ...]:
        """Where there are transactions, theirs."""
        told = self._besides if isinstance(self._besides, TransactionWorkload) else self._workload
        return () if told is None else tuple(told.history)


def _said(failure: Exception) -> str:
    text = str(failure).strip()
    if isinstance(failure, Anomaly) and text:
        return text
    return f"{type(failure).__name__}: {text}" if text else type(failure).__name__


async def _heal(cluster: SimulatedCluster, workload: Workload) -> float:
    """Until every node is up, every partition takes writes, and every ISR is full; returns how long it took."""
    began = cluster.world.loop.time()
    async with asyncio.timeout(HEALED_S):
        # A quorum may need a node that is still stopping, so nobody is waited for before all have been started.
        for node in cluster.nodes.values():
            if await node.stopping():
                node.start()
        for node in cluster.nodes.values():
            await _is_ready(node)
        await workload.write_everywhere(within=HEALED_S)
        await cluster.until(lambda: cluster.full(TOPIC), "every replica is in sync", within=HEALED_S)
        await cluster.until(lambda: nothing_moves(cluster), "every replica is where it shall be", within=HEALED_S)
        await cluster.until(cluster.electorate.is_settled, "all know the same voters", within=HEALED_S)
    return cluster.world.loop.time() - began


async def _is_ready(node: SimulatedNode) -> None:
    while True:
        try:
            return await node.ready()
        except SimulationError:
            # What failed on its disk before that was mended may end it only now; then it is started again.
            if not node.excused:
                raise
        await asyncio.sleep(RESTART_S)


async def check_everything(cluster: SimulatedCluster, workload: Workload, partitions: int) -> None:
    """After healing: what clients were told fits together, and the replicas are the same bytes.

    Raises Anomaly, TimeoutError (no liveness).
    """
    await workload.stop(within=HEALED_S)
    try:
        done = functools.partial(settled, cluster, TOPIC, partitions)
        await cluster.until(done, "every high watermark is at the end", within=HEALED_S)
        await workload.read_everything(within=HEALED_S)
        # Reading may have brought damage to light; that, too, has to be mended in time.
        await cluster.until(lambda: cluster.full(TOPIC), "every replica is in sync again", within=HEALED_S)
        await cluster.until(done, "every high watermark is at the end again", within=HEALED_S)
    except TimeoutError:
        judge(check(workload.history, unfinished=True))
        raise
    judge(check(workload.history))
    replicas_are_equal(cluster, TOPIC, partitions)
    nothing_too_much(cluster)
