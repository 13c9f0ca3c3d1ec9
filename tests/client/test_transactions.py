"""Transactional producers and read-committed consumers over sockets: both versions, failover, fencing, bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from kio.schema.errors import ErrorCode

from ottla.client import (
    AbortableTransactionError,
    CommitFailedError,
    Consumer,
    ConsumerGroupMetadata,
    FatalTransactionError,
    IllegalStateError,
    KafkaTimeoutError,
    OffsetAndMetadata,
    Producer,
    ProducerFenced,
    TopicPartition,
)
from tests.client.fake import FakeCluster
from tests.client.fake_transactions import Fault, stable_end
from tests.client.txn_model import TxnState

TP = TopicPartition("t", 0)

LEVELS = pytest.mark.parametrize("level", [None, 1, 2])


def producer(cluster: FakeCluster, name: str = "x", **options: object) -> Producer:
    return Producer(bootstrap_servers=cluster.bootstrap, linger_ms=0, transactional_id=name, **options)  # type: ignore[arg-type]


async def read(cluster: FakeCluster, isolation: str = "read_committed", topic: str = "t") -> list[bytes]:
    """Everything that may be read."""
    found: list[bytes] = []
    async with Consumer(
        bootstrap_servers=cluster.bootstrap,
        auto_offset_reset="earliest",
        isolation_level=isolation,  # type: ignore[arg-type]
        fetch_max_wait_ms=10,
    ) as consumer:
        for index, partition in cluster.topics[topic][1].items():
            where = TopicPartition(topic, index)
            first_open = stable_end(b"".join(partition.batches)) if isolation == "read_committed" else None
            consumer.assign([where])
            async with asyncio.timeout(10):
                while await consumer.position(where) < (partition.end if first_open is None else first_open):
                    got = (await consumer.getmany(timeout_ms=100)).get(where, ())
                    found += [record.value for record in got if record.value is not None]
    return found


def faults(cluster: FakeCluster, **by_name: list[Fault]) -> None:
    """These faults in turn, by the name of the request; none after that."""
    left: dict[str, Iterator[Fault]] = {name: iter(each) for name, each in by_name.items()}
    cluster.transactions.fault = lambda name: next(left[name], None) if name in left else None


@LEVELS
async def test_what_is_committed_is_seen_and_what_is_aborted_is_not(cluster: FakeCluster, level: int | None) -> None:
    cluster.create("t", 2)
    cluster.transactions.level = level
    async with producer(cluster) as p:
        for number in range(6):
            await p.begin_transaction()
            for partition in range(2):
                await p.send("t", b"%d" % number, partition=partition)
            if number % 2:
                await p.flush()
                await p.abort_transaction()
            else:
                await p.commit_transaction()
        await p.begin_transaction()
        await p.send_and_wait("t", b"open", partition=0)
        assert sorted(await read(cluster)) == [b"0", b"0", b"2", b"2", b"4", b"4"]
        assert b"open" in await read(cluster, "read_uncommitted")
    v2 = level == 2
    names = {name for _, name in cluster.requests}
    assert ("add_partitions_to_txn" in names) is not v2
    epochs = [end.identity.epoch for end in cluster.transactions.model.ended]
    assert epochs == ([1, 2, 3, 4, 5, 6, 7] if v2 else [0] * 7), "v2: one of its own for each, and the last was stopped"


@LEVELS
async def test_the_block_commits_and_an_exception_aborts(cluster: FakeCluster, level: int | None) -> None:
    cluster.create("t")
    cluster.transactions.level = level
    async with producer(cluster) as p:
        async with p.transaction():
            await p.send("t", b"a")
        with pytest.raises(ZeroDivisionError):
            async with p.transaction():
                await p.send_and_wait("t", b"b")
                raise ZeroDivisionError
        async with p.transaction():
            pass
        async with p.transaction():
            await p.send("t", b"c")
    assert await read(cluster) == [b"a", b"c"]


@LEVELS
async def test_offsets_are_committed_with_it_or_not_at_all(cluster: FakeCluster, level: int | None) -> None:
    cluster.create("t")
    cluster.transactions.level = level
    committed = cluster.transactions.model.committed
    async with producer(cluster) as p:
        async with p.transaction():
            await p.send("t", b"a")
            await p.send_offsets_to_transaction({TP: 5}, "g")
            assert not committed
        assert committed == {("g", TP): 5}
        await p.begin_transaction()
        await p.send_offsets_to_transaction({TP: OffsetAndMetadata(6, "why")}, ConsumerGroupMetadata("g", 1, "m", None))
        await p.abort_transaction()
        assert committed == {("g", TP): 5}


@LEVELS
async def test_answers_that_are_lost_are_asked_for_again(cluster: FakeCluster, level: int | None) -> None:
    cluster.create("t")
    cluster.transactions.level = level
    lost: list[Fault] = ["close", "close after"]
    faults(
        cluster,
        find_coordinator=["close", ErrorCode.coordinator_not_available],
        init_producer_id=[*lost, ErrorCode.coordinator_load_in_progress],
        add_partitions_to_txn=[*lost, ErrorCode.concurrent_transactions],
        add_offsets_to_txn=list(lost),
        txn_offset_commit=[*lost, ErrorCode.coordinator_load_in_progress],
        end_txn=[*lost, ErrorCode.concurrent_transactions],
    )
    async with producer(cluster) as p:
        async with p.transaction():
            await p.send("t", b"a")
            await p.send_offsets_to_transaction({TP: 5}, "g")
        async with p.transaction():
            await p.send("t", b"b")
    assert await read(cluster) == [b"a", b"b"]
    assert cluster.transactions.model.committed == {("g", TP): 5}
    assert [end.commit for end in cluster.transactions.model.ended] == [True, True]


async def test_the_coordinator_moves_in_the_middle(cluster: FakeCluster) -> None:
    cluster.create("t", leader=2)
    async with producer(cluster) as p:
        await p.begin_transaction()
        await p.send_and_wait("t", b"a")
        cluster.transactions.leader = 2
        await cluster.kill(1)
        async with asyncio.timeout(5):
            await p.commit_transaction()
        assert await read(cluster) == [b"a"]


async def test_a_paused_coordinator_is_left_behind(cluster: FakeCluster) -> None:
    cluster.create("t", leader=2)
    async with producer(cluster) as p:
        await p.begin_transaction()
        await p.send_and_wait("t", b"a")
        cluster.pause(1)
        cluster.transactions.leader = 2
        async with asyncio.timeout(8):
            await p.commit_transaction()
        assert await read(cluster) == [b"a"]


@LEVELS
async def test_a_zombie_is_fenced_by_a_type(cluster: FakeCluster, level: int | None) -> None:
    cluster.create("t")
    cluster.transactions.level = level
    async with producer(cluster) as old:
        await old.begin_transaction()
        await old.send_and_wait("t", b"old")
        async with producer(cluster) as new:
            async with new.transaction():
                await new.send("t", b"new")
            with pytest.raises(ProducerFenced) as told:
                await old.commit_transaction()
            assert told.value.definite is True
            for refused in (old.begin_transaction, old.abort_transaction):
                with pytest.raises(ProducerFenced):
                    await refused()
            with pytest.raises(ProducerFenced):
                await old.send("t", b"more")
        assert await read(cluster) == [b"new"]


async def test_a_zombie_that_still_writes_hears_of_it_when_it_leaves_the_block(cluster: FakeCluster) -> None:
    cluster.create("t")
    async with producer(cluster) as old, producer(cluster) as new:
        with pytest.raises(ProducerFenced):
            async with old.transaction():
                await old.send_and_wait("t", b"old")
        async with new.transaction():
            await new.send("t", b"new")
        assert await read(cluster) == [b"new"]


async def test_a_transaction_that_took_too_long(cluster: FakeCluster) -> None:
    cluster.create("t")
    async with producer(cluster) as p:
        await p.begin_transaction()
        await p.send_and_wait("t", b"a")
        cluster.transactions.model.time_out("x")
        cluster.transactions.mark()
        with pytest.raises(FatalTransactionError):
            await p.commit_transaction()
    assert await read(cluster) == []


@LEVELS
async def test_a_record_that_is_refused_makes_the_transaction_abortable(
    cluster: FakeCluster, level: int | None
) -> None:
    cluster.create("t", 2)
    cluster.transactions.level = level
    async with producer(cluster) as p:
        await p.begin_transaction()
        await p.send_and_wait("t", b"a", partition=0)
        cluster.produce_fault = lambda node: ErrorCode.invalid_record
        refused = await p.send("t", b"b", partition=1)
        with pytest.raises(AbortableTransactionError) as told:
            await p.commit_transaction()
        assert told.value.definite is True and "INVALID_RECORD" in str(told.value)
        assert refused.exception() is not None
        with pytest.raises(AbortableTransactionError):
            await p.send("t", b"c")
        with pytest.raises(AbortableTransactionError):
            await p.send_offsets_to_transaction({TP: 1}, "g")
        with pytest.raises(IllegalStateError):
            await p.begin_transaction()
        cluster.produce_fault = lambda node: None
        await p.abort_transaction()
        async with p.transaction():
            await p.send("t", b"d", partition=0)
            await p.send("t", b"d", partition=1)
    assert await read(cluster) == [b"d", b"d"]


@LEVELS
async def test_an_abort_does_not_send_what_is_buffered(cluster: FakeCluster, level: int | None) -> None:
    partition = cluster.create("t")[0]
    cluster.transactions.level = level
    async with producer(cluster) as p:
        await p.begin_transaction()
        await p.send_and_wait("t", b"a")
        cluster.pause(1) if level == 2 else None
        cluster.transactions.leader = 2 if level == 2 else 1
        waiting = [await p.send("t", b"b") for _ in range(3)]
        async with asyncio.timeout(8):
            await p.abort_transaction()
        assert all(future.done() for future in waiting)
        [future.exception() for future in waiting]
        cluster.elect(TP, 2)
        async with p.transaction():
            await p.send("t", b"c")
    assert await read(cluster) == [b"c"]
    assert partition.leader == 2


async def test_sequences_that_were_lost_cost_an_epoch_by_the_first_version(cluster: FakeCluster) -> None:
    """KIP-360."""
    cluster.create("t")
    cluster.transactions.level = 1
    async with producer(cluster, delivery_timeout_ms=300, request_timeout_ms=200) as p:
        await p.begin_transaction()
        await p.send_and_wait("t", b"a")
        cluster.produce_fault = lambda node: ErrorCode.not_enough_replicas
        await p.send("t", b"b")
        with pytest.raises(AbortableTransactionError):
            await p.commit_transaction()
        cluster.produce_fault = lambda node: None
        await p.abort_transaction()
        assert cluster.transactions.model.txns["x"].identity.epoch == 1
        async with p.transaction():
            await p.send("t", b"c")
    assert await read(cluster) == [b"c"]


@LEVELS
async def test_a_generation_that_is_over_makes_it_abortable(cluster: FakeCluster, level: int | None) -> None:
    """KIP-447."""
    cluster.create("t")
    cluster.transactions.level = level
    faults(cluster, txn_offset_commit=[ErrorCode.illegal_generation])
    async with producer(cluster) as p:
        with pytest.raises(AbortableTransactionError) as told:
            async with p.transaction():
                await p.send("t", b"a")
                await p.send_offsets_to_transaction({TP: 5}, ConsumerGroupMetadata("g", 1, "m", None))
        assert isinstance(told.value.__cause__, CommitFailedError)
        async with p.transaction():
            await p.send("t", b"b")
    assert await read(cluster) == [b"b"]
    assert not cluster.transactions.model.committed


async def test_a_commit_without_an_answer_ends_in_time_and_can_be_waited_for_again(cluster: FakeCluster) -> None:
    cluster.create("t", leader=2)
    async with producer(cluster, max_block_ms=400) as p:
        await p.begin_transaction()
        await p.send_and_wait("t", b"a")
        cluster.transactions.fault = lambda name: "close" if name == "end_txn" else None
        with pytest.raises(KafkaTimeoutError, match=r"transactional id 'x', coordinator .*attempts \d+") as told:
            await p.commit_transaction()
        assert told.value.definite is False
        with pytest.raises(IllegalStateError):
            await p.abort_transaction()
        cluster.transactions.fault = lambda name: None
        await p.commit_transaction()
        async with p.transaction():
            await p.send("t", b"b")
    assert await read(cluster) == [b"a", b"b"]


async def test_a_start_without_a_coordinator_ends_in_time(cluster: FakeCluster) -> None:
    cluster.transactions.fault = lambda name: ErrorCode.coordinator_not_available
    p = producer(cluster, max_block_ms=300)
    with pytest.raises(KafkaTimeoutError, match=r"no producer id within .* transactional id 'x'"):
        await p.start()


async def test_a_timeout_that_is_not_allowed_is_told_at_the_start(cluster: FakeCluster) -> None:
    faults(cluster, init_producer_id=[ErrorCode.invalid_transaction_timeout])
    with pytest.raises(FatalTransactionError, match="INVALID_TRANSACTION_TIMEOUT"):
        await producer(cluster).start()


async def test_the_first_version_can_be_asked_for(cluster: FakeCluster) -> None:
    cluster.create("t")
    async with producer(cluster, transaction_version=1) as p, p.transaction():
        await p.send("t", b"a")
    assert cluster.requests[1, "add_partitions_to_txn"] == 1
    assert cluster.transactions.model.txns["x"].identity.epoch == 0


async def test_a_producer_that_is_stopped_leaves_no_transaction_open(cluster: FakeCluster) -> None:
    cluster.create("t")
    async with producer(cluster) as p:
        await p.begin_transaction()
        await p.send_and_wait("t", b"a")
    assert cluster.transactions.model.txns["x"].state is TxnState.ABORTED
    async with producer(cluster) as p:
        await p.begin_transaction()
        await p.send_and_wait("t", b"b")
        await p.stop(flush=False)
    assert cluster.transactions.model.txns["x"].state is TxnState.ONGOING


async def test_what_makes_no_sense_is_refused(cluster: FakeCluster) -> None:
    cluster.create("t")
    with pytest.raises(ValueError, match="transactional_id"):
        Producer(transactional_id="x", enable_idempotence=False)
    with pytest.raises(ValueError, match="transactional_id"):
        Producer(transactional_id="")
    with pytest.raises(ValueError, match="transactional_id"):
        Producer(transactional_id="x", acks=1)
    async with Producer(bootstrap_servers=cluster.bootstrap) as plain:
        with pytest.raises(IllegalStateError, match="needs a transactional_id"):
            await plain.begin_transaction()
    async with producer(cluster) as p:
        with pytest.raises(IllegalStateError):
            await p.send("t", b"a")
        with pytest.raises(IllegalStateError):
            await p.commit_transaction()
        await p.begin_transaction()
        with pytest.raises(IllegalStateError):
            await p.begin_transaction()
        with pytest.raises(ValueError, match="negative"):
            await p.send_offsets_to_transaction({TP: -1}, "g")


async def test_many_records_in_flight_are_one_transaction(cluster: FakeCluster) -> None:
    cluster.create("t", 3)
    async with producer(cluster, max_batch_size=100) as p:
        for _ in range(3):
            async with p.transaction():
                for number in range(200):
                    await p.send("t", b"%d" % number)
    assert len(await read(cluster)) == 600
    assert len(cluster.transactions.model.ended) == 3
