"""KIP-345 and KIP-394: how many rebalances members may cause that come back, and brokers that do."""

import asyncio

import pytest

from ottla.broker.groups.classic import joining, rebalance
from ottla.broker.groups.consumer_groups import ConsumerGroups
from ottla.broker.groups.shard import Shard
from ottla.simulation import SimulatedCluster, current_world, run
from ottla.simulation.groups import ClassicMember, ConsumerMember, Trouble

MEMBERS = 50
SETTINGS = {"offsets.topic.num.partitions": "1", "group.initial.rebalance.delay.ms": "500"}


OURS = 5
"""How many of the members have this library's consumer."""


class Ours:
    """A member with this library's consumer, as the others are asked about theirs."""

    def __init__(self, cluster, name, **options):
        self._consumer = cluster.consumer(
            "orders",
            group_id="readers",
            client_id=name,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=1000,
            **options,
        )

    @property
    def generation(self):
        return self._consumer.group_metadata().generation_id

    @property
    def settled(self):
        return self.generation >= 0

    @property
    def assignment(self):
        return frozenset(self._consumer.assignment())

    async def live(self):
        async with self._consumer:
            while True:
                await self._consumer.getmany(timeout_ms=1000)

    def forget_coordinator(self):
        """Its own business."""


def fifty(cluster, protocol):
    servers = [(node.machine.address, 9092) for node in cluster.nodes.values()]
    if protocol == "classic":
        others, options = members_of(cluster, MEMBERS - OURS), {"partition_assignment_strategy": "range"}
    else:
        options = {"group_protocol": "consumer"}
        others = [
            ConsumerMember(servers, "readers", "orders", f"m{number}", session_s=10.0, patience_s=2.0)
            for number in range(MEMBERS - OURS)
        ]
    return [*others, *(Ours(cluster, f"ours-{number}", **options) for number in range(OURS))]


def members_of(cluster, count, *, static=False, prefix="m"):
    servers = [(node.machine.address, 9092) for node in cluster.nodes.values()]
    return [
        ClassicMember(
            servers,
            "readers",
            "orders",
            f"{prefix}{number}",
            session_s=10.0,
            patience_s=2.0,
            partitions=MEMBERS,
            instance=f"i{number}" if static else None,
        )
        for number in range(count)
    ]


async def live(member):
    while True:
        try:
            await member.tick()
            await asyncio.sleep(1.0 if member.settled else 0.0)
        except Trouble:
            await asyncio.sleep(0.1)


def settled(members):
    generations = {member.generation for member in members if member.settled}
    parts = [at for member in members for at in member.assignment]
    return all(member.settled for member in members) and len(generations) == 1 and len(set(parts)) == MEMBERS


def rebalances():
    return current_world().trace.counts["group_rebalancing"]


async def rolling_restart_of_brokers(protocol, how):
    """Generations (epochs, with KIP-848) that three restarts of nodes cause in a group of fifty dynamic members, and
    the rebalances that began meanwhile."""
    async with SimulatedCluster(settings=SETTINGS) as cluster:
        await cluster.create_topic("orders", MEMBERS)
        members = fifty(cluster, protocol)
        tasks = [asyncio.create_task(each.live() if isinstance(each, Ours) else live(each)) for each in members]
        await cluster.until(lambda: settled(members), "the group is stable")
        before, generation = rebalances(), members[0].generation
        for node_id in cluster.nodes:
            if how == "kill":
                cluster.kill(node_id)
                await cluster.advance(3)
            else:
                await cluster.stop(node_id)
            cluster.start(node_id)
            await cluster.nodes[node_id].ready()
            await cluster.until(lambda: cluster.full("__consumer_offsets"), "every replica is in sync")
        await cluster.advance(12)
        await cluster.until(lambda: settled(members), "the group is stable")
        caused = members[0].generation - generation, rebalances() - before
        await gone(tasks, members)
        return caused


async def rolling_restart_of_members(static):
    """Rebalances that ten members cause which stop and come back, one after the other."""
    async with SimulatedCluster(settings=SETTINGS) as cluster:
        await cluster.create_topic("orders", MEMBERS)
        members = members_of(cluster, 10, static=static)
        tasks = [asyncio.create_task(live(member)) for member in members]
        await cluster.until(lambda: settled(members), "the group is stable")
        before = rebalances()
        for place in range(len(members)):
            tasks[place].cancel()
            await asyncio.wait([tasks[place]])
            if not static:
                await members[place].leave()
            members[place].forget_coordinator()
            await cluster.advance(3)
            members[place] = members_of(cluster, 10, static=static)[place]
            tasks[place] = asyncio.create_task(live(members[place]))
            await cluster.until(lambda: settled(members), "the group is stable")
        caused = rebalances() - before
        await gone(tasks, members)
        return caused


async def gone(tasks, members):
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for member in members:
        member.forget_coordinator()


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_rolling_restart_of_the_nodes_causes_none(protocol, how):
    assert run(lambda: rolling_restart_of_brokers(protocol, how), 1) == (0, 0)


def test_if_a_new_coordinator_did_not_know_the_members_there_would_be_some(monkeypatch):
    monkeypatch.setattr(Shard, "_recover", lambda *_: None)
    _, begun = run(lambda: rolling_restart_of_brokers("classic", "stop"), 1)
    assert begun > 0


def test_if_it_gave_them_no_new_session_there_would_be_some(monkeypatch):
    """KIP-848: the coordinator of a moment ago has told nobody when each was heard of."""

    def all_silent(self, now):
        loaded(self, now)
        for group in self.groups.values():
            group.sessions = dict.fromkeys(group.sessions, now.at)
            for member_id in group.members:
                self._host.wake(group.id, group.sessions[member_id])

    loaded = ConsumerGroups.loaded
    monkeypatch.setattr(ConsumerGroups, "loaded", all_silent)
    generations, _ = run(lambda: rolling_restart_of_brokers("consumer", "kill"), 1)
    assert generations > 0


def test_dynamic_members_that_come_back_cause_two_each():
    assert run(lambda: rolling_restart_of_members(False), 1) <= 20


def test_static_members_that_come_back_cause_none():
    assert run(lambda: rolling_restart_of_members(True), 1) == 0


def test_without_their_part_being_kept_they_would_cause_some(monkeypatch):
    def keep(group, member, old_leader, request, now, effects):
        rebalance.begin_or_go_on(group, now, effects, "came back")

    monkeypatch.setattr(joining, "_keep_assignment", keep)
    assert run(lambda: rolling_restart_of_members(True), 1) > 0
