"""KIP-279: a leader's epoch that nobody else has heard of, so that nobody can say where it ended."""

import pytest

from ottla.broker.replication import following, leading
from ottla.broker.replication.follower import EpochEnd
from tests.simulation.scenarios.stage import Broken, Stage, play


async def a_leader_alone_with_its_epoch(stage: Stage) -> None:
    """The second leader writes only to itself; the third has no record of the second's epoch."""
    cluster = stage.cluster
    await stage.write(b"m1")
    first = stage.leader()
    cluster.kill(first)
    second = await stage.led_by_another(first)
    cluster.start(first)
    await cluster.until(lambda: cluster.full("orders"), "all are in sync", within=20)
    cluster.partition([second], stage.everybody_but(second))
    await stage.write(b"nobody else's", acks=1)
    assert stage.on(second).log_end_offset == 2
    await stage.led_by_another(second)
    await stage.write(b"m2")


def test_the_leader_names_the_largest_epoch_that_it_knows():
    play(a_leader_alone_with_its_epoch)


def test_if_only_the_very_epoch_were_compared_logs_would_diverge(monkeypatch: pytest.MonkeyPatch):
    """As before KIP-279: an epoch that the leader does not know says nothing."""
    monkeypatch.setattr(
        leading,
        "diverges",
        lambda offset, epoch, end: end.epoch == epoch and end.end_offset < offset,
    )
    with pytest.raises(Broken):
        play(a_leader_alone_with_its_epoch, watched=False)


async def each_alone_with_its_epoch(stage: Stage) -> None:
    """Two leaders after one another write only to themselves, in an unclean cluster; then the first leads again. The
    largest epoch that it knows below the other's is one that the other does not know."""
    cluster = stage.cluster
    await stage.write(b"m1")
    stage.acknowledged.clear()
    one = stage.leader()
    cluster.partition([one], stage.everybody_but(one))
    for number in range(5):
        await stage.write(b"only one's %d" % number, acks=1)
    await stage.led_by_another(one)
    other = stage.leader()
    (third,) = stage.others(one, other)
    cluster.kill(one)
    cluster.partition([other], stage.everybody_but(other))
    for number in range(3):
        await stage.write(b"only the other's %d" % number, acks=1)
    cluster.kill(third)
    cluster.kill(other)
    cluster.heal()
    cluster.start(one)
    await cluster.until(lambda: stage.on(one).is_leader if alive(stage, one) else False, "the first leads", within=30)
    await stage.write(b"only one's again", acks=1)


def alive(stage: Stage, node_id: int) -> bool:
    return stage.cluster.partition_on(node_id, "orders", stage.index) is not None


UNCLEAN = {"unclean_leader_election_enable": "true", "min_insync_replicas": "1"}


def test_comparing_goes_on_from_an_epoch_that_the_follower_does_not_know():
    play(each_alone_with_its_epoch, configs=UNCLEAN)


def test_if_the_follower_took_the_end_of_a_strange_epoch_it_would_never_get_on(monkeypatch: pytest.MonkeyPatch):
    def truncation_point(diverging: EpochEnd, _own: EpochEnd, log_end: int) -> int:
        return min(diverging.end_offset, log_end)

    monkeypatch.setattr(following, "truncation_point", truncation_point)
    with pytest.raises(Broken):
        play(each_alone_with_its_epoch, configs=UNCLEAN, watched=False, patience=3)
