"""Reassignment of replicas as decisions (KIP-455, KIP-860): what changes when, and what never does."""

from kio.schema.errors import ErrorCode

from ottla.controller.metadata import Limits, PartitionImage, Policy, decode_snapshot, encode_snapshot
from ottla.controller.rpc import (
    AlterPartitionReassignments,
    ConfigOp,
    ConfigResourceOps,
    CreatePartitions,
    DeleteTopics,
    ElectLeaders,
    IncrementalAlterConfigs,
    MorePartitions,
    Reassignment,
    TopicRef,
)
from tests.metadata.cluster import CLUSTER_ID, Cluster, check_invariants, registration


def _cluster(*replicas: int, brokers: int = 6, **configs: str) -> Cluster:
    cluster = Cluster().up(*range(1, brokers + 1))
    cluster.create("t", replicas or (1, 2, 3), **(configs or {"min_insync_replicas": "2"}))
    return cluster


def _state(cluster: Cluster) -> PartitionImage:
    check_invariants(cluster.image)
    return cluster.image.topics["t"].partitions[0]


def _in_sync(cluster: Cluster, *members: int) -> PartitionImage:
    """The leader asks for this ISR, and gets it."""
    answer = cluster.alter(_state(cluster).leader, cluster.wish("t", *members))
    assert answer.partitions[0].error == ErrorCode.none
    return _state(cluster)


def test_replicas_are_added_first_and_dropped_when_all_wanted_ones_are_in_sync() -> None:
    cluster = _cluster()
    assert cluster.reassign("t", (4, 5, 3)) is ErrorCode.none
    state = _state(cluster)
    assert (state.replicas, state.adding, state.removing) == ((4, 5, 3, 1, 2), (4, 5), (1, 2))
    assert (state.leader, state.isr, state.leader_epoch) == (1, (3, 1, 2), 0)
    assert (state.target, state.original) == ((4, 5, 3), (3, 1, 2))
    state = _in_sync(cluster, 1, 2, 3, 4)
    assert (state.isr, state.adding, state.removing) == ((4, 3, 1, 2), (4, 5), (1, 2))
    state = _in_sync(cluster, 1, 2, 3, 4, 5)
    assert (state.replicas, state.isr, state.adding, state.removing) == ((4, 5, 3), (4, 5, 3), (), ())
    assert (state.leader, state.leader_epoch) == (4, 1)


def test_a_wanted_replica_that_is_not_in_sync_keeps_the_others_from_going() -> None:
    """KIP-455, and not only the new ones: 3 is away, and 1 may not go before it is back."""
    cluster = _cluster()
    cluster.fence(3)
    cluster.reassign("t", (4, 2, 3))
    state = _in_sync(cluster, 1, 2, 4)
    assert state.reassigning and state.isr == (4, 2, 1)
    cluster.beat(3)
    state = _in_sync(cluster, 1, 2, 3, 4)
    assert (state.replicas, state.isr) == ((4, 2, 3), (4, 2, 3))


def test_a_leader_that_stays_leads_on_in_a_new_epoch_when_a_replica_goes() -> None:
    """A fetch that the dropped one had sent must not count when it is a replica again, with an empty log."""
    cluster = _cluster()
    cluster.reassign("t", (1, 2, 4))
    state = _in_sync(cluster, 1, 2, 3, 4)
    assert (state.leader, state.leader_epoch, state.replicas) == (1, 1, (1, 2, 4))


def test_adding_alone_disturbs_nobody() -> None:
    cluster = _cluster()
    cluster.reassign("t", (1, 2, 3, 4))
    state = _in_sync(cluster, 1, 2, 3, 4)
    assert (state.leader, state.leader_epoch, state.reassigning) == (1, 0, False)


def test_removing_alone_is_complete_at_once_if_the_rest_is_in_sync() -> None:
    cluster = _cluster()
    cluster.reassign("t", (2, 3))
    state = _state(cluster)
    assert (state.replicas, state.isr, state.leader, state.reassigning) == ((2, 3), (2, 3), 2, False)


def test_another_order_is_not_a_reassignment() -> None:
    cluster = _cluster()
    cluster.fence(3)
    assert cluster.reassign("t", (3, 2, 1)) is ErrorCode.none
    state = _state(cluster)
    assert (state.replicas, state.leader, state.leader_epoch, state.reassigning) == ((3, 2, 1), 1, 0, False)
    entries = len(cluster.entries)
    assert cluster.reassign("t", (3, 2, 1)) is ErrorCode.none
    assert len(cluster.entries) == entries, "nothing to do is no change"


def test_another_target_meanwhile() -> None:
    """Who was being added and has nothing yet is dropped at once; who is in sync stays until the new ones are."""
    cluster = _cluster()
    cluster.reassign("t", (4, 5, 3))
    _in_sync(cluster, 1, 2, 3, 4)
    cluster.reassign("t", (6, 2, 3))
    state = _state(cluster)
    assert (state.replicas, state.adding, state.removing) == ((6, 2, 3, 1, 4), (6, 4), (1, 4))
    assert (state.isr, state.original, state.target) == ((2, 3, 1, 4), (2, 3, 1), (6, 2, 3))
    assert state.leader_epoch == 1, "5 was dropped"
    state = _in_sync(cluster, 1, 2, 3, 4, 6)
    assert (state.replicas, state.isr, state.reassigning) == ((6, 2, 3), (6, 2, 3), False)


def test_cancel() -> None:
    cluster = _cluster()
    assert cluster.reassign("t", None) is ErrorCode.no_reassignment_in_progress
    cluster.reassign("t", (4, 5, 1))
    _in_sync(cluster, 1, 2, 3, 4)
    assert cluster.reassign("t", None) is ErrorCode.none
    state = _state(cluster)
    assert (set(state.replicas), set(state.isr), state.reassigning) == ({1, 2, 3}, {1, 2, 3}, False)
    assert (state.leader, state.leader_epoch) == (1, 1)


def test_cancel_when_only_new_replicas_have_everything_would_be_an_unclean_election() -> None:
    cluster = _cluster(1, min_insync_replicas="1")
    cluster.reassign("t", (2, 3))
    _in_sync(cluster, 1, 2)
    cluster.fence(1)
    assert (_state(cluster).leader, _state(cluster).isr) == (2, (2,))
    assert cluster.reassign("t", None) is ErrorCode.invalid_replica_assignment
    assert _state(cluster).reassigning
    op = ConfigOp(key="unclean.leader.election.enable", op="set", value="true")
    cluster.ask(IncrementalAlterConfigs(resources=(ConfigResourceOps(kind="topic", name="t", ops=(op,)),)))
    cluster.beat(1)
    assert cluster.reassign("t", None) is ErrorCode.none
    assert (_state(cluster).replicas, _state(cluster).isr, _state(cluster).leader) == ((1,), (1,), 1)


def test_cancel_goes_back_to_an_eligible_leader() -> None:
    """The ISR fell to a new replica, below the minimum: 1 still has everything."""
    cluster = _cluster(1, 2, min_insync_replicas="2")
    cluster.reassign("t", (3, 4))
    _in_sync(cluster, 1, 2, 3)
    cluster.fence(2)
    cluster.fence(1)
    assert (_state(cluster).isr, _state(cluster).elr) == ((3,), (1,))
    cluster.beat(1)
    assert cluster.reassign("t", None) is ErrorCode.none
    state = _state(cluster)
    assert (state.replicas, state.isr, state.elr, state.leader) == ((1, 2), (1,), (), 1)


def test_replicas_that_are_being_added_do_not_raise_what_is_asked_of_the_isr() -> None:
    """One of one replica commits alone; three of them shall be two. Until the others are there it goes on alone."""
    cluster = _cluster(1, min_insync_replicas="2")
    cluster.reassign("t", (1, 2, 3))
    assert _state(cluster).required_in_sync(2) == 1
    assert _in_sync(cluster, 1, 2).required_in_sync(2) == 1
    _in_sync(cluster, 1)
    assert _state(cluster).elr == (), "1 has committed alone since"
    assert _in_sync(cluster, 1, 2, 3).required_in_sync(2) == 2
    _in_sync(cluster, 1)
    assert _state(cluster).elr == (2, 3)


def test_an_unclean_election_prefers_who_was_a_replica_before() -> None:
    cluster = _cluster(1, 2, min_insync_replicas="1")
    cluster.reassign("t", (3, 2))
    cluster.fence(2)
    cluster.fence(1)
    cluster.beat(2)
    assert _state(cluster).leader == -1
    cluster.ask(ElectLeaders.model_validate({"election": "unclean"}))
    assert (_state(cluster).leader, _state(cluster).isr) == (2, (2,)), "3 comes first and has nothing"


def test_what_is_refused() -> None:
    cluster = _cluster()
    assert cluster.reassign("u", (1,)) is ErrorCode.unknown_topic_or_partition
    assert cluster.reassign("t", (1,), partition=1) is ErrorCode.unknown_topic_or_partition
    for replicas in ((), (1, 1), (1, 77), (-1, 2)):
        assert cluster.reassign("t", replicas) is ErrorCode.invalid_replica_assignment
    assert cluster.reassign("t", (1, 2), same_factor=True) is ErrorCode.invalid_replication_factor
    assert cluster.reassign("t", (4, 2, 3), same_factor=True) is ErrorCode.none
    assert cluster.reassign("t", (4, 5, 2, 3), same_factor=True) is ErrorCode.invalid_replication_factor
    assert cluster.reassign("t", (4, 5, 2), same_factor=True) is ErrorCode.none
    twice = Reassignment(topic="t", partition=0, replicas=(1, 2, 3))
    answer = cluster.ask(AlterPartitionReassignments(partitions=(twice, twice)))
    assert [item.error for item in answer.partitions] == [ErrorCode.invalid_request] * 2
    few = Cluster(Policy(limits=Limits(partitions_per_request=1)))
    assert few.ask(AlterPartitionReassignments(partitions=(twice, twice))).error == ErrorCode.policy_violation


def test_a_broker_that_is_down_can_be_wanted() -> None:
    cluster = _cluster()
    cluster.fence(4)
    assert cluster.reassign("t", (1, 2, 4)) is ErrorCode.none
    cluster.beat(4)
    assert _in_sync(cluster, 1, 2, 3, 4).replicas == (1, 2, 4)


def test_topics_are_deleted_and_grow_meanwhile() -> None:
    cluster = _cluster()
    cluster.reassign("t", (4, 5))
    assert cluster.ask(CreatePartitions(topics=(MorePartitions(name="t", count=2),))).topics[0].error == 0
    assert len(cluster.image.topics["t"].partitions[1].replicas) == 2, "as many as there will be"
    wish = cluster.wish("t", 1, 2, 3, 4)
    cluster.ask(DeleteTopics(topics=(TopicRef(name="t"),)))
    assert cluster.alter(1, wish).partitions[0].error == ErrorCode.unknown_topic_id
    assert cluster.reassign("t", None) is ErrorCode.unknown_topic_or_partition


def test_a_replica_that_restarts_while_it_is_added_has_to_catch_up_again() -> None:
    cluster = _cluster()
    cluster.reassign("t", (4, 2, 3))
    stale = cluster.wish("t", 1, 2, 3, 4)
    cluster.ask(registration(4, "second"))
    assert cluster.alter(1, stale).partitions[0].error == ErrorCode.ineligible_replica
    assert _state(cluster).reassigning


def test_the_leader_of_a_completed_reassignment_is_one_that_is_up() -> None:
    cluster = _cluster()
    cluster.reassign("t", (4, 5, 6))
    state = _in_sync(cluster, 1, 2, 3, 4, 5, 6)
    assert (state.leader, state.isr) == (4, (4, 5, 6))


def test_a_snapshot_keeps_a_reassignment() -> None:
    cluster = _cluster()
    cluster.reassign("t", (4, 5, 3))
    assert decode_snapshot(encode_snapshot(cluster.image), CLUSTER_ID) == cluster.image
