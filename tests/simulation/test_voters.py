"""The metadata quorum grows and shrinks while its leaders are killed and our own client writes."""

import argparse
import asyncio
import json

import pytest

from ottla.cli import quorum as command
from ottla.client import BrokerResponseError, KafkaError, NewTopic
from ottla.simulation import SimulatedCluster, run
from ottla.simulation.cluster import CONTROLLER_PORT


def voters(cluster: SimulatedCluster) -> frozenset[int]:
    """Those of the active controller."""
    return cluster.nodes[cluster.controller()].node.quorum.driver.core.voters


async def change(cluster: SimulatedCluster, node_id: int, *, add: bool) -> None:
    """What an operator does: ask again when the answer is lost with a controller, or it is too early."""
    async with cluster.admin() as admin:
        while True:
            try:
                if add:
                    await admin.add_raft_voter(node_id, f"10.0.0.{node_id}", CONTROLLER_PORT)
                else:
                    await admin.remove_raft_voter(node_id)
            except BrokerResponseError as error:
                if error.code.name in ("duplicate_voter", "voter_not_found"):
                    return
            except (KafkaError, TimeoutError):
                pass
            else:
                return
            await asyncio.sleep(0.5)


async def kill_controllers(cluster: SimulatedCluster, every: float) -> None:
    while True:
        await asyncio.sleep(every)
        victim = cluster.controller()
        cluster.kill(victim)
        await asyncio.sleep(1)
        cluster.start(victim)
        await cluster.nodes[victim].ready()


@pytest.mark.parametrize("seed", range(3))
def test_three_voters_become_five_and_three_again_while_controllers_are_killed(seed):
    async def scenario():
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("orders")
            new = [cluster.add_broker(controller=True) for _ in range(2)]
            for node_id in new:
                await cluster.nodes[node_id].ready()
            killing = asyncio.ensure_future(kill_controllers(cluster, 4))
            async with cluster.producer() as producer:
                for node_id in new:
                    await change(cluster, node_id, add=True)
                    await producer.send_and_wait("orders", b"grown")
                for node_id in (1, 2):
                    await change(cluster, node_id, add=False)
                    await producer.send_and_wait("orders", b"shrunk")
            killing.cancel()
            return await settled(cluster)

    assert run(scenario, seed) == {3, 4, 5}


async def settled(cluster: SimulatedCluster) -> frozenset[int]:
    for node in cluster.nodes.values():
        if not node.alive:
            node.start()
        await node.ready()
    await cluster.create_topic("afterwards")
    return voters(cluster)


def test_a_dead_voter_is_replaced_for_good():
    async def scenario():
        async with SimulatedCluster() as cluster:
            await cluster.create_topic("orders")
            cluster.kill(1)
            new = cluster.add_broker(controller=True)
            await cluster.nodes[new].ready()
            await change(cluster, new, add=True)
            await change(cluster, 1, add=False)
            cluster.kill(2)
            await cluster.until(lambda: cluster.controller() in (3, new), "somebody leads", within=10)
            async with cluster.admin() as admin:
                quorum = await admin.describe_metadata_quorum()
            return {each.replica_id for each in quorum.voters}, quorum.leader_id

    found, leader = run(scenario, 0)
    assert found == {2, 3, 4}
    assert leader in (3, 4)


def test_a_node_without_the_controller_role_is_not_added():
    async def scenario():
        async with SimulatedCluster() as cluster:
            new = cluster.add_broker()
            await cluster.nodes[new].ready()
            async with cluster.admin() as admin:
                with pytest.raises(BrokerResponseError) as refused:
                    await admin.add_raft_voter(new, f"10.0.0.{new}", CONTROLLER_PORT)
            return refused.value.code.name, voters(cluster)

    assert run(scenario, 0) == ("request_timed_out", {1, 2, 3})


def test_the_command_adds_removes_and_describes(capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)

    async def scenario():
        async with SimulatedCluster() as cluster:
            new = cluster.add_broker(controller=True)
            await cluster.nodes[new].ready()
            async with cluster.admin() as admin:
                for line in (
                    f"add {new}@10.0.0.{new}:{CONTROLLER_PORT}",
                    f"remove {1 if cluster.controller() != 1 else 2}",
                    "describe --status",
                    "describe --replication",
                ):
                    assert await command.work(admin, parser.parse_args(line.split())) == 0
                return cluster.controller()

    leader = run(scenario, 0)
    removed = 1 if leader != 1 else 2
    voters = sorted({1, 2, 3, 4} - {removed})
    added, gone, *lines = capsys.readouterr().out.splitlines()
    assert (added, gone) == ("Added voter 4.", f"Removed voter {removed}.")
    status = dict(line.split(":", 1) for line in lines[:8])
    assert list(status) == [
        "ClusterId",
        "LeaderId",
        "LeaderEpoch",
        "HighWatermark",
        "MaxFollowerLag",
        "MaxFollowerLagTimeMs",
        "CurrentVoters",
        "CurrentObservers",
    ]
    assert status["LeaderId"].strip() == str(leader)
    assert [each["id"] for each in json.loads(status["CurrentVoters"])] == voters
    assert [each["id"] for each in json.loads(status["CurrentObservers"])] == [removed]
    assert len({each["directoryId"] for each in json.loads(status["CurrentVoters"])}) == 3
    header, first, *others = (line.split() for line in lines[8:])
    assert (header[0], header[-1]) == ("NodeId", "Status")
    assert (first[0], first[-1]) == (str(leader), "Leader")
    assert [row[-1] for row in others] == ["Follower", "Follower", "Observer"]
    assert len({row[1] for row in (first, *others)}) == 4, "every node has its own directory"


def test_when_members_were_last_caught_up(capsys):
    """A voter that stands still falls behind by the clock too, and is fresh again when it goes on."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)

    async def scenario():
        async with SimulatedCluster() as cluster:
            leader = cluster.controller()
            slow, quick = sorted({1, 2, 3} - {leader})

            async def described(what):
                async with cluster.admin() as admin:
                    line = ["describe", what, "--format", "json"]
                    assert await command.work(admin, parser.parse_args(line)) == 0
                return json.loads(capsys.readouterr().out)

            async def ages():
                rows = {row["NodeId"]: row for row in await described("--replication")}
                now = rows[leader]["LastCaughtUpTimestamp"]
                return {
                    node: (now - rows[node]["LastFetchTimestamp"], now - rows[node]["LastCaughtUpTimestamp"])
                    for node in (leader, slow, quick)
                }

            before = await ages()
            cluster.pause(slow)
            async with cluster.admin() as admin:
                for number in range(5):
                    await admin.create_topics([NewTopic(f"topic-{number}", 1, 1)])
                    await cluster.advance(1)
            during, status = await ages(), await described("--status")
            cluster.resume(slow)
            await cluster.advance(3)
            return leader, slow, quick, before, during, await ages(), status

    leader, slow, quick, before, during, after, status = run(scenario, 0)
    for ages in (before, during, after):
        assert ages[leader] == (0, 0)
        assert max(ages[quick]) <= 300
    for ages in (before, after):
        assert max(ages[slow]) <= 300
    assert 4500 < during[slow][0] <= during[slow][1] < 7000
    assert status["MaxFollowerLag"] >= 5
    assert abs(status["MaxFollowerLagTimeMs"] - during[slow][1]) < 1000
