"""KIP-848: the member's machine against the broker's own, over random schedules in a small world with a clock."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from ottla.broker.groups.consumer import Beat, ConsumerGroup, Topic, beat, remove
from ottla.client.group.consumer_protocol import BEAT, Beaten, ConsumerMember
from ottla.client.group.model import (
    TRANSITIONS,
    Answered,
    Done,
    Event,
    Fail,
    Fenced,
    GiveUp,
    MemberConfig,
    Phase,
    Polled,
    Send,
    Subscribe,
    TakeOver,
    Tick,
    Unreachable,
)
from ottla.client.structs import TopicPartition

IDS = {"t": UUID(int=1), "u": UUID(int=2)}
NAMES = {topic_id: name for name, topic_id in IDS.items()}
BEAT_S = 1.0


@dataclass(eq=False)
class Program:
    machine: ConsumerMember
    alive: bool = True
    busy_since: float | None = None
    callback_s: float = 0.0
    due: int = 0
    asked: dict[str, int] = field(default_factory=dict)
    owned: set[TopicPartition] = field(default_factory=set)
    errors: list[Exception] = field(default_factory=list)


class World:
    def __init__(self, rng: random.Random) -> None:
        self.now = 1000.0
        self.topics = {"t": Topic(IDS["t"], 5), "u": Topic(IDS["u"], 2)}
        self.programs: list[Program] = []
        self.group = ConsumerGroup("g")
        self.up = True
        self._rng = rng
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._ids = itertools.count(1)

    def start(self) -> Program:
        config = MemberConfig("g", None, 6.0, BEAT_S, 20.0)
        machine = ConsumerMember(config, f"m{next(self._ids)}", lambda attempt: min(0.05 * attempt, 1.0))
        program = Program(machine)
        self.programs.append(program)
        self.tell(program, Subscribe(frozenset(IDS)))
        return program

    def expire(self, program: Program) -> None:
        """Its session has ended, or its time to give something up."""
        if program.machine.member_id in self.group.members:
            self._apply(remove(self.group, (program.machine.member_id,)).entries)

    def grow(self) -> None:
        self.topics = {**self.topics, "u": Topic(IDS["u"], self.topics["u"].partitions + 1)}

    def poll(self, program: Program) -> None:
        program.busy_since = None
        if program.machine.waits_for_poll:
            self.tell(program, Polled())

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, work = heapq.heappop(self._queue)
            work()
            members = [p for p in self.programs if p.alive and p.machine.member_id in self.group.members]
            for one, other in itertools.combinations(members, 2):
                assert not one.owned & other.owned
        self.now = end

    def settled(self) -> bool:
        live = [p for p in self.programs if p.alive and p.machine.topics]
        owned = sorted(tp for p in live for tp in p.owned)
        everything = [TopicPartition(name, i) for name, topic in self.topics.items() for i in range(topic.partitions)]
        stable = all(p.machine.phase is Phase.STABLE and p.machine.epoch == self.group.epoch for p in live)
        return stable and (not live or owned == sorted(everything))

    def tell(self, program: Program, event: Event) -> None:
        if not program.alive:
            return
        before = program.machine.phase
        effects = program.machine.step(event, self.now)
        after = program.machine.phase
        assert after is before or after in TRANSITIONS[before], (before, after)
        program.due = due = next(self._ids)
        if effects.wake_at is not None:
            self._later(effects.wake_at - self.now, lambda: self._tick(program, due))
        for action in effects.actions:
            if isinstance(action, Send):
                self._send(program, action)
            elif isinstance(action, GiveUp):
                if action.lost:
                    program.owned -= set(action.partitions)
                self._later(program.callback_s, lambda a=action: self._gave_up(program, a))  # type: ignore[misc]
            elif isinstance(action, TakeOver):
                program.owned = set(action.owned)
                self._later(program.callback_s, lambda: self.tell(program, Done()))
            elif isinstance(action, Fail):
                program.errors.append(action.error)

    def _gave_up(self, program: Program, action: GiveUp) -> None:
        if program.alive:
            program.owned -= set(action.partitions)
            self.tell(program, Done())

    def _tick(self, program: Program, due: int) -> None:
        if program.due == due:
            self.tell(program, Tick(program.busy_since))

    def _send(self, program: Program, send: Send) -> None:
        serial = program.asked[send.kind] = next(self._ids)
        self._later(self._rng.uniform(0.001, 0.05), lambda: self._receive(program, send, serial))

    def _reach(self, program: Program, event: Event, kind: str, serial: int) -> None:
        def arrive() -> None:
            if program.asked.get(kind) == serial:
                self.tell(program, event)

        self._later(self._rng.uniform(0.001, 0.05), arrive)

    def _receive(self, program: Program, send: Send, serial: int) -> None:
        if not self.up and self._rng.random() < 0.5:
            self._reach(program, Unreachable(send.kind), send.kind, serial)
            return
        values, owned = send.values, None
        if values["topic_partitions"] is not None:
            owned = frozenset(
                (row["topic_id"], index) for row in values["topic_partitions"] for index in row["partitions"]
            )
        names = values["subscribed_topic_names"]
        request = Beat(
            values["member_id"],
            values["member_epoch"],
            values["instance_id"],
            values["rack_id"],
            "client",
            "host",
            values["rebalance_timeout"],
            None if names is None else tuple(names),
            None,
            values["server_assignor"],
            owned,
        )
        decision = beat(self.group, request, self.topics)
        self._apply(decision.entries)
        told, target = decision.answer, None
        if told.assignment is not None:
            target = tuple(sorted(TopicPartition(NAMES[at], index) for at, index in told.assignment))
        body = Beaten(told.member_id, told.epoch, BEAT_S, target, IDS, told.message)
        # While it is down half of what comes is done all the same, but never answered.
        event: Event = Answered(send.kind, told.error, body) if self.up else Unreachable(send.kind)
        self._reach(program, event, send.kind, serial)

    def _apply(self, entries: object) -> None:
        for key, value in entries:  # type: ignore[attr-defined]
            self.group.replay(key, value)

    def _later(self, delay: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + max(delay, 0.0), next(self._ids), work))


ACTIONS = ("start", "start", "stop", "crash", "outage", "work", "slow", "grow", "fence", "expire")
steps = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.integers(0, 9), st.sampled_from((0.0, 0.02, 0.3, 2.0, 8.0, 25.0))),
    max_size=25,
)


def act(world: World, action: str, who: int) -> None:
    live = [program for program in world.programs if program.alive and program.machine.topics]
    if action == "start":
        world.start()
    elif action == "outage":
        world.up = not world.up
    elif action == "grow":
        world.grow()
    elif live:
        program = live[who % len(live)]
        if action == "stop":
            world.tell(program, Subscribe(frozenset()))
        elif action == "crash":
            program.alive = False
            program.owned.clear()
        elif action == "work":
            program.busy_since = world.now
        elif action == "slow":
            program.callback_s = 3.0
        elif action == "expire":
            world.expire(program)
        else:
            world.tell(program, Fenced(ErrorCode.unknown_member_id, program.machine.identity))


@settings(max_examples=150, deadline=None)
@given(steps, st.integers(0, 2**32))
def test_no_partition_ever_has_two_owners_and_calm_makes_it_whole(
    schedule: list[tuple[str, int, float]], seed: int
) -> None:
    world = World(random.Random(seed))
    world.start()
    for action, who, pause in schedule:
        act(world, action, who)
        world.advance(pause)
    world.up = True
    for program in world.programs:
        program.callback_s = 0.0
        world.poll(program)
    for _ in range(12):
        world.advance(10.0)
        for program in world.programs:
            world.poll(program)
            if not (program.alive and program.machine.topics):
                world.expire(program)
        if world.settled():
            break
    assert world.settled()
    assert not any(program.errors for program in world.programs)
    epoch = world.group.epoch
    world.advance(30.0)
    assert world.settled()
    assert world.group.epoch == epoch, "it is stable, and stays so"


def test_what_stays_is_not_touched_when_another_member_comes() -> None:
    world = World(random.Random(1))
    first = world.start()
    world.advance(3.0)
    assert len(first.owned) == 7
    world.start()
    for _ in range(300):
        world.advance(0.01)
        assert len(first.owned) >= 3
    assert world.settled()


def test_a_steady_member_says_only_that_it_lives() -> None:
    world = World(random.Random(1))
    member = world.start()
    world.advance(3.0)
    effects = member.machine.step(Tick(None), world.now + BEAT_S)
    (send,) = effects.actions
    assert isinstance(send, Send)
    assert send.kind == BEAT
    assert (send.values["topic_partitions"], send.values["subscribed_topic_names"]) == (None, None)
    assert send.values["rebalance_timeout"] == -1
