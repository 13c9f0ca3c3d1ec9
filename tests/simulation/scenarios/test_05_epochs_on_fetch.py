"""KIP-320: whoever fetches says in which epoch it believes, and in which epoch it read last."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from ottla.broker.replication import ReplicaManager, leading
from ottla.broker.replication.leader import LeaderState
from ottla.broker.replication.partition import Partition
from ottla.client import ConsumerRecord, LogTruncationError, TopicPartition
from ottla.client.consumer.position import PartitionState
from ottla.client.metadata import ClusterMetadata
from tests.simulation.scenarios.stage import TOPIC, Broken, Stage, play
from tests.simulation.scenarios.test_02_two_fast_failovers import UNCLEAN


async def a_reader_beyond_a_truncation(stage: Stage) -> None:
    """A consumer has read what an unclean election then takes away; the new leader's log grows beyond its position."""
    cluster, where = stage.cluster, TopicPartition(TOPIC, stage.index)
    first = stage.leader()
    behind, also = stage.others(first)
    await stage.write(b"0")
    cluster.partition([behind, also], [first])
    await stage.write(b"lost 0", acks=1)
    await cluster.until(lambda: len(stage.image().isr) == 1, "the leader is alone", within=20)
    for number in range(1, 3):
        await stage.write(b"lost %d" % number)
    async with cluster.consumer(auto_offset_reset="none") as consumer:
        consumer.assign([where])
        consumer.seek(where, 0)
        seen = [await consumer.getone() for _ in range(4)]
        cluster.kill(first)
        stage.acknowledged = {0: b"0"}  # an unclean election was asked for
        await stage.led_by_another(first)
        for number in range(1, 7):
            await stage.write(b"new %d" % number)
        with pytest.raises(LogTruncationError) as told:
            seen += [await asyncio.wait_for(consumer.getone(), 10)]
            raise Broken(f"it was not told, and went on with {seen[-1].value!r}")
        assert told.value.divergent_offset == 1


def test_a_reader_is_told_of_what_was_truncated():
    play(a_reader_beyond_a_truncation, configs=UNCLEAN)


def test_a_reader_that_does_not_say_what_it_read_skips_what_was_rewritten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(PartitionState, "leader_changed", lambda self, epoch: setattr(self, "leader_epoch", epoch))
    monkeypatch.setattr(PartitionState, "fetch_epoch", property(lambda _: -1, lambda _, __: None), raising=False)
    with pytest.raises(Broken, match="went on"):
        play(a_reader_beyond_a_truncation, configs=UNCLEAN, watched=False)


async def a_reader_with_a_leader_of_yesterday(stage: Stage) -> None:
    """A leader that was cut off, and does not know that it is none any more, is the only one that a consumer reaches;
    the consumer has read more than that one has."""
    cluster, where = stage.cluster, TopicPartition(TOPIC, stage.index)
    old = stage.leader()
    await stage.write(b"0")
    async with cluster.consumer(auto_offset_reset="earliest") as consumer:
        consumer.assign([where])
        seen: list[ConsumerRecord] = [await consumer.getone()]
        cluster.partition([old], stage.everybody_but(old))
        new = await stage.led_by_another(old)
        reachable_again = cluster.refuse_clients([old])
        await stage.write(b"1")
        await stage.write(b"2")
        seen += [await asyncio.wait_for(consumer.getone(), 20) for _ in range(2)]
        assert new != old
        cluster.refuse_clients(stage.everybody_but(old))
        reachable_again()
        with contextlib.suppress(TimeoutError):
            seen.append(await asyncio.wait_for(consumer.getone(), 5))
        cluster.heal()
        await stage.write(b"3")
        seen.append(await asyncio.wait_for(consumer.getone(), 20))
    offsets = [record.offset for record in seen]
    if offsets != [0, 1, 2, 3]:
        raise Broken(f"it read {offsets}")


def test_a_reader_does_not_go_back_to_a_leader_of_yesterday():
    play(a_reader_with_a_leader_of_yesterday)


def believe_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that takes in metadata of any age, as some do."""
    update = ClusterMetadata._update_topic

    def believing(self: ClusterMetadata, answer):
        self.topics.pop(answer.name, None)
        return update(self, answer)

    monkeypatch.setattr(ClusterMetadata, "_update_topic", believing)


def test_a_client_that_believes_it_is_refused_there(monkeypatch: pytest.MonkeyPatch):
    believe_anybody(monkeypatch)
    play(a_reader_with_a_leader_of_yesterday)


def test_without_the_check_it_would_begin_again_at_the_beginning(monkeypatch: pytest.MonkeyPatch):
    believe_anybody(monkeypatch)
    original = Partition.check_leader
    monkeypatch.setattr(Partition, "check_leader", lambda self, _epoch=-1: original(self))
    play(a_reader_with_a_leader_of_yesterday)  # what it never had it does not call out of range before it is sure
    monkeypatch.setattr(LeaderState, "is_beyond", lambda *_: True)
    read = leading.read

    def forgetful(partition, want, **how):
        return read(partition, replace(want, last_fetched_epoch=-1), **how)

    monkeypatch.setattr(leading, "read", forgetful)
    monkeypatch.setattr(ReplicaManager, "read", staticmethod(forgetful))
    with pytest.raises(Broken, match="it read"):
        play(a_reader_with_a_leader_of_yesterday, watched=False)
