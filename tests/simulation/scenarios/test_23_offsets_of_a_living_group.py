"""KIP-211: what a group has committed for an idle partition does not grow old while the group has a member."""

import pytest

from ottla.broker.groups import retention
from ottla.broker.groups.consumer_groups import ConsumerGroups
from ottla.broker.groups.offsets import Standing
from ottla.simulation import SimulatedCluster, run
from ottla.simulation.groups import ClassicMember, ConsumerMember, Trouble

SETTINGS = {
    "offsets.retention.minutes": "1",
    "offsets.retention.check.interval.ms": "5000",
    "offsets.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
}
AT = ("orders", 0)
COMMITTED = 7


async def an_idle_partition(kind, *, then_leave):
    """What is committed after more than the retention with a member; and soon after it left, and long after."""
    async with SimulatedCluster(settings=SETTINGS) as cluster:
        await cluster.create_topic("orders", 1)
        servers = [(node.machine.address, 9092) for node in cluster.nodes.values()]
        more = {"partitions": 1} if kind is ClassicMember else {}
        member = kind(servers, "readers", "orders", "member", **more)
        await joined(cluster, member)
        await member.commit({AT: COMMITTED})
        for _ in range(25):
            await cluster.advance(3)
            await member.tick()
        kept = (await member.committed([AT]))[AT]
        if not then_leave:
            member.forget_coordinator()
            return [kept]
        await member.leave()
        await cluster.advance(30)
        soon = (await member.committed([AT]))[AT]
        await cluster.advance(60)
        late = (await member.committed([AT]))[AT]
        member.forget_coordinator()
        return [kept, soon, late]


async def joined(cluster, member):
    """Until the member has a partition."""
    while not member.assignment:
        try:
            await member.tick()
        except Trouble:
            await cluster.advance(0.1)


@pytest.mark.parametrize("kind", [ClassicMember, ConsumerMember])
def test_it_stays_while_a_member_lives_and_for_as_long_again(kind):
    assert run(lambda: an_idle_partition(kind, then_leave=True), 1) == [COMMITTED, COMMITTED, -1]


def test_if_only_the_age_of_the_commit_counted_once_it_left_it_would_be_gone_soon(monkeypatch):
    """As with Kafka, for KIP-848."""
    standing = ConsumerGroups.standing

    def of_nobody(self, group):
        return standing(self, group) if group.members else Standing(None, True, False, -1, None)

    monkeypatch.setattr(ConsumerGroups, "standing", of_nobody)
    assert run(lambda: an_idle_partition(ConsumerMember, then_leave=True), 1) == [COMMITTED, -1, -1]


@pytest.mark.parametrize("kind", [ClassicMember, ConsumerMember])
def test_if_only_the_age_of_the_commit_counted_it_would_be_gone(kind, monkeypatch):
    monkeypatch.setattr(retention, "standing", lambda *_: Standing(None, True, False, -1, None))
    assert run(lambda: an_idle_partition(kind, then_leave=False), 1) == [-1]
