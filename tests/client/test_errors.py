"""An error that reaches the user names the group, the partition, the broker, the epochs and the attempts."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
from kio.schema.errors import ErrorCode

from ottla.client import (
    CommitFailedError,
    Consumer,
    CorruptRecordError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    LeaderNotAvailableError,
    LogTruncationError,
    NoBrokersAvailable,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicPartition,
    UnknownTopicOrPartitionError,
)
from ottla.client.consumer.committer import Committer
from ottla.client.coordinator import Coordinator
from ottla.client.errors import BrokerResponseError
from ottla.client.group.model import Identity
from ottla.client.network import Network
from ottla.client.structs import OffsetAndMetadata
from tests.client.fake import FakeCluster

TP = TopicPartition("t", 0)
EPOCH = 1
ANYONE = 0
GONE = TopicPartition("t", 7)

Act = Callable[[FakeCluster, Consumer], Awaitable[Any]]


class Case(NamedTuple):
    """What a program does at a cluster that refuses something, and what it hears.

    The leader of `TP` is broker 1, in epoch `EPOCH`; broker 2 coordinates the groups; `ANYONE` knows of topics and
    coordinators. `attempts` is how many it takes at least.
    """

    act: Act
    error: type[KafkaError]
    refusals: dict[str, ErrorCode] = {}
    group: bool = False
    broker: int | None = 1
    partition: TopicPartition | None = TP
    partitions: tuple[TopicPartition, ...] = ()
    leader_epoch: int | None = EPOCH
    generation: int | None = None
    attempts: int | None = 1
    options: dict[str, Any] = {}


async def reads(cluster: FakeCluster, consumer: Consumer) -> None:
    consumer.seek(TP, 0)
    await consumer.getone()


async def reads_past_the_end(cluster: FakeCluster, consumer: Consumer) -> None:
    consumer.seek(TP, 17)
    await consumer.getone()


async def has_no_position(cluster: FakeCluster, consumer: Consumer) -> None:
    await consumer.getone()


async def reads_what_is_truncated(cluster: FakeCluster, consumer: Consumer) -> None:
    consumer.seek(TP, 0)
    for _ in range(3):
        await consumer.getone()
    del cluster.topics["t"][1][0].batches[1:]
    cluster.elect(TP, 1)
    await consumer.getone()


async def reads_damage_twice(cluster: FakeCluster, consumer: Consumer) -> None:
    batches = cluster.topics["t"][1][0].batches
    batches[0] = batches[0][:-1] + bytes([batches[0][-1] ^ 1])
    consumer.seek(TP, 0)
    with pytest.raises(CorruptRecordError):
        await consumer.getone()
    await consumer.getone()


async def reads_misplaced_batches(cluster: FakeCluster, consumer: Consumer) -> None:
    batches = cluster.topics["t"][1][0].batches
    batches[0] = batches[0][:15] + b"\x63" + batches[0][16:]
    consumer.seek(TP, 0)
    await consumer.getone()


async def reads_on_after_an_election(cluster: FakeCluster, consumer: Consumer) -> None:
    consumer.seek(TP, 0)
    for _ in range(3):
        await consumer.getone()
    cluster.refusals["offset_for_leader_epoch"] = ErrorCode.topic_authorization_failed
    cluster.elect(TP, 1)
    await consumer.getone()


async def asks_where_it_ends(cluster: FakeCluster, consumer: Consumer) -> None:
    await consumer.end_offsets([TP])


async def asks_where_it_ends_without_a_leader(cluster: FakeCluster, consumer: Consumer) -> None:
    cluster.elect(TP, -1)
    await consumer.end_offsets([TP])


async def asks_a_silent_leader(cluster: FakeCluster, consumer: Consumer) -> None:
    cluster.pause(1)
    await consumer.end_offsets([TP])


async def seeks_to_the_end(cluster: FakeCluster, consumer: Consumer) -> None:
    await consumer.seek_to_end(TP)


async def asks_for_partitions(cluster: FakeCluster, consumer: Consumer) -> None:
    await consumer.partitions_of("none")


async def asks_about_a_missing_topic(cluster: FakeCluster, consumer: Consumer) -> None:
    await consumer.end_offsets([TopicPartition("none", 0)])


async def commits(cluster: FakeCluster, consumer: Consumer) -> None:
    await consumer.commit({TP: OffsetAndMetadata(3, "", EPOCH)})


async def commits_to_silence(cluster: FakeCluster, consumer: Consumer) -> None:
    await consumer.committed(TP)
    cluster.pause(2)
    await consumer.commit({TP: 3, GONE: 4})


async def asks_what_is_committed(cluster: FakeCluster, consumer: Consumer) -> None:
    await consumer.committed(TP)


async def joins(cluster: FakeCluster, consumer: Consumer) -> None:
    consumer.unsubscribe()
    consumer.subscribe(["t"])
    await consumer.getone()


DENIED = ErrorCode.topic_authorization_failed
IMPATIENT = {"request_timeout_ms": 400}
"""For what ends with a time-out. All else has the default, which a busy machine does not reach."""
NEW = {"group_protocol": "consumer", "group_remote_assignor": "mine"}

CASES = {
    "a fetch is refused": Case(reads, BrokerResponseError, {"fetch": DENIED}),
    "out of range": Case(reads_past_the_end, OffsetOutOfRangeError),
    "no position": Case(has_no_position, NoOffsetForPartitionError, group=True, broker=None, attempts=None),
    "truncated": Case(reads_what_is_truncated, LogTruncationError),
    "damaged": Case(reads_damage_twice, CorruptRecordError, attempts=2),
    "misplaced": Case(reads_misplaced_batches, CorruptRecordError),
    "an epoch's end is refused": Case(reads_on_after_an_election, BrokerResponseError, leader_epoch=EPOCH + 1),
    "an offset is refused": Case(asks_where_it_ends, BrokerResponseError, {"list_offsets": DENIED}),
    "an offset is refused for too long": Case(
        asks_where_it_ends,
        BrokerResponseError,
        {"list_offsets": ErrorCode.not_leader_or_follower},
        attempts=2,
        options=IMPATIENT,
    ),
    "no leader": Case(
        asks_where_it_ends_without_a_leader,
        LeaderNotAvailableError,
        {"list_offsets": ErrorCode.not_leader_or_follower},
        broker=None,
        leader_epoch=EPOCH + 1,
        attempts=2,
        options=IMPATIENT,
    ),
    "a silent leader": Case(asks_a_silent_leader, KafkaTimeoutError, options=IMPATIENT),
    "a position is refused": Case(seeks_to_the_end, BrokerResponseError, {"list_offsets": DENIED}),
    "no such topic": Case(
        asks_for_partitions, UnknownTopicOrPartitionError, broker=ANYONE, partition=None, leader_epoch=None
    ),
    "no such topic for too long": Case(
        asks_about_a_missing_topic,
        UnknownTopicOrPartitionError,
        broker=ANYONE,
        partition=None,
        leader_epoch=None,
        attempts=2,
        options=IMPATIENT,
    ),
    "a commit is refused": Case(
        commits, BrokerResponseError, {"offset_commit": ErrorCode.offset_metadata_too_large}, group=True, broker=2
    ),
    "a commit is refused for too long": Case(
        commits,
        BrokerResponseError,
        {"offset_commit": ErrorCode.coordinator_load_in_progress},
        group=True,
        broker=2,
        attempts=2,
        options=IMPATIENT,
    ),
    "a commit is not answered": Case(
        commits_to_silence,
        KafkaTimeoutError,
        group=True,
        broker=2,
        partition=None,
        partitions=(TP, GONE),
        leader_epoch=None,
        options=IMPATIENT,
    ),
    "a committed offset is refused": Case(
        asks_what_is_committed,
        BrokerResponseError,
        {"offset_fetch": ErrorCode.group_authorization_failed},
        group=True,
        broker=2,
        leader_epoch=None,
    ),
    "a committed offset is refused for too long": Case(
        asks_what_is_committed,
        BrokerResponseError,
        {"offset_fetch": ErrorCode.unstable_offset_commit},
        group=True,
        broker=2,
        leader_epoch=None,
        attempts=2,
        options=IMPATIENT,
    ),
    "the coordinator is not told": Case(
        asks_what_is_committed,
        InvalidGroupIdError,
        {"find_coordinator": ErrorCode.invalid_group_id},
        group=True,
        broker=ANYONE,
        leader_epoch=None,
    ),
    "a join is refused": Case(
        joins, InconsistentGroupProtocolError, group=True, broker=2, partition=None, leader_epoch=None
    ),
    "a heartbeat is refused": Case(
        joins,
        BrokerResponseError,
        group=True,
        broker=2,
        partition=None,
        leader_epoch=None,
        options=NEW,
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_an_error_that_reaches_the_user_says_where(cluster: FakeCluster, name: str) -> None:
    case = CASES[name]
    for leader in (2, 1)[-EPOCH:]:
        cluster.create("t")[0].leader = leader
        cluster.elect(TP, leader)
    cluster.topics["t"][1][0].write(b"a", b"b", b"c")
    cluster.transactions.leader = 2
    cluster.refusals |= case.refusals
    options: dict[str, Any] = {"auto_offset_reset": "none", **case.options}
    async with Consumer(
        bootstrap_servers=cluster.bootstrap,
        group_id="g" if case.group else None,
        enable_auto_commit=False,
        **options,
    ) as consumer:
        consumer.assign([TP])
        async with asyncio.timeout(10):
            with pytest.raises(case.error) as caught:
                await case.act(cluster, consumer)
    check(caught.value, case)


def check(error: KafkaError, case: Case) -> None:
    expected = {
        "group_id": "g" if case.group else None,
        "generation": case.generation,
        "partition": case.partition,
        "partitions": case.partitions or None,
        "broker": case.broker,
        "leader_epoch": case.leader_epoch,
    }
    attempts = error.attempts
    assert (attempts is None) == (case.attempts is None) and (attempts or 0) >= (case.attempts or 0), str(error)
    found = dict(error.fields)
    found.pop("attempts", None)
    if case.broker == ANYONE:
        assert found["broker"] in (1, 2)
        found["broker"] = ANYONE
    assert found == {name: value for name, value in expected.items() if value is not None}, str(error)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error) and again.fields == error.fields


class Member:
    """Who commits in generation 5."""

    def __init__(self, owned: set[TopicPartition]) -> None:
        self.owned = owned

    def identity(self) -> Identity:
        return Identity("m", 5)

    def holding(self, tp: TopicPartition) -> int | None:
        return 1 if tp in self.owned else None

    def fenced(self, code: ErrorCode, identity: Identity) -> None:
        self.owned.clear()


@pytest.mark.parametrize("owned, broker, attempts", [({TP}, 2, 1), (set(), None, 0)])
async def test_a_failed_commit_names_its_generation(
    cluster: FakeCluster, owned: set[TopicPartition], broker: int | None, attempts: int
) -> None:
    cluster.create("t")
    cluster.transactions.leader = 2
    cluster.refusals["offset_commit"] = ErrorCode.illegal_generation
    consumer = Consumer(bootstrap_servers=cluster.bootstrap)
    async with consumer:
        network: Network = consumer._network
        coordinator = Coordinator(network, "g")
        committer = Committer(network, coordinator, "g", Member(set(owned)))
        with pytest.raises(CommitFailedError) as caught:
            await committer.commit({TP: OffsetAndMetadata(3, "", 4)}, 5)
        await coordinator.close()
    case = Case(reads, CommitFailedError, {}, True, broker, TP, (), 4, 5, attempts)
    check(caught.value, case)


async def test_no_broker_at_all() -> None:
    consumer = Consumer(bootstrap_servers="127.0.0.1:1", request_timeout_ms=200)
    with pytest.raises(NoBrokersAvailable, match=r"127\.0\.0\.1:1 \[attempts \d+\]"):
        await consumer.start()
    await consumer.stop()


def test_what_is_not_known_is_not_named() -> None:
    error = KafkaTimeoutError("too late", broker=None, partitions=(), leader_epoch=-1)
    assert (str(error), error.fields, error.broker) == ("too late", {}, None)


def test_what_is_learned_further_up_is_no_news_to_others() -> None:
    error = KafkaConnectionError("reset", broker=3)
    error.__cause__ = OSError()
    one, other = error.about(partition=TP), error.about(attempts=4)
    assert str(one) == "reset [partition t-0, broker 3]" and one.__cause__ is error.__cause__
    assert str(other) == "reset [broker 3, attempts 4]"
    assert str(error) == "reset [broker 3]"


def test_a_text_names_so_many_partitions_and_no_more() -> None:
    error = KafkaTimeoutError("too late", group_id="g", partitions=tuple(TopicPartition("t", n) for n in range(12)))
    assert str(error).startswith("too late [group 'g', partitions t-0 t-1 ") and str(error).endswith("t-9 and 2 more]")
