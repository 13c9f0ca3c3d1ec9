"""Registration, fencing, heartbeats and controlled shutdown."""

from kio.schema.errors import ErrorCode

from ottla.controller.metadata import decode_snapshot, encode_snapshot, fence
from ottla.controller.rpc import AllocateProducerIds, Heartbeat, UnregisterBroker
from tests.metadata.cluster import CLUSTER_ID, Cluster, registration


def test_a_registered_broker_is_fenced_until_it_has_caught_up_with_its_registration() -> None:
    """KIP-631: a broker must not serve with metadata older than its own registration."""
    cluster = Cluster()
    epoch = cluster.register(1).epoch
    assert epoch == cluster.image.offset == 1
    assert cluster.image.brokers[1].fenced
    assert cluster.beat(1, applied=epoch - 1).fenced
    assert cluster.image.brokers[1].fenced
    assert not cluster.beat(1, applied=epoch).fenced
    assert not cluster.image.brokers[1].fenced


def test_epochs_grow_over_brokers_and_incarnations() -> None:
    cluster = Cluster().up(1, 2)
    epochs = [cluster.epoch(1), cluster.epoch(2), cluster.register(1, "second").epoch, cluster.register(2, "new").epoch]
    assert epochs == sorted(set(epochs))


def test_a_repeated_registration_is_answered_the_same() -> None:
    cluster = Cluster().up(1)
    entries = len(cluster.entries)
    assert cluster.ask(registration(1), session_live=True).epoch == cluster.epoch(1)
    assert len(cluster.entries) == entries
    assert not cluster.image.brokers[1].fenced


def test_the_same_incarnation_on_other_listeners_is_a_new_registration() -> None:
    cluster = Cluster().up(1)
    before = cluster.epoch(1)
    assert cluster.ask(registration(1, port=7777), session_live=True).epoch > before
    assert cluster.image.brokers[1].listeners[0].port == 7777


def test_a_second_process_with_the_id_of_a_living_broker_is_refused() -> None:
    cluster = Cluster().up(1)
    answer = cluster.ask(registration(1, "impostor"), session_live=True)
    assert answer.error == ErrorCode.duplicate_broker_registration.value
    assert cluster.image.brokers[1].incarnation == "first"


def test_a_broker_of_another_cluster_is_refused() -> None:
    cluster = Cluster()
    answer = cluster.ask(registration(1).model_copy(update={"cluster_id": CLUSTER_ID + "x"}))
    assert answer.error == ErrorCode.inconsistent_cluster_id.value
    assert not cluster.image.brokers


def test_a_restarted_broker_leaves_the_isrs_that_have_others() -> None:
    """KIP-966: what it had confirmed before an unclean stop it may have lost."""
    cluster = Cluster().up(1, 2, 3)
    cluster.create("t", (1, 2, 3), (2, 3, 1))
    cluster.create("solo", (1,))
    cluster.register(1, "second")
    assert cluster.state("t", 0) == (2, (2, 3), 1, 1)
    assert cluster.state("t", 1) == (2, (2, 3), 0, 1)
    assert cluster.state("solo") == (-1, (), 1, 1)
    assert cluster.image.topics["solo"].partitions[0].last_known_leader == 1
    cluster.beat(1)
    assert cluster.state("t", 0) == (2, (2, 3), 1, 1)
    assert cluster.state("solo") == (1, (1,), 2, 2)


def test_all_brokers_restart_at_once_and_the_last_one_out_leads() -> None:
    cluster = Cluster().up(1, 2, 3)
    cluster.create("t", (1, 2, 3))
    for broker in (1, 2, 3):
        cluster.register(broker, "second")
    assert cluster.state("t")[:2] == (-1, ())
    cluster.beat(1)
    cluster.beat(2)
    assert cluster.state("t")[:2] == (-1, ())
    cluster.beat(3)
    assert cluster.state("t")[:2] == (3, (3,))


def test_fencing_moves_leaders_to_the_next_in_sync_replica_in_one_entry() -> None:
    cluster = Cluster().up(1, 2, 3)
    cluster.create("t", (1, 2, 3), (2, 3, 1), (3, 1, 2))
    entries = len(cluster.entries)
    cluster.fence(1)
    assert len(cluster.entries) == entries + 1
    assert cluster.state("t", 0) == (2, (2, 3), 1, 1)
    # Only the ISR changes where it followed: the leader goes on in its epoch.
    assert cluster.state("t", 1) == (2, (2, 3), 0, 1)
    assert cluster.state("t", 2) == (3, (3, 2), 0, 1)
    assert cluster.delta.partitions == {("t", 0), ("t", 1), ("t", 2)}
    assert cluster.delta.brokers == {1}


def test_fencing_all_keeps_the_last_member_and_no_leader() -> None:
    cluster = Cluster().up(1, 2, 3)
    cluster.create("t", (1, 2, 3))
    cluster.fence(1)
    cluster.fence(2)
    assert cluster.state("t")[:2] == (3, (3,))
    cluster.fence(3)
    assert cluster.state("t")[:2] == (-1, (3,))
    cluster.beat(1)
    assert cluster.state("t")[:2] == (-1, (3,))
    cluster.beat(3)
    assert cluster.state("t")[:2] == (3, (3,))


def test_brokers_fenced_together_leave_the_leader_as_the_last_member() -> None:
    cluster = Cluster().up(1, 2, 3)
    cluster.create("t", (3, 1, 2))
    cluster.fence(1, 2, 3)
    assert cluster.state("t") == (-1, (3,), 1, 1)


def test_fencing_who_is_fenced_or_unknown_changes_nothing() -> None:
    cluster = Cluster().up(1)
    cluster.fence(1)
    assert fence(cluster.image, cluster.policy, (1, 9)) == ()


def test_a_fenced_broker_that_beats_again_is_unfenced_in_its_epoch() -> None:
    cluster = Cluster().up(1)
    epoch = cluster.epoch(1)
    cluster.fence(1)
    assert not cluster.beat(1).fenced
    assert cluster.epoch(1) == epoch


def test_heartbeats_of_strangers_and_of_former_lives() -> None:
    cluster = Cluster().up(1)
    answer = cluster.ask(Heartbeat(node_id=9, epoch=1, applied_offset=1))
    assert answer.error == ErrorCode.broker_id_not_registered.value
    old = cluster.epoch(1)
    cluster.register(1, "second")
    answer = cluster.ask(Heartbeat(node_id=1, epoch=old, applied_offset=99))
    assert answer.error == ErrorCode.stale_broker_epoch.value
    assert cluster.image.brokers[1].fenced


def test_controlled_shutdown_gives_everything_away_before_it_lets_the_broker_go() -> None:
    cluster = Cluster().up(1, 2)
    cluster.create("t", (1, 2), (2, 1))
    cluster.create("solo", (1,))
    entries = len(cluster.entries)
    answer = cluster.beat(1, want_shutdown=True)
    assert answer.should_shutdown
    assert len(cluster.entries) == entries + 1
    assert cluster.state("t", 0)[:2] == (2, (2,))
    assert cluster.state("t", 1)[:2] == (2, (2,))
    assert cluster.state("solo")[:2] == (-1, (1,))
    # Whatever it says now, it stays away until it registers anew.
    assert cluster.beat(1, want_shutdown=True).should_shutdown
    assert cluster.beat(1).should_shutdown
    assert cluster.image.brokers[1].fenced
    assert len(cluster.entries) == entries + 1
    cluster.register(1, "second")
    assert not cluster.beat(1).should_shutdown
    assert cluster.state("solo")[:2] == (1, (1,))


def test_a_fenced_broker_may_shut_down_too() -> None:
    cluster = Cluster()
    cluster.register(1)
    assert cluster.beat(1, want_shutdown=True).should_shutdown


def test_producer_id_blocks_are_never_given_twice() -> None:
    """KIP-730"""
    cluster = Cluster().up(1, 2)
    blocks = []
    for broker in (1, 2, 1):
        answer = cluster.ask(AllocateProducerIds(node_id=broker, broker_epoch=cluster.epoch(broker)))
        blocks.append((answer.first, answer.count))
    assert blocks == [(0, 1000), (1000, 1000), (2000, 1000)]
    assert cluster.ask(AllocateProducerIds(node_id=1, broker_epoch=0)).error == ErrorCode.stale_broker_epoch.value


def test_who_is_unregistered_is_out_of_the_isrs_and_comes_back_as_one_that_may_have_lost_everything() -> None:
    cluster = Cluster().up(1, 2)
    cluster.create("t", (1, 2))
    cluster.create("solo", (1,))
    assert cluster.ask(UnregisterBroker(broker_id=7)).error == ErrorCode.broker_id_not_registered
    assert not cluster.ask(UnregisterBroker(broker_id=1)).error
    assert 1 not in cluster.image.brokers and cluster.delta.brokers == {1}
    assert cluster.state("t")[:2] == (2, (2,))
    assert cluster.state("solo")[:2] == (-1, (1,))
    assert decode_snapshot(encode_snapshot(cluster.image), CLUSTER_ID) == cluster.image
    cluster.register(1, "second")
    assert cluster.state("solo")[:2] == (-1, ())
    cluster.beat(1)
    assert cluster.state("solo")[:2] == (1, (1,)), "nobody else has more of it"
