"""How the leader of a classic group shares the partitions: pure functions, with Kafka's names and results' rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from ottla.client.group.protocol import BadMetadata, Subscription, decode_sticky, encode_sticky
from ottla.client.group.sticky import Claims, sticky
from ottla.client.structs import TopicPartition

Shares = dict[str, list[TopicPartition]]


@dataclass(frozen=True, slots=True)
class RosterMember:
    """One member as the leader sees it."""

    id: str
    instance_id: str | None
    subscription: Subscription

    @property
    def rank(self) -> tuple[bool, str]:
        """Kafka's order of members: static ones first, by their instance ids, which survive a restart."""
        return (self.instance_id is None, self.instance_id or self.id)


Roster = Sequence[RosterMember]
Counts = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Assignor:
    """A rule with its name in the protocol. With a `cooperative` one members keep what they own while they join."""

    name: str
    assign: Callable[[Roster, Counts], Shares]
    cooperative: bool = False
    user_data: Callable[[Iterable[TopicPartition], int], bytes | None] = lambda owned, generation: None


def _ranked(roster: Roster) -> list[RosterMember]:
    return sorted(roster, key=lambda member: member.rank)


def assign_range(roster: Roster, counts: Counts) -> Shares:
    """Topic by topic a run of neighbours to each, so that partitions of the same number go together; the first members
    get one more where it does not come out even."""
    shares: Shares = {member.id: [] for member in roster}
    ranked = _ranked(roster)
    for topic in sorted({topic for member in roster for topic in member.subscription.topics}):
        takers = [member for member in ranked if topic in member.subscription.topics]
        each, more = divmod(counts.get(topic, 0), len(takers))
        first = 0
        for place, member in enumerate(takers):
            after = first + each + (place < more)
            shares[member.id] += [TopicPartition(topic, index) for index in range(first, after)]
            first = after
    return shares


def assign_roundrobin(roster: Roster, counts: Counts) -> Shares:
    """All partitions of all topics dealt out one by one."""
    shares: Shares = {member.id: [] for member in roster}
    ranked = _ranked(roster)
    turn = 0
    for topic in sorted({topic for member in roster for topic in member.subscription.topics}):
        for index in range(counts.get(topic, 0)):
            while topic not in ranked[turn % len(ranked)].subscription.topics:
                turn += 1
            shares[ranked[turn % len(ranked)].id].append(TopicPartition(topic, index))
            turn += 1
    return shares


def _claims_of(member: RosterMember) -> tuple[Iterable[TopicPartition], int]:
    """What a member says that it had, in its metadata or in the sticky assignor's user data, and as of when."""
    told = member.subscription
    if told.user_data:
        try:
            owned, generation = decode_sticky(told.user_data)
        except BadMetadata:
            # It only means that nothing can be kept for this member.
            return told.owned, told.generation
        if not told.owned:
            return owned, generation
    return told.owned, told.generation


def _claims(roster: Roster) -> Claims:
    """Who owns what. Of two that claim the same the later generation is right; of equals, nobody."""
    best: dict[TopicPartition, tuple[int, str | None]] = {}
    for member in roster:
        owned, generation = _claims_of(member)
        for tp in set(owned):
            known = best.get(tp)
            if known is None or generation > known[0]:
                best[tp] = (generation, member.id)
            elif generation == known[0]:
                best[tp] = (generation, None)
    return {tp: owner for tp, (_, owner) in best.items() if owner is not None}


def _sticky(roster: Roster, counts: Counts, claims: Claims) -> Shares:
    topics = {member.id: frozenset(member.subscription.topics) for member in _ranked(roster)}
    return sticky(topics, counts, claims)


def assign_sticky(roster: Roster, counts: Counts) -> Shares:
    """As even as can be, and then with as few moves as possible (KIP-54)."""
    return _sticky(roster, counts, _claims(roster))


def assign_cooperative(roster: Roster, counts: Counts) -> Shares:
    """As `assign_sticky`, but what somebody else still owns is given to nobody in this round: its owner sees that it
    must let go of it, and the members join once more (KIP-429)."""
    claims = _claims(roster)
    held: dict[TopicPartition, set[str]] = {}
    for member in roster:
        for tp in member.subscription.owned:
            held.setdefault(tp, set()).add(member.id)
    shares = _sticky(roster, counts, claims)
    return {who: [tp for tp in share if held.get(tp, set()) <= {who}] for who, share in shares.items()}


RANGE: Final = Assignor("range", assign_range)
ROUNDROBIN: Final = Assignor("roundrobin", assign_roundrobin)
STICKY: Final = Assignor("sticky", assign_sticky, user_data=partial(encode_sticky))
COOPERATIVE_STICKY: Final = Assignor("cooperative-sticky", assign_cooperative, cooperative=True)
ASSIGNORS: Final = {each.name: each for each in (RANGE, ROUNDROBIN, STICKY, COOPERATIVE_STICKY)}
