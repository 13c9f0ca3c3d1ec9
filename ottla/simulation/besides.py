"""Who works beside the usual clients of a storm, and the question whether what they were promised was kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

from ottla.simulation import groups, passing, retention, tables, transactions, unclean
from ottla.simulation.bursts import BurstWorkload
from ottla.simulation.checker import judge
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.errors import Anomaly
from ottla.simulation.groups import GroupWorkload, GrowingWorkload, check_groups, growing
from ottla.simulation.passing import PassingWorkload
from ottla.simulation.replicas import replicas_are_equal, settled
from ottla.simulation.retention import RetentionWorkload
from ottla.simulation.tables import TableWorkload, tables_are_equal, tables_settled
from ottla.simulation.transactions import TransactionWorkload
from ottla.simulation.unclean import UncleanWorkload

Besides = GroupWorkload | TransactionWorkload | BurstWorkload | PassingWorkload

SETTINGS: Final[Mapping[str | None, Mapping[str, str]]] = {
    "groups": groups.SETTINGS,
    "growth": groups.SETTINGS,
    "transactions": transactions.SETTINGS,
    "topics": passing.SETTINGS,
    "unclean": unclean.SETTINGS,
}
"""What all nodes are set to for them, if a plan does not say otherwise."""

PLACES: Final[Mapping[str | None, Sequence[tuple[str, int]]]] = {
    "transactions": transactions.COORDINATING,
    "tables": tables.PARTITIONS,
    "retention": retention.PARTITIONS,
    "topics": [(name, 0) for name in passing.NAMES],
    "growth": [(growing.TOPIC, 0), (growing.TOPIC, 1)],
    "unclean": unclean.PARTITIONS,
}
"""Partitions besides the usual ones whose leaders are worth a fault."""

_OF_THEIR_OWN: Final[Mapping[str, Callable[[SimulatedCluster], BurstWorkload | PassingWorkload | GrowingWorkload]]] = {
    "tables": TableWorkload,
    "retention": RetentionWorkload,
    "topics": PassingWorkload,
    "growth": GrowingWorkload,
    "unclean": UncleanWorkload,
}

KINDS: Final[Mapping[str | None, Sequence[str]]] = {"transactions": transactions.KINDS}
"""Faults that only they make worth while."""

_SHOWN = 20


async def begin(
    workload: str | None, cluster: SimulatedCluster, stack: AsyncExitStack, topic: str, partitions: int
) -> Besides | None:
    """They work until `stack` is left, or `check` was called. Groups read `topic`; the others have their own."""
    if workload == "groups":
        return await stack.enter_async_context(GroupWorkload(cluster, topic, partitions))
    if workload == "transactions":
        await TransactionWorkload.create_topics(cluster)
        return await stack.enter_async_context(TransactionWorkload(cluster))
    if workload is None:
        return None
    return await stack.enter_async_context(_OF_THEIR_OWN[workload](cluster))


async def check(besides: Besides | None, cluster: SimulatedCluster, *, within: float) -> None:
    """After healing: they end what they do, and are judged; so are all compacted topics, also those of coordinators.

    Raises Anomaly, TimeoutError (no liveness).
    """
    if isinstance(besides, GroupWorkload):
        await _check_groups(cluster, besides, within)
    elif isinstance(besides, TransactionWorkload):
        await _check_transactions(cluster, besides, within)
    elif besides is not None:
        await besides.finish(within=within)
        if besides.findings:
            raise Anomaly("\n".join(besides.findings[:_SHOWN]))
    if isinstance(besides, BurstWorkload):
        await _check_copies(cluster, besides, within)
    done = functools.partial(tables_settled, cluster)
    await cluster.until(done, "every replica of a compacted topic has what is committed", within=within)
    tables_are_equal(cluster)


async def _check_groups(cluster: SimulatedCluster, besides: GroupWorkload, within: float) -> None:
    await besides.rest(within=within)
    topic, partitions = besides.topic, besides.partitions
    await cluster.until(lambda: cluster.full(topic), f"every replica of {topic} is in sync", within=within)
    done = functools.partial(settled, cluster, topic, partitions)
    await cluster.until(done, f"every high watermark of {topic} is at the end", within=within)
    replicas_are_equal(cluster, topic, partitions)
    ends = {}
    for index in range(partitions):
        found = cluster.partition_on(cluster.leader(topic, index), topic, index)
        assert found is not None
        ends[topic, index] = found.log_end_offset
    try:
        await besides.finish(ends, within=within)
    except TimeoutError:
        judge(check_groups(besides.told, {}))
        raise
    judge(besides.findings(ends))


async def _check_transactions(cluster: SimulatedCluster, besides: TransactionWorkload, within: float) -> None:
    try:
        await besides.finish(within=within)
    except TimeoutError:
        judge(besides.findings(finished=False))
        raise
    judge(besides.findings(finished=True))
    for topic in transactions.TOPICS:
        done = functools.partial(settled, cluster, topic, transactions.PARTITIONS)
        await cluster.until(done, f"every high watermark of {topic} is at the end", within=within)
        replicas_are_equal(cluster, topic, transactions.PARTITIONS)


async def _check_copies(cluster: SimulatedCluster, besides: BurstWorkload, within: float) -> None:
    topic, partitions = besides.partitions[0].topic, len(besides.partitions)
    done = functools.partial(settled, cluster, topic, partitions)
    await cluster.until(done, f"every high watermark of {topic} is at the end", within=within)
    if isinstance(besides, RetentionWorkload | UncleanWorkload):
        replicas_are_equal(cluster, topic, partitions)
