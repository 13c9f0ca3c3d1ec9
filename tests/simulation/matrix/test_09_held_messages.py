"""Row 9: one message of each kind is held for seconds, and then arrives, is lost, or arrives twice."""

import pytest

from ottla.simulation import SimulatedCluster, SimulationError, leader_of
from tests.simulation.matrix.harness import survives

RAFT = ("AppendEntries", "PreVote", "Vote")
BROKERS = ("AlterPartition", "Heartbeat", "RegisterBroker", "Fetch", "Produce")


async def part(cluster: SimulatedCluster) -> None:
    """Let the leader be another node than the controller: those two do not speak over a wire otherwise."""
    while cluster.leader("orders") == cluster.controller():
        node = cluster.kill(cluster.controller())
        await cluster.until(lambda: led(cluster), "somebody leads", within=20)
        cluster.start(node)
        await cluster.until(lambda: cluster.full("orders"), "all are in sync", within=30)


async def provoke(cluster: SimulatedCluster, name: str) -> None:
    """Bring about that such a message is sent."""
    if name in ("PreVote", "Vote"):
        node = cluster.kill(cluster.controller())
    elif name in ("AlterPartition", "RegisterBroker"):
        leader = cluster.leader("orders")
        busy = (leader, cluster.controller())
        node = cluster.kill(next(each for each in cluster.nodes if each not in busy))
        await cluster.advance(0.5)
    else:
        return
    await cluster.advance(0.5)
    cluster.start(node)


@pytest.mark.parametrize("fate", ["release", "drop", "twice"])
@pytest.mark.parametrize("names", [RAFT, BROKERS], ids=["raft", "brokers"])
def test_a_late_a_lost_and_a_repeated_message_do_no_harm(names: tuple[str, ...], fate: str):
    caught = []

    async def story(cluster, traffic):
        for name in names:
            await part(cluster)
            held = cluster.hold(name)
            await provoke(cluster, name)
            await cluster.advance(3)
            caught.extend(held.messages)
            repeat = held.repeatable and fate == "twice"
            finish(held, fate)
            if repeat:
                await held.deliver_again()
            await cluster.until(lambda: led(cluster), "somebody leads", within=20)
            await cluster.until(lambda: cluster.full("orders"), "all are in sync", within=30)

    survives(story, seed=2)
    assert {name for message in caught for name in message.names} >= set(names)


def finish(held, fate: str) -> None:
    if fate == "drop":
        held.drop()
    else:
        held.release()


def led(cluster: SimulatedCluster) -> bool:
    try:
        cluster.controller()
        leader_of("orders")(cluster)
    except SimulationError:
        return False
    return True
