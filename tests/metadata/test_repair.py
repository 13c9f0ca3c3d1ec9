"""Automatic repair: what is rebuilt where, how much at a time, and when it is called off."""

from __future__ import annotations

import pytest
from kio.schema.errors import ErrorCode

from ottla.controller.active.absences import Absences
from ottla.controller.metadata import (
    BrokenInvariant,
    BrokerAway,
    PartitionImage,
    Policy,
    decode_snapshot,
    encode_snapshot,
    repair,
)
from ottla.controller.rpc import (
    ConfigOp,
    ConfigResourceOps,
    CreateTopics,
    DeleteTopics,
    IncrementalAlterConfigs,
    NewTopic,
    TopicRef,
    UnregisterBroker,
)
from ottla.node.definitions import BROKER_CONFIGS
from tests.metadata.cluster import Cluster, check_invariants


def _state(cluster: Cluster, topic: str = "t", partition: int = 0) -> PartitionImage:
    check_invariants(cluster.image)
    return cluster.image.topics[topic].partitions[partition]


def _repair(cluster: Cluster, *gone: int, limit: int = 20) -> int:
    changes = repair(cluster.image, cluster.policy, gone, limit=limit)
    cluster.commit(changes)
    return len(changes)


def _under_way(cluster: Cluster) -> int:
    return sum(state.automatic for _, _, state in cluster.image.all_partitions())


def _catch_up(cluster: Cluster, topic: str = "t", partition: int = 0) -> PartitionImage:
    state = _state(cluster, topic, partition)
    members = [replica for replica in state.replicas if cluster.image.eligible(replica)]
    wish = cluster.wish(topic, *members, partition=partition)
    assert not cluster.alter(state.leader, wish).partitions[0].error
    return _state(cluster, topic, partition)


def test_a_replica_is_rebuilt_in_another_rack_and_then_the_gone_one_is_dropped() -> None:
    cluster = Cluster().up(1, 2, 3, 4, 5, 6, racks=("a", "b", "c"))
    cluster.create("t", (1, 2, 3))
    cluster.fence(2)
    assert _repair(cluster, 2) == 1
    state = _state(cluster)
    assert (state.target, state.adding, state.removing, state.automatic) == ((1, 5, 3), (5,), (2,), True)
    assert state.isr == (1, 3)
    state = _catch_up(cluster)
    assert (state.replicas, state.isr, state.automatic) == ((1, 5, 3), (1, 5, 3), False)
    assert _repair(cluster, 2) == 0


def test_nothing_is_done_twice() -> None:
    cluster = Cluster().up(1, 2, 3, 4)
    cluster.create("t", (1, 2, 3))
    cluster.fence(2)
    assert _repair(cluster, 2) == 1
    assert _repair(cluster, 2) == 0


def test_as_many_as_the_limit_allows_and_the_most_endangered_first() -> None:
    cluster = Cluster().up(1, 2, 3, 4, 5)
    cluster.create("t", *((1, 2, 3),) * 5, min_insync_replicas="2")
    cluster.alter(1, cluster.wish("t", 1, 2, partition=3))
    cluster.fence(2)
    assert _repair(cluster, 2, limit=2) == 2
    assert _state(cluster, partition=3).automatic, "only its leader is in sync"
    assert _under_way(cluster) == 2
    assert _repair(cluster, 2, limit=2) == 0
    _catch_up(cluster, partition=3)
    assert _repair(cluster, 2, limit=2) == 1


def test_replacements_are_spread_over_the_others() -> None:
    cluster = Cluster().up(1, 2, 3, 4, 5)
    cluster.create("t", *((1, 2),) * 6)
    cluster.fence(2)
    _repair(cluster, 2)
    counts = [sum(broker in state.target for _, _, state in cluster.image.all_partitions()) for broker in (3, 4, 5)]
    assert counts == [2, 2, 2]


def test_who_is_back_in_sync_before_the_new_one_keeps_its_place() -> None:
    cluster = Cluster().up(1, 2, 3, 4)
    cluster.create("t", (1, 2, 3))
    cluster.fence(2)
    _repair(cluster, 2)
    cluster.beat(2)
    assert _repair(cluster) == 0, "it is back, but lacks records: whoever is in sync first"
    cluster.alter(1, cluster.wish("t", 1, 2, 3))
    assert _repair(cluster) == 1
    state = _state(cluster)
    assert (set(state.replicas), set(state.isr), state.reassigning) == ({1, 2, 3}, {1, 2, 3}, False)


def test_a_new_replica_whose_broker_goes_too_is_replaced() -> None:
    cluster = Cluster().up(1, 2, 3, 4, 5)
    cluster.create("t", (1, 2, 3))
    cluster.fence(2)
    _repair(cluster, 2)
    cluster.fence(4)
    assert _repair(cluster, 2, 4) == 1
    state = _state(cluster)
    assert (state.target, state.replicas, state.automatic) == ((1, 5, 3), (1, 5, 3, 2), True)
    assert _catch_up(cluster).replicas == (1, 5, 3)


def test_two_gone_brokers_are_replaced_at_once() -> None:
    cluster = Cluster().up(1, 2, 3, 4, 5)
    cluster.create("t", (1, 2, 3))
    cluster.fence(2, 3)
    assert _repair(cluster, 2, 3) == 1
    assert _catch_up(cluster).replicas == (1, 4, 5)


def test_what_is_left_alone() -> None:
    """Without a leader there is nobody to copy from; without a free broker nowhere to copy to; and a reassignment that
    somebody asked for is theirs."""
    cluster = Cluster().up(1, 2, 3, 4)
    cluster.create("lost", (2,))
    cluster.create("full", (1, 2, 3, 4))
    cluster.create("moving", (1, 2))
    assert cluster.reassign("moving", (3, 2)) is ErrorCode.none
    cluster.fence(2)
    assert _repair(cluster, 2) == 0
    assert not _state(cluster, "moving").automatic


def test_an_unregistered_broker_is_replaced() -> None:
    cluster = Cluster().up(1, 2, 3, 4)
    cluster.create("t", (1, 2, 3))
    cluster.ask(UnregisterBroker(broker_id=2))
    assert _repair(cluster, 2) == 1
    assert _catch_up(cluster).replicas == (1, 4, 3)


def _cordon(cluster: Cluster, broker: int, value: str | None) -> None:
    op = ConfigOp(key="cordoned.log.dirs", op="delete" if value is None else "set", value=value)
    resource = ConfigResourceOps(kind="broker", name=str(broker), ops=(op,))
    assert not cluster.ask(IncrementalAlterConfigs(resources=(resource,))).resources[0].error


def test_a_cordoned_broker_is_given_nothing() -> None:
    """KIP-1066."""
    cluster = Cluster(Policy(broker_configs=BROKER_CONFIGS)).up(1, 2, 3, 4)
    cluster.create("t", (1, 2))
    _cordon(cluster, 3, "*")
    cluster.fence(2)
    _repair(cluster, 2)
    assert _state(cluster).target == (1, 4)
    answer = cluster.ask(CreateTopics(topics=(NewTopic(name="u", partitions=8, replication_factor=2),)))
    assert not answer.topics[0].error
    assert all(3 not in state.replicas for state in cluster.image.topics["u"].partitions.values())
    answer = cluster.ask(CreateTopics(topics=(NewTopic(name="v", partitions=1, replication_factor=4),)))
    assert answer.topics[0].error == ErrorCode.invalid_replication_factor
    assert "cordoned" in (answer.topics[0].message or "")
    _cordon(cluster, 3, None)
    assert cluster.image.placeable(3)


def test_for_how_long_a_broker_has_been_away() -> None:
    cluster, absences = Cluster().up(1, 2, 3), Absences()
    cluster.create("t", (1, 2, 3))
    cluster.fence(2)
    absences.look(cluster.image, 10.0)
    assert absences.longer_than(5.0, 14.9) == frozenset()
    assert absences.longer_than(5.0, 15.0) == {2}
    cluster.ask(UnregisterBroker(broker_id=3))
    absences.look(cluster.image, 15.0)
    cluster.beat(2)
    assert absences.longer_than(5.0, 16.0) == {2}
    absences.look(cluster.image, 16.0)
    assert absences.longer_than(0.0, 16.0) == {3}
    cluster.fence(2)
    absences.look(cluster.image, 17.0)
    assert absences.longer_than(5.0, 20.0) == {3}, "it begins anew"


def _noted(cluster: Cluster, absences: Absences, now: float) -> dict[int, int]:
    absences.look(cluster.image, now)
    notes = list(absences.notes(cluster.image, now, step=2.0, most=10.0))
    cluster.commit(tuple(notes))
    return {note.id: note.for_ms for note in notes}


def test_what_one_controller_has_seen_of_an_absence_the_next_one_counts_on() -> None:
    cluster, first = Cluster().up(1, 2, 3), Absences()
    cluster.create("t", (1, 2, 3))
    cluster.fence(2)
    assert _noted(cluster, first, 100.0) == {}
    assert _noted(cluster, first, 101.9) == {}
    assert _noted(cluster, first, 103.0) == {2: 3000}
    assert _noted(cluster, first, 104.9) == {}, "lost, if the controller ends here"
    assert decode_snapshot(encode_snapshot(cluster.image), cluster.image.cluster_id) == cluster.image
    second = Absences()
    assert _noted(cluster, second, 7000.0) == {}
    assert second.longer_than(5.0, 7001.9) == frozenset()
    assert second.longer_than(5.0, 7002.0) == {2}
    assert _noted(cluster, second, 7006.5) == {2: 9500}
    assert _noted(cluster, second, 7007.0) == {2: 10_000}, "when it is due, though the step is small"
    assert _noted(cluster, second, 9000.0) == {}, "which is all that need be known"
    cluster.beat(2)
    assert cluster.image.away == {}
    cluster.fence(2)
    assert _noted(cluster, Absences(), 9999.0) == {}, "it begins anew"


def test_no_absence_is_noted_of_a_broker_that_is_there_or_of_none() -> None:
    cluster, absences = Cluster().up(1, 2, 3), Absences()
    with pytest.raises(BrokenInvariant):
        cluster.commit((BrokerAway(id=1, for_ms=1),))
    cluster.ask(UnregisterBroker(broker_id=3))
    assert _noted(cluster, absences, 0.0) == {}, "it holds nothing"
    cluster.create("t", (1, 2))
    cluster.ask(UnregisterBroker(broker_id=2))
    _noted(cluster, absences, 0.0)
    assert _noted(cluster, absences, 5.0) == {2: 5000}
    cluster.ask(DeleteTopics(topics=(TopicRef(name="t"),)))
    assert _noted(cluster, absences, 6.0) == {2: 0}
    assert cluster.image.away == {}
    assert list(absences.notes(cluster.image, 6.0, step=0.0, most=0.0)) == []
