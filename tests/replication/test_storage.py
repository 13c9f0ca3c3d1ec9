"""A disk that fails under a replica: nothing is promised that cannot be kept, and everybody who waits is told."""

from __future__ import annotations

import asyncio
import errno
import random
from typing import Any, cast
from uuid import UUID

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.replication import Acks, FetchWant, Partition, ProduceWait, ReplicationConfig, leading
from ottla.broker.replication.connecting import Endpoint
from ottla.broker.replication.fetcher import ReplicaFetcher
from ottla.broker.replication.host import PartitionHost
from ottla.controller import PartitionImage
from ottla.log import DiskFull, GroupCommit, LogConfig, LogOffline, ModelledDisk, PartitionLog
from ottla.records import Record, encode_batch, verify_batch
from ottla.wire import FetchPartitionResponse, KafkaConnection
from tests.replication.live import WAIT_S
from tests.replication.waiting import errors_of


class Replica:
    """One partition led here on a disk that a test can break; `isr` are its replicas as well. `group` syncs what is
    written here."""

    def __init__(self, *, synced: bool = False, isr: tuple[int, ...] = (1,), group: GroupCommit | None = None) -> None:
        self.disk = ModelledDisk(random.Random(1))
        self.failures: list[Exception] = []
        host = PartitionHost(
            node_id=1,
            max_lag_s=30,
            now=lambda: 0.0,
            eligible=lambda: {1: 1, 2: 2},
            propose=lambda *_: None,
            storage_failed=lambda _, error: self.failures.append(error),
            group=group or GroupCommit(),
        )
        config = LogConfig(flush="synced" if synced else "os")
        log = PartitionLog.open(self.disk, "d/t-0", config, clean=False, now_ms=0)
        self.partition = Partition(host, "t", UUID(int=1), 0, log)
        self.partition.become_leader(PartitionImage(isr, isr, 1, 3, 0))

    def produce(self, acks: Acks = -1) -> ErrorCode | ProduceWait:
        batch = encode_batch([Record(0, 1, b"k", b"v", ())])
        result = leading.append(self.partition, batch, verify_batch(batch), acks=acks, now_ms=0)
        if isinstance(result, ErrorCode):
            return result
        wait = ProduceWait(asyncio.get_running_loop())
        self.partition.acknowledge(result.last_offset + 1, acks, wait, 0)
        return wait


async def outcome(wait: ErrorCode | ProduceWait) -> ErrorCode:
    assert isinstance(wait, ProduceWait)
    return (await errors_of(wait, WAIT_S)).get(0, ErrorCode.none)


async def test_a_full_disk_is_an_answer_and_passes() -> None:
    replica = Replica()
    assert await outcome(replica.produce()) is ErrorCode.none
    replica.disk.fail_next("append", DiskFull(errno.ENOSPC, "full"))
    assert replica.produce() is ErrorCode.kafka_storage_error
    assert leading.read(replica.partition, FetchWant(0, 100)).records
    assert await outcome(replica.produce()) is ErrorCode.none
    assert replica.partition.high_watermark == 2 and not replica.failures


async def test_a_failed_write_takes_the_replica_offline_and_tells_whoever_waits() -> None:
    replica = Replica(isr=(1, 2))
    waiting = replica.produce()
    woken: list[int] = []
    replica.partition.watch(woken.append)
    replica.disk.fail_next("append")
    assert replica.produce() is ErrorCode.kafka_storage_error
    assert await outcome(waiting) is ErrorCode.kafka_storage_error
    assert len(replica.failures) == 1 and len(woken) == 1
    assert leading.read(replica.partition, FetchWant(0, 100)).error is ErrorCode.kafka_storage_error
    assert replica.produce() is ErrorCode.kafka_storage_error


async def test_a_failed_sync_is_never_tried_again_nor_acknowledged() -> None:
    replica = Replica(synced=True)
    assert await outcome(replica.produce()) is ErrorCode.none
    replica.disk.fail_next("sync")
    assert await outcome(replica.produce()) is ErrorCode.kafka_storage_error
    assert replica.partition.high_watermark == 1 and len(replica.failures) == 1


async def test_one_sync_answers_all_that_came_before_it() -> None:
    replica = Replica(synced=True)
    waits = [replica.produce(acks) for acks in (-1, 1, -1, 1)]
    assert replica.partition.high_watermark == 0
    assert [await outcome(wait) for wait in waits] == [ErrorCode.none] * 4
    assert replica.partition.high_watermark == 4


async def test_a_deleted_topic_tells_its_waiters_and_forgives_the_sync_that_finds_no_log() -> None:
    replica = Replica(synced=True)
    waiting = replica.produce()
    replica.partition.retire()
    assert replica.partition.log is not None
    replica.partition.log.abandon()
    assert await outcome(waiting) is ErrorCode.not_leader_or_follower
    while replica.partition.host.group._queues:  # noqa: ASYNC110 - until the sync under way has failed
        await asyncio.sleep(0)
    assert not replica.failures


async def test_a_retried_batch_is_acknowledged_like_the_first() -> None:
    """The window of KIP-98 with acks=all: the duplicate waits for the commit of the original."""
    replica = Replica(isr=(1, 2))
    batch = encode_batch([Record(0, 1, b"k", b"v", ())], producer_id=9, producer_epoch=0, base_sequence=0)
    header = verify_batch(batch)
    first = leading.append(replica.partition, batch, header, acks=-1, now_ms=0)
    again = leading.append(replica.partition, batch, header, acks=-1, now_ms=0)
    assert first == again and replica.partition.log_end_offset == 1
    wait = ProduceWait(asyncio.get_running_loop())
    replica.partition.acknowledge(1, -1, wait, 0)
    assert not wait.done
    leading.read_for_follower(replica.partition, FetchWant(1, 100, 3, 3, replica_id=2, broker_epoch=2))
    assert wait.done and not wait.errors


class HeldGroup(GroupCommit):
    """Syncs end when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[asyncio.Future[None]] = []

    def synced(self, log: PartitionLog, offset: int) -> asyncio.Future[None]:
        self.waiting.append(asyncio.get_running_loop().create_future())
        return self.waiting[-1]


async def test_a_log_that_is_deleted_while_a_follower_syncs_it_is_no_failure() -> None:
    """The partition was moved away, or its topic deleted."""
    replica, group = Replica(synced=True, isr=(1, 2)), HeldGroup()
    assert isinstance(replica.produce(1), ProduceWait)
    partition = replica.partition
    partition.become_follower(PartitionImage((1, 2), (1, 2), 2, 4, 1))
    fetcher = ReplicaFetcher(2, ReplicationConfig(1), _nowhere, group, lambda: 1)
    fetcher.assign(partition)
    syncing = asyncio.ensure_future(fetcher._sync())
    await asyncio.sleep(0)
    fetcher.remove(partition.topic_id, partition.index)
    partition.retire()
    assert partition.log is not None
    partition.log.abandon()
    group.waiting[0].set_exception(LogOffline("closed"))
    await syncing
    assert partition.failure is None and not replica.failures


class Asked(Exception):
    pass


class Spent:
    """A throttle that lets nothing through for a moment."""

    def ready_in(self, now: float) -> float:
        return 1e-9

    def allowance(self, now: float) -> int:
        return 1

    def spend(self, size: int, now: float) -> None:
        pass


class Leader:
    """Notes what of a log is durable when it is asked for more."""

    def __init__(self, log: PartitionLog) -> None:
        self.log = log
        self.durable: list[tuple[int, int]] = []

    def call_raw(self, *_: Any, **__: Any) -> Any:
        self.durable.append((self.log.recovery_point, self.log.log_end_offset))
        raise Asked


async def test_what_came_before_a_throttle_set_it_aside_is_durable_before_more_is_asked_for() -> None:
    """With flush = synced the offset that a follower asks for says: durable up to here."""
    partition = Replica(synced=True, isr=(1, 2)).partition
    partition.become_follower(PartitionImage((1, 2), (1, 2), 2, 4, 1))
    assert partition.log is not None
    leader = Leader(partition.log)
    fetcher = ReplicaFetcher(2, ReplicationConfig(1), _nowhere, GroupCommit(), lambda: 1)
    fetcher.assign(partition)
    with pytest.raises(Asked):
        await fetcher._round(cast(KafkaConnection, leader))
    partition.fetch_throttle = cast(Any, Spent())
    batch = encode_batch([Record(0, 1, b"k", b"v", ())], leader_epoch=4)
    followed = next(iter(fetcher._followed.values()))
    fetcher._take(followed, FetchPartitionResponse(0, 0, 1, 1, 0, batch))
    assert fetcher._aside and partition.log_end_offset == 1
    partition.fetch_throttle = None
    followed.retry_at = 0.0
    with pytest.raises(Asked):
        await fetcher._round(cast(KafkaConnection, leader))
    assert leader.durable == [(0, 0), (1, 1)]


async def test_what_is_taken_up_during_a_sync_is_synced_before_anything_is_asked_for() -> None:
    """After a restart it may be in the page cache only."""
    group = HeldGroup()
    # Nothing else syncs them meanwhile.
    first, second = (Replica(synced=True, isr=(1, 2), group=HeldGroup()) for _ in range(2))
    second.partition.index = 1
    for replica in (first, second):
        assert isinstance(replica.produce(1), ProduceWait)
        replica.partition.become_follower(PartitionImage((1, 2), (1, 2), 2, 4, 1))
    assert first.partition.log is not None
    leader = Leader(first.partition.log)
    fetcher = ReplicaFetcher(2, ReplicationConfig(1), _nowhere, group, lambda: 1)
    fetcher.assign(first.partition)
    asking = asyncio.ensure_future(fetcher._round(cast(KafkaConnection, leader)))
    await asyncio.sleep(0)
    fetcher.assign(second.partition)
    group.waiting[0].set_result(None)
    while len(group.waiting) < 2 and not asking.done():  # noqa: ASYNC110 - until it has asked, or syncs again
        await asyncio.sleep(0)
    assert not leader.durable
    group.waiting[1].set_result(None)
    with pytest.raises(Asked):
        await asking


async def _nowhere(endpoint: Endpoint) -> KafkaConnection:
    raise AssertionError(endpoint)
