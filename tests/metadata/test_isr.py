"""AlterPartition: what a leader may do to its ISR, and which Kafka error says that it may not."""

import uuid

import pytest
from kio.schema.errors import ErrorCode

from ottla.controller.rpc import IsrMember, PartitionIsr
from tests.metadata.cluster import Cluster


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster().up(1, 2, 3, 4)
    cluster.create("t", (1, 2, 3), (2, 1, 3))
    return cluster


def _error(cluster: Cluster, node_id: int, wish: PartitionIsr) -> ErrorCode:
    entries = len(cluster.entries)
    answer = cluster.alter(node_id, wish)
    assert not answer.error
    (result,) = answer.partitions
    if result.error:
        assert len(cluster.entries) == entries, "a refused change must not be committed"
    return ErrorCode(result.error)


def test_shrink_and_expand(cluster: Cluster) -> None:
    """KIP-497"""
    answer = cluster.alter(1, cluster.wish("t", 1, 2))
    assert answer.partitions[0].isr == (1, 2)
    assert answer.partitions[0].partition_epoch == 1
    assert cluster.state("t") == (1, (1, 2), 0, 1)
    cluster.alter(1, cluster.wish("t", 3, 2, 1))
    assert cluster.state("t") == (1, (1, 2, 3), 0, 2)


def test_the_same_isr_is_no_change(cluster: Cluster) -> None:
    assert _error(cluster, 1, cluster.wish("t", 3, 2, 1)) is ErrorCode.none
    assert cluster.state("t") == (1, (1, 2, 3), 0, 0)


def test_many_partitions_in_one_entry(cluster: Cluster) -> None:
    cluster.create("u", (1, 2), (1, 3))
    entries = len(cluster.entries)
    wishes = (cluster.wish("u", 1), cluster.wish("u", 1, partition=1), cluster.wish("t", 2, partition=1))
    answer = cluster.alter(1, *wishes)
    assert [ErrorCode(result.error) for result in answer.partitions] == [
        ErrorCode.none,
        ErrorCode.none,
        ErrorCode.invalid_request,
    ]
    assert len(cluster.entries) == entries + 1


def test_a_partition_named_twice_is_changed_once(cluster: Cluster) -> None:
    answer = cluster.alter(1, cluster.wish("t", 1, 2), cluster.wish("t", 1, 3))
    assert [result.error for result in answer.partitions] == [0, ErrorCode.invalid_request.value]
    assert cluster.state("t") == (1, (1, 2), 0, 1)


def test_stale_broker_epoch(cluster: Cluster) -> None:
    answer = cluster.alter(1, cluster.wish("t", 1), broker_epoch=cluster.epoch(1) - 1)
    assert answer.error == ErrorCode.stale_broker_epoch.value
    assert cluster.alter(9, cluster.wish("t", 1)).error == ErrorCode.stale_broker_epoch.value


def test_a_replaced_leader_is_fenced(cluster: Cluster) -> None:
    """RELIABILITY 2.8: the old leader's wish comes after the election of a new one."""
    late = cluster.wish("t", 1)
    cluster.fence(1)
    cluster.beat(1)
    assert _error(cluster, 1, late) is ErrorCode.fenced_leader_epoch


def test_a_wish_based_on_an_older_isr(cluster: Cluster) -> None:
    late = cluster.wish("t", 1, 2)
    cluster.alter(1, cluster.wish("t", 1))
    assert _error(cluster, 1, late) is ErrorCode.invalid_update_version


def test_a_leader_that_knows_more_than_the_controller(cluster: Cluster) -> None:
    assert _error(cluster, 1, cluster.wish("t", 1, leader_epoch=1)) is ErrorCode.not_controller
    assert _error(cluster, 1, cluster.wish("t", 1, partition_epoch=1)) is ErrorCode.not_controller


def test_only_the_leader_may_ask(cluster: Cluster) -> None:
    assert _error(cluster, 2, cluster.wish("t", 1, 2)) is ErrorCode.invalid_request


@pytest.mark.parametrize("members", [(), (2, 3), (1, 4), (1, 2, 2), (1, 99)])
def test_an_isr_is_a_nonempty_set_of_replicas_with_the_leader(cluster: Cluster, members: tuple[int, ...]) -> None:
    assert _error(cluster, 1, cluster.wish("t", *members)) is ErrorCode.invalid_request


def test_unknown_topics_and_partitions(cluster: Cluster) -> None:
    wish = cluster.wish("t", 1)
    stranger = wish.model_copy(update={"topic_id": uuid.UUID(int=7)})
    assert _error(cluster, 1, stranger) is ErrorCode.unknown_topic_id
    assert _error(cluster, 1, wish.model_copy(update={"partition": 9})) is ErrorCode.unknown_topic_or_partition


def test_a_fenced_or_leaving_replica_may_not_join(cluster: Cluster) -> None:
    """KIP-841"""
    cluster.fence(2)
    assert _error(cluster, 1, cluster.wish("t", 1, 2, 3)) is ErrorCode.ineligible_replica
    cluster.beat(3, want_shutdown=True)
    assert _error(cluster, 1, cluster.wish("t", 1, 3)) is ErrorCode.ineligible_replica


def test_a_replica_may_not_join_by_what_it_fetched_in_its_former_life(cluster: Cluster) -> None:
    """KIP-903: it came back with an empty disk between its fetch and the leader's wish."""
    cluster.alter(1, cluster.wish("t", 1, 3))
    late = cluster.wish("t", 1, 2, 3)
    cluster.register(2, "second")
    cluster.beat(2)
    assert _error(cluster, 1, late) is ErrorCode.ineligible_replica
    assert _error(cluster, 1, cluster.wish("t", 1, 2, 3)) is ErrorCode.none


def test_a_wish_that_names_no_epoch_is_refused(cluster: Cluster) -> None:
    cluster.alter(1, cluster.wish("t", 1, 3))
    wish = cluster.wish("t", 1, 2, 3)
    members = tuple(IsrMember(id=member.id, broker_epoch=-1) for member in wish.new_isr)
    assert _error(cluster, 1, wish.model_copy(update={"new_isr": members})) is ErrorCode.ineligible_replica


def test_a_refusal_tells_the_present_state(cluster: Cluster) -> None:
    late = cluster.wish("t", 1, 2)
    cluster.alter(1, cluster.wish("t", 1))
    (result,) = cluster.alter(1, late).partitions
    assert (result.leader, result.isr, result.leader_epoch, result.partition_epoch) == (1, (1,), 0, 1)
