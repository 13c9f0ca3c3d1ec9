"""One classic group with a log and clients, in a world without time of its own: for tests of the pure machine."""

from __future__ import annotations

import struct
from collections import defaultdict
from dataclasses import dataclass, field

from kio.schema.errors import ErrorCode

from ottla.broker.groups import classic
from ottla.broker.groups.classic import (
    ClassicGroup,
    Effects,
    Identity,
    Join,
    JoinAnswer,
    Now,
    State,
    Sync,
    SyncAnswer,
    Write,
)
from ottla.broker.groups.records import StoredGroup

SESSION_MS, REBALANCE_MS = 10_000, 20_000
PARTITIONS = 6
START = Now(1000.0, 1_000_000)


def subscription(*topics: str) -> bytes:
    """Join metadata of a consumer that reads these topics (ConsumerProtocolSubscription v0)."""
    names = b"".join(struct.pack(">h", len(name)) + name.encode() for name in topics)
    return struct.pack(">hi", 0, len(topics)) + names + struct.pack(">i", -1)


@dataclass
class Client:
    """What a consumer knows. `owned` is what it was told to read, in `generation`."""

    name: str
    instance: str | None = None
    member_id: str = ""
    generation: int = -1
    leader: bool = False
    members: tuple[str, ...] = ()
    protocols: tuple[tuple[str, bytes], ...] = (("range", subscription("t")),)
    joining: int | None = None
    syncing: int | None = None


@dataclass
class World:
    """Runs events on the group, keeps the tickets, commits or fails writes when it is told to."""

    initial_delay_s: float = 0.0
    max_size: int = 100
    now: Now = START
    log: list[StoredGroup] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    clients: dict[str, Client] = field(default_factory=dict)
    tickets: dict[int, Client] = field(default_factory=dict)
    told: dict[int, dict[str, frozenset[int]]] = field(default_factory=lambda: defaultdict(dict))
    rebalances: int = 0
    write_failed: bool = False
    ids: int = 0
    wake_at: float | None = None

    def __post_init__(self) -> None:
        self.group = self.fresh()

    def fresh(self) -> ClassicGroup:
        return ClassicGroup("g", self.max_size, self.initial_delay_s)

    # The shell

    def carry_out(self, effects: Effects) -> None:
        self.writes += effects.writes
        self.rebalances += sum(event == "group_rebalancing" for event, _ in effects.news)
        if effects.wake_at is not None:
            self.wake_at = effects.wake_at if self.wake_at is None else min(self.wake_at, effects.wake_at)
        for ticket, answer in effects.replies:
            client = self.tickets.pop(ticket)
            if isinstance(answer, JoinAnswer):
                self.joined(client, ticket, answer)
            else:
                self.synced(client, ticket, answer)

    def ticket(self, client: Client) -> int:
        self.ids += 1
        self.tickets[self.ids] = client
        return self.ids

    def advance(self, seconds: float) -> None:
        """Let time pass, and look at the group when it asked for that."""
        end = self.now.at + seconds
        while self.wake_at is not None and self.wake_at <= end:
            at, self.wake_at = max(self.wake_at, self.now.at), None
            self.now = Now(at, int(at * 1000))
            self.carry_out(classic.tick(self.group, self.now))
        self.now = Now(end, int(end * 1000))

    def commit_one(self, error: ErrorCode = ErrorCode.none) -> None:
        """The oldest write is committed (and then replayed), or fails."""
        if not self.writes:
            return
        write = self.writes.pop(0)
        if error is ErrorCode.none:
            self.log.append(write.value)
            self.group.replay(write.value)
        else:
            self.write_failed = True
        self.carry_out(classic.written(self.group, write, error, self.now))

    def commit_all(self) -> None:
        while self.writes:
            self.commit_one()

    def recovered(self) -> ClassicGroup:
        group = self.fresh()
        for value in self.log:
            group.replay(value)
        group.recover(self.now)
        return group

    def move(self) -> None:
        """Another coordinator takes over: it knows what is committed; requests that waited are sent away."""
        self.writes.clear()
        for client in self.tickets.values():
            client.joining = client.syncing = None
        self.tickets.clear()
        self.group = self.recovered()
        self.wake_at = self.group.next_deadline()
        self.write_failed = False

    # Clients

    def client(self, name: str, *, static: bool = False) -> Client:
        if name not in self.clients:
            self.clients[name] = Client(name, f"i-{name}" if static else None)
        return self.clients[name]

    def join(self, client: Client, *, defer: bool = True, skip: bool = True) -> None:
        ticket = self.ticket(client)
        client.joining = ticket
        request = Join(
            ticket,
            client.member_id,
            client.instance,
            client.name,
            "/h",
            SESSION_MS,
            REBALANCE_MS,
            "consumer",
            client.protocols,
            f"{client.name}-{ticket}",
            defer,
            skip,
        )
        self.carry_out(classic.join(self.group, request, self.now))

    def joined(self, client: Client, ticket: int, answer: JoinAnswer) -> None:
        if client.joining == ticket:
            client.joining = None
            self.take_generation(client, answer)
        if answer.error is ErrorCode.member_id_required:
            client.member_id = answer.member_id

    def take_generation(self, client: Client, answer: JoinAnswer) -> None:
        if answer.error in (ErrorCode.unknown_member_id, ErrorCode.fenced_instance_id):
            client.member_id = ""
        if answer.error is ErrorCode.none:
            client.member_id, client.generation = answer.member_id, answer.generation
            client.leader = answer.leader == answer.member_id and not answer.skip_assignment
            client.members = tuple(row.member_id for row in answer.members)
            assert not client.leader or client.member_id in client.members

    def sync(self, client: Client) -> None:
        ticket = self.ticket(client)
        client.syncing = ticket
        plan: dict[str, list[int]] = {member: [] for member in client.members}
        for partition in range(PARTITIONS) if client.leader else ():
            plan[client.members[partition % len(client.members)]].append(partition)
        rows = tuple((member, bytes(owned)) for member, owned in plan.items()) if client.leader else ()
        request = Sync(ticket, client.member_id, client.instance, client.generation, "consumer", None, rows)
        self.carry_out(classic.sync(self.group, request, self.now))

    def synced(self, client: Client, ticket: int, answer: SyncAnswer) -> None:
        if client.syncing == ticket:
            client.syncing = None
        if answer.error is ErrorCode.none:
            owner = client.instance or client.member_id
            self.told[client.generation][owner] = frozenset(answer.assignment)
        elif answer.error in (ErrorCode.unknown_member_id, ErrorCode.fenced_instance_id):
            client.member_id = ""

    def heartbeat(self, client: Client) -> ErrorCode:
        error, effects = classic.heartbeat(self.group, client.member_id, client.instance, client.generation, self.now)
        self.carry_out(effects)
        return error

    def leave(self, client: Client) -> list[ErrorCode]:
        errors, effects = classic.leave(self.group, [Identity(client.member_id, client.instance)], self.now)
        self.carry_out(effects)
        return errors

    def check_commit(self, client: Client) -> ErrorCode:
        error, effects = classic.check_commit(
            self.group, client.member_id, client.instance, client.generation, self.now
        )
        self.carry_out(effects)
        return error

    def proceed(self, client: Client) -> None:
        """What a good client does next."""
        if client.joining is not None or client.syncing is not None:
            return
        if client.generation == self.group.generation and self.group.state is State.COMPLETING_REBALANCE:
            self.sync(client)
        elif self.heartbeat(client) is not ErrorCode.none:
            self.join(client)

    def settle(self, *names: str, static: bool = False) -> None:
        """Bring these clients into a stable group, as clients of Kafka go about it."""
        clients = [self.client(name, static=static) for name in names]
        for client in clients:
            if self.heartbeat(client) is not ErrorCode.none:
                self.join(client)
                if client.joining is None and client.member_id:
                    self.join(client)
        self.advance(self.initial_delay_s)
        self.advance(REBALANCE_MS / 1000 if self.group.state is State.PREPARING_REBALANCE else 0)
        for client in sorted(clients, key=lambda each: each.leader):
            if client.generation == self.group.generation and self.group.state is State.COMPLETING_REBALANCE:
                self.sync(client)
        self.commit_all()

    # What must hold

    def check(self) -> None:
        for generation, owners in self.told.items():
            seen: set[int] = set()
            for owner, owned in owners.items():
                assert not seen & owned, f"generation {generation}: {owner} shares {seen & owned}"
                seen |= owned
        group = self.group
        assert set(group.static.values()) <= set(group.members)
        assert group.unsynced <= set(group.members)
        assert group.leader is None or group.leader in group.members
        if group.state is State.EMPTY:
            assert not group.members
        if not self.writes and not self.write_failed and group.state in (State.STABLE, State.EMPTY) and self.log:
            assert persistent(group) == persistent(self.recovered())


def persistent(group: ClassicGroup) -> tuple[object, ...]:
    """What a coordinator that takes over must know."""
    members = {
        member.id: (
            member.instance_id,
            member.client_id,
            member.client_host,
            member.session_ms,
            member.rebalance_ms,
            member.metadata(group.protocol),
            member.assignment,
        )
        for member in group.members.values()
    }
    return group.state, group.generation, group.protocol_type, group.protocol, group.leader, members


__all__ = ["Client", "World", "persistent", "subscription"]
