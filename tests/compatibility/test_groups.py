"""Consumer groups of each library: members come and go, one dies, and so do the nodes that they depend on."""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack

import pytest

from tests.compatibility.cluster import Cluster, eventually
from tests.compatibility.confluent import Confluent
from tests.compatibility.groups import (
    PARTITIONS,
    Stream,
    all_seen,
    another_leader,
    check_owners,
    committed,
    coordinator_of,
    make,
    observed,
    start,
    whole,
    write,
)
from tests.compatibility.members import (
    CLASSIC,
    AioMember,
    ConfluentMember,
    KafkaPythonMember,
    Member,
    NewConfluentMember,
    NewOttlaMember,
)
from tests.compatibility.separate import SeparateMember

MIXED = "mixed"
WITHIN_S = 15.0
"""For a group to be whole again after a node was killed: a failover, the session of a member that died (6 s), and a
rebalance."""


class Ten:
    """Ten members of a group on twelve partitions, to which records keep coming."""

    members, partitions = 10, 12

    def __init__(self, cluster: Cluster, stack: ExitStack, kind: str, topic: str) -> None:
        self.group = f"g-{topic}"
        self.everybody: list[Member] = []
        self.running: list[Member] = []
        self._cluster = cluster
        self._stack = stack
        self._topic = topic
        self._kinds = itertools.cycle(CLASSIC if kind == MIXED else (kind,))
        make(cluster, topic, self.partitions)
        self.stream = Stream(cluster, topic, self.partitions)
        self.stream.start()
        stack.callback(self.stream.stop)
        self.doomed = SeparateMember(next(self._kinds), cluster.bootstrap, self.group, topic)
        stack.callback(self.doomed.stop)
        self._add(self.doomed)
        self.come(self.members - 1)
        self.observed = stack.enter_context(observed(cluster, self.group, topic, self.partitions))
        self.observed.settles(self.running, "ten members", within=60.0)

    def _add(self, member: Member) -> None:
        self.running.append(member)
        self.everybody.append(member)

    def come(self, count: int) -> None:
        for _ in range(count):
            self._add(start(self._stack, self._cluster, next(self._kinds), self.group, self._topic))

    def go(self, member: Member) -> None:
        """In good order, or die in its process."""
        self.running.remove(member)
        member.leave()

    def recovers(self, began: float, what: str) -> None:
        """The group is whole again in time, and what was written since then is read from every partition."""
        ends = dict(self.stream.ends)
        self.observed.settles(self.running, what, within=WITHIN_S - (time.monotonic() - began))
        stable = time.monotonic() - began

        def goes_on() -> bool:
            reached = [max(member.reached.get(index, -1) for member in self.everybody) for index in ends]
            return all(offset >= ends[index] for index, offset in enumerate(reached))

        eventually(goes_on, f"{what}: new records of every partition")
        print(f"{what}: stable after {stable:.1f} s, reads on after {time.monotonic() - began:.1f} s")  # noqa: T201

    def ends_well(self) -> None:
        self.stream.stop()
        eventually(all_seen(self.everybody, self.stream.acknowledged), "every record was processed")
        for member in self.running:
            member.leave()
        for member in self.running:
            member.stop()
        ends = list(self.stream.ends.values())
        assert committed(self._cluster.bootstrap, self.group, self._topic, self.partitions) == ends
        check_owners(self.everybody)


@pytest.mark.parametrize(
    "kind", [ConfluentMember.library, NewConfluentMember.library, AioMember.library, KafkaPythonMember.library, MIXED]
)
def test_ten_members_come_and_go_while_their_coordinator_and_a_leader_are_killed(
    cluster: Cluster, kind: str, topic: str
) -> None:
    with ExitStack() as stack:
        ten = Ten(cluster, stack, kind, topic)
        first = coordinator_of(cluster, ten.group)
        began = time.monotonic()
        cluster.kill(first)
        ten.go(ten.doomed)
        ten.go(ten.running[0])
        ten.come(2)
        ten.recovers(began, "the coordinator was killed and a member died")
        cluster.start(first)
        eventually(lambda: whole(cluster, topic), "every replica is in sync again")

        second = another_leader(cluster, topic, first, coordinator_of(cluster, ten.group))
        began = time.monotonic()
        cluster.kill(second)
        ten.go(ten.running[1])
        ten.come(1)
        ten.recovers(began, "a leader was killed")
        cluster.start(second)
        eventually(lambda: whole(cluster, topic), "every replica is in sync again")
        ten.ends_well()


@pytest.mark.parametrize(
    "kind",
    [
        ConfluentMember.library,
        NewConfluentMember.library,
        AioMember.library,
        KafkaPythonMember.library,
        NewOttlaMember.library,
    ],
)
def test_who_comes_back_reads_exactly_what_came_after_its_commit(cluster: Cluster, kind: str, topic: str) -> None:
    """Of this library's classic members: tests/failover/test_groups.py."""
    group, before, after = f"g-{topic}", 60, 100_000
    make(cluster, topic)
    write(cluster, topic, 0, before)
    with ExitStack() as stack:
        first = start(stack, cluster, kind, group, topic)
        eventually(all_seen([first], before), "the first records were handed out")
    write(cluster, topic, before, after)
    cluster.kill(coordinator_of(cluster, group))
    with ExitStack() as stack:
        again = start(stack, cluster, kind, group, topic)
        eventually(lambda: len(again.seen) >= after, "the records after the commit", within=60)
    assert sorted(int(value) for _, _, value in again.seen) == list(range(before, before + after))


def test_a_topic_made_while_the_coordinator_is_down_comes_to_who_has_a_pattern(cluster: Cluster, topic: str) -> None:
    """KIP-848: it is the broker that looks for the topics, a new one from what it finds in the log."""
    group, other = f"g-{topic}", f"{topic}-more"
    make(cluster, topic)
    write(cluster, topic, 0, 60)
    with ExitStack() as stack:
        members = [start(stack, cluster, NewConfluentMember.library, group, f"^{topic}.*") for _ in range(2)]
        eventually(all_seen(members, 60), "60 records were handed out")
        victim = coordinator_of(cluster, group)
        cluster.kill(victim)
        with Confluent().admin(cluster.bootstrap) as admin:
            admin.create(other, PARTITIONS)
        wanted = sorted((name, index) for name in (topic, other) for index in range(PARTITIONS))

        def shared() -> bool:
            return sorted(place for member in members for place in member.last_told[1]) == wanted

        eventually(shared, "the members have the partitions of both topics", within=WITHIN_S)
        write(cluster, other, 60, 60)
        eventually(all_seen(members, 120), "records of the new topic were handed out")
    check_owners(members)
    for name in (topic, other):
        assert committed(cluster.bootstrap, group, name, PARTITIONS) == [10] * PARTITIONS
