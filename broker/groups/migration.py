"""Moving a group that has members between the protocols (KIP-848, online migration): which records say so. Pure.

Members of the classic protocol can be in a KIP-848 group as long as their metadata is a consumer's: the broker makes
the assignment for all, and hands it to them when they sync. When the last member that speaks KIP-848 has gone, the
group is a classic one again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from ottla.broker.groups import consumer
from ottla.broker.groups.classic import CONSUMER, ClassicGroup, Member
from ottla.broker.groups.consumer import ConsumerGroup, MemberFacts, Partitions, Topic
from ottla.broker.groups.embedded import ByName, assigned_in, assignment_bytes, subscription_of
from ottla.broker.groups.records import Entry, GroupKey, StoredGroup, StoredMember

UPGRADES: Final = frozenset({"upgrade", "bidirectional"})
DOWNGRADES: Final = frozenset({"downgrade", "bidirectional"})
POLICIES: Final = UPGRADES | DOWNGRADES | {"disabled"}


def by_id(partitions: ByName, topics: Mapping[str, Topic]) -> Partitions:
    """Without those of topics that do not exist."""
    return frozenset((topics[name].id, index) for name, index in partitions if name in topics)


def by_name(partitions: Partitions, topics: Mapping[str, Topic]) -> list[tuple[str, int]]:
    """Without those of topics that do not exist any more."""
    if not partitions:
        return []
    wanted = {topic_id for topic_id, _ in partitions}
    names = {topic.id: name for name, topic in topics.items() if topic.id in wanted}
    return [(names[topic_id], index) for topic_id, index in partitions if topic_id in names]


def upgraded(group: ClassicGroup, topics: Mapping[str, Topic]) -> list[Entry] | None:
    """The end of the classic group, and a KIP-848 group with its members and what they were assigned last, in an epoch
    that is the generation. None when a member's metadata or assignment is not a consumer's."""
    if group.protocol_type != CONSUMER:
        return None
    put = [Entry(GroupKey(group.id), None), Entry(consumer.EpochKey(group.id), consumer.Epoch(group.generation))]
    taken: set[tuple[object, int]] = set()
    for member in group.members.values():
        facts, assigned = _facts(group, member), assigned_in(member.assignment)
        if facts is None or assigned is None:
            return None
        # Assignors of clients may have given one partition to two; here it has one owner.
        partitions = by_id(assigned, topics) - taken
        taken |= partitions
        current = consumer.Current(group.generation, group.generation, consumer.STABLE, partitions, consumer.NOTHING)
        put.append(Entry(consumer.MemberKey(group.id, member.id), facts))
        put.append(Entry(consumer.TargetKey(group.id, member.id), consumer.Target(partitions)))
        put.append(Entry(consumer.CurrentKey(group.id, member.id), current))
    put.append(Entry(consumer.TargetEpochKey(group.id), consumer.TargetEpoch(group.generation)))
    return put


def _facts(group: ClassicGroup, member: Member) -> MemberFacts | None:
    # A group whose first generation is not made yet has no protocol.
    metadata = member.metadata(group.protocol) or (member.protocols[0][1] if member.protocols else b"")
    said = subscription_of(metadata)
    if said is None:
        return None
    return MemberFacts(
        member.instance_id,
        said.rack,
        member.client_id,
        member.client_host,
        tuple(sorted(set(said.topics))),
        None,
        member.rebalance_ms,
        None,
        consumer.ClassicFacts(member.session_ms, member.protocols),
    )


def common_protocols(group: ConsumerGroup) -> frozenset[str] | None:
    """The protocols that every classic member of the group knows; None when it has no such members."""
    known = [{name for name, _ in facts.classic.protocols} for facts in group.members.values() if facts.classic]
    return frozenset(set.intersection(*known)) if known else None


def all_classic(group: ConsumerGroup) -> bool:
    """Whether it has members, and none of them speaks KIP-848."""
    return bool(group.members) and all(facts.classic is not None for facts in group.members.values())


def downgraded(group: ConsumerGroup, topics: Mapping[str, Topic], now_ms: int) -> list[Entry]:
    """The end of the KIP-848 group, and a classic one in the generation that its epoch is. All its members are classic
    ones (`all_classic`)."""
    keys = (consumer.CurrentKey, consumer.TargetKey, consumer.MemberKey)
    ended = [Entry(key(group.id, member_id), None) for member_id in group.members for key in keys]
    ended += [Entry(consumer.TargetEpochKey(group.id), None), Entry(consumer.EpochKey(group.id), None)]
    protocol = _vote(group)
    members = tuple(_stored(group, member_id, protocol, topics) for member_id in group.members)
    leader = next(iter(group.members))
    return [
        *ended,
        Entry(GroupKey(group.id), StoredGroup(CONSUMER, group.epoch, protocol, leader, now_ms, members)),
    ]


def _vote(group: ConsumerGroup) -> str:
    common = common_protocols(group)
    assert common, "who knows none of the others' protocols is not let in"
    votes = Counter(
        next(name for name, _ in facts.classic.protocols if name in common)
        for facts in group.members.values()
        if facts.classic is not None
    )
    return votes.most_common(1)[0][0]


def _stored(group: ConsumerGroup, member_id: str, protocol: str, topics: Mapping[str, Topic]) -> StoredMember:
    facts = group.members[member_id]
    assert facts.classic is not None
    metadata = dict(facts.classic.protocols)[protocol]
    said = subscription_of(metadata)
    target = by_name(group.targets.get(member_id, consumer.NOTHING), topics)
    return StoredMember(
        member_id,
        facts.instance_id,
        facts.client_id,
        facts.client_host,
        facts.rebalance_ms,
        facts.classic.session_ms,
        metadata,
        assignment_bytes(target, 0 if said is None else said.version),
    )
