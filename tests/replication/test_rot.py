"""A log that rots while its process runs: nothing of it is served, and it gives way where others have a copy."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.coordination import Codec, ShardLog
from ottla.broker.replication import FetchWant, leading
from ottla.broker.replication.following import adopt
from ottla.broker.replication.nearby import read_as_follower
from ottla.controller import PartitionImage
from ottla.log import CorruptFile, LogConfig, PartitionLog, partition_log
from ottla.records import CorruptBatch, Record, encode_batch, verify_batch
from tests.replication.test_storage import Replica

BATCH = len(encode_batch([Record(0, 1, b"k", b"v", ())]))


def rotten(replica: Replica, position: int) -> None:
    """A bit flips in the first of a few batches that were written some time ago."""
    for _ in range(3):
        replica.produce(1)
    held = replica.partition.log
    assert held is not None
    held.cool()
    held.cool()
    replica.disk.flip_bit(held.segments[0].path(".log"), position % BATCH)


def follow(replica: Replica) -> None:
    """Broker 2 leads now, and its answers have shown that this log is a part of its own."""
    replica.partition.become_follower(PartitionImage((1, 2), (1, 2), 2, 4, 1))
    adopt(replica.partition, replica.partition.log_end_offset, 0)


@pytest.mark.parametrize("position", [3, 15, -1], ids=["offset", "epoch", "record"])
async def test_a_leader_whose_log_has_rotted_while_it_ran_gives_way_to_the_others(position: int) -> None:
    replica = Replica(isr=(1, 2))
    rotten(replica, position)
    assert leading.read(replica.partition, FetchWant(0, 1000, replica_id=2)).error is ErrorCode.kafka_storage_error
    assert len(replica.failures) == 1
    with pytest.raises(CorruptFile, match="is damaged"):
        PartitionLog.open(replica.disk, "d/t-0", LogConfig(), clean=False, now_ms=0)


async def test_alone_it_serves_the_rest() -> None:
    replica = Replica()
    rotten(replica, -1)
    for _ in range(2):
        assert leading.read(replica.partition, FetchWant(0, 1000)).error is ErrorCode.corrupt_message
    assert len(leading.read(replica.partition, FetchWant(1, 1000)).records) == 2 * BATCH
    assert not replica.failures and replica.produce(1) is not ErrorCode.kafka_storage_error


@pytest.mark.parametrize("position", [3, 15, -1], ids=["offset", "epoch", "record"])
async def test_a_follower_whose_log_has_rotted_gives_consumers_nothing_of_it_and_starts_over(position: int) -> None:
    """KIP-392."""
    replica = Replica(isr=(1, 2))
    rotten(replica, position)
    follow(replica)
    assert read_as_follower(replica.partition, FetchWant(0, 1000)).error is ErrorCode.kafka_storage_error
    assert len(replica.failures) == 1
    with pytest.raises(CorruptFile, match="is damaged"):
        PartitionLog.open(replica.disk, "d/t-0", LogConfig(), clean=False, now_ms=0)


async def test_a_follower_that_asks_again_for_what_it_could_not_take_need_not_wait() -> None:
    """Until then it might be out of the ISR, and a leader that is alone does not give way."""
    replica = Replica(isr=(1, 2))
    replica.produce()
    held = replica.partition.log
    assert held is not None
    path = held.segments[0].path(".log")
    want = FetchWant(0, 1000, 3, replica_id=2, broker_epoch=2)
    replica.disk.flip_bit(path, BATCH - 1)
    with pytest.raises(CorruptBatch):
        verify_batch(leading.read_for_follower(replica.partition, want).records)
    assert leading.read_for_follower(replica.partition, want).error is ErrorCode.kafka_storage_error
    assert len(replica.failures) == 1


async def test_a_follower_that_goes_on_costs_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that waited in vain for a batch that came later."""
    replica = Replica(isr=(1, 2))
    monkeypatch.setattr(partition_log, "check_batches", None)
    for offset in range(3):
        want = FetchWant(offset, 1000, 3, replica_id=2, broker_epoch=2)
        assert not leading.read_for_follower(replica.partition, want).records
        replica.produce()
        assert leading.read_for_follower(replica.partition, want).records
    assert replica.partition.high_watermark == 2


async def test_a_coordinator_whose_log_has_rotted_gives_way() -> None:
    """It would not be one before it has read all of it."""
    replica = Replica(isr=(1, 2))
    rotten(replica, -1)
    shard: ShardLog[object] = ShardLog(
        replica.partition,
        Mock(),
        Codec(Mock(), Mock()),
        clock=lambda: 0,
        max_bytes=lambda: 1000,
        timeout_s=1,
        replay=Mock(),
        ended=Mock(),
        loaded=Mock(),
        lost=Mock(),
    )
    with pytest.raises(CorruptBatch):
        await shard.load()
    assert len(replica.failures) == 1
    shard.close()
