"""`apply`, records as bytes, deltas and snapshots."""

from uuid import UUID

import pytest
from pydantic import ValidationError

from ottla.controller.metadata import (
    BrokenInvariant,
    MetadataImage,
    Record,
    SnapshotMismatch,
    apply,
    decode_records,
    decode_snapshot,
    diff,
    encode_records,
    encode_snapshot,
)
from ottla.controller.metadata.records import (
    BrokerChanged,
    BrokerRegistered,
    ConfigChanged,
    PartitionChanged,
    PartitionCreated,
    ProducerIdsAllocated,
    TopicCreated,
    TopicDeleted,
)
from ottla.controller.rpc import AllocateProducerIds, DeleteTopics, TopicRef
from tests.metadata.cluster import CLUSTER_ID, Cluster

ID = UUID(int=1)
OTHER_ID = UUID(int=2)


def _cluster() -> Cluster:
    cluster = Cluster().up(1, 2)
    cluster.create("t", (1, 2), retention_ms="5")
    cluster.ask(AllocateProducerIds(node_id=1, broker_epoch=cluster.epoch(1)))
    return cluster


def _records() -> list[Record]:
    return [
        BrokerRegistered(id=1, epoch=7, incarnation="i", listeners=(("L", "h", 1),), rack="r", http="h:2"),
        BrokerChanged(id=1, epoch=7, fenced=False),
        TopicCreated(id=ID, name="t"),
        PartitionCreated(topic_id=ID, partition=0, replicas=(1,), isr=(1,), leader=1),
        PartitionChanged(topic_id=ID, partition=0, leader=-1, leader_epoch=1, partition_epoch=1),
        ConfigChanged(kind="topic", name="t", key="k", value="v"),
        ProducerIdsAllocated(node_id=1, broker_epoch=7, next_producer_id=1000),
        TopicDeleted(id=OTHER_ID),
    ]


def test_records_survive_their_bytes() -> None:
    assert decode_records(encode_records(_records())) == _records()
    assert decode_records(encode_records([])) == []


def test_an_entry_is_compact() -> None:
    record = PartitionChanged(topic_id=ID, partition=3, leader=2, leader_epoch=5, partition_epoch=6)
    assert encode_records([record]) == (
        b'[{"type":"partition-change","topic_id":"00000000-0000-0000-0000-000000000001","partition":3,'
        b'"leader":2,"leader_epoch":5,"partition_epoch":6}]'
    )


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'[{"type":"comet"}]', b'[{"type":"topic","name":"t"}]', b'[{"type":"topic-delete","id":"x"}]']
)
def test_an_entry_that_cannot_be_read_is_an_error(data: bytes) -> None:
    with pytest.raises(ValidationError):
        decode_records(data)


def test_an_entry_of_a_newer_version_is_an_error() -> None:
    with pytest.raises(ValidationError):
        decode_records(b'[{"type":"topic-delete","id":"00000000-0000-0000-0000-000000000001","gently":true}]')


def _change(**changes: object) -> PartitionChanged:
    fields = {"topic_id": ID, "partition": 0, "leader": 2, "leader_epoch": 1, "partition_epoch": 1, **changes}
    return PartitionChanged.model_validate(fields)


@pytest.mark.parametrize(
    "record",
    [
        BrokerRegistered(id=1, epoch=1, incarnation="i", listeners=()),
        BrokerChanged(id=9, epoch=1, fenced=True),
        BrokerChanged(id=1, epoch=99, fenced=True),
        TopicCreated(id=OTHER_ID, name="t"),
        TopicCreated(id=ID, name="u"),
        PartitionCreated(topic_id=OTHER_ID, partition=0, replicas=(1,), isr=(1,), leader=1),
        PartitionCreated(topic_id=ID, partition=0, replicas=(1,), isr=(1,), leader=1),
        PartitionCreated(topic_id=ID, partition=2, replicas=(1,), isr=(1,), leader=1),
        PartitionCreated(topic_id=ID, partition=1, replicas=(), isr=(), leader=-1),
        PartitionCreated(topic_id=ID, partition=1, replicas=(1, 1), isr=(1,), leader=1),
        PartitionCreated(topic_id=ID, partition=1, replicas=(1,), isr=(1,), leader=1, adding=(2,)),
        PartitionCreated(topic_id=ID, partition=1, replicas=(1,), isr=(1, 2), leader=1),
        _change(partition=1),
        _change(partition_epoch=0),
        _change(partition_epoch=2),
        _change(leader_epoch=0),
        _change(leader_epoch=-1, leader=1),
        _change(leader=3),
        _change(isr=()),
        _change(isr=(), leader=-1),
        _change(isr=(), leader=-1, last_known_leader=3),
        _change(isr=(), leader=-1, last_known_leader=1, elr=(2,)),
        _change(last_known_leader=1),
        _change(replicas=(1, 2, 9), adding=(9,)),
        _change(replicas=(1, 2, 3, 3), adding=(3,)),
        _change(replicas=(1, 2), adding=(3,)),
        _change(replicas=(1, 2), removing=(3,)),
        _change(replicas=(1,), leader=1, leader_epoch=0, isr=(1,)),
        _change(isr=(2, 2)),
        _change(isr=(2, 3)),
        _change(isr=(1,)),
        TopicDeleted(id=OTHER_ID),
        ConfigChanged(kind="topic", name="u", key="k", value="v"),
        ConfigChanged(kind="client", name="t", key="k", value="v"),
        ConfigChanged(kind="topic", name="t", key="k", value=None),
        ProducerIdsAllocated(node_id=1, broker_epoch=1, next_producer_id=0),
    ],
)
def test_a_record_that_does_not_fit_is_a_broken_invariant(record: Record) -> None:
    image, _ = apply(
        MetadataImage(cluster_id=CLUSTER_ID),
        [
            BrokerRegistered(id=1, epoch=1, incarnation="i", listeners=(), fenced=False),
            BrokerRegistered(id=2, epoch=2, incarnation="i", listeners=(), fenced=False),
            BrokerRegistered(id=3, epoch=3, incarnation="i", listeners=()),
            TopicCreated(id=ID, name="t"),
            PartitionCreated(topic_id=ID, partition=0, replicas=(1, 2), isr=(1, 2), leader=1),
        ],
        1,
    )
    with pytest.raises(BrokenInvariant):
        apply(image, [record], 2)


def test_a_fenced_broker_may_not_lead() -> None:
    cluster = _cluster()
    with pytest.raises(BrokenInvariant, match="fenced"):
        apply(cluster.image, [BrokerChanged(id=2, epoch=cluster.epoch(2), fenced=True), _fenced_leader(cluster)], 99)


def _fenced_leader(cluster: Cluster) -> PartitionChanged:
    topic_id = cluster.image.topics["t"].id
    return PartitionChanged(topic_id=topic_id, partition=0, leader=2, leader_epoch=1, partition_epoch=1)


def test_applying_leaves_the_old_image_as_it_was() -> None:
    cluster = _cluster()
    before, bytes_before = cluster.image, encode_snapshot(cluster.image)
    cluster.fence(1)
    cluster.create("u", (2,))
    cluster.ask(DeleteTopics(topics=(TopicRef(name="t"),)))
    assert encode_snapshot(before) == bytes_before
    assert encode_snapshot(cluster.image) != bytes_before


def test_what_an_entry_does_not_touch_is_shared() -> None:
    cluster = _cluster()
    cluster.create("u", (2,))
    before = cluster.image
    cluster.alter(1, cluster.wish("t", 1))
    assert cluster.image.brokers is before.brokers
    assert cluster.image.configs is before.configs
    assert cluster.image.topics["u"] is before.topics["u"]


def test_delta_of_a_new_topic() -> None:
    cluster = _cluster()
    cluster.create("u", (2,), (1,), retention_ms="7")
    delta = cluster.delta
    assert delta.created == (cluster.image.topics["u"],)
    assert delta.partitions == {("u", 0), ("u", 1)}
    assert delta.configs == {("topic", "u")}
    assert not delta.brokers


def test_an_empty_entry_is_no_change() -> None:
    image, delta = apply(_cluster().image, [], 99)
    assert not delta
    assert image.offset == 99


def test_a_topic_that_is_changed_and_deleted_in_one_entry_is_gone() -> None:
    cluster = _cluster()
    topic = cluster.image.topics["t"]
    change = PartitionChanged(topic_id=topic.id, partition=0, leader=2, leader_epoch=1, partition_epoch=1)
    image, delta = apply(cluster.image, [change, TopicDeleted(id=topic.id)], 99)
    assert not image.topics
    assert delta.deleted == (topic,)
    assert not delta.partitions


def test_snapshot_round_trip() -> None:
    cluster = _cluster()
    cluster.fence(1)
    assert decode_snapshot(encode_snapshot(cluster.image), CLUSTER_ID) == cluster.image
    empty = MetadataImage(cluster_id=CLUSTER_ID)
    assert decode_snapshot(encode_snapshot(empty), CLUSTER_ID) == empty


def test_a_snapshot_of_another_cluster_is_refused() -> None:
    data = encode_snapshot(_cluster().image)
    with pytest.raises(SnapshotMismatch, match="another"):
        decode_snapshot(data, "another")
    with pytest.raises(SnapshotMismatch, match="format"):
        decode_snapshot(data.replace(b'"version":1', b'"version":9', 1), CLUSTER_ID)


def test_diff_says_what_a_snapshot_changes() -> None:
    cluster = _cluster()
    cluster.create("same", (1, 2))
    cluster.create("gone", (2,))
    before = cluster.image
    assert not diff(before, before)
    cluster.ask(DeleteTopics(topics=(TopicRef(name="t"), TopicRef(name="gone"))))
    cluster.create("t", (2, 1))
    cluster.fence(1)
    delta = diff(before, cluster.image)
    assert {topic.name for topic in delta.deleted} == {"t", "gone"}
    assert delta.created == (cluster.image.topics["t"],)
    assert delta.partitions == {("t", 0), ("same", 0)}
    assert delta.brokers == {1}
    assert delta.configs == {("topic", "t")}
