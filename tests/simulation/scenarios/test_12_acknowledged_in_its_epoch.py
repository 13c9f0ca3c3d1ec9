"""Redpanda #3003: appended in one epoch, overwritten in the next, and acknowledged when the offset was committed."""

import asyncio

import pytest

from ottla.broker.replication import following
from ottla.broker.replication.follower import FollowerState
from ottla.broker.replication.partition import Partition
from tests.simulation.scenarios.stage import Broken, Stage, play


async def overwritten_while_its_producer_waits(stage: Stage) -> None:
    cluster = stage.cluster
    await stage.write(b"m1")
    old = stage.leader()
    async with cluster.producer(linger_ms=0, enable_idempotence=False) as producer:
        await producer.partitions_for("orders")
        cluster.partition([old], stage.everybody_but(old))
        waiting = asyncio.ensure_future(producer.send_and_wait("orders", b"waits", partition=stage.index))
        await cluster.until(lambda: stage.on(old).log_end_offset == 2, "it is appended", within=5)
        await stage.led_by_another(old)
        await stage.write(b"m2")
        assert not waiting.done()
        cluster.heal()
        offset = (await asyncio.wait_for(waiting, 20)).offset
    if offset in stage.acknowledged:
        raise Broken(f"'waits' was acknowledged at {offset}, where there is {stage.acknowledged[offset]!r}")
    stage.acknowledged[offset] = b"waits"


@pytest.mark.parametrize("seed", range(2))
def test_who_loses_the_leadership_tells_the_producer(seed: int):
    play(overwritten_while_its_producer_waits, seed=seed)


def test_if_only_the_offset_counted_something_else_would_be_acknowledged(monkeypatch: pytest.MonkeyPatch):
    """Waits survive a change of role, and end when the high watermark reaches them."""
    adopt = following.adopt

    def change_role(self: Partition, role, image, **_: object) -> None:
        self.role, self.image = role, image
        self.watchers.changed()

    def adopt_and_acknowledge(partition: Partition, *told: int) -> None:
        adopt(partition, *told)
        assert isinstance(partition.role, FollowerState)
        partition.commit_acks.release(partition.high_watermark)

    monkeypatch.setattr(Partition, "_change_role", change_role)
    monkeypatch.setattr(following, "adopt", adopt_and_acknowledge)
    with pytest.raises(Broken, match="where there is b'm2'"):
        play(overwritten_while_its_producer_waits, watched=False)
