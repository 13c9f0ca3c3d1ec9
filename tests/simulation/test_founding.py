"""A new cluster that waits for its voters says for whom, in the log and in /readyz."""

from __future__ import annotations

from ottla.simulation import SimulatedCluster, current_world, run

EVENT = "waiting_for_voters"


def missing() -> list[str]:
    """What was told, each time."""
    return [dict(each.fields)["missing"] for each in current_world().trace.happenings if each.event == EVENT]


def test_who_is_missing_is_told_now_and_then_until_the_cluster_begins() -> None:
    async def scenario() -> None:
        cluster = SimulatedCluster()
        trace = current_world().trace
        first, second, last = cluster.nodes.values()
        first.start()
        await cluster.advance(2.5)
        assert trace.counts[EVENT] == 0, "others may only be starting"
        await cluster.advance(1)
        assert missing() == ["[2, 3]"]
        second.start()
        await cluster.advance(30)
        assert 4 <= trace.counts[EVENT] <= 7, "two nodes, every ten seconds"
        assert set(missing()[1:]) == {"[3]"}
        assert first.node is not None
        assert first.node.reasons_not_ready["quorum"].endswith("not there: 3")
        last.start()
        for node in cluster.nodes.values():
            await node.ready()
        before = trace.counts[EVENT]
        await cluster.advance(30)
        assert trace.counts[EVENT] == before
        assert not first.node.reasons_not_ready
        for node in cluster.nodes.values():
            node.kill()

    run(scenario, 0)


def test_a_voter_without_its_disk_is_told_who_is_missing_too() -> None:
    """It does not know whether there is a cluster."""

    async def scenario() -> None:
        async with SimulatedCluster() as cluster:
            for node in cluster.nodes.values():
                node.kill()
            first, second, _ = cluster.nodes.values()
            cluster.wipe(first.id)
            first.start()
            second.start()
            await cluster.advance(4)
            assert missing() == ["[3]"]

    run(scenario, 0)
