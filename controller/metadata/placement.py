"""Which brokers get the replicas of new partitions: spread over racks, brokers and leaders (KIP-36).

Greedy where Kafka goes in stripes: each replica goes where there are fewest, first within the topic, then in the
cluster, then in a circle that starts anywhere. In a cluster that is evenly filled this gives Kafka's stripes, and in
one that is not it evens out. The first replica is the preferred leader, and leaders are counted by themselves.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from kio.schema.errors import ErrorCode

from ottla.controller.metadata.decision import Refusal
from ottla.controller.metadata.image import BrokerImage, MetadataImage

if TYPE_CHECKING:
    from random import Random

Replicas = tuple[int, ...]


def check_replicas(image: MetadataImage, replicas: Replicas) -> None:
    """Raises Refusal(INVALID_REPLICA_ASSIGNMENT) unless these are different, known brokers."""
    why = None
    if not replicas:
        why = "The manual partition assignment includes an empty replica list."
    elif len(set(replicas)) != len(replicas):
        why = f"The manual partition assignment includes a broker more than once: {list(replicas)}."
    else:
        unknown = next((replica for replica in replicas if replica not in image.brokers), None)
        if unknown is not None:
            why = f"The manual partition assignment includes broker {unknown}, but no such broker is registered."
    if why is not None:
        raise Refusal(ErrorCode.invalid_replica_assignment, why)


class _Load:
    """Replicas and preferred leaders by broker."""

    def __init__(self, placed: Iterable[Replicas] = ()) -> None:
        self.leaders: Counter[int] = Counter()
        self.replicas: Counter[int] = Counter()
        for replicas in placed:
            self.add(replicas)

    def add(self, replicas: Replicas) -> None:
        self.leaders[replicas[0]] += 1
        for broker in replicas:
            self.replicas[broker] += 1


class Placer:
    """Places partition after partition. What it places counts for what it places next.

    `candidates` in the order of the circle; `racks` by broker (a broker without one is a rack of its own); `existing`
    are the partitions that the topic has, `cluster` those of all topics.
    """

    def __init__(
        self,
        candidates: Sequence[int],
        racks: Mapping[int, str],
        existing: Iterable[Replicas],
        cluster: Iterable[Replicas],
    ) -> None:
        self._candidates = candidates
        self._racks = racks
        self._in_topic = _Load()
        self._in_cluster = _Load(cluster)
        self._behind: Counter[tuple[int, int, int]] = Counter()
        for replicas in existing:
            self._note(replicas)

    def _note(self, replicas: Replicas) -> None:
        self._in_topic.add(replicas)
        self._behind.update((replicas[0], position, broker) for position, broker in enumerate(replicas))

    def place(self, replication_factor: int) -> Replicas:
        """`replication_factor` different brokers, of which there must be so many."""
        leader = min(self._candidates, key=lambda broker: (self._in_topic.leaders[broker], *self._load(broker)))
        replicas: Replicas = (leader,)
        used = Counter((self._racks[leader],))
        for position in range(1, replication_factor):
            follower = min(
                (broker for broker in self._candidates if broker not in replicas),
                key=lambda broker: self._as_follower(broker, leader, position, used),
            )
            replicas = (*replicas, follower)
            used[self._racks[follower]] += 1
        self._note(replicas)
        self._in_cluster.add(replicas)
        return replicas

    def _as_follower(self, broker: int, leader: int, position: int, used: Counter[str]) -> tuple[int, ...]:
        # When a leader dies the next in line takes over: who comes behind whom is spread as well.
        behind = self._behind[leader, position, broker]
        return (used[self._racks[broker]], self._in_topic.replicas[broker], behind, self._in_cluster.replicas[broker])

    def _load(self, broker: int) -> tuple[int, int, int]:
        return (
            self._in_topic.replicas[broker],
            self._in_cluster.leaders[broker],
            self._in_cluster.replicas[broker],
        )


def placer_for(
    image: MetadataImage, replication_factor: int, rng: "Random", *, existing: Iterable[Replicas] = ()
) -> Placer:
    """A placer over the brokers that are up, and over fenced ones only if there are too few of the others; never over
    cordoned ones (KIP-1066).

    `existing` are the partitions that the topic has already. Raises Refusal(INVALID_REPLICATION_FACTOR).
    """
    cordoned = sum(image.cordoned(broker) for broker in image.brokers)
    brokers = [broker for broker in image.brokers.values() if not (cordoned and image.cordoned(broker.id))]
    up = [broker for broker in brokers if broker.eligible]
    down = [broker for broker in brokers if not broker.eligible]
    if not up:
        state = "fenced or cordoned" if cordoned else "fenced"
        raise Refusal(
            ErrorCode.invalid_replication_factor,
            f"Unable to replicate the partition {replication_factor} time(s): All brokers are currently {state}.",
        )
    if replication_factor > len(up) + len(down):
        raise Refusal(
            ErrorCode.invalid_replication_factor,
            f"Unable to replicate the partition {replication_factor} time(s): The target replication factor of "
            f"{replication_factor} cannot be reached because only {len(up) + len(down)} broker(s) are registered"
            + (f" and not cordoned ({cordoned} are)." if cordoned else "."),
        )
    missing = replication_factor - len(up)
    if missing > 0:
        up += sorted(down, key=lambda broker: broker.id)[:missing]
    return Placer(
        candidates=[broker.id for broker in _circle(up, rng)],
        racks={broker.id: f"rack {broker.rack}" if broker.rack else f"broker {broker.id}" for broker in up},
        existing=existing,
        cluster=(state.target for _, _, state in image.all_partitions()),
    )


def _circle(brokers: Iterable[BrokerImage], rng: "Random") -> list[BrokerImage]:
    """One broker of each rack in turn, so that neighbours stand in different racks; from a start drawn by chance."""
    by_rack: dict[str | None, list[BrokerImage]] = {}
    for broker in sorted(brokers, key=lambda broker: (broker.rack or "", broker.id)):
        by_rack.setdefault(broker.rack, []).append(broker)
    longest = max(len(members) for members in by_rack.values())
    circle = [members[turn] for turn in range(longest) for members in by_rack.values() if turn < len(members)]
    start = rng.randrange(len(circle))
    return circle[start:] + circle[:start]
