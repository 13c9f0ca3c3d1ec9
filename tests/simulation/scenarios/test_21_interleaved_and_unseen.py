"""Jepsen on Redpanda: the records of two transactions may stand between each other (G0); that a committed one is never
seen, while nodes are killed and replicas move, may not be."""

import asyncio
from itertools import chain

import pytest

from ottla.broker.transactions.markers import MarkerQueue
from ottla.client import TopicPartition
from tests.simulation.scenarios.stage import TOPIC, Broken, Stage, play
from tests.simulation.scenarios.transactions import SETTINGS, an_id, committed, producer, sees, send


async def two_at_a_time(stage: Stage) -> None:
    async with producer(stage, "one") as one, producer(stage, "other") as other:
        await one.begin_transaction()
        await other.begin_transaction()
        for number in range(3):
            await send(stage, one, b"one %d" % number)
            await send(stage, other, b"other %d" % number)
        await one.commit_transaction()
        await other.commit_transaction()
    await sees(stage, *chain.from_iterable((b"one %d" % number, b"other %d" % number) for number in range(3)))


def test_they_are_seen_in_the_order_in_which_they_were_written():
    play(two_at_a_time, **SETTINGS)


async def move(stage: Stage) -> None:
    """The partition's replicas, to those that have none first."""
    replicas = stage.image().replicas
    wanted = (*stage.everybody_but(*replicas), *replicas)[:3]
    async with stage.cluster.admin() as admin:
        await admin.alter_partition_reassignments({TopicPartition(TOPIC, stage.index): wanted})
    done = f"{TOPIC}-{stage.index} is where {wanted} are"
    await stage.cluster.until(lambda: sorted(stage.image().replicas) == sorted(wanted), done, within=60)
    stage.replicas = stage.image().replicas


async def everybody_comes_and_goes(stage: Stage) -> None:
    """Transactions are committed while every node is killed once, and the partition's replicas move to others."""
    cluster = stage.cluster
    kept: list[bytes] = []
    async with producer(stage, await an_id(stage)) as one:

        async def commit(*killed: int) -> None:
            async with asyncio.timeout(60), one.transaction():
                value = b"%d" % len(kept)
                await send(stage, one, value)
                for node_id in killed:
                    cluster.kill(node_id)
            kept.append(value)

        for node_id in list(cluster.nodes):
            await commit(node_id)
            await commit()
            cluster.start(node_id)
            await cluster.until(lambda: cluster.full(TOPIC), "every replica is in sync", within=60)
            await move(stage)
            # Its marker is lost on the way to the leader.
            lost = cluster.hold("WriteTxnMarkers", target=stage.leader())
            await commit()
            await lost.caught()
            lost.drop()
    seen = await committed(stage)
    if seen != kept:
        raise Broken(f"never seen: {sorted({*kept} - {*seen})}; seen: {seen}")


@pytest.mark.parametrize("seed", range(2))
def test_what_was_committed_is_seen(seed: int):
    play(everybody_comes_and_goes, seed=seed, patience=60.0, **SETTINGS)


def test_a_transaction_that_counts_as_ended_without_its_markers_is_never_seen(monkeypatch: pytest.MonkeyPatch):
    def failed(self: MarkerQueue, markers, _now: float) -> None:
        for marker in markers:
            self.written(marker)

    monkeypatch.setattr(MarkerQueue, "failed", failed)
    with pytest.raises(Broken, match=r"never seen|a reader gets as far as|it never ends"):
        play(everybody_comes_and_goes, watched=False, patience=60.0, **SETTINGS)
