"""A KIP-848 group: its state, which only `replay` changes, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from uuid import UUID

from ottla.broker.groups.consumer.records import (
    NOTHING,
    STABLE,
    UNREVOKED,
    Current,
    CurrentKey,
    Epoch,
    EpochKey,
    Key,
    MemberFacts,
    MemberKey,
    Partitions,
    RegexKey,
    Resolved,
    Target,
    TargetEpoch,
    TargetEpochKey,
    TargetKey,
    Value,
)
from ottla.broker.groups.consumer.states import GroupState

LEAVING: Final = -1
AWAY: Final = -2
"""The epochs by which a member says that it leaves, or that its instance will be back (static membership)."""

FRESH: Final = Current(0, -1, STABLE, NOTHING, NOTHING)


class Topic(NamedTuple):
    id: UUID
    partitions: int


@dataclass(slots=True, eq=False)
class ConsumerGroup:
    """`members`, `targets` and `current` are by member id; `owners` says who has a partition, or still has to give it
    up. Everything but the deadlines (s), `said` and `empty_since` comes from the log. `promises` are by when a member
    of the classic protocol has to do what it was told to: join again, or sync. `said` is what a member last said to
    own, since its coordinator came."""

    id: str
    epoch: int = 0
    metadata_hash: int = 0
    target_epoch: int = 0
    members: dict[str, MemberFacts] = field(default_factory=dict)
    targets: dict[str, Partitions] = field(default_factory=dict)
    current: dict[str, Current] = field(default_factory=dict)
    instances: dict[str, str] = field(default_factory=dict)
    owners: dict[tuple[UUID, int], str] = field(default_factory=dict)
    regexes: dict[str, Resolved] = field(default_factory=dict)
    exists: bool = False
    sessions: dict[str, float] = field(default_factory=dict)
    revocations: dict[str, tuple[int, float]] = field(default_factory=dict)
    promises: dict[str, float] = field(default_factory=dict)
    said: dict[str, Partitions] = field(default_factory=dict)
    empty_since: int = -1
    """When its last member went or, if that is not known, its coordinator came: ms since the epoch."""
    seen_topics: object = None

    def draft(self) -> ConsumerGroup:
        """A copy to try records on; values are immutable, so that the copy is flat. `said`, which no record changes, is
        shared."""
        return ConsumerGroup(
            self.id,
            self.epoch,
            self.metadata_hash,
            self.target_epoch,
            dict(self.members),
            dict(self.targets),
            dict(self.current),
            dict(self.instances),
            dict(self.owners),
            dict(self.regexes),
            self.exists,
            said=self.said,
        )

    def replay(self, key: Key, value: Value | None) -> None:
        """A record, in the live path (when it is committed) and on recovery alike."""
        if isinstance(key, EpochKey):
            assert value is None or isinstance(value, Epoch)
            self.exists = value is not None
            self.epoch, self.metadata_hash = (0, 0) if value is None else (value.epoch, value.metadata_hash)
        elif isinstance(key, TargetEpochKey):
            assert value is None or isinstance(value, TargetEpoch)
            self.target_epoch = 0 if value is None else value.epoch
        elif isinstance(key, TargetKey):
            assert value is None or isinstance(value, Target)
            if value is None:
                self.targets.pop(key.member, None)
            else:
                self.targets[key.member] = value.partitions
        elif isinstance(key, RegexKey):
            assert value is None or isinstance(value, Resolved)
            if value is None:
                self.regexes.pop(key.regex, None)
            else:
                self.regexes[key.regex] = value
        elif isinstance(key, MemberKey):
            assert value is None or isinstance(value, MemberFacts)
            self._replay_member(key.member, value)
        else:
            assert isinstance(key, CurrentKey) and (value is None or isinstance(value, Current))
            self._replay_current(key.member, value)

    def _replay_member(self, member_id: str, facts: MemberFacts | None) -> None:
        old = self.members.pop(member_id, None) if facts is None else self.members.get(member_id)
        if old is not None and old.instance_id is not None and self.instances.get(old.instance_id) == member_id:
            del self.instances[old.instance_id]
        if facts is not None:
            self.members[member_id] = facts
            if facts.instance_id is not None:
                self.instances[facts.instance_id] = member_id

    def _replay_current(self, member_id: str, current: Current | None) -> None:
        old = self.current.pop(member_id, None)
        if old is not None:
            for at in old.assigned | old.revoking:
                if self.owners.get(at) == member_id:
                    del self.owners[at]
        if current is not None:
            self.current[member_id] = current
            for at in current.assigned | current.revoking:
                self.owners[at] = member_id

    # Questions

    def of(self, member_id: str) -> Current:
        return self.current.get(member_id, FRESH)

    @property
    def state(self) -> GroupState:
        if not self.members:
            return GroupState.EMPTY
        if self.epoch > self.target_epoch:
            return GroupState.ASSIGNING
        settled = all(
            self.of(each).state == STABLE and self.of(each).epoch == self.target_epoch for each in self.members
        )
        return GroupState.STABLE if settled else GroupState.RECONCILING

    def next_deadline(self) -> float | None:
        deadlines = [*self.sessions.values(), *self.promises.values(), *(at for _, at in self.revocations.values())]
        return min(deadlines, default=None)

    def watch_revocation(self, member_id: str, now: float) -> float | None:
        """Keep time for a member that has to give up partitions; returns a new deadline if there is one."""
        current, facts = self.current.get(member_id), self.members.get(member_id)
        if current is None or facts is None or current.state != UNREVOKED:
            self.revocations.pop(member_id, None)
            return None
        running = self.revocations.get(member_id)
        if running is not None and running[0] == current.epoch:
            return None
        deadline = now + facts.rebalance_ms / 1000
        self.revocations[member_id] = current.epoch, deadline
        return deadline

    def subscribed(self, topics: Mapping[str, Topic]) -> frozenset[str]:
        """The topics that members want, by name; also those that do not exist, where they are named."""
        from_names = {name for facts in self.members.values() for name in facts.topics}
        return frozenset(from_names.union(*(self.wished(facts, topics) for facts in self.members.values())))

    def wished(self, facts: MemberFacts, topics: Mapping[str, Topic]) -> frozenset[str]:
        """The existing topics that a member wants."""
        matching = self.regexes.get(facts.regex or "")
        named = facts.topics if matching is None else facts.topics + matching.topics
        return frozenset(name for name in named if name in topics)

    def expressions(self) -> frozenset[str]:
        """The regular expressions that members subscribe to."""
        return frozenset(facts.regex for facts in self.members.values() if facts.regex)
