"""Leaders: from the ISR, unclean where asked for, and preferred ones back in their place."""

from kio.schema.errors import ErrorCode

from ottla.controller.metadata import Policy, rebalance
from ottla.controller.rpc import ConfigOp, ConfigResourceOps, ElectLeaders, IncrementalAlterConfigs, PartitionName
from tests.metadata.cluster import Cluster


def _elect(cluster: Cluster, election: str, *names: tuple[str, int]) -> dict[tuple[str, int], ErrorCode]:
    partitions = tuple(PartitionName(topic=topic, partition=partition) for topic, partition in names) or None
    answer = cluster.ask(ElectLeaders.model_validate({"election": election, "partitions": partitions}))
    return {(result.topic, result.partition): ErrorCode(result.error) for result in answer.results}


def _last_in_isr_is_down() -> Cluster:
    """Partition 0 of "t" is led by nobody: its ISR is broker 1, which is away, while 2 and 3 are up."""
    cluster = Cluster().up(1, 2, 3)
    cluster.create("t", (2, 1, 3))
    cluster.fence(2)
    cluster.fence(3)
    cluster.fence(1)
    cluster.beat(2)
    cluster.beat(3)
    assert cluster.state("t")[:2] == (-1, (1,))
    return cluster


def test_no_election_outside_the_isr_unless_asked_for() -> None:
    cluster = _last_in_isr_is_down()
    assert _elect(cluster, "preferred", ("t", 0)) == {("t", 0): ErrorCode.preferred_leader_not_available}
    assert _elect(cluster, "unclean", ("t", 0), ("t", 7)) == {
        ("t", 0): ErrorCode.none,
        ("t", 7): ErrorCode.unknown_topic_or_partition,
    }
    assert cluster.state("t")[:2] == (2, (2,))
    assert _elect(cluster, "unclean", ("t", 0)) == {("t", 0): ErrorCode.election_not_needed}


def test_unclean_election_without_any_broker() -> None:
    cluster = Cluster().up(1, 2)
    cluster.create("t", (1, 2))
    cluster.fence(1, 2)
    assert _elect(cluster, "unclean", ("t", 0)) == {("t", 0): ErrorCode.eligible_leaders_not_available}


def test_a_topic_that_allows_unclean_election_gets_it_on_fencing() -> None:
    cluster = Cluster().up(1, 2, 3)
    cluster.create("safe", (1, 2))
    cluster.create("lax", (1, 2), unclean_leader_election_enable="true")
    for name in ("safe", "lax"):
        cluster.alter(1, cluster.wish(name, 1))
    cluster.fence(1)
    assert cluster.state("safe")[:2] == (-1, (1,))
    assert cluster.state("lax")[:2] == (2, (2,))


def test_unclean_election_by_a_broker_that_returns() -> None:
    cluster = Cluster(Policy(broker_defaults={"unclean.leader.election.enable": "true"})).up(1, 2)
    cluster.create("t", (1, 2))
    cluster.fence(2)
    cluster.fence(1)
    assert cluster.state("t")[:2] == (-1, (1,))
    cluster.beat(2)
    assert cluster.state("t")[:2] == (2, (2,))


def test_allowing_unclean_election_elects_in_the_same_entry() -> None:
    cluster = _last_in_isr_is_down()
    entries = len(cluster.entries)
    op = ConfigOp(key="unclean.leader.election.enable", op="set", value="true")
    cluster.ask(IncrementalAlterConfigs(resources=(ConfigResourceOps(kind="topic", name="t", ops=(op,)),)))
    assert len(cluster.entries) == entries + 1
    assert cluster.state("t")[:2] == (2, (2,))


def test_preferred_leaders_return_once_they_are_in_sync() -> None:
    cluster = Cluster().up(1, 2, 3)
    cluster.create("t", (1, 2, 3), (1, 3, 2), (2, 3, 1))
    cluster.fence(1)
    cluster.beat(1)
    assert rebalance(cluster.image) == []
    cluster.alter(2, cluster.wish("t", 1, 2, 3, partition=0))
    assert cluster.state("t", 0) == (2, (1, 2, 3), 1, 2)
    cluster.commit(rebalance(cluster.image))
    assert cluster.state("t", 0) == (1, (1, 2, 3), 2, 3)
    assert cluster.state("t", 1)[0] == 3


def test_elect_preferred_leaders() -> None:
    """KIP-460: asked for all, what needs no election is left out."""
    cluster = Cluster().up(1, 2)
    cluster.create("t", (1, 2), (2, 1))
    cluster.fence(1)
    cluster.beat(1)
    assert _elect(cluster, "preferred") == {("t", 0): ErrorCode.preferred_leader_not_available}
    cluster.alter(2, cluster.wish("t", 1, 2))
    assert _elect(cluster, "preferred", ("t", 0), ("t", 0), ("t", 1), ("u", 0)) == {
        ("t", 0): ErrorCode.none,
        ("t", 1): ErrorCode.election_not_needed,
        ("u", 0): ErrorCode.unknown_topic_or_partition,
    }
    assert cluster.state("t", 0)[0] == 1
