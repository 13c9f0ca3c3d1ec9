"""Consumer groups of each library: sharing, taking over, and going on when the coordinator's node is killed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from ottla.broker.coordination import partition_for
from ottla.broker.coordination.primitives import Reader
from ottla.broker.groups.records import Entry, OffsetKey, OffsetValue, StoredGroup, decode
from ottla.client import Consumer, ConsumerRecord, TopicPartition
from tests.compatibility.background import BackgroundLoop
from tests.compatibility.cluster import Cluster, eventually
from tests.compatibility.confluent import Confluent
from tests.compatibility.members import LIBRARIES, MEMBERS, Member, NewConfluentMember, committed
from tests.compatibility.model import How, Library, Message

PARTITIONS = 6
OFFSETS = "__consumer_offsets"


def write(cluster: Cluster, topic: str, first: int, count: int) -> None:
    """The numbers from `first` on, over all partitions."""
    for partition in range(PARTITIONS):
        numbers = range(first + partition, first + count, PARTITIONS)
        results = Confluent().write(
            cluster.bootstrap,
            topic,
            [Message(b"%d" % number) for number in numbers],
            partition=partition,
            how=How(idempotent=True),
        )
        assert not any(result.error for result in results)


def all_seen(members: Sequence[Member], total: int) -> Callable[[], bool]:
    def seen() -> bool:
        return len({value for member in members for _, _, value in member.seen}) == total

    return seen


def shared(members: Sequence[Member]) -> Callable[[], bool]:
    """Every partition has one owner among these members, and every member has a partition."""

    def disjoint() -> bool:
        owned = [index for member in members for index in member.assigned]
        return sorted(owned) == list(range(PARTITIONS)) and all(member.assigned for member in members)

    return disjoint


def start(stack: ExitStack, cluster: Cluster, library: str, group: str, topic: str) -> Member:
    member = MEMBERS[library](cluster.bootstrap, group, topic)
    stack.callback(member.stop)
    return member


def coordinator_of(cluster: Cluster, group: str) -> int:
    """The node that leads the group's partition."""
    with Confluent().admin(cluster.bootstrap) as admin:
        found = admin.describe(OFFSETS)
    return found[partition_for(group, len(found))].leader


def make(cluster: Cluster, topic: str) -> None:
    with Confluent().admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic, PARTITIONS)


def test_members_share_a_topic_and_take_over_from_each_other(cluster: Cluster, library: Library, topic: str) -> None:
    group = f"g-{topic}"
    make(cluster, topic)
    write(cluster, topic, 0, 300)
    with ExitStack() as stack:
        members = [start(stack, cluster, library.name, group, topic) for _ in range(2)]
        eventually(shared(members), "two members share the partitions")
        eventually(all_seen(members, 300), "all 300 records were handed out")
        third = start(stack, cluster, library.name, group, topic)
        eventually(shared([*members, third]), "three members share the partitions")
        members[0].stop()
        eventually(shared([members[1], third]), "two members share the partitions after one has left")
        write(cluster, topic, 300, 300)
        eventually(all_seen([*members, third], 600), "all 600 records were handed out")
    assert committed(cluster.bootstrap, group, topic, PARTITIONS) == [100] * PARTITIONS


def test_a_group_goes_on_when_its_coordinator_is_killed(cluster: Cluster, library: Library, topic: str) -> None:
    group = f"g-{topic}"
    make(cluster, topic)
    write(cluster, topic, 0, 120)
    with ExitStack() as stack:
        members = [start(stack, cluster, library.name, group, topic) for _ in range(3)]
        eventually(shared(members), "three members share the partitions")
        eventually(all_seen(members, 120), "the first 120 records were handed out")
        before = committed(cluster.bootstrap, group, topic, PARTITIONS)
        for round_number in (1, 2):
            victim = coordinator_of(cluster, group)
            cluster.kill(victim)
            after = committed(cluster.bootstrap, group, topic, PARTITIONS)
            assert all(new >= old for new, old in zip(after, before, strict=True)), (before, after)
            write(cluster, topic, 120 * round_number, 120)
            eventually(all_seen(members, 120 * (round_number + 1)), f"records after kill {round_number}", within=40)
            cluster.start(victim)
            eventually(lambda: whole(cluster), "every replica is in sync again")
            before = after
        eventually(shared(members), "the group is stable", within=40)
    assert committed(cluster.bootstrap, group, topic, PARTITIONS) == [60] * PARTITIONS


def whole(cluster: Cluster) -> bool:
    with Confluent().admin(cluster.bootstrap) as admin:
        return all(len(seen.isr) == 3 for seen in admin.describe(OFFSETS).values())


def test_who_comes_back_reads_exactly_what_came_after_its_commit(
    cluster: Cluster, library: Library, topic: str
) -> None:
    group = f"g-{topic}"
    make(cluster, topic)
    write(cluster, topic, 0, 60)
    with ExitStack() as stack:
        first = start(stack, cluster, library.name, group, topic)
        eventually(all_seen([first], 60), "60 records were handed out")
    write(cluster, topic, 60, 6000)
    cluster.kill(coordinator_of(cluster, group))
    with ExitStack() as stack:
        again = start(stack, cluster, library.name, group, topic)
        eventually(all_seen([again], 6000), "the records after the commit", within=40)
    assert sorted(int(value) for _, _, value in again.seen) == list(range(60, 6060))


def test_the_new_protocol_survives_its_coordinator(cluster: Cluster, topic: str) -> None:
    """KIP-848: two members by name, one by pattern; one leaves, the coordinator dies, another comes."""
    group, library = f"g-{topic}", NewConfluentMember.library
    make(cluster, topic)
    write(cluster, topic, 0, 120)
    with ExitStack() as stack:
        members = [start(stack, cluster, library, group, name) for name in (topic, topic, f"^{topic[:-1]}.$")]
        eventually(shared(members), "three members share the partitions")
        eventually(all_seen(members, 120), "120 records were handed out")
        members[0].stop()
        eventually(shared(members[1:]), "two members share the partitions after one has left", within=40)
        victim = coordinator_of(cluster, group)
        cluster.kill(victim)
        write(cluster, topic, 120, 120)
        eventually(all_seen(members, 240), "240 records were handed out", within=40)
        fourth = start(stack, cluster, library, group, topic)
        eventually(shared([*members[1:], fourth]), "three members share the partitions again", within=40)
    assert committed(cluster.bootstrap, group, topic, PARTITIONS) == [40] * PARTITIONS


def test_ten_members_come_and_go_while_nodes_die(cluster: Cluster, topic: str) -> None:
    """Of all libraries in one group. What happened is then read from the group's own log."""
    group, names = f"g-{topic}", itertools.cycle(LIBRARIES)
    make(cluster, topic)
    members: list[Member] = []
    running: list[Member] = []
    total = 0
    with ExitStack() as stack:

        def come(count: int) -> None:
            for _ in range(count):
                running.append(start(stack, cluster, next(names), group, topic))
                members.append(running[-1])

        def produce(count: int) -> None:
            nonlocal total
            write(cluster, topic, total, count)
            total += count

        come(4)
        produce(120)
        eventually(all_seen(members, total), "the first records", within=40)
        first = coordinator_of(cluster, group)
        cluster.kill(first)
        come(3)
        produce(120)
        running.pop(0).stop()
        eventually(all_seen(members, total), "records after the coordinator died", within=60)
        cluster.start(first)
        eventually(lambda: whole(cluster), "every replica is in sync again")
        come(3)
        cluster.kill(coordinator_of(cluster, group))
        running.pop(1).stop()
        produce(120)
        eventually(all_seen(members, total), "records after another coordinator died", within=60)
        cluster.restore()
        eventually(shared_by(running), "the group is stable", within=60)
    assert committed(cluster.bootstrap, group, topic, PARTITIONS) == [total // PARTITIONS] * PARTITIONS
    check_history(history(cluster, group), topic)


def shared_by(members: Sequence[Member]) -> Callable[[], bool]:
    """Every partition has one owner; there are more members than partitions."""
    return lambda: sorted(index for member in members for index in member.assigned) == list(range(PARTITIONS))


def history(cluster: Cluster, group: str) -> list[Entry]:
    """All that was written of the group, in order."""
    with Confluent().admin(cluster.bootstrap) as admin:
        partition = partition_for(group, len(admin.describe(OFFSETS)))
    with BackgroundLoop("history") as loop:
        records = loop.run(everything(cluster.bootstrap, TopicPartition(OFFSETS, partition)))
    entries = [decode(record.key or b"", record.value) for record in records]
    return [entry for entry in entries if entry is not None and entry.key.group == group]


async def everything(bootstrap: str, where: TopicPartition) -> list[ConsumerRecord]:
    """Up to the end as it is now. Not every offset has a record, so they are not counted."""
    found: list[ConsumerRecord] = []
    async with Consumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([where])
        end = (await consumer.end_offsets([where]))[where]
        while await consumer.position(where) < end:
            found += (await consumer.getmany(timeout_ms=500)).get(where, [])
    return found


def check_history(entries: Sequence[Entry], topic: str) -> None:
    """No partition has two owners in one generation, generations go up, and commits never go back."""
    last: dict[int, int] = {}
    generation = 0
    for entry in entries:
        value = entry.value
        if isinstance(value, StoredGroup):
            assert value.generation > generation
            generation = value.generation
            owned = [at for member in value.members for at in assigned(member.assignment, topic)]
            assert len(owned) == len(set(owned)), f"generation {generation}: {sorted(owned)}"
        elif isinstance(value, OffsetValue) and isinstance(entry.key, OffsetKey):
            assert value.offset >= last.get(entry.key.partition, 0), (entry, last)
            last[entry.key.partition] = value.offset
    assert generation and len(last) == PARTITIONS


def assigned(assignment: bytes, topic: str) -> list[int]:
    """The partitions in a ConsumerProtocolAssignment."""
    reader = Reader(assignment)
    found: list[int] = []
    if assignment:
        reader.int16()
        for _ in range(reader.count()):
            name = reader.string()
            indexes = [reader.int32() for _ in range(reader.count())]
            found += indexes if name == topic else []
    return found


def test_libraries_share_one_group(cluster: Cluster, topic: str) -> None:
    group = f"g-{topic}"
    make(cluster, topic)
    write(cluster, topic, 0, 60)
    with ExitStack() as stack:
        members = [start(stack, cluster, name, group, topic) for name in LIBRARIES]
        eventually(shared(members), "three libraries share the partitions", within=40)
        eventually(all_seen(members, 60), "60 records were handed out")
