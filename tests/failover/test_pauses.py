"""SIGSTOP for longer than the session timeout, SIGCONT (RELIABILITY.md section 3, row 4; section 2 items 8 and 12).

A paused process keeps its connections: its clients wait, and what they send meanwhile is the first thing that it reads
when it goes on, still believing what it believed before.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.cluster.traffic import Traffic
from ottla.wire import KafkaConnection
from tests.failover.attached import Answer, Attached, numbered
from tests.failover.cluster import PATIENCE_S, Cluster, eventually
from tests.failover.replicas import check_identical, check_replicas

pytestmark = pytest.mark.asyncio(loop_scope="module")

_CREATE_TOPICS, _CREATE_TOPICS_VERSION = 19, 5


async def check_answers(cluster: Cluster, topic: str, answers: list[Answer], absent: list[bytes]) -> None:
    """What was acknowledged with acks=all is where the answer said, on every disk; `absent` is nowhere."""
    await cluster.in_sync(topic)
    (replica,) = check_identical(cluster, topic, await cluster.high_watermarks(topic, 1))
    values = dict(replica.values())
    assert {answer.offset: answer.value for answer in answers} == {
        answer.offset: values.get(answer.offset) for answer in answers
    }
    assert not set(absent).intersection(values.values())


async def test_leader_with_clients_attached(cluster: Cluster) -> None:
    topic = "pause-leader"
    await cluster.create(topic, leaders=(1,))
    await cluster.led(topic)
    safe, fast = [await Attached.to(cluster, 1, topic, acks=acks) for acks in (-1, 1)]
    before = [await safe.acknowledged(value) for value in numbered(b"before", 20)]
    before_fast = [await fast.acknowledged(value) for value in numbered(b"before, acks=1", 20)]
    before.append(await safe.acknowledged(b"before, the last"))

    cluster.pause(1)
    stale = [safe.send(value) for value in numbered(b"stale", 20)]
    stale_fast = [fast.send(value) for value in numbered(b"stale, acks=1", 20)]
    leader = await cluster.replaced(topic, 1)
    successor = await Attached.to(cluster, leader, topic, acks=-1)
    after = [await successor.acknowledged(value) for value in numbered(b"after", 20)]
    assert not any(task.done() for task in stale), "somebody answered for a node that was stopped"

    cluster.resume(1)
    late = [safe.send(value) for value in numbered(b"late", 20)]
    refused = [await task for task in (*stale, *late)]
    assert not any(answer.acknowledged for answer in refused), refused
    for task in stale_fast:
        await task  # acks=1 promises nothing about a leader that is replaced
    # By now it knows, and says so to whoever is still attached.
    assert (await safe.send(b"later still")).error in (ErrorCode.not_leader_or_follower, None)

    await cluster.in_sync(topic)
    after += [await successor.acknowledged(value) for value in numbered(b"whole again", 5)]
    for client in (safe, fast, successor):
        client.close()
    promised = [*before, *before_fast, *after]
    await check_answers(cluster, topic, promised, [answer.value for answer in refused])


async def test_leader_that_had_not_replicated(cluster: Cluster) -> None:
    """What the old leader alone has is cut off when it comes back, and the bytes of the new leader take its place.

    Its followers are stopped first. Each may have one fetch at the leader, which brings it the first of what comes;
    the rest is the leader's alone, although it acknowledges it with acks=1.
    """
    topic = "pause-ahead"
    await cluster.create(topic, leaders=(1,))
    await cluster.led(topic)
    fast, safe = [await Attached.to(cluster, 1, topic, acks=acks) for acks in (1, -1)]
    kept = [await fast.acknowledged(value) for value in numbered(b"kept", 10)]
    kept.append(await safe.acknowledged(b"kept, the last"))
    # With two of three nodes stopped the third can neither shrink the ISR nor be replaced.
    cluster.pause(2)
    cluster.pause(3)
    for value in numbered(b"ahead", 10):
        await fast.acknowledged(value)
    waiting = safe.send(b"ahead, acks=all")
    await fast.acknowledged(b"ahead, the last")
    cluster.pause(1)
    cluster.resume(2)
    cluster.resume(3)
    leader = await cluster.replaced(topic, 1)
    successor = await Attached.to(cluster, leader, topic, acks=-1)
    after = [await successor.acknowledged(value) for value in numbered(b"after", 10)]
    cluster.resume(1)
    assert not (await waiting).acknowledged
    await check_answers(cluster, topic, [*kept, *after], [b"ahead, acks=all", b"ahead, the last"])
    assert [event["partition"] for event in cluster.events(1, "log_truncated") if event["topic"] == topic] == [0]
    for client in (safe, fast, successor):
        client.close()


async def test_leader_under_load(cluster: Cluster) -> None:
    """Producers that are free to go elsewhere do, and lose nothing; the old leader is in sync again afterwards."""
    topic = "pause-load"
    await cluster.create(topic, leaders=(2,))
    async with Traffic(cluster.bootstrap(), topic, 1, interval=0.004) as traffic:
        await traffic.start_reading()
        await traffic.acknowledged_count(30, within=PATIENCE_S)
        cluster.pause(2)
        await cluster.replaced(topic, 2)
        await traffic.acknowledged_again(0, asyncio.get_running_loop().time(), within=PATIENCE_S)
        cluster.resume(2)
        await cluster.in_sync(topic)
        await traffic.acknowledged_again(0, asyncio.get_running_loop().time(), within=PATIENCE_S)
        await traffic.stop_writing(within=PATIENCE_S)
        assert not traffic.failed
        await traffic.read_everything(within=PATIENCE_S)
        assert traffic.ledger.verdict().clean
    await check_replicas(cluster, topic, traffic.ledger)


async def test_active_controller(cluster: Cluster) -> None:
    """The old controller decides nothing any more: what it was asked while it stood still the new one answers."""
    topic, ghost = "pause-controller", "ghost"
    old = await cluster.active_controller()
    others = [node for node in (1, 2, 3) if node != old]
    await cluster.create(topic, leaders=(others[0],))
    attached = await KafkaConnection.open(*cluster.address(old), timeout=20.0)
    async with Traffic(cluster.bootstrap(others), topic, 1, interval=0.004) as traffic:
        await traffic.acknowledged_count(30, within=PATIENCE_S)
        cluster.pause(old)
        asked = asyncio.create_task(_create(attached, ghost, partitions=7))
        await cluster.active_controller(others)
        await cluster.create(ghost, 2)
        assert not asked.done()
        cluster.resume(old)
        answer = (await asked).topics[0]
        assert answer.error_code == ErrorCode.topic_already_exists, answer
        await cluster.in_sync(topic)
        found = await cluster.in_sync(ghost)
        assert len(found.partitions) == 2
        await traffic.acknowledged_again(0, asyncio.get_running_loop().time(), within=PATIENCE_S)
        await traffic.stop_writing(within=PATIENCE_S)
        assert not traffic.failed
    await attached.close()
    await check_replicas(cluster, topic, traffic.ledger)

    async def one_controller() -> bool:
        answers = [await cluster.ask(node, 55, 1, _QUORUM) for node in (1, 2, 3)]
        said = {(row.leader_id, row.leader_epoch) for row in (each.topics[0].partitions[0] for each in answers if each)}
        return len(said) == 1

    await eventually(one_controller, "all nodes agree on one controller and term")


_QUORUM = {"topics": [{"topic_name": "__cluster_metadata", "partitions": [{"partition_index": 0}]}]}


async def _create(connection: KafkaConnection, topic: str, *, partitions: int) -> Any:
    wanted = {"name": topic, "num_partitions": partitions, "replication_factor": 3}
    return await connection.call(_CREATE_TOPICS, _CREATE_TOPICS_VERSION, {"topics": [wanted], "timeout": 15_000})
