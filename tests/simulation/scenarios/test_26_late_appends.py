"""Redpanda #17895: an AppendEntries that comes late, or twice, cuts off what was committed behind it."""

import pytest

from ottla.controller.raft.entry_log import EntryLog
from ottla.controller.raft.messages import AppendRequest
from ottla.simulation import Anomaly
from ottla.simulation.messages import Message
from tests.simulation.scenarios.quorum import Voters, play


def has_entries(message: Message) -> bool:
    return any(isinstance(each, AppendRequest) and each.entries for each in message.raft)


async def comes_twice(voters: Voters) -> None:
    cluster, leader = voters.cluster, voters.leader
    follower = voters.followers()[0]
    hold = cluster.hold("AppendEntries", source=leader, target=follower, where=has_entries)
    await voters.create("first")
    await hold.caught()
    hold.release()
    for topic in ("second", "third"):
        await voters.create(topic)
    await cluster.until(lambda: "third" in voters.topics(follower), "the follower has them", within=5)
    committed = voters.core(follower).commit
    await hold.deliver_again()
    await cluster.advance(0.2)
    assert voters.core(follower).log.last_index >= committed


@pytest.mark.parametrize("seed", range(2))
def test_entries_that_are_held_already_are_skipped(seed: int):
    play(comes_twice, seed=seed)


def test_if_an_append_were_the_end_of_the_log_it_would_cut_what_is_committed(monkeypatch: pytest.MonkeyPatch):
    original = EntryLog.merge

    def merge(self: EntryLog, entries, commit: int) -> None:
        if entries and self.first_index <= entries[0].index <= self.last_index:
            self._cut(entries[0].index)
        original(self, entries, commit)

    monkeypatch.setattr(EntryLog, "merge", merge)
    with pytest.raises(Anomaly, match=r"the log was cut to|committed entry"):
        play(comes_twice)
