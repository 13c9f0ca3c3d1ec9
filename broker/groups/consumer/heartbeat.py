"""ConsumerGroupHeartbeat: the one request by which members of a KIP-848 group join, live, change and leave.

`beat` decides on a draft of the group: it says which records to write and what to answer once they are committed. The
group itself changes when they are replayed.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from uuid import UUID

from kio.schema.errors import ErrorCode

from ottla.broker.groups.consumer.assignors import ASSIGNORS, DEFAULT_ASSIGNOR
from ottla.broker.groups.consumer.group import AWAY, LEAVING, ConsumerGroup, Topic
from ottla.broker.groups.consumer.reconcile import reconciled
from ottla.broker.groups.consumer.records import (
    NOTHING,
    STABLE,
    ClassicFacts,
    Current,
    CurrentKey,
    Epoch,
    EpochKey,
    Key,
    MemberFacts,
    MemberKey,
    Partitions,
    Target,
    TargetEpoch,
    TargetEpochKey,
    TargetKey,
    Value,
)
from ottla.broker.groups.consumer.regexes import NOTHING_FOUND, Find, write_down


@dataclass(frozen=True, slots=True)
class Beat:
    """The request. None stands for "as I said before"; `owned` of None is what a member sends that has no news.

    With `classic` it is a JoinGroup of a member of the classic protocol, which says all that there is to say.
    """

    member_id: str
    epoch: int
    instance_id: str | None
    rack_id: str | None
    client_id: str
    client_host: str
    rebalance_ms: int
    topics: tuple[str, ...] | None
    regex: str | None
    assignor: str | None
    owned: Partitions | None
    classic: ClassicFacts | None = None


@dataclass(frozen=True, slots=True)
class BeatAnswer:
    """`assignment` of None: the member knows it."""

    error: ErrorCode
    member_id: str = ""
    epoch: int = -1
    assignment: Partitions | None = None
    message: str | None = None


@dataclass(slots=True)
class Decision:
    """Records to write, in order, and the answer once they are committed."""

    answer: BeatAnswer
    entries: list[tuple[Key, Value | None]] = field(default_factory=list)


class _Draft:
    """The group as it will be, and how it comes to be that."""

    def __init__(self, group: ConsumerGroup) -> None:
        self.group = group.draft()
        self.entries: list[tuple[Key, Value | None]] = []

    def put(self, key: Key, value: Value | None) -> None:
        self.entries.append((key, value))
        self.group.replay(key, value)

    def remove(self, member_id: str) -> None:
        group_id = self.group.id
        self.put(CurrentKey(group_id, member_id), None)
        self.put(TargetKey(group_id, member_id), None)
        self.put(MemberKey(group_id, member_id), None)

    def bump(self, metadata_hash: int) -> None:
        self.put(EpochKey(self.group.id), Epoch(self.group.epoch + 1, metadata_hash))


def beat(
    group: ConsumerGroup,
    request: Beat,
    topics: Mapping[str, Topic],
    find: Find = lambda _regexes: NOTHING_FOUND,
    *,
    max_size: int = 2**31 - 1,
) -> Decision:
    """What becomes of the group and of the member. `topics` are all that exist, by name; `find` tells what is known of
    the regular expressions that members subscribe to."""
    error = _check(group, request, max_size)
    if error is not None:
        return Decision(error)
    if request.epoch == LEAVING:
        return remove(group, (request.member_id,))
    if request.epoch == AWAY:
        return _go_away(group, request)
    if _nothing_new(group, request, topics):
        return Decision(_answer(group, request, group.of(request.member_id)))
    return _decide(group, request, topics, find)


def refresh(group: ConsumerGroup, topics: Mapping[str, Topic], find: Find) -> list[tuple[Key, Value | None]]:
    """Records that say what the group's regular expressions stand for now. Members hear of it as of any change."""
    draft = _Draft(group)
    if write_down(draft, find, topics):
        draft.bump(hash_of(draft.group, topics))
    return draft.entries


def remove(group: ConsumerGroup, member_ids: tuple[str, ...]) -> Decision:
    """These members are out; the others get what they had with their next heartbeats."""
    draft = _Draft(group)
    for member_id in member_ids:
        draft.remove(member_id)
    write_down(draft, lambda _regexes: NOTHING_FOUND, ())
    draft.bump(group.metadata_hash)
    return Decision(BeatAnswer(ErrorCode.none, member_ids[0], LEAVING), draft.entries)


def _go_away(group: ConsumerGroup, request: Beat) -> Decision:
    """A static member that will be back keeps its partitions for the time of a session."""
    gone = replace(group.of(request.member_id), epoch=AWAY, state=STABLE, revoking=NOTHING)
    answer = BeatAnswer(ErrorCode.none, request.member_id, AWAY)
    return Decision(answer, [(CurrentKey(group.id, request.member_id), gone)])


def _refused(error: ErrorCode, message: str) -> BeatAnswer:
    return BeatAnswer(error, message=message)


def _check(group: ConsumerGroup, request: Beat, max_size: int) -> BeatAnswer | None:
    instance = request.instance_id
    holder = None if instance is None else group.instances.get(instance)
    known = request.member_id in group.members
    if request.epoch == 0:
        if holder is not None and holder != request.member_id and not _may_replace(group, holder, request):
            return _refused(ErrorCode.unreleased_instance_id, f"Static member {instance} is in use by member {holder}.")
        if not known and holder is None and len(group.members) >= max_size:
            return _refused(ErrorCode.group_max_size_reached, f"The group has {max_size} members already.")
        return None
    if instance is not None:
        if holder is None:
            return _refused(ErrorCode.unknown_member_id, f"Instance id {instance} is unknown.")
        if holder != request.member_id:
            return _refused(ErrorCode.fenced_instance_id, f"Static member {instance} was taken over by {holder}.")
    if not known:
        return _refused(ErrorCode.unknown_member_id, f"Member {request.member_id} is not a member of group {group.id}.")
    return None if request.epoch < 0 else _check_epoch(group, request)


def _may_replace(group: ConsumerGroup, holder: str, request: Beat) -> bool:
    """Only the protocol of KIP-848 has a word for going away for a while; others just come back (KIP-345)."""
    both = request.classic is None and group.members[holder].classic is None
    return not both or group.of(holder).epoch == AWAY


def _check_epoch(group: ConsumerGroup, request: Beat) -> BeatAnswer | None:
    current = group.of(request.member_id)
    if request.epoch == current.epoch:
        return None
    lost_answer = request.epoch == current.previous and request.owned is not None and request.owned <= current.assigned
    if lost_answer:
        return None
    order = "smaller" if request.epoch < current.epoch else "larger"
    return _refused(
        ErrorCode.fenced_member_epoch,
        f"Member epoch {request.epoch} is {order} than the one known ({current.epoch}); the member must rejoin.",
    )


def _nothing_new(group: ConsumerGroup, request: Beat, topics: Mapping[str, Topic]) -> bool:
    """The common heartbeat, which costs no copy of anything."""
    current = group.of(request.member_id)
    return (
        request.epoch == current.epoch == group.target_epoch == group.epoch
        and current.state == STABLE
        and request.topics is None
        and request.regex is None
        and request.owned is None
        and request.assignor is None
        and group.seen_topics is topics
    )


def _decide(group: ConsumerGroup, request: Beat, topics: Mapping[str, Topic], find: Find) -> Decision:
    draft = _Draft(group)
    known = draft.group
    replaced = _take_place(draft, request) if request.epoch == 0 else False
    old = known.members.get(request.member_id)
    facts = _facts(old, request)
    if facts != old:
        draft.put(MemberKey(group.id, request.member_id), facts)
    rematched = write_down(draft, find, topics)
    metadata_hash = hash_of(known, topics)
    resubscribed = old is None or (facts.topics, facts.regex) != (old.topics, old.regex)
    if (resubscribed and not replaced) or rematched or metadata_hash != known.metadata_hash or facts_matter(old, facts):
        draft.bump(metadata_hash)
    if known.epoch > known.target_epoch:
        _assign(draft, topics)
    current = known.of(request.member_id)
    begun = current if request.epoch != 0 else replace(current, epoch=0)
    owned = NOTHING if request.epoch == 0 else request.owned
    target = known.targets.get(request.member_id, NOTHING)
    after = reconciled(begun, request.member_id, target, known.target_epoch, known.owners, owned)
    if after != current:
        draft.put(CurrentKey(group.id, request.member_id), after)
    return Decision(_answer(group, request, after), draft.entries)


def _answer(group: ConsumerGroup, request: Beat, after: Current) -> BeatAnswer:
    """With the assignment, unless it is the old one and the member knows it.

    It goes on being told until the member says that it owns it. Kafka tells it once, and to whoever says everything
    anew. But an answer may be lost, and not every client does that then: librdkafka repeats the request as it was when
    one has timed out. It would wait for good, and with it those who are to have what it is to give up.
    """
    told_all = request.epoch == 0 or (request.owned is not None and request.rebalance_ms >= 0)
    changed = after.assigned != group.of(request.member_id).assigned
    owned = group.said.get(request.member_id, NOTHING) if request.owned is None else request.owned
    assignment = after.assigned if told_all or changed or owned != after.assigned else None
    return BeatAnswer(ErrorCode.none, request.member_id, after.epoch, assignment)


def facts_matter(old: MemberFacts | None, new: MemberFacts) -> bool:
    """Whether another assignor is asked for."""
    return old is not None and old.assignor != new.assignor


def _take_place(draft: _Draft, request: Beat) -> bool:
    """A static member is back under another member id: it has what its instance had, and nothing is rebalanced."""
    group = draft.group
    holder = None if request.instance_id is None else group.instances.get(request.instance_id)
    if holder is None or holder == request.member_id:
        return False
    facts, target, current = group.members[holder], group.targets.get(holder), group.of(holder)
    draft.remove(holder)
    draft.put(MemberKey(group.id, request.member_id), facts)
    if target is not None:
        draft.put(TargetKey(group.id, request.member_id), Target(target))
    draft.put(CurrentKey(group.id, request.member_id), Current(0, -1, STABLE, current.assigned, NOTHING))
    return (request.topics is None or request.topics == facts.topics) and request.regex in (None, facts.regex)


def _facts(old: MemberFacts | None, request: Beat) -> MemberFacts:
    """What was said before, with what is said now."""
    said = MemberFacts(
        request.instance_id,
        request.rack_id,
        request.client_id,
        request.client_host,
        tuple(sorted(set(request.topics or ()))),
        request.regex or None,
        request.rebalance_ms,
        request.assignor,
        request.classic,
    )
    if old is None:
        return said
    return MemberFacts(
        old.instance_id if said.instance_id is None else said.instance_id,
        old.rack_id if said.rack_id is None else said.rack_id,
        said.client_id,
        said.client_host,
        old.topics if request.topics is None else said.topics,
        old.regex if request.regex is None else said.regex,
        old.rebalance_ms if request.rebalance_ms < 0 else said.rebalance_ms,
        old.assignor if said.assignor is None else said.assignor,
        said.classic,
    )


def hash_of(group: ConsumerGroup, topics: Mapping[str, Topic]) -> int:
    """Another number when a subscribed topic comes, goes or gets more partitions. (Kafka's hash is another one; a group
    that moves there is rebalanced once.)"""
    names = sorted(name for name in group.subscribed(topics) if name in topics)
    text = ";".join(f"{name}:{topics[name].id}:{topics[name].partitions}" for name in names)
    return zlib.crc32(text.encode()) + 1 if names else 0


def _assign(draft: _Draft, topics: Mapping[str, Topic]) -> None:
    """A target assignment for the group's epoch."""
    group = draft.group
    votes = Counter(facts.assignor for facts in group.members.values() if facts.assignor is not None)
    name = votes.most_common(1)[0][0] if votes else DEFAULT_ASSIGNOR
    wishes = {
        member_id: frozenset(topics[topic].id for topic in group.wished(facts, topics))
        for member_id, facts in group.members.items()
    }
    wanted = frozenset[UUID]().union(*wishes.values())
    sizes = {topic.id: topic.partitions for topic in topics.values() if topic.id in wanted}
    plan = ASSIGNORS[name](wishes, dict(sorted(sizes.items(), key=lambda each: each[0].int)), group.targets)
    for member_id, partitions in plan.items():
        if group.targets.get(member_id) != partitions:
            draft.put(TargetKey(group.id, member_id), Target(partitions))
    draft.put(TargetEpochKey(group.id), TargetEpoch(group.epoch))
