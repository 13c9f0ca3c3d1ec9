"""A client starts nothing before it is started: no task, no connection; it can be made where there is no loop."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from ottla.client import Admin, Consumer, Producer
from ottla.cluster import free_base_port
from tests.client.fake import FakeCluster

Make = Callable[[str], Any]
CLIENTS: dict[str, Make] = {
    "consumer": lambda servers: Consumer("t", bootstrap_servers=servers),
    "classic member": lambda servers: Consumer("t", bootstrap_servers=servers, group_id="g"),
    "consumer protocol member": lambda servers: Consumer(
        "t", bootstrap_servers=servers, group_id="g", group_protocol="consumer", group_instance_id="i"
    ),
    "producer": lambda servers: Producer(bootstrap_servers=servers),
    "transactional producer": lambda servers: Producer(bootstrap_servers=servers, transactional_id="x"),
    "admin": lambda servers: Admin(bootstrap_servers=servers),
}


@pytest.mark.parametrize("name", CLIENTS)
async def test_in_a_running_loop_nothing_is_started(cluster: FakeCluster, name: str) -> None:
    before, timers = asyncio.all_tasks(), scheduled()
    client = CLIENTS[name](cluster.bootstrap)
    assert asyncio.all_tasks() == before and scheduled() == timers
    for _ in range(10):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before and not cluster.requests
    del client
    gc.collect()  # what was never started has nothing to complain of


def scheduled() -> int:
    """Callbacks and timers of the loop."""
    loop: Any = asyncio.get_running_loop()
    return len(loop._ready) + len(loop._scheduled)


@pytest.mark.parametrize("name", CLIENTS)
def test_it_can_be_made_where_there_is_no_loop_and_started_where_there_is_one(name: str) -> None:
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    cluster = FakeCluster()
    cluster.ports = {1: free_base_port(1)}
    client = CLIENTS[name](f"127.0.0.1:{cluster.ports[1]}")

    async def use() -> None:
        await cluster.start()
        cluster.create("t")
        if "member" in name:
            # The fake group coordinator lets nobody in.
            client.unsubscribe()
        async with client:
            assert len(asyncio.all_tasks()) > 1
        await cluster.stop()

    asyncio.run(use())
