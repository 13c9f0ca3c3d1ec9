"""What the simulation has found, each as the shortest storm that shows it. What became a story is in scenarios/."""

from functools import partial
from types import SimpleNamespace

import pytest

from ottla.controller import Entry
from ottla.controller.raft.entry_log import EntryLog
from ottla.simulation.errors import Anomaly
from ottla.simulation.invariants.metadata import MetadataTruth
from ottla.simulation.invariants.partitions import PartitionTruth, Replica
from ottla.simulation.invariants.raft import RaftTruth
from ottla.simulation.storm import storm


@pytest.mark.parametrize("seed", range(2))
def test_a_single_loss_of_power_among_clean_stops_and_pauses(seed: int):
    assert storm(seed, seconds=15, kinds=["lone power off", "stop", "pause"], rate=20).acknowledged


def test_a_leader_that_was_stalled_need_not_have_what_later_ones_committed():
    """It hears of its epoch when that is over; what was committed up to then it must have."""
    truth = PartitionTruth("orders", 0, MetadataTruth({}, lambda *_: None, lambda *_: None))
    truth.ends = {1: 10, 3: 20}
    assert [truth.end_in(epoch) for epoch in range(5)] == [0, 10, 10, 20, 20]


def test_a_leader_of_raft_that_hears_late_of_its_votes_need_not_have_what_later_terms_committed():
    """What was committed before its term it must have."""
    truth = RaftTruth()
    truth.entries = [Entry(1, 7, b"a"), Entry(2, 10, b"b")]
    truth.committed_by = [8, 10]

    def elected(term, *entries):
        truth.elected(SimpleNamespace(core=SimpleNamespace(term=term, log=EntryLog(entries=entries)), node=1, life=1))

    elected(9, truth.entries[0], Entry(2, 9, b""))
    for term, second in ((11, Entry(2, 9, b"")), (12, None)):
        with pytest.raises(Anomaly):
            elected(term, *filter(None, (truth.entries[0], second)))
    with pytest.raises(Anomaly):
        elected(13, Entry(1, 6, b""))


def test_a_stalled_leader_may_count_on_a_replica_that_was_removed_and_is_a_new_one_by_now():
    """It had the record when it was removed. In the epoch that the leader knows, nobody may lack it."""
    truth = PartitionTruth("orders", 0, MetadataTruth({}, lambda *_: None, lambda *_: None))
    held = {1: (8, 4), 2: (8, 4), 3: (0, 5)}
    truth.replicas = {node: SimpleNamespace(lossy=False, held=end, since=since) for node, (end, since) in held.items()}
    isr = {1, 2, 3}
    leader = _leader(truth, isr)
    role = SimpleNamespace(replicas=[1, 2, 3], leader_epoch=4, effective_min_insync=3)
    Replica._is_held(leader, role, 8)
    role.leader_epoch = 5
    with pytest.raises(Anomaly, match="of its ISR"):
        Replica._is_held(leader, role, 8)
    role.leader_epoch = 4
    isr.remove(3)
    with pytest.raises(Anomaly, match="2 replicas hold"):
        Replica._is_held(leader, role, 8)


def test_a_leader_may_hear_in_one_step_of_its_isr_and_that_a_member_of_it_was_removed():
    """With what was known in between, the member's fetches have committed. Who was only never there held nothing."""
    truth = PartitionTruth("orders", 0, MetadataTruth({}, lambda *_: None, lambda *_: None))
    truth.replicas = {1: SimpleNamespace(lossy=False, held=8, since=4)}
    leader = _leader(truth, {1, 3})
    role = SimpleNamespace(replicas=[1, 2, 3], leader_epoch=4, effective_min_insync=2)
    replicas = [1, 2]
    truth.metadata.latest = SimpleNamespace(partition=lambda *_: SimpleNamespace(replicas=replicas))
    Replica._is_held(leader, role, 8)
    replicas.append(3)
    with pytest.raises(Anomaly, match="1 replicas hold"):
        Replica._is_held(leader, role, 8)


def _leader(truth, isr):
    leader = SimpleNamespace(truth=truth, _isr=lambda _: isr)
    leader._was_removed = partial(Replica._was_removed, leader)
    return leader
