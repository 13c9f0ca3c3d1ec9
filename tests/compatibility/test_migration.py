"""A living group moves from the classic protocol to that of KIP-848 and back, by rolling restarts of its members."""

from __future__ import annotations

from contextlib import ExitStack

from confluent_kafka import ConsumerGroupType
from confluent_kafka.admin import AdminClient

from ottla.broker.groups.records import OffsetKey, OffsetValue
from tests.compatibility.cluster import Cluster, eventually
from tests.compatibility.members import ConfluentMember, Member, NewConfluentMember, committed
from tests.compatibility.test_groups import (
    PARTITIONS,
    all_seen,
    coordinator_of,
    history,
    make,
    shared,
    start,
    write,
)

OLD, NEW = ConfluentMember.library, NewConfluentMember.library


def type_of(cluster: Cluster, group: str) -> ConsumerGroupType:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    found = admin.list_consumer_groups(request_timeout=10.0).result(20.0)
    return next(each.type for each in found.valid if each.group_id == group)


def commits_never_go_back(cluster: Cluster, group: str) -> None:
    last: dict[int, int] = {}
    for entry in history(cluster, group):
        if isinstance(entry.key, OffsetKey) and isinstance(entry.value, OffsetValue):
            assert entry.value.offset >= last.get(entry.key.partition, 0), (entry, last)
            last[entry.key.partition] = entry.value.offset
    assert len(last) == PARTITIONS


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

    def start(self, library: str, seat: int) -> Member:
        kind = {OLD: ConfluentMember, NEW: NewConfluentMember}[library]
        settings = {"group.instance.id": f"seat-{seat}"} if self._static else {}
        member = kind(self.cluster.bootstrap, self.group, self._topic, settings)
        self._stack.callback(member.stop)
        self.members.append(member)
        return member

    def produce(self, what: str) -> None:
        write(self.cluster, self._topic, self._total, 60)
        self._total += 60
        eventually(all_seen(self.members, self._total), what, within=60)

    def begin(self, library: str) -> None:
        self.running = [self.start(library, seat) for seat in range(3)]
        eventually(shared(self.running), f"three members of {library} share the partitions", within=60)
        self.produce("the first records")

    def roll(self, library: str, type_after: ConsumerGroupType, *, kill_in_between: bool = False) -> None:
        """One member after the other is stopped, and started again with the other protocol."""
        for seat in range(3):
            self.running[seat].stop()
            self.running[seat] = self.start(library, seat)
            if seat == 1 and kill_in_between:
                victim = coordinator_of(self.cluster, self.group)
                self.cluster.kill(victim)
                self.produce("records after the coordinator of the mixed group died")
                self.cluster.start(victim)
            eventually(shared(self.running), f"three members share it after {seat + 1} restarts", within=60)
            self.produce(f"records after {seat + 1} restarts")
        eventually(lambda: type_of(self.cluster, self.group) is type_after, f"the group is {type_after}")

    def ends_well(self) -> None:
        for member in self.running:
            member.stop()
        expected = [self._total // PARTITIONS] * PARTITIONS
        assert committed(self.cluster.bootstrap, self.group, self._topic, PARTITIONS) == expected
        commits_never_go_back(self.cluster, self.group)


def test_a_group_of_static_members_moves_to_the_new_protocol_and_back(cluster: Cluster, topic: str) -> None:
    make(cluster, topic)
    with ExitStack() as stack:
        rolling = Rolling(cluster, stack, topic, static=True)
        rolling.begin(OLD)
        rolling.roll(NEW, ConsumerGroupType.CONSUMER)
        rolling.roll(OLD, ConsumerGroupType.CLASSIC)
        rolling.ends_well()


def test_a_group_moves_and_its_coordinator_dies_on_the_way(cluster: Cluster, topic: str) -> None:
    make(cluster, topic)
    with ExitStack() as stack:
        rolling = Rolling(cluster, stack, topic)
        rolling.begin(OLD)
        rolling.roll(NEW, ConsumerGroupType.CONSUMER, kill_in_between=True)
        rolling.roll(OLD, ConsumerGroupType.CLASSIC, kill_in_between=True)
        rolling.ends_well()


def test_members_of_both_protocols_stay_together(cluster: Cluster, topic: str) -> None:
    """Nobody restarts: two of the new protocol join two of the old one, and go again."""
    make(cluster, topic)
    group = f"g-{topic}"
    write(cluster, topic, 0, 60)
    with ExitStack() as stack:
        old = [start(stack, cluster, OLD, group, topic) for _ in range(2)]
        eventually(shared(old), "the old ones share it", within=60)
        new = [start(stack, cluster, NEW, group, topic) for _ in range(2)]
        eventually(shared([*old, *new]), "all share it", within=60)
        assert type_of(cluster, group) is ConsumerGroupType.CONSUMER
        write(cluster, topic, 60, 60)
        eventually(all_seen([*old, *new], 120), "records of the mixed group", within=60)
        for member in new:
            member.stop()
        eventually(shared(old), "the old ones share it again", within=60)
        eventually(lambda: type_of(cluster, group) is ConsumerGroupType.CLASSIC, "it is a classic group again")
        write(cluster, topic, 120, 60)
        eventually(all_seen([*old, *new], 180), "records of the old ones", within=60)
    assert committed(cluster.bootstrap, group, topic, PARTITIONS) == [30] * PARTITIONS
    commits_never_go_back(cluster, group)
