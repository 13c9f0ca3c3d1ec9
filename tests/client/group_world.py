"""Client machines against the broker's machine of a classic group, both without I/O, in a small world with a clock.

Requests take a little while, get lost with the coordinator, and come to one that has just taken over.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kio.schema.errors import ErrorCode

from ottla.broker.groups import classic
from ottla.broker.groups.classic import ClassicGroup, Identity, Join, JoinAnswer, Now, Sync, SyncAnswer
from ottla.broker.groups.records import StoredGroup
from ottla.client.group.assignors import ASSIGNORS, RosterMember
from ottla.client.group.classic import ClassicMember
from ottla.client.group.classic_requests import Joined
from ottla.client.group.model import (
    TRANSITIONS,
    Answered,
    Done,
    Event,
    Fail,
    GiveUp,
    MemberConfig,
    Phase,
    Polled,
    Rejoin,
    Send,
    Subscribe,
    TakeOver,
    Tick,
    Unreachable,
)
from ottla.client.group.protocol import decode_assignment, decode_subscription, encode_assignment
from ottla.client.structs import TopicPartition

SESSION_S, BEAT_S, POLL_S = 6.0, 1.0, 20.0
TOPICS = frozenset({"t", "u"})


@dataclass(eq=False)
class Program:
    """One consumer. `busy_since` is set while it works on what it was handed out."""

    name: str
    machine: ClassicMember
    alive: bool = True
    busy_since: float | None = None
    callback_s: float = 0.0
    due: int = 0
    asked: dict[str, int] = field(default_factory=dict)
    owned: set[TopicPartition] = field(default_factory=set)
    seen: dict[str, int] = field(default_factory=dict)
    errors: list[Exception] = field(default_factory=list)


class World:
    """`rng` draws delays only; what happens is the test's."""

    def __init__(self, rng: random.Random, strategy: Sequence[str] = ("range",)) -> None:
        self.now = 1000.0
        self.counts = {"t": 5, "u": 2}
        self.programs: list[Program] = []
        self.group = ClassicGroup("g", 100, 0.5)
        self.up = True
        self.log: list[StoredGroup] = []
        self.told: dict[int, dict[str, frozenset[TopicPartition]]] = {}
        self._rng = rng
        self._assignors = [ASSIGNORS[name] for name in strategy]
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._ids = itertools.count(1)
        self._tickets: dict[int, tuple[Program, Send, int]] = {}

    # -- what a test does

    def start(self, instance: str | None = None) -> Program:
        config = MemberConfig("g", instance, SESSION_S, BEAT_S, POLL_S)
        machine = ClassicMember(config, self._assignors, lambda attempt: min(0.05 * attempt, 1.0))
        program = Program(f"p{next(self._ids)}", machine)
        self.programs.append(program)
        self.tell(program, Subscribe(TOPICS))
        return program

    def stop(self, program: Program) -> None:
        self.tell(program, Subscribe(frozenset()))

    def crash(self, program: Program) -> None:
        program.alive = False
        program.owned.clear()

    def grow(self) -> None:
        """A topic gets another partition; whoever led the last assignment sees it."""
        self.counts["u"] += 1
        for program in self.programs:
            self._look(program)

    def _look(self, program: Program) -> None:
        if program.machine.phase is Phase.STABLE and program.seen not in ({}, self.counts):
            self.tell(program, Rejoin("partitions"))

    def move(self) -> None:
        """The coordinator dies, and another one takes over with what was committed."""
        waiting = list(self._tickets.values())
        self._tickets.clear()
        self.group = ClassicGroup("g", 100, 0.5)
        for value in self.log:
            self.group.replay(value)
        self.group.recover(self._moment())
        self._look_again(self.group.next_deadline())
        for program, send, serial in waiting:
            self._later(0.01, lambda p=program, s=send, n=serial: self._unreachable(p, s, n))  # type: ignore[misc]

    def poll(self, program: Program) -> None:
        program.busy_since = None
        if program.machine.waits_for_poll:
            self.tell(program, Polled())

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, work = heapq.heappop(self._queue)
            work()
            self.check()
        self.now = end

    # -- what must hold

    def check(self) -> None:
        members = [p for p in self.programs if p.alive and p.machine.member_id in self.group.members]
        for one, other in itertools.combinations(members, 2):
            assert not one.owned & other.owned, f"{one.name} and {other.name} both own {one.owned & other.owned}"

    def settled(self) -> bool:
        live = [p for p in self.programs if p.alive and p.machine.topics]
        owned = [tp for p in live for tp in p.owned]
        everything = {TopicPartition(topic, i) for topic, count in self.counts.items() for i in range(count)}
        return (
            all(p.machine.phase is Phase.STABLE for p in live)
            and len({p.machine.generation for p in live}) <= 1
            and (not live or (len(owned) == len(set(owned)) and set(owned) == everything))
        )

    # -- programs

    def tell(self, program: Program, event: Event) -> None:
        if not program.alive:
            return
        before = program.machine.phase
        effects = program.machine.step(event, self.now)
        after = program.machine.phase
        assert after is before or after in TRANSITIONS[before], (before, after)
        program.due = next(self._ids)
        if effects.wake_at is not None:
            self._later(effects.wake_at - self.now, lambda due=program.due: self._tick(program, due))  # type: ignore[misc]
        for action in effects.actions:
            match action:
                case Send():
                    self._send(program, action)
                case GiveUp():
                    if action.lost:
                        program.owned -= set(action.partitions)
                    self._later(program.callback_s, lambda a=action: self._gave_up(program, a))  # type: ignore[misc]
                case TakeOver():
                    program.owned = set(action.owned)
                    self._note(program, frozenset(action.owned))
                    self._later(program.callback_s, lambda: self.tell(program, Done()))
                case Fail():
                    program.errors.append(action.error)
        if after is not before:
            self._look(program)

    def _gave_up(self, program: Program, action: GiveUp) -> None:
        if program.alive:
            program.owned -= set(action.partitions)
            self.tell(program, Done())

    def _note(self, program: Program, owned: frozenset[TopicPartition]) -> None:
        told = self.told.setdefault(program.machine.generation, {})
        who = program.machine.config.instance_id or program.name
        for other, theirs in told.items():
            assert other == who or not theirs & owned, "two owners in one generation"
        told[who] = owned

    def _tick(self, program: Program, due: int) -> None:
        if program.due == due:
            self.tell(program, Tick(program.busy_since))

    def _send(self, program: Program, send: Send) -> None:
        serial = program.asked[send.kind] = next(self._ids)
        if send.kind == "join":
            program.seen = {}
        elif send.body is not None and send.kind == "sync":
            program.seen = dict(self.counts)
        delay = self._rng.uniform(0.001, 0.05)
        if self.up:
            self._later(delay, lambda: self._receive(program, send, serial))
        else:
            self._later(delay, lambda: self._unreachable(program, send, serial))

    def _unreachable(self, program: Program, send: Send, serial: int) -> None:
        if program.asked.get(send.kind) == serial:
            self.tell(program, Unreachable(send.kind))

    def _answer(self, program: Program, event: Answered, serial: int) -> None:
        def arrive() -> None:
            if program.asked.get(event.kind) == serial:
                self.tell(program, event)

        self._later(self._rng.uniform(0.001, 0.05), arrive)

    # -- the coordinator

    def _receive(self, program: Program, send: Send, serial: int) -> None:
        if not self.up:
            self._unreachable(program, send, serial)
            return
        values, now = send.values, self._moment()
        if send.kind == "join":
            self._tickets[serial] = (program, send, serial)
            effects = classic.join(self.group, self._join(program, serial, send), now)
        elif send.kind == "sync":
            self._tickets[serial] = (program, send, serial)
            effects = classic.sync(self.group, self._sync(program, serial, send), now)
        elif send.kind == "heartbeat":
            instance = values["group_instance_id"]
            generation = values["generation_id"]
            code, effects = classic.heartbeat(self.group, values["member_id"], instance, generation, now)
            self._answer(program, Answered("heartbeat", code, send.body), serial)
        else:
            codes, effects = classic.leave(self.group, [Identity(values["member_id"])], now)
            self._answer(program, Answered("leave", codes[0]), serial)
        self._carry_out(effects)

    def _join(self, program: Program, ticket: int, send: Send) -> Join:
        values = send.values
        return Join(
            ticket,
            values["member_id"],
            values["group_instance_id"],
            program.name,
            "host",
            values["session_timeout"],
            values["rebalance_timeout"],
            "consumer",
            tuple((row["name"], row["metadata"]) for row in values["protocols"]),
            f"{program.name}-{next(self._ids)}",
        )

    def _sync(self, program: Program, ticket: int, send: Send) -> Sync:
        values = send.values
        given: list[tuple[str, bytes]] = []
        if send.body is not None:
            roster = [
                RosterMember(who, instance, decode_subscription(data)) for who, instance, data in send.body.roster
            ]
            shares = ASSIGNORS[send.body.protocol].assign(roster, program.seen)
            given = [(who, encode_assignment(share)) for who, share in shares.items()]
        words = (values["member_id"], values["group_instance_id"], values["generation_id"])
        return Sync(ticket, *words, "consumer", values["protocol_name"], tuple(given))

    def _carry_out(self, effects: classic.Effects) -> None:
        for write in effects.writes:
            self._later(self._rng.uniform(0.001, 0.02), lambda w=write, g=self.group: self._written(g, w))  # type: ignore[misc]
        for ticket, answer in effects.replies:
            found = self._tickets.pop(ticket, None)
            if found is None:
                continue
            program, _, serial = found
            if isinstance(answer, JoinAnswer):
                roster = tuple((row.member_id, row.instance_id, row.metadata) for row in answer.members)
                words = (answer.member_id, answer.generation, answer.protocol or "", answer.leader, roster)
                body = Joined(*words, answer.skip_assignment)
                self._answer(program, Answered("join", answer.error, body), serial)
            else:
                assert isinstance(answer, SyncAnswer)
                told = decode_assignment(answer.assignment) if answer.error is ErrorCode.none else ()
                self._answer(program, Answered("sync", answer.error, told), serial)
        self._look_again(effects.wake_at)

    def _written(self, group: ClassicGroup, write: classic.Write) -> None:
        if group is self.group:
            self.log.append(write.value)
            group.replay(write.value)
            self._carry_out(classic.written(group, write, ErrorCode.none, self._moment()))

    def _look_again(self, at: float | None) -> None:
        if at is not None:
            group = self.group
            self._later(at - self.now, lambda: self._group_tick(group))

    def _group_tick(self, group: ClassicGroup) -> None:
        if group is self.group:
            self._carry_out(classic.tick(group, self._moment()))

    def _moment(self) -> Now:
        return Now(self.now, int(self.now * 1000))

    def _later(self, delay: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + max(delay, 0.0), next(self._ids), work))
