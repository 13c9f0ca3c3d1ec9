"""A classic group: its members and the generation they are in. Data and questions; the events are in other modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from kio.schema.errors import ErrorCode

from ottla.broker.groups.classic.model import TRANSITIONS, JoinMember, Member, Now, Protocols, State, Write
from ottla.broker.groups.classic.subscription import subscribed_topics
from ottla.broker.groups.newcomers import Newcomers
from ottla.broker.groups.records import StoredGroup, StoredMember

CONSUMER = "consumer"


class BrokenGroup(AssertionError):
    """A step that the table of transitions does not have."""


@dataclass(slots=True, eq=False)
class ClassicGroup:
    """`stored` is what the log has of the group, changed only by `replay`; all else is of this coordinator's time.

    Deadlines are in s; None where there is none. `since` is when the group came to its state, ms since the epoch.
    `newcomers` counts, for all groups of a broker, ids that were handed out (KIP-394) and members of no generation that
    is written down: whoever comes with an id that is gone is told so, and asks for another.
    """

    id: str
    max_size: int = 2**31 - 1
    initial_delay_s: float = 3.0
    state: State = State.EMPTY
    came_from: State = State.EMPTY
    since: int = -1
    generation: int = 0
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str | None = None
    members: dict[str, Member] = field(default_factory=dict)
    static: dict[str, str] = field(default_factory=dict)
    pending: dict[str, float] = field(default_factory=dict)
    unsynced: set[str] = field(default_factory=set)
    join_deadline: float | None = None
    initial_left_s: float = 0.0
    member_came: bool = False
    sync_deadline: float | None = None
    writing: Write | None = None
    stored: StoredGroup | None = None
    newcomers: Newcomers = field(default_factory=Newcomers)

    # Replay

    def replay(self, value: StoredGroup | None) -> None:
        """A committed record of this group, in the live path and on recovery alike."""
        self.stored = value

    def recover(self, now: Now) -> None:
        """Begin from `stored`, as a coordinator that has just loaded the log: every member gets a whole session."""
        stored = self.stored
        if stored is None:
            return
        self.generation, self.protocol_type = stored.generation, stored.protocol_type or None
        self.protocol, self.leader, self.since = stored.protocol, stored.leader, stored.since
        self.state = self.came_from = State.STABLE if stored.members else State.EMPTY
        for row in stored.members:
            protocols = ((stored.protocol or "", row.subscription),)
            member = Member(
                row.id,
                row.instance_id,
                row.client_id,
                row.client_host,
                row.session_timeout_ms,
                row.rebalance_timeout_ms,
                protocols,
                row.assignment,
                now.at + row.session_timeout_ms / 1000,
            )
            self.members[member.id] = member
            if member.instance_id is not None:
                self.static[member.instance_id] = member.id

    def to_store(self, assignments: dict[str, bytes], now: Now) -> StoredGroup:
        """The group as a record, with these assignments by member."""
        rows = tuple(
            StoredMember(
                member.id,
                member.instance_id,
                member.client_id,
                member.client_host,
                member.rebalance_ms,
                member.session_ms,
                member.metadata(self.protocol),
                assignments.get(member.id, b""),
            )
            for member in self.members.values()
        )
        since = self.since if self.since >= 0 else now.ms
        return StoredGroup(self.protocol_type or "", self.generation, self.protocol, self.leader, since, rows)

    # Questions

    def next_deadline(self) -> float | None:
        deadlines = [member.deadline for member in self.members.values() if member.is_new or not member.waits]
        deadlines += self.pending.values()
        deadlines += [each for each in (self.join_deadline, self.sync_deadline) if each is not None]
        return min(deadlines, default=None)

    @property
    def unwritten(self) -> bool:
        """Nothing of it is in the log, nor on its way there."""
        return self.stored is None and self.writing is None

    @property
    def forgettable(self) -> bool:
        """Nothing would be missing if it were made anew."""
        nobody = not self.members and not self.pending
        return nobody and self.unwritten and self.state in (State.EMPTY, State.DEAD)

    def check_member(self, member_id: str, instance_id: str | None) -> ErrorCode:
        """Who says to be the instance must be the member that the instance is now (KIP-345)."""
        if instance_id is not None:
            known = self.static.get(instance_id)
            if known is None:
                return ErrorCode.unknown_member_id
            if known != member_id:
                return ErrorCode.fenced_instance_id
        return ErrorCode.none if member_id in self.members else ErrorCode.unknown_member_id

    def accepts(self, protocol_type: str, names: Collection[str]) -> bool:
        """Whether a member with these protocols can be in one group with the others."""
        if not self.members:
            return bool(protocol_type) and bool(names)
        return protocol_type == self.protocol_type and not self.common_protocols().isdisjoint(names)

    def common_protocols(self) -> set[str]:
        """The protocols that every member knows."""
        counts = Counter(name for member in self.members.values() for name in {name for name, _ in member.protocols})
        return {name for name, count in counts.items() if count == len(self.members)}

    def vote(self) -> str:
        """The protocol of the next generation: each member votes for the first in its list that all know."""
        common = self.common_protocols()
        votes = Counter(
            next(name for name, _ in member.protocols if name in common) for member in self.members.values()
        )
        return votes.most_common(1)[0][0]

    def waiting_to_join(self) -> int:
        return sum(member.join_ticket is not None for member in self.members.values())

    @property
    def all_joined(self) -> bool:
        return not self.pending and all(member.join_ticket is not None for member in self.members.values())

    @property
    def rebalance_s(self) -> float:
        return max((member.rebalance_ms for member in self.members.values()), default=0) / 1000

    def roster(self) -> tuple[JoinMember, ...]:
        return tuple(
            JoinMember(member.id, member.instance_id, member.metadata(self.protocol))
            for member in self.members.values()
        )

    def subscribed(self) -> frozenset[str] | None:
        """The topics that the members read, or None when it cannot be told (not the consumer's protocol)."""
        if self.protocol_type != CONSUMER:
            return None
        topics: set[str] = set()
        for member in self.members.values():
            found = subscribed_topics(member.metadata(self.protocol))
            if found is None:
                return None
            topics |= found
        return frozenset(topics)

    # Small changes

    def go(self, state: State, now: Now) -> None:
        if state not in TRANSITIONS[self.state]:
            raise BrokenGroup(f"group {self.id}: {self.state.value} -> {state.value}")
        self.came_from, self.state, self.since = self.state, state, now.ms

    def hand_out(self, member_id: str, deadline: float) -> None:
        """An id for a client that is to come again with it (KIP-394)."""
        self.pending[member_id] = deadline
        self.newcomers.put(self, member_id, 0, waits=False)

    def take_back(self, member_id: str) -> bool:
        """The id is used now, or will not be. Whether it was handed out."""
        if self.pending.pop(member_id, None) is None:
            return False
        self.newcomers.drop(self, member_id)
        return True

    def add(self, member: Member) -> None:
        """Somebody new; it waits for its answer."""
        self.newcomers.put(self, member.id, member.size, waits=True)
        if not self.members:
            self.leader = None
        self.members[member.id] = member
        if member.instance_id is not None:
            self.static[member.instance_id] = member.id
        if self.leader is None:
            self.leader = member.id

    def remove(self, member_id: str) -> Member:
        member = self.members.pop(member_id)
        self.unsynced.discard(member_id)
        self.newcomers.drop(self, member_id)
        if member.instance_id is not None:
            del self.static[member.instance_id]
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)
        return member

    def elect_joined_leader(self) -> bool:
        """Make sure that the leader is one who came to this rebalance; False when nobody did."""
        leader = self.members.get(self.leader or "")
        if leader is not None and leader.join_ticket is not None:
            return True
        for member in self.members.values():
            if member.join_ticket is not None:
                self.leader = member.id
                return True
        return False


def names_of(protocols: Protocols) -> list[str]:
    return [name for name, _ in protocols]
