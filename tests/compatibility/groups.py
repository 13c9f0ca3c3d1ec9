"""What the tests of consumer groups have in common: records that keep coming, and a group under observation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from ottla.broker.coordination import OFFSETS_TOPIC, partition_for
from ottla.client import Admin, GroupDescription
from tests.compatibility.background import BackgroundLoop
from tests.compatibility.cluster import Cluster, eventually
from tests.compatibility.confluent import Confluent
from tests.compatibility.members import MEMBERS, Member, Place
from tests.failover.group import Watch, watched

PARTITIONS = 6
PATIENCE_S = 60.0


class Stream:
    """The numbers from `first` on, as often as asked for or until `stop`, over all partitions in turn.

    The producer is idempotent, so that none of them may fail; `ends` is where each partition ends.
    """

    def __init__(self, cluster: Cluster, topic: str, partitions: int = PARTITIONS, first: int = 0) -> None:
        self.sent = self.acknowledged = first
        self.ends = dict.fromkeys(range(partitions), 0)
        self._topic = topic
        self._partitions = partitions
        self._failed: list[str] = []
        self._stopped = threading.Event()
        self._producer = Producer({"bootstrap.servers": cluster.bootstrap, "enable.idempotence": True, "linger.ms": 2})
        self._thread: threading.Thread | None = None

    def send(self, count: int) -> None:
        for _ in range(count):
            where = self.sent % self._partitions
            while True:
                try:
                    self._producer.produce(self._topic, b"%d" % self.sent, partition=where, on_delivery=self._told)
                    break
                except BufferError:
                    self._producer.poll(0.1)
            self.sent += 1
            self._producer.poll(0)

    def _told(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failed.append(str(error))
        else:
            self.acknowledged += 1
            self.ends[message.partition()] = max(self.ends[message.partition()], message.offset() + 1)

    def finish(self) -> None:
        left = self._producer.flush(PATIENCE_S)
        assert not left and not self._failed, (left, self._failed[:3])

    def _run(self) -> None:
        while not self._stopped.wait(0.01):
            self.send(2)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=f"stream to {self._topic}")
        self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self._stopped.set()
            self._thread.join(PATIENCE_S)
            self._thread = None
            self.finish()


def write(cluster: Cluster, topic: str, first: int, count: int, partitions: int = PARTITIONS) -> None:
    """So many numbers from `first` on."""
    stream = Stream(cluster, topic, partitions, first)
    stream.send(count)
    stream.finish()


def make(cluster: Cluster, topic: str, partitions: int = PARTITIONS) -> None:
    with Confluent().admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic, partitions)


def start(stack: ExitStack, cluster: Cluster, library: str, group: str, topic: str, **settings: Any) -> Member:
    member = MEMBERS[library](cluster.bootstrap, group, topic, settings)
    stack.callback(member.stop)
    return member


def all_seen(members: Sequence[Member], total: int) -> Callable[[], bool]:
    def seen() -> bool:
        return len({value for member in members for _, _, value in member.seen}) == total

    return seen


def shared(members: Sequence[Member], partitions: int = PARTITIONS) -> Callable[[], bool]:
    """Every partition has one owner among these members, and every member has a partition."""

    def disjoint() -> bool:
        owned = [index for member in members for index in member.assigned]
        return sorted(owned) == list(range(partitions)) and all(member.assigned for member in members)

    return disjoint


def check_owners(members: Sequence[Member]) -> None:
    """No partition has two owners in one generation (KIP-848: under one member epoch), as the members were told."""
    owners: dict[tuple[int, Place], str] = {}
    for member in members:
        for generation, places in member.told:
            for place in places:
                owner = owners.setdefault((generation, place), member.identity)
                assert owner == member.identity, f"{place} has two owners in {generation}: {owner}, {member.identity}"
    assert owners


class Observed:
    """A group as an admin client sees it. At the end: AssertionError if a committed offset was seen to go back."""

    def __init__(self, loop: BackgroundLoop, admin: Admin, group: str, partitions: int) -> None:
        self._loop = loop
        self._admin = admin
        self._group = group
        self._partitions = partitions

    def describe(self) -> GroupDescription:
        return self._loop.run(self._admin.describe_consumer_groups([self._group]))[self._group]

    def settles(self, members: Sequence[Member], what: str, within: float) -> None:
        """Until these are all members there are, in one generation, in which every partition has an owner, and the
        coordinator says that the group is stable."""

        def settled() -> bool:
            owned = [partition for member in members for _, partition in member.last_told[1]]
            if len({member.last_told[0] for member in members}) != 1 or sorted(owned) != list(range(self._partitions)):
                return False
            found = self.describe()
            return found.state == "Stable" and len(found.members) == len(members)

        eventually(settled, f"{what}: a stable group", within=within)


@contextmanager
def observed(cluster: Cluster, group: str, topic: str, partitions: int = PARTITIONS) -> Iterator[Observed]:
    watch = Watch(group, topic, partitions)
    with BackgroundLoop("look at the group") as loop:
        admin = Admin(bootstrap_servers=cluster.bootstrap, request_timeout_ms=PATIENCE_S * 1000)
        looking = watched(watch, cluster.bootstrap)
        loop.run(admin.start())
        try:
            loop.run(looking.__aenter__())
            try:
                yield Observed(loop, admin, group, partitions)
            finally:
                loop.run(looking.__aexit__(None, None, None))
        finally:
            loop.run(admin.close())
    assert len(watch.committed) == partitions, watch.committed


def coordinator_of(cluster: Cluster, group: str) -> int:
    """The node that leads the group's partition."""
    with Confluent().admin(cluster.bootstrap) as admin:
        found = admin.describe(OFFSETS_TOPIC)
    return found[partition_for(group, len(found))].leader


def another_leader(cluster: Cluster, topic: str, *others: int) -> int:
    """A node that leads a partition of the topic, and is none of the others."""
    with Confluent().admin(cluster.bootstrap) as admin:
        found = admin.describe(topic)
    return next(seen.leader for seen in found.values() if seen.leader not in others)


def whole(cluster: Cluster, *topics: str) -> bool:
    """Every replica of these topics and of the offsets is in sync."""
    with Confluent().admin(cluster.bootstrap) as admin:
        return all(len(seen.isr) == 3 for topic in (OFFSETS_TOPIC, *topics) for seen in admin.describe(topic).values())


def committed(bootstrap: str, group: str, topic: str, partitions: int) -> list[int]:
    """The group's offsets, as an admin client that is no member is told (-1001: none). AssertionError in the end."""
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, index) for index in range(partitions)])
    deadline = time.monotonic() + PATIENCE_S
    while True:
        # A new one each time: librdkafka keeps to the coordinator that it was told first, also when that is gone.
        admin = AdminClient({"bootstrap.servers": bootstrap})
        try:
            found = admin.list_consumer_group_offsets([wanted], request_timeout=2.0)[group].result(10.0)
            return [each.offset for each in sorted(found.topic_partitions or [], key=lambda each: each.partition)]
        except KafkaException as error:
            assert time.monotonic() < deadline, error
