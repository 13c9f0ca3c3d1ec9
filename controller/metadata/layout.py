"""Which brokers hold which replicas, as plain data: what plans for moving replicas are made on.

Made from a metadata image in the controller, and from what a cluster tells about itself in the command line.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

Key = tuple[str, int]
"""A topic and the number of one of its partitions."""

Replicas = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """A broker as a place for replicas. A broker without a rack is a rack of its own (KIP-36).

    `open`: it may be given more of them. One that is away, cordoned (KIP-1066) or to be emptied may not.
    """

    id: int
    rack: str | None = None
    open: bool = True


class Layout:
    """Counts that follow every `put`. `partitions` are read-only for others; replicas may be at no known site."""

    def __init__(self, sites: Iterable[Site], partitions: Mapping[Key, Replicas]) -> None:
        self.sites = {site.id: site for site in sorted(sites, key=lambda site: site.id)}
        self.partitions: dict[Key, Replicas] = {}
        self.replicas: Counter[int] = Counter()
        self.leaders: Counter[int] = Counter()
        self.in_topic: dict[str, Counter[int]] = {}
        for key, replicas in partitions.items():
            self.put(key, replicas)

    def put(self, key: Key, replicas: Replicas) -> None:
        """The partition has these replicas now; the first is the preferred leader."""
        before = self.partitions.get(key, ())
        self.partitions[key] = replicas
        topic = self.in_topic.setdefault(key[0], Counter())
        for counter in (self.replicas, topic):
            counter.subtract(before)
            counter.update(replicas)
        self.leaders.subtract(before[:1])
        self.leaders.update(replicas[:1])

    def open_sites(self) -> Iterator[int]:
        return (site.id for site in self.sites.values() if site.open)

    def rack(self, broker: int) -> str:
        site = self.sites.get(broker)
        return f"rack {site.rack}" if site is not None and site.rack else f"broker {broker}"

    def best_site(self, key: Key, others: Iterable[int], but: Iterable[int] = ()) -> int | None:
        """Where a replica of this partition belongs whose `others` stay: in a rack without one, and where there are
        fewest of the topic, and of all topics. None when there is no open site left; never one of `but`."""
        kept = tuple(others)
        racks = Counter(map(self.rack, kept))
        topic = self.in_topic.get(key[0], Counter())
        taken = {*kept, *but}
        return min(
            (broker for broker in self.open_sites() if broker not in taken),
            key=lambda broker: (racks[self.rack(broker)], topic[broker], self.replicas[broker], broker),
            default=None,
        )

    def crowding(self, replicas: Iterable[int]) -> int:
        """How many replicas share a rack with one before them."""
        racks = [self.rack(broker) for broker in replicas]
        return len(racks) - len(set(racks))
