"""Plans for moving replicas: off brokers that go or are gone, and from full brokers to emptier ones.

Pure and deterministic: the same layout gives the same plan. A plan says which replicas partitions shall have; carrying
it out is a reassignment (KIP-455), which never has fewer replicas in sync on the way.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

from ottla.controller.metadata.layout import Key, Layout, Replicas, Site

Plan = dict[Key, Replicas]


def plan_evacuation(
    sites: Iterable[Site], partitions: Mapping[Key, Replicas], away: Collection[int], wanted: Iterable[Key]
) -> Plan:
    """The `wanted` partitions without the brokers `away`: another broker in the place of each, where there is one.

    Those that stay keep their places, so who leads by preference changes only where that broker goes.
    """
    layout = Layout((Site(site.id, site.rack, site.open and site.id not in away) for site in sites), partitions)
    plan: Plan = {}
    for key in wanted:
        before = replicas = layout.partitions[key]
        for leaving in [replica for replica in before if replica in away]:
            others = [replica for replica in replicas if replica != leaving]
            instead = layout.best_site(key, others, but=before)
            if instead is not None:
                replicas = tuple(instead if replica == leaving else replica for replica in replicas)
                layout.put(key, replicas)
        if replicas != before:
            plan[key] = replicas
    return plan


def plan_balance(sites: Iterable[Site], partitions: Mapping[Key, Replicas]) -> Plan:
    """Moves after which the racks of each partition differ as far as they can, no open broker has two replicas more
    than another, in all or of one topic, if one move can mend it, and none leads two partitions more by preference.

    Each step makes the layout strictly better in that order, so it ends; what it ends with gives an empty plan.
    """
    layout = Layout(sites, partitions)
    before = dict(layout.partitions)
    while _spread_racks(layout) or _even_out(layout) or _even_out_topics(layout):
        pass
    while _even_out_leaders(layout):
        pass
    return {key: replicas for key, replicas in layout.partitions.items() if replicas != before[key]}


def _moved(layout: Layout, key: Key, source: int, target: int) -> Replicas:
    return tuple(target if replica == source else replica for replica in layout.partitions[key])


def _spread_racks(layout: Layout) -> bool:
    """One replica out of a rack that has another one of its partition, into a rack that has none."""
    for key, replicas in sorted(layout.partitions.items()):
        if not layout.crowding(replicas):
            continue
        racks = Counter(map(layout.rack, replicas))
        crowded = [replica for replica in replicas if racks[layout.rack(replica)] > 1]
        source = max(crowded, key=lambda broker: (layout.replicas[broker], broker))
        target = layout.best_site(key, (replica for replica in replicas if replica != source), but=replicas)
        if target is not None and layout.crowding(_moved(layout, key, source, target)) < layout.crowding(replicas):
            layout.put(key, _moved(layout, key, source, target))
            return True
    return False


def _even_out(layout: Layout) -> bool:
    """One replica from a broker to another that has at least two fewer; where its topic is fullest, if it can be
    chosen."""
    for source, target in _pairs(layout, layout.replicas):
        movable = [
            key
            for key, replicas in layout.partitions.items()
            if source in replicas and target not in replicas and _no_worse(layout, key, source, target)
        ]
        if movable:
            key = min(movable, key=lambda key: (_topic_gain(layout, key, source, target), key))
            layout.put(key, _moved(layout, key, source, target))
            return True
    return False


def _topic_gain(layout: Layout, key: Key, source: int, target: int) -> int:
    topic = layout.in_topic[key[0]]
    return topic[target] - topic[source]


def _no_worse(layout: Layout, key: Key, source: int, target: int) -> bool:
    return layout.crowding(_moved(layout, key, source, target)) <= layout.crowding(layout.partitions[key])


def _even_out_topics(layout: Layout) -> bool:
    """The same within one topic, as far as it makes no broker fuller than the one that the replica comes from."""
    for topic in sorted(layout.in_topic):
        counts = layout.in_topic[topic]
        for source, target in _pairs(layout, counts):
            if layout.replicas[source] <= layout.replicas[target]:
                continue
            for key, replicas in sorted(layout.partitions.items()):
                free = key[0] == topic and source in replicas and target not in replicas
                if free and _no_worse(layout, key, source, target):
                    layout.put(key, _moved(layout, key, source, target))
                    return True
    return False


def _even_out_leaders(layout: Layout) -> bool:
    """Another order of the replicas of one partition: nothing is copied for that."""
    for source, target in _pairs(layout, layout.leaders):
        for key, replicas in sorted(layout.partitions.items()):
            if replicas[0] == source and target in replicas:
                place = replicas.index(target)
                layout.put(key, (target, *replicas[1:place], source, *replicas[place + 1 :]))
                return True
    return False


def _pairs(layout: Layout, counts: Counter[int]) -> Iterator[tuple[int, int]]:
    """Brokers of which the first has at least two more than the second, which is open; the widest apart first."""
    targets = sorted(layout.open_sites(), key=lambda broker: (counts[broker], broker))
    for source in sorted(layout.sites, key=lambda broker: (-counts[broker], broker)):
        for target in targets:
            if counts[source] - counts[target] < 2:
                break
            yield source, target
