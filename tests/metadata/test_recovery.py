"""Who leads when the last that was known to have everything may have lost some of it: whoever has the most."""

from __future__ import annotations

import pytest

from ottla.controller.rpc import Heartbeat
from tests.metadata.cluster import Cluster, check_invariants, registration, told_by

LOST = "after its disk was lost"


@pytest.fixture
def cluster() -> Cluster:
    """1 was the last of the ISR, and is back without being sure to have everything."""
    cluster = Cluster().up(1, 2, 3)
    cluster.create("t", (1, 2, 3), min_insync_replicas="1")
    cluster.alter(1, cluster.wish("t", 1))
    cluster.ask(registration(1, LOST))
    assert cluster.state("t")[:2] == (-1, ())
    return cluster


def has(cluster: Cluster, **logs: tuple[int, int]) -> None:
    for name, log in logs.items():
        cluster.logs["t", 0, int(name.removeprefix("on_"))] = log


def leader(cluster: Cluster) -> int:
    check_invariants(cluster.image)
    state = cluster.image.topics["t"].partitions[0]
    assert state.isr == (() if state.leader == -1 else (state.leader,))
    return state.leader


@pytest.mark.parametrize(
    ("logs", "expected"),
    [
        ({"on_1": (-1, 0), "on_2": (0, 50), "on_3": (0, 40)}, 2),
        ({"on_1": (0, 50), "on_2": (0, 50), "on_3": (0, 50)}, 1),
        ({"on_1": (0, 50), "on_2": (0, 49), "on_3": (0, 51)}, 3),
        ({"on_1": (3, 10), "on_2": (4, 9), "on_3": (2, 99)}, 2),
        ({"on_1": (-1, 0), "on_2": (-1, 0), "on_3": (-1, 0)}, 1),
    ],
)
def test_the_later_epoch_and_then_the_longer_log(
    cluster: Cluster, logs: dict[str, tuple[int, int]], expected: int
) -> None:
    has(cluster, **logs)
    for broker in (2, 3, 1):
        assert leader(cluster) == -1
        cluster.beat(broker)
    assert leader(cluster) == expected
    assert not told_by(cluster.image, 1)


def test_the_last_known_leader_waits_for_the_others_but_not_for_ever(cluster: Cluster) -> None:
    has(cluster, on_1=(0, 10), on_2=(0, 20), on_3=(0, 30))
    cluster.beat(1)
    cluster.beat(2)
    cluster.now += 8.9
    cluster.beat(1)
    assert leader(cluster) == -1
    cluster.now += 0.2
    cluster.beat(1)
    assert leader(cluster) == 2


def test_nobody_leads_without_the_last_known_leader(cluster: Cluster) -> None:
    cluster.beat(2)
    cluster.beat(3)
    cluster.now += 100
    cluster.beat(2)
    assert leader(cluster) == -1
    cluster.beat(1)
    assert leader(cluster) == 1


def test_what_a_former_life_has_told_does_not_count(cluster: Cluster) -> None:
    has(cluster, on_1=(0, 10), on_2=(0, 20), on_3=(0, 15))
    cluster.beat(2)
    cluster.ask(registration(2, LOST))
    has(cluster, on_2=(-1, 0))
    cluster.beat(3)
    cluster.beat(1)
    assert leader(cluster) == -1
    cluster.beat(2)
    assert leader(cluster) == 3


def test_what_was_told_in_another_epoch_or_by_a_stranger_is_passed_over(cluster: Cluster) -> None:
    told = told_by(cluster.image, 2)[0]
    cluster.up(4)
    for broker, changes in ((2, {"leader_epoch": told.leader_epoch - 1}), (2, {"partition": 7}), (4, {})):
        log = told.model_copy(update={"end": 99, **changes})
        epoch = cluster.epoch(broker)
        cluster.ask(Heartbeat(node_id=broker, epoch=epoch, applied_offset=cluster.image.offset, logs=(log,)))
    cluster.beat(1)
    cluster.beat(3)
    assert leader(cluster) == -1
    assert {broker for each in cluster.reports.by(0).values() for broker in each.logs} == {1, 3}


def test_nothing_is_remembered_of_partitions_that_have_a_leader(cluster: Cluster) -> None:
    for broker in (1, 2, 3, 1):
        cluster.beat(broker)
    assert leader(cluster) == 1
    assert cluster.reports.by(0) == {}
