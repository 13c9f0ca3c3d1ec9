"""Static members that come back (KIP-345): nothing is rebalanced, unless something would be read by nobody."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

import pytest

from ottla.client import Consumer
from ottla.simulation import SimulatedCluster, run

SETTINGS = {"group.initial.rebalance.delay.ms": "0", "group.consumer.heartbeat.interval.ms": "5000"}
METADATA_AGE_S = 2.0
PROTOCOLS = pytest.mark.parametrize(
    "protocol",
    [{"partition_assignment_strategy": each} for each in ("range", "sticky", "cooperative-sticky")]
    + [{"group_protocol": "consumer"}],
    ids=lambda each: next(iter(each.values())),
)


class Group:
    """Its members by number."""

    def __init__(self, cluster: SimulatedCluster, stack: AsyncExitStack, protocol: dict[str, str]) -> None:
        age_ms = METADATA_AGE_S * 1000
        self._consumer: Callable[..., Consumer] = partial(
            cluster.consumer, group_id="g", auto_offset_reset="earliest", metadata_max_age_ms=age_ms, **protocol
        )
        self._cluster = cluster
        self._stack = stack
        self._members: dict[int, Consumer] = {}

    async def come(self, number: int, *topics: str) -> None:
        consumer = self._consumer(*topics, group_instance_id=f"static-{number}")
        self._members[number] = await self._stack.enter_async_context(consumer)

    async def go(self, number: int) -> None:
        """It keeps its place, as a static member does not leave."""
        await self._members.pop(number).stop()

    async def reads(self, *partitions: str, within: float = 30.0) -> None:
        """Until each of these has one owner."""
        wanted = sorted(partitions)
        await self._cluster.until(lambda: self._owned() == wanted, f"{wanted} are read", within=within)

    def _owned(self) -> list[str]:
        owned = (each for member in self._members.values() for each in member.assignment())
        return sorted(f"{where.topic}-{where.partition}" for where in owned)


@PROTOCOLS
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("grows", ["before", "while one is away", "afterwards"])
def test_partitions_that_are_added_get_an_owner(protocol: dict[str, str], members: int, grows: str) -> None:
    """Who leads a classic group again is told that there is nothing to assign (KIP-814), and has to look itself."""

    async def scenario() -> None:
        async with SimulatedCluster(settings=SETTINGS) as cluster, AsyncExitStack() as stack:

            async def grow() -> None:
                async with cluster.admin() as admin:
                    await admin.create_partitions({"orders": 4})

            await cluster.create_topic("orders", 2)
            group = Group(cluster, stack, protocol)
            for number in range(members):
                await group.come(number, "orders")
            await group.reads("orders-0", "orders-1")
            if grows == "before":
                await grow()
            for number in range(members):
                await group.go(number)
                if grows == "while one is away" and number == 0:
                    await grow()
                await group.come(number, "orders")
            if grows == "afterwards":
                await group.reads("orders-0", "orders-1")
                await cluster.advance(3 * METADATA_AGE_S)
                await grow()
            await group.reads(*(f"orders-{index}" for index in range(4)), within=10.0)

    run(scenario, 1)


@PROTOCOLS
@pytest.mark.parametrize("who", [0, 1])
def test_what_one_comes_back_to_read_gets_an_owner(protocol: dict[str, str], who: int) -> None:
    """A new release of a program reads one more topic, and the next one does not any more (KAFKA-12759)."""

    async def scenario() -> None:
        async with SimulatedCluster(settings=SETTINGS) as cluster, AsyncExitStack() as stack:
            await cluster.create_topic("orders", 2)
            await cluster.create_topic("refunds", 1)
            group = Group(cluster, stack, protocol)
            for number in range(2):
                await group.come(number, "orders")
            await group.reads("orders-0", "orders-1")
            await group.go(who)
            await group.come(who, "orders", "refunds")
            await group.reads("orders-0", "orders-1", "refunds-0", within=10.0)
            await group.go(who)
            await group.come(who, "orders")
            await group.reads("orders-0", "orders-1", within=10.0)

    run(scenario, 1)
