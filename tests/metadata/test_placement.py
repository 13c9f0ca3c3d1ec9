"""Placement: distinct brokers, spread over racks, brokers and leaders (KIP-36)."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ottla.controller.metadata import MetadataImage
from ottla.controller.metadata.image import BrokerImage
from ottla.controller.metadata.placement import Replicas, placer_for
from tests.metadata.cluster import CLUSTER_ID, Cluster


def _image(racks: list[str | None]) -> MetadataImage:
    brokers = {
        broker: BrokerImage(id=broker, epoch=1, incarnation="i", listeners=(), rack=rack, fenced=False)
        for broker, rack in enumerate(racks)
    }
    return MetadataImage(cluster_id=CLUSTER_ID, brokers=brokers)


def _place(racks: list[str | None], partitions: int, factor: int, seed: int) -> list[Replicas]:
    placer = placer_for(_image(racks), factor, random.Random(seed))
    return [placer.place(factor) for _ in range(partitions)]


def _spread(counts: Counter[int], brokers: int) -> int:
    values = [counts[broker] for broker in range(brokers)]
    return max(values) - min(values)


@given(st.data(), st.integers(1, 9), st.integers(1, 40), st.integers())
def test_without_racks_replicas_and_leaders_are_even(
    data: st.DataObject, brokers: int, partitions: int, seed: int
) -> None:
    factor = data.draw(st.integers(1, brokers))
    placed = _place([None] * brokers, partitions, factor, seed)
    assert all(len(set(replicas)) == len(replicas) == factor for replicas in placed)
    assert _spread(Counter(replicas[0] for replicas in placed), brokers) <= 1
    # Leaders come first: a broker whose turn it is to lead may have its share of replicas already.
    assert _spread(Counter(broker for replicas in placed for broker in replicas), brokers) <= 2


@given(st.data(), st.integers(1, 4), st.integers(1, 4), st.integers(1, 40), st.integers())
def test_with_racks_of_one_size_replicas_lie_in_different_racks_and_are_even(
    data: st.DataObject, racks: int, size: int, partitions: int, seed: int
) -> None:
    factor = data.draw(st.integers(1, racks * size))
    rack_of: list[str | None] = [f"r{broker % racks}" for broker in range(racks * size)]
    placed = _place(rack_of, partitions, factor, seed)
    for replicas in placed:
        used = Counter(rack_of[broker] for broker in replicas)
        assert max(used.values()) <= -(-factor // racks)
    assert _spread(Counter(replicas[0] for replicas in placed), racks * size) <= 1
    assert _spread(Counter(broker for replicas in placed for broker in replicas), racks * size) <= 2


@given(
    st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=8),
    st.integers(1, 30),
    st.integers(),
    st.data(),
)
def test_racks_of_any_size_are_used_before_one_is_used_twice(
    racks: list[str | None], partitions: int, seed: int, data: st.DataObject
) -> None:
    factor = data.draw(st.integers(1, len(racks)))
    kinds = len({rack for rack in racks if rack}) + racks.count(None)
    for replicas in _place(racks, partitions, factor, seed):
        assert len(set(replicas)) == factor
        used = {racks[broker] or str(broker) for broker in replicas}
        assert len(used) == min(factor, kinds)


def test_who_takes_over_is_spread_too() -> None:
    """The leaders of a broker that dies go to all the others, not to its neighbour."""
    placed = _place([None] * 4, 24, 3, seed=1)
    heirs: dict[int, set[int]] = {broker: set() for broker in range(4)}
    for leader, heir, _ in placed:
        heirs[leader].add(heir)
    assert all(heirs[broker] == set(range(4)) - {broker} for broker in range(4))


def test_the_first_leader_is_drawn() -> None:
    assert {_place([None] * 5, 1, 1, seed)[0][0] for seed in range(50)} == set(range(5))
    assert _place([None] * 5, 7, 3, seed=3) == _place([None] * 5, 7, 3, seed=3)


def test_topics_of_one_partition_fill_the_cluster_evenly() -> None:
    cluster = Cluster().up(1, 2, 3)
    for number in range(9):
        placer = placer_for(cluster.image, 2, cluster.rng)
        cluster.create(f"t{number}", placer.place(2))
    leaders = Counter(state.leader for _, _, state in cluster.image.all_partitions())
    replicas = Counter(replica for _, _, state in cluster.image.all_partitions() for replica in state.replicas)
    assert set(leaders.values()) == {3}
    assert set(replicas.values()) == {6}
