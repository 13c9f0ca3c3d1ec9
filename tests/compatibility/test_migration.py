"""A living group moves from the classic protocol to that of KIP-848 and back, by rolling restarts of its members."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from confluent_kafka import ConsumerGroupType
from confluent_kafka.admin import AdminClient

from tests.compatibility.cluster import Cluster, eventually
from tests.compatibility.groups import (
    PARTITIONS,
    all_seen,
    check_owners,
    committed,
    coordinator_of,
    make,
    observed,
    shared,
    start,
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
    OttlaMember,
)

SEATS = 3
OLD, NEW = (ConfluentMember.library,) * SEATS, (NewConfluentMember.library,) * SEATS
OLD_MIXED = (AioMember.library, KafkaPythonMember.library, OttlaMember.library)
NEW_MIXED = (NewOttlaMember.library, NewConfluentMember.library, NewOttlaMember.library)
WITHIN_S = 15.0


def type_of(cluster: Cluster, group: str) -> ConsumerGroupType:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    found = admin.list_consumer_groups(request_timeout=10.0).result(20.0)
    return next(each.type for each in found.valid if each.group_id == group)


class Rolling:
    """Three members, and records that keep coming."""

    def __init__(self, cluster: Cluster, stack: ExitStack, topic: str, *, static: bool = False) -> None:
        self.cluster = cluster
        self.group = f"g-{topic}"
        self.members: list[Member] = []
        self.running: list[Member] = []
        self._stack = stack
        self._topic = topic
        self._total = 0
        self._static = static
        make(cluster, topic)
        self.observed = stack.enter_context(observed(cluster, self.group, topic))

    def start(self, library: str, seat: int) -> Member:
        settings = {"group.instance.id": f"seat-{seat}"} if self._static else {}
        member = start(self._stack, self.cluster, library, self.group, self._topic, **settings)
        self.members.append(member)
        return member

    def produce(self, what: str) -> None:
        write(self.cluster, self._topic, self._total, 60)
        self._total += 60
        eventually(all_seen(self.members, self._total), what, within=60)

    def begin(self, libraries: Sequence[str]) -> None:
        self.running = [self.start(library, seat) for seat, library in enumerate(libraries)]
        eventually(shared(self.running), f"members of {libraries} share the partitions", within=60)
        self.produce("the first records")

    def roll(self, libraries: Sequence[str], type_after: ConsumerGroupType, *, kill_in_between: bool = False) -> None:
        """One member after the other is stopped, and started again with the other protocol."""
        for seat, library in enumerate(libraries):
            self.running[seat].stop()
            self.running[seat] = self.start(library, seat)
            if seat == 1 and kill_in_between:
                self.coordinator_dies()
            eventually(shared(self.running), f"three members share it after {seat + 1} restarts", within=60)
            self.produce(f"records after {seat + 1} restarts")
        eventually(lambda: type_of(self.cluster, self.group) is type_after, f"the group is {type_after}")

    def coordinator_dies(self) -> None:
        """And comes back when the group has gone on without it."""
        victim = coordinator_of(self.cluster, self.group)
        began = time.monotonic()
        self.cluster.kill(victim)
        self.observed.settles(self.running, "the coordinator of a mixed group was killed", within=WITHIN_S)
        took = time.monotonic() - began
        print(f"the coordinator of a mixed group was killed: stable after {took:.1f} s")  # noqa: T201
        self.produce("records after the coordinator of the mixed group died")
        self.cluster.start(victim)

    def ends_well(self) -> None:
        for member in self.running:
            member.stop()
        expected = [self._total // PARTITIONS] * PARTITIONS
        assert committed(self.cluster.bootstrap, self.group, self._topic, PARTITIONS) == expected
        check_owners(self.members)


def test_a_group_of_static_members_moves_to_the_new_protocol_and_back(cluster: Cluster, topic: str) -> None:
    with ExitStack() as stack:
        rolling = Rolling(cluster, stack, topic, static=True)
        rolling.begin(OLD)
        rolling.roll(NEW, ConsumerGroupType.CONSUMER)
        rolling.roll(OLD, ConsumerGroupType.CLASSIC)
        rolling.ends_well()


def test_a_group_moves_and_its_coordinator_dies_on_the_way(cluster: Cluster, topic: str) -> None:
    with ExitStack() as stack:
        rolling = Rolling(cluster, stack, topic)
        rolling.begin(OLD_MIXED)
        rolling.roll(NEW_MIXED, ConsumerGroupType.CONSUMER, kill_in_between=True)
        rolling.roll(OLD_MIXED, ConsumerGroupType.CLASSIC, kill_in_between=True)
        rolling.ends_well()


def test_members_of_both_protocols_stay_together(cluster: Cluster, topic: str) -> None:
    """Nobody restarts: two of the new protocol join one of each library of the old one, their coordinator is killed
    while all are in, and the two go again."""
    with ExitStack() as stack:
        rolling = Rolling(cluster, stack, topic)
        rolling.begin(CLASSIC)
        new = [rolling.start(library, 0) for library in (NewConfluentMember.library, NewOttlaMember.library)]
        rolling.running += new
        eventually(shared(rolling.running), "all share it", within=60)
        assert type_of(cluster, rolling.group) is ConsumerGroupType.CONSUMER
        rolling.produce("records of the mixed group")
        rolling.coordinator_dies()
        assert type_of(cluster, rolling.group) is ConsumerGroupType.CONSUMER
        for member in new:
            rolling.running.remove(member)
            member.stop()
        began = time.monotonic()
        eventually(shared(rolling.running), "the old ones share it again", within=60)
        print(f"the old ones share it again after {time.monotonic() - began:.1f} s")  # noqa: T201
        eventually(lambda: type_of(cluster, rolling.group) is ConsumerGroupType.CLASSIC, "it is a classic group again")
        rolling.produce("records of the old ones")
        rolling.ends_well()
