"""Eligible leader replicas (KIP-966): who has every committed record, although the ISR went on without it."""

import pytest

from ottla.controller.metadata import decode_snapshot, encode_snapshot
from ottla.controller.rpc import ConfigOp, ConfigResourceOps, ElectLeaders, IncrementalAlterConfigs
from tests.metadata.cluster import CLUSTER_ID, Cluster, registration


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster().up(1, 2, 3)
    cluster.create("t", (1, 2, 3), min_insync_replicas="2")
    return cluster


def elr(cluster: Cluster) -> tuple[int, ...]:
    return cluster.image.topics["t"].partitions[0].elr


def back(cluster: Cluster, node_id: int, *, clean: bool, previous_epoch: int | None = None) -> None:
    """The broker registers in a new life, and is unfenced."""
    epoch = cluster.epoch(node_id) if previous_epoch is None else previous_epoch
    register_again(cluster, node_id, epoch, clean=clean)
    cluster.beat(node_id)


def register_again(cluster: Cluster, node_id: int, previous_epoch: int, *, clean: bool = True) -> None:
    request = registration(node_id, f"life after {cluster.image.offset}")
    update = {"clean_shutdown": clean, "previous_epoch": previous_epoch}
    assert not cluster.ask(request.model_copy(update=update)).error


def test_with_enough_in_sync_nobody_else_is_eligible(cluster: Cluster) -> None:
    cluster.fence(3)
    assert cluster.state("t")[:2] == (1, (1, 2))
    assert elr(cluster) == ()


def test_who_leaves_below_the_minimum_stays_eligible_until_there_are_enough_again(cluster: Cluster) -> None:
    cluster.fence(3)
    cluster.fence(2)
    assert cluster.state("t")[:2] == (1, (1,))
    assert elr(cluster) == (2,)
    back(cluster, 3, clean=True)
    cluster.alter(1, cluster.wish("t", 1, 3))
    assert elr(cluster) == ()


def test_a_leader_that_shrinks_its_isr_leaves_eligible_replicas_behind(cluster: Cluster) -> None:
    cluster.alter(1, cluster.wish("t", 1))
    assert elr(cluster) == (2, 3)


def test_an_eligible_replica_leads_when_nobody_of_the_isr_can(cluster: Cluster) -> None:
    cluster.fence(2, 3)
    cluster.fence(1)
    assert cluster.state("t")[:2] == (-1, (1,))
    assert elr(cluster) == (2, 3)
    back(cluster, 3, clean=True)
    assert cluster.state("t")[:2] == (3, (3,))
    assert elr(cluster) == (1, 2)


def test_the_last_member_that_may_have_lost_records_gives_way(cluster: Cluster) -> None:
    """RELIABILITY: the last replica standing loses power with an unflushed tail."""
    cluster.fence(2, 3)
    back(cluster, 1, clean=False)
    assert cluster.state("t")[:2] == (-1, (2,))
    assert elr(cluster) == (3,)
    back(cluster, 3, clean=True)
    assert cluster.state("t")[:2] == (3, (3,))
    assert elr(cluster) == (2,)


def test_without_any_other_the_last_member_stays_whatever_happened_to_it(cluster: Cluster) -> None:
    """After kill -9 of all nodes somebody has to lead."""
    cluster.fence(1, 2, 3)
    for node_id in (1, 2, 3):
        back(cluster, node_id, clean=False)
    for node_id in (1, 2):
        assert cluster.state("t")[:2] == (-1, ())
        cluster.beat(node_id)
    assert cluster.state("t")[:2] == (3, (3,))
    assert elr(cluster) == ()


def test_an_unclean_return_ends_eligibility_and_a_clean_one_does_not(cluster: Cluster) -> None:
    cluster.alter(1, cluster.wish("t", 1))
    back(cluster, 2, clean=False)
    back(cluster, 3, clean=True)
    assert elr(cluster) == (3,)


def test_a_clean_stop_of_another_life_is_not_clean(cluster: Cluster) -> None:
    """An old directory put back may have a marker of a clean stop in it."""
    cluster.alter(1, cluster.wish("t", 1))
    back(cluster, 2, clean=True, previous_epoch=cluster.epoch(2) - 1)
    assert elr(cluster) == (3,)


def test_a_life_that_ended_before_it_was_unfenced_hides_no_clean_stop(cluster: Cluster) -> None:
    """It died before it heard of its registration, so that the next names the one before. Any number of times."""
    cluster.alter(1, cluster.wish("t", 1))
    last = cluster.epoch(2)
    register_again(cluster, 2, last)
    register_again(cluster, 2, last)
    cluster.image = decode_snapshot(encode_snapshot(cluster.image), CLUSTER_ID)
    back(cluster, 2, clean=True, previous_epoch=last)
    assert elr(cluster) == (2, 3)


def test_a_clean_stop_before_a_life_that_was_unfenced_is_not_clean(cluster: Cluster) -> None:
    """An old directory put back."""
    cluster.alter(1, cluster.wish("t", 1))
    last = cluster.epoch(2)
    back(cluster, 2, clean=True)
    back(cluster, 2, clean=True, previous_epoch=last)
    assert elr(cluster) == (3,)


def test_nor_is_one_that_was_not_believed_before(cluster: Cluster) -> None:
    cluster.alter(1, cluster.wish("t", 1))
    last = cluster.epoch(2)
    register_again(cluster, 2, last - 1)
    register_again(cluster, 2, last)
    assert elr(cluster) == (3,)


def test_nor_is_one_of_which_nothing_is_known(cluster: Cluster) -> None:
    """Not even after a life that was believed, and unfenced."""
    cluster.alter(1, cluster.wish("t", 1))
    back(cluster, 2, clean=True)
    register_again(cluster, 2, -1)
    assert elr(cluster) == (3,)


def test_asking_for_fewer_in_sync_replicas_ends_eligibility(cluster: Cluster) -> None:
    """From then on the leader commits alone, and the others are not sure to have it."""
    cluster.alter(1, cluster.wish("t", 1))
    op = ConfigOp(key="min.insync.replicas", op="set", value="1")
    resource = ConfigResourceOps(kind="topic", name="t", ops=(op,))
    cluster.ask(IncrementalAlterConfigs(resources=(resource,)))
    assert elr(cluster) == ()


def test_a_snapshot_keeps_eligibility(cluster: Cluster) -> None:
    cluster.alter(1, cluster.wish("t", 1))
    assert decode_snapshot(encode_snapshot(cluster.image), CLUSTER_ID) == cluster.image


def test_the_last_known_leader_leads_again_when_nobody_is_sure_to_have_everything() -> None:
    """It is in neither set after its unclean stop, and is elected as soon as it is unfenced: nobody has more."""
    cluster = Cluster().up(1, 2)
    cluster.create("t", (1, 2), min_insync_replicas="1")
    cluster.fence(2)
    assert (cluster.state("t")[1], elr(cluster)) == ((1,), ())
    cluster.ask(registration(1, "after the power was back"))
    state = cluster.image.topics["t"].partitions[0]
    assert (state.leader, state.isr, state.elr, state.last_known_leader) == (-1, (), (), 1)
    cluster.beat(2)
    assert cluster.state("t")[0] == -1, "2 lacks what 1 has committed alone"
    assert decode_snapshot(encode_snapshot(cluster.image), CLUSTER_ID) == cluster.image
    cluster.beat(1)
    state = cluster.image.topics["t"].partitions[0]
    assert (state.leader, state.isr, state.last_known_leader) == (1, (1,), -1)


def test_an_unclean_election_ends_the_wait_for_the_last_known_leader() -> None:
    cluster = Cluster().up(1, 2)
    cluster.create("t", (1, 2), min_insync_replicas="1")
    cluster.fence(2)
    cluster.ask(registration(1, "after the power was back"))
    cluster.beat(2)
    cluster.ask(ElectLeaders(election="unclean"))
    state = cluster.image.topics["t"].partitions[0]
    assert (state.leader, state.isr, state.last_known_leader) == (2, (2,), -1)
