"""Mistakes in what replicates and elects, one at a time, and the storms in which each of them has to be found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ottla.broker.replication import leading
from ottla.broker.replication.leader import LeaderState
from ottla.broker.replication.partition import Partition
from ottla.controller.metadata import brokers, election, reassignment
from ottla.controller.metadata.partition_change import Assignment
from ottla.controller.raft.core import RaftCore
from ottla.controller.raft.driver import RaftDriver
from ottla.controller.raft.election import Elections
from ottla.controller.raft.entry_log import EntryLog
from ottla.controller.raft.follower import Follower
from ottla.controller.raft.leader import Leader
from ottla.controller.raft.log_storage import LogStorage
from ottla.controller.raft.membership import Membership
from ottla.controller.raft.state import RaftState
from ottla.log import ModelledDisk
from ottla.log.producers import NEW, ProducerState
from tests.simulation.mutants.catching import Mutant

# -- replication


def acknowledge_before_replication(patch: pytest.MonkeyPatch) -> None:
    def advance(self: LeaderState, _eligible: Any, _now: float) -> bool:
        moved = self.durable_end > self.high_watermark
        self.high_watermark = self.durable_end
        return moved

    patch.setattr(LeaderState, "advance", advance)


def truncate_to_the_high_watermark(patch: pytest.MonkeyPatch) -> None:
    """KIP-101"""
    original = Partition.become_follower

    def become_follower(self: Partition, image: Any) -> None:
        original(self, image)
        assert self.log is not None
        self.log.truncate_to(self.high_watermark)

    patch.setattr(Partition, "become_follower", become_follower)


def keep_no_window_of_producers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ProducerState, "check", lambda *_args, **_more: NEW)


def forget_producers_when_leading(patch: pytest.MonkeyPatch) -> None:
    original = Partition.become_leader

    def become_leader(self: Partition, image: Any) -> None:
        assert self.log is not None
        self.log.producers = ProducerState()
        original(self, image)

    patch.setattr(Partition, "become_leader", become_leader)


def show_what_is_not_committed(patch: pytest.MonkeyPatch) -> None:
    original = leading.read_below

    def read_below(partition: Partition, want: Any, _up_to: int, **options: Any) -> Any:
        return original(partition, want, partition.log_end_offset, **options)

    patch.setattr(leading, "read_below", read_below)


# -- the controller


def trust_an_unclean_return(patch: pytest.MonkeyPatch) -> None:
    """KIP-966: who stopped uncleanly stays in the ISR as its last member, and an eligible leader."""
    original = brokers.take_out
    patch.setattr(brokers, "take_out", lambda image, policy, away, *, lost=(): original(image, policy, away))


def elect_anybody(patch: pytest.MonkeyPatch) -> None:
    """Unclean elections without permission."""
    original = election.change_partition

    def change(topic: Any, partition: int, **options: Any) -> Any:
        return original(topic, partition, **options | {"unclean": True})

    patch.setattr(election, "change_partition", change)


def keep_the_leader_epoch(patch: pytest.MonkeyPatch) -> None:
    original = election.change_partition

    def change(topic: Any, partition: int, **options: Any) -> Any:
        changed = original(topic, partition, **options)
        return changed and changed.model_copy(update={"leader_epoch": topic.partitions[partition].leader_epoch})

    patch.setattr(election, "change_partition", change)


def drop_replicas_when_the_new_ones_are_in_sync(patch: pytest.MonkeyPatch) -> None:
    """KIP-455: of the wanted replicas those that were there before may be away."""

    def settled(self: Assignment, isr: Any) -> Assignment:
        target = tuple(replica for replica in self.replicas if replica not in self.removing)
        done = (self.adding or self.removing) and set(self.adding) <= set(isr) and set(target) & set(isr)
        return Assignment(target) if done else self

    patch.setattr(Assignment, "settled", settled)


def take_new_replicas_for_in_sync(patch: pytest.MonkeyPatch) -> None:
    """A reassignment that is complete when it begins."""
    original = reassignment.change_partition

    def change(topic: Any, partition: int, **options: Any) -> Any:
        return original(topic, partition, **options | {"isr": {*options["isr"], *options["assignment"].adding}})

    patch.setattr(reassignment, "change_partition", change)


def give_the_same_producer_ids_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(brokers, "PRODUCER_ID_BLOCK", 0)
    original = brokers.AllocateProducerIdsResponse
    patch.setattr(brokers, "AllocateProducerIdsResponse", lambda **fields: original(**fields | {"count": 1000}))


# -- Raft


def append_without_comparing(patch: pytest.MonkeyPatch) -> None:
    """Section 5.3: the entry before the new ones is not looked at."""
    patch.setattr(Follower, "_holds", lambda *_: True)


def vote_twice(patch: pytest.MonkeyPatch) -> None:
    def may_vote(self: Elections, candidate: int, request: Any) -> bool:
        return request.term > self.term if request.pre else request.term == self.term

    patch.setattr(Elections, "_may_vote", may_vote)


def forget_the_vote(patch: pytest.MonkeyPatch) -> None:
    original = LogStorage._load_quorum_state

    def load(self: LogStorage) -> None:
        original(self)
        if self._hard_state is not None:
            self._hard_state = replace(self._hard_state, vote=None)

    patch.setattr(LogStorage, "_load_quorum_state", load)


def forget_the_term(patch: pytest.MonkeyPatch) -> None:
    original = LogStorage.load

    def load(self: LogStorage) -> Any:
        state = original(self)
        last = state.entries[-1].term if state.entries else 0
        return state if state.hard_state is None else replace(state, hard_state=replace(state.hard_state, term=last))

    patch.setattr(LogStorage, "load", load)


def vote_without_sync(patch: pytest.MonkeyPatch) -> None:
    _without_sync(patch, "quorum-state.tmp")


def acknowledge_entries_before_sync(patch: pytest.MonkeyPatch) -> None:
    async def perform(self: RaftDriver, core: RaftCore, ready: Any) -> None:
        for envelope in ready.messages:
            self._transport.send(*envelope)
        await original(self, core, replace(ready, messages=()))

    original = RaftDriver._perform
    patch.setattr(RaftDriver, "_perform", perform)


def count_the_own_copy_before_sync(patch: pytest.MonkeyPatch) -> None:
    original = EntryLog.append

    def append(self: EntryLog, entries: Any) -> None:
        original(self, entries)
        self.stable = self.last_index

    patch.setattr(EntryLog, "append", append)


def keep_the_snapshot_in_the_cache(patch: pytest.MonkeyPatch) -> None:
    _without_sync(patch, ".checkpoint.tmp")


# -- changes of voters


def count_the_voters_of_the_settings(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RaftState, "quorum", property(lambda self: len(self.config.voters) // 2 + 1))


def change_voters_twice_at_once(patch: pytest.MonkeyPatch) -> None:
    """Thesis 4.1: majorities of sets that differ by two nodes need have nobody in common."""
    patch.setattr(Membership, "_is_change_pending", lambda self, leading: leading.joining is not None)


def count_oneself_when_removed(patch: pytest.MonkeyPatch) -> None:
    """Thesis 4.2.2"""
    original = Leader._quorum_value

    def quorum_value(self: Leader, own: int, values: dict[int, int]) -> int:
        voters = self.voters
        self.voters = voters | {self.node_id}
        try:
            return original(self, own, values)
        finally:
            self.voters = voters

    patch.setattr(Leader, "_quorum_value", quorum_value)


def leave_the_voters_out_of_snapshots(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EntryLog, "voters_at", lambda *_: None)


# -- reassignments


def keep_all_replicas_when_the_new_ones_are_in_sync(patch: pytest.MonkeyPatch) -> None:
    def settled(self: Assignment, isr: Any) -> Assignment:
        target = {*self.replicas}.difference(self.removing)
        return Assignment(self.replicas) if (self.adding or self.removing) and target <= set(isr) else self

    patch.setattr(Assignment, "settled", settled)


def keep_what_was_being_added_when_cancelled(patch: pytest.MonkeyPatch) -> None:
    original = reassignment.cancel

    def cancel(image: Any, policy: Any, topic: Any, partition: int) -> Any:
        change = original(image, policy, topic, partition)
        return change and change.model_copy(update={"replicas": None})

    patch.setattr(reassignment, "cancel", cancel)


# -- disks


def sync_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ModelledDisk, "sync_node", lambda *_: None)


def _without_sync(patch: pytest.MonkeyPatch, end: str) -> None:
    original = ModelledDisk.sync_node
    patch.setattr(
        ModelledDisk, "sync_node", lambda self, path, node: None if path.endswith(end) else original(self, path, node)
    )


def fetch_without_sync(patch: pytest.MonkeyPatch) -> None:
    """With flush = synced a follower asks for more without making durable what it has."""
    from ottla.broker.replication.fetcher import ReplicaFetcher

    async def sync(self: ReplicaFetcher) -> None:
        self._unsynced.clear()

    patch.setattr(ReplicaFetcher, "_sync", sync)


SYNCED = {"ottla.flush": "synced"}
OS = {"ottla.flush": "os"}
FAILOVERS = ("kill", "isolate")
VOTERS = ("new voter", "voter leaves", "kill", "isolate")

MUTANTS: dict[str, Mutant] = {
    "acknowledge before replication": Mutant(acknowledge_before_replication, FAILOVERS, 1),
    "truncate to the high watermark": Mutant(truncate_to_the_high_watermark, ("kill", "pause"), 10),
    "keep no window of producers": Mutant(keep_no_window_of_producers, ("resets", "kill"), 12),
    "forget producers when leading": Mutant(forget_producers_when_leading, FAILOVERS, 25),
    "show what is not committed": Mutant(show_what_is_not_committed, FAILOVERS, 12),
    "trust an unclean return": Mutant(
        trust_an_unclean_return, ("lone power off", "stop", "pause"), 25, 6.0, settings=OS
    ),
    "drop replicas when the new ones are in sync": Mutant(
        drop_replicas_when_the_new_ones_are_in_sync, ("reassign", "kill", "reassign"), 4
    ),
    "take new replicas for in sync": Mutant(take_new_replicas_for_in_sync, ("reassign", "kill"), 2, nodes=5),
    "elect anybody": Mutant(elect_anybody, ("isolate", "kill", "pause"), 30, seconds=10.0),
    "keep the leader epoch": Mutant(keep_the_leader_epoch, ("kill",), 2),
    "give the same producer ids twice": Mutant(give_the_same_producer_ids_twice, ("kill",), 2),
    "append without comparing": Mutant(append_without_comparing, FAILOVERS, 6),
    "vote twice": Mutant(
        vote_twice, ("kill all",), 5, nodes=5, settings={"controller.quorum.election.timeout.ms": "100"}
    ),
    "forget the vote": Mutant(forget_the_vote, ("kill",), 1),
    "forget the term": Mutant(forget_the_term, ("power off",), 10, settings=SYNCED),
    "vote without sync": Mutant(vote_without_sync, ("power off",), 2, settings=SYNCED),
    "acknowledge entries before sync": Mutant(acknowledge_entries_before_sync, ("kill",), 1),
    "count the own copy before sync": Mutant(count_the_own_copy_before_sync, ("kill",), 1),
    "keep the snapshot in the cache": Mutant(
        keep_the_snapshot_in_the_cache,
        ("power off",),
        2,
        settings=SYNCED | {"metadata.log.max.record.bytes.between.snapshots": "1000"},
    ),
    "count the voters of the settings": Mutant(count_the_voters_of_the_settings, VOTERS, 10),
    "change voters twice at once": Mutant(
        change_voters_twice_at_once, ("voter leaves", "late", "voter leaves", "slow disk"), 10, nodes=5
    ),
    "count oneself when removed": Mutant(count_oneself_when_removed, ("voter leaves", "new voter"), 20),
    "leave the voters out of snapshots": Mutant(
        leave_the_voters_out_of_snapshots,
        ("new voter", "kill"),
        2,
        settings={"metadata.log.max.record.bytes.between.snapshots": "1000"},
    ),
    "keep all replicas when the new ones are in sync": Mutant(
        keep_all_replicas_when_the_new_ones_are_in_sync, ("reassign",), 2, nodes=5
    ),
    "keep what was being added when cancelled": Mutant(
        keep_what_was_being_added_when_cancelled, ("reassign", "pause", "reassign"), 20, nodes=5
    ),
    "sync nothing": Mutant(sync_nothing, ("power off",), 1, settings=SYNCED),
    "fetch without sync": Mutant(fetch_without_sync, ("power off",), 1, settings=SYNCED),
}

# What takes more than a coincidence of faults: a story brings it about, and a twin of that has the mistake.
TOLD: dict[str, str] = {
    "compare only the very epoch (KIP-279)": "test_02_two_fast_failovers.py::"
    "test_if_only_the_very_epoch_were_compared_logs_would_diverge",
    "skip the epoch check in Fetch (KIP-320)": "test_05_epochs_on_fetch.py::"
    "test_without_the_check_it_would_begin_again_at_the_beginning",
    "commit below min ISR (KIP-966)": "test_06_last_replica_standing.py::"
    "test_if_it_were_not_frozen_readers_would_see_what_is_lost_then",
    "accept any broker epoch (KIP-903)": "test_07_a_rebooted_replica.py::"
    "test_without_broker_epochs_an_empty_replica_is_in_sync",
    "accept any partition epoch (KIP-497)": "test_08_stale_isr.py::test_without_that_check_a_stale_replica_is_elected",
    "go by the ISR that was asked for, not by the maximal one": "test_08_stale_isr.py::"
    "test_if_it_were_not_its_election_would_lose_what_was_acknowledged",
    "trust the clean marker for ever (KAFKA-10471)": "test_11_crash_during_recovery.py::"
    "test_a_marker_that_stays_would_be_believed",
    "wait on in the next epoch": "test_12_acknowledged_in_its_epoch.py::"
    "test_if_only_the_offset_counted_something_else_would_be_acknowledged",
    "cut at every append (Redpanda #17895)": "test_26_late_appends.py::"
    "test_if_an_append_were_the_end_of_the_log_it_would_cut_what_is_committed",
    "commit older terms by count (Figure 8)": "../../raft/test_mutants.py::"
    "test_section_5_4_2_figure_8_catches_commit_by_counting",
}
