"""Fifty consumers in two groups, of which about fifty a second leave and are replaced, and coordinators that die.

While a classic group waits for its members to join again, whoever comes or goes changes nothing more: however many they
are, there is one rebalance after the other. As some die without a word, nearly every one takes the whole rebalance
timeout, as with Kafka; `REBALANCE_S` bounds it, so that the group gets somewhere between the deaths of coordinators.
"""

import asyncio
from typing import NamedTuple

from ottla.broker.coordination import partition_for
from ottla.broker.groups import classic
from ottla.broker.groups.classic import Effects, rebalance
from ottla.simulation import SimulatedCluster, current_world, leader_of, run
from ottla.simulation.checker import Finding
from ottla.simulation.groups import SETTINGS, GroupWorkload

PARTITIONS = 25
GROUPS = {
    "classics": ("classic",) * 22 + ("our classic",) * 3,
    "consumers": ("consumer",) * 22 + ("our consumer",) * 3,
}
TWINS = {"classics": ("classic",) * 20}
REBALANCE_S = 1.5
HEARTBEAT_S = 0.5
"""Of the members that are driven by hand."""
STABLE_WITHIN_S = 15.0


class Churn(NamedTuple):
    """What came of it: `rebalances` of the classic group and how long it lasted, members that came and records that
    were processed by group, and the highest generation of each. `findings` are None if it was left at that."""

    lasted: float
    rebalances: int
    came: dict[str, int]
    processed: dict[str, int]
    generations: dict[str, int]
    findings: list[Finding] | None
    heard: int
    excused: int
    complaints: list[str]


async def churn(groups, *, deaths, calm=True):
    async with SimulatedCluster(settings=SETTINGS) as cluster:
        await cluster.create_topic("orders", PARTITIONS)
        async with cluster.traffic("orders", PARTITIONS, interval=0.5) as traffic:
            await traffic.acknowledged_count(20)
            async with GroupWorkload(
                cluster, "orders", PARTITIONS, groups, restless=0.2, session_s=REBALANCE_S
            ) as workload:
                await cluster.until(lambda: set(_generations(workload)) == set(groups), "both have begun")
                loop, counts = asyncio.get_running_loop(), current_world().trace.counts
                began, before, processed = loop.time(), counts["group_rebalancing"], _processed(workload)
                for group in groups:
                    await cluster.advance(3.0)
                    if deaths:
                        victim = cluster.kill(leader_of("__consumer_offsets", partition_for(group, 2)))
                        await cluster.advance(1.0)
                        cluster.start(victim)
                await cluster.advance(2.0)
                churned = Churn(
                    loop.time() - began,
                    counts["group_rebalancing"] - before,
                    dict(workload.lives_of),
                    {group: count - processed[group] for group, count in _processed(workload).items()},
                    _generations(workload),
                    None,
                    len(workload.told.held),
                    sum(each.uninformed for each in workload.told.held),
                    current_world().complaints,
                )
                if not calm:
                    return churned
                workload.restless = 0.0
                await traffic.stop_writing()
                await cluster.until(lambda: cluster.full("orders"), "every replica is in sync")
                ends = {("orders", index): _end(cluster, index) for index in range(PARTITIONS)}
                await workload.finish(ends, within=STABLE_WITHIN_S)
                return churned._replace(findings=workload.findings(ends))


def _end(cluster, index):
    found = cluster.partition_on(cluster.leader("orders", index), "orders", index)
    assert found is not None
    return found.log_end_offset


def _processed(workload):
    return {
        group: sum(len(offsets) for (of, _), offsets in workload.told.processed.items() if of == group)
        for group in workload.groups
    }


def _generations(workload):
    """The highest that a member was given something in, by group."""
    highest = {}
    for row in workload.told.assigned:
        highest[row.group] = max(row.generation, highest.get(row.group, 0))
    return highest


def most_rebalances(churned):
    """Each lasts until its members have heard of it by a heartbeat; a coordinator that dies may add one."""
    return churned.lasted / HEARTBEAT_S + 2


def fewest_generations(churned, deaths):
    """Each takes the rebalance timeout at the most, and a heartbeat until it begins; a death costs one and a half."""
    return churned.lasted / (REBALANCE_S + 2 * HEARTBEAT_S) - 1.5 * deaths


def test_rebalances_are_bounded_and_the_groups_go_on_meanwhile():
    churned = run(lambda: churn(GROUPS, deaths=True), 0)
    assert churned.findings == [] and churned.complaints == []
    came = churned.came
    assert min(came.values()) > 80, "they do come and go"
    assert churned.heard > 50 and not churned.excused, "who is dead says nothing, so that no word is excused"
    assert churned.rebalances <= most_rebalances(churned) < came["classics"] / 3
    assert churned.generations["classics"] >= fewest_generations(churned, deaths=2)
    # KIP-848: one epoch for each that comes and each that goes, and one where the topic is seen.
    assert came["consumers"] / 2 < churned.generations["consumers"] <= 2 * came["consumers"] + 2
    assert min(churned.processed.values()) > 100, churned.processed


def test_so_it_is_with_fewer_and_without_deaths():
    churned = run(lambda: churn(TWINS, deaths=False), 0)
    assert churned.findings == []
    assert churned.rebalances <= most_rebalances(churned)
    assert churned.generations["classics"] >= fewest_generations(churned, deaths=0)


def test_if_a_rebalance_did_not_wait_for_its_members_there_would_be_more(monkeypatch):
    def complete(group, now, effects):
        if group.state is rebalance.State.PREPARING_REBALANCE and group.came_from is not rebalance.State.EMPTY:
            rebalance.complete(group, now, effects)

    monkeypatch.setattr(rebalance, "complete_if_all_joined", complete)
    churned = run(lambda: churn(TWINS, deaths=False, calm=False), 0)
    assert churned.rebalances > most_rebalances(churned)


def test_if_it_waited_for_those_who_died_the_group_would_not_go_on(monkeypatch):
    tick = classic.tick

    def first_only(group, now):
        return tick(group, now) if group.came_from is rebalance.State.EMPTY else Effects()

    monkeypatch.setattr(classic, "tick", first_only)
    churned = run(lambda: churn(TWINS, deaths=False, calm=False), 0)
    assert churned.generations["classics"] < fewest_generations(churned, deaths=0)
