"""Acknowledged before it is on the disk (etcd #14370), stale reads after a pause (#20418), quick snapshots (#18055).

The ABA of an acknowledgement that is for an overwritten entry is a matter of the core alone: see
tests/raft/test_defences.py, test_persisted_word_of_an_overwritten_entry_does_not_count_aba, and for read barriers
test_thesis_6_4_read_barrier_is_not_fooled_by_answers_that_were_sent_before_it.
"""

from dataclasses import replace
from typing import Any

import pytest

from ottla.controller.raft.driver import RaftDriver
from ottla.simulation import Anomaly
from tests.simulation.scenarios.quorum import Voters, play
from tests.simulation.scenarios.stage import Broken

SNAPSHOTS = {"metadata_log_max_record_bytes_between_snapshots": "1"}


async def everybody_loses_power(voters: Voters) -> None:
    """At the moment that the client hears of it."""
    await voters.create("first")
    await voters.create("second")
    for node_id in voters.cluster.nodes:
        voters.cluster.power_off(node_id)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_acknowledged_is_on_disks(seed: int):
    play(everybody_loses_power, seed=seed)


def test_acknowledged_first_and_synced_then_is_caught(monkeypatch: pytest.MonkeyPatch):
    original = RaftDriver._perform

    async def perform(self: RaftDriver, core: Any, ready: Any) -> None:
        for envelope in ready.messages:
            self._transport.send(*envelope)
        await original(self, core, replace(ready, messages=()))

    monkeypatch.setattr(RaftDriver, "_perform", perform)
    with pytest.raises(Anomaly, match="durable only on nodes"):
        play(everybody_loses_power)


async def wakes_up_as_leader(voters: Voters) -> None:
    """A controller that slept through an election thinks that it leads, and must answer nothing from what it knows."""
    cluster, old = voters.cluster, voters.leader
    cluster.pause(old)
    await voters.led_by_another(old)
    await voters.create("news")
    cluster.resume(old)
    driver = voters.quorum(old).driver
    try:
        index = await driver.read_barrier()
    except Exception as error:  # noqa: BLE001  the type is what is asked about
        assert type(error).__name__ in ("NotLeader", "OutcomeUnknown")
        return
    if index < voters.core(voters.leader).commit:
        raise Broken("a read was served from before the pause")


@pytest.mark.parametrize("seed", range(2))
def test_a_read_after_a_pause_is_not_stale(seed: int):
    play(wakes_up_as_leader, seed=seed)


def test_without_proof_of_leadership_it_would_be(monkeypatch: pytest.MonkeyPatch):
    async def barrier(self: RaftDriver) -> int:
        return self.applied_index

    monkeypatch.setattr(RaftDriver, "read_barrier", barrier)
    with pytest.raises(Broken, match="from before the pause"):
        play(wakes_up_as_leader)


async def snapshot_upon_snapshot(voters: Voters) -> None:
    for number in range(8):
        await voters.create(f"topic-{number}")
    for node_id in voters.cluster.nodes:
        voters.cluster.kill(node_id)


def test_two_quick_snapshots():
    play(snapshot_upon_snapshot, **SNAPSHOTS)
