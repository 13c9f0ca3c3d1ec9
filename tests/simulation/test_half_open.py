"""A leader that loses power resets no connection: its clients must not wait for it once another one leads."""

import asyncio

import pytest

from ottla.simulation import SimulatedCluster, leader_of, run


@pytest.mark.parametrize("seed", range(3))
def test_clients_leave_a_silent_leader_soon_after_there_is_another_one(seed):
    """A second without an answer makes them ask the others, and what was in flight goes to the new leader (the same
    sequence, so it is there once)."""

    async def scenario():
        loop = asyncio.get_running_loop()
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("orders")
            async with (
                cluster.producer(linger_ms=0) as producer,
                cluster.consumer("orders", auto_offset_reset="earliest") as consumer,
            ):
                await producer.send_and_wait("orders", b"before")
                assert (await consumer.getone()).value == b"before"
                receive = asyncio.ensure_future(consumer.getone())
                await cluster.advance(0.1)
                dead = cluster.power_off(leader_of("orders"))
                send = asyncio.ensure_future(producer.send_and_wait("orders", b"after"))

                def replaced():
                    others = [cluster.partition_on(node_id, "orders") for node_id in cluster.nodes if node_id != dead]
                    return any(other is not None and other.is_leader for other in others)

                await cluster.until(replaced, "another one leads")
                elected = loop.time()
                await send
                produced = loop.time() - elected
                record = await receive
                consumed = loop.time() - elected
                return produced, consumed, record.value, record.offset

    produced, consumed, value, offset = run(scenario, seed)
    assert (value, offset) == (b"after", 1)
    assert max(produced, consumed) < 3
