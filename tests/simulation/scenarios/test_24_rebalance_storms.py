"""KIP-345 and KIP-394: how many rebalances members may cause that come back, and brokers that do."""

import asyncio

from ottla.broker.groups.classic import joining, rebalance
from ottla.broker.groups.shard import Shard
from ottla.simulation import SimulatedCluster, current_world, run
from ottla.simulation.groups import ClassicMember, Trouble

MEMBERS = 50
SETTINGS = {"offsets.topic.num.partitions": "1", "group.initial.rebalance.delay.ms": "500"}


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


async def rolling_restart_of_brokers():
    """Rebalances that three restarts of nodes cause in a group of fifty dynamic members."""
    async with SimulatedCluster(settings=SETTINGS) as cluster:
        await cluster.create_topic("orders", MEMBERS)
        members = members_of(cluster, MEMBERS)
        tasks = [asyncio.create_task(live(member)) for member in members]
        await cluster.until(lambda: settled(members), "the group is stable")
        before, generation = rebalances(), members[0].generation
        for node_id in cluster.nodes:
            await cluster.stop(node_id)
            cluster.start(node_id)
            await cluster.nodes[node_id].ready()
            await cluster.until(lambda: cluster.full("__consumer_offsets"), "every replica is in sync")
        await cluster.advance(12)
        caused = rebalances() - before
        await cluster.until(lambda: settled(members), "the group is stable")
        assert caused or members[0].generation == generation
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


def test_a_rolling_restart_of_the_nodes_causes_none():
    assert run(rolling_restart_of_brokers, 1) == 0


def test_if_a_new_coordinator_did_not_know_the_members_there_would_be_some(monkeypatch):
    monkeypatch.setattr(Shard, "_recover", lambda *_: None)
    assert run(rolling_restart_of_brokers, 1) > 0


def test_dynamic_members_that_come_back_cause_two_each():
    assert run(lambda: rolling_restart_of_members(False), 1) <= 20


def test_static_members_that_come_back_cause_none():
    assert run(lambda: rolling_restart_of_members(True), 1) == 0


def test_without_their_part_being_kept_they_would_cause_some(monkeypatch):
    def keep(group, member, old_leader, request, now, effects):
        rebalance.begin_or_go_on(group, now, effects, "came back")

    monkeypatch.setattr(joining, "_keep_assignment", keep)
    assert run(lambda: rolling_restart_of_members(True), 1) > 0
