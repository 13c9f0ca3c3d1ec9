"""A topic gets more partitions under a group: who reads them, whoever restarts meanwhile."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest

from ottla.client import Consumer
from ottla.simulation import SimulatedCluster, run

SETTINGS = {"group.initial.rebalance.delay.ms": "0", "group.consumer.heartbeat.interval.ms": "5000"}
METADATA_AGE_S = 2.0


def follower(cluster: SimulatedCluster, number: int, **options: Any) -> Consumer:
    return cluster.consumer(
        "orders",
        group_id="g",
        group_instance_id=f"static-{number}",
        auto_offset_reset="earliest",
        metadata_max_age_ms=METADATA_AGE_S * 1000,
        **options,
    )


@pytest.mark.parametrize("grows", ["before", "while it is away", "afterwards"])
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize(
    "options",
    [{"partition_assignment_strategy": each} for each in ("range", "sticky", "cooperative-sticky")]
    + [{"group_protocol": "consumer"}],
    ids=lambda each: next(iter(each.values())),
)
def test_a_static_member_that_comes_back_gets_them(options: dict[str, str], members: int, grows: str):
    """The leader of a classic group is told that there is nothing to assign when it comes back (KIP-814)."""

    async def scenario() -> None:
        async with SimulatedCluster(settings=SETTINGS) as cluster, AsyncExitStack() as stack:
            await cluster.create_topic("orders", 2)
            group = [await stack.enter_async_context(follower(cluster, number, **options)) for number in range(members)]

            def owned() -> list[int]:
                return sorted(where.partition for each in group for where in each.assignment())

            async def grow() -> None:
                async with cluster.admin() as admin:
                    await admin.create_partitions({"orders": 4})

            await cluster.until(lambda: owned() == [0, 1], "both have an owner", within=30)
            if grows == "before":
                await grow()
            for number in range(members):
                before = group[number]
                await before.stop()
                if grows == "while it is away" and number == 0:
                    await grow()
                group[number] = await stack.enter_async_context(follower(cluster, number, **options))
            await cluster.until(lambda: {0, 1} <= set(owned()), "both have an owner again", within=30)
            if grows == "afterwards":
                await cluster.advance(3 * METADATA_AGE_S)
                await grow()
            await cluster.until(lambda: owned() == [0, 1, 2, 3], "all have an owner", within=4 * METADATA_AGE_S)

    run(scenario, 1)
