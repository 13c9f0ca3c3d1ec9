"""The KIP-848 machine under random schedules, with records that are committed later, and coordinators that move."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from uuid import UUID

from hypothesis import example, given
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from ottla.broker.groups import consumer
from ottla.broker.groups.consumer import AWAY, LEAVING, Beat, BeatAnswer, ConsumerGroup, Matches, Partitions, Topic
from ottla.broker.groups.consumer.assignors import range_assignor, uniform_assignor
from ottla.broker.groups.consumer.records import (
    Current,
    CurrentKey,
    Epoch,
    EpochKey,
    Key,
    MemberFacts,
    MemberKey,
    RegexKey,
    Resolved,
    Target,
    TargetEpoch,
    TargetEpochKey,
    TargetKey,
    Value,
)
from ottla.broker.groups.consumer.regexes import REFRESH_MS
from ottla.broker.groups.consumer.states import GROUP_STEPS, MEMBER_STEPS, GroupState, MemberState
from ottla.broker.groups.records import Entry, decode, encode_key, encode_value

A, B, C = UUID(int=1), UUID(int=2), UUID(int=3)
SUBSCRIPTIONS: list[tuple[tuple[str, ...], str]] = [
    (("a",), ""),
    (("a", "b"), ""),
    (("b",), ""),
    ((), "[bc]"),
    (("a",), "b|c"),
    ((), "c"),
]
NOTHING: Partitions = frozenset()


@dataclass
class Member:
    """A client that does what KIP-848 asks: it gives up at once what is not in its assignment.

    A terse one says what it owns only when that has changed, and when an answer is lost it asks again as it did."""

    id: str
    instance: str | None
    terse: bool = False
    topics: tuple[str, ...] = ("a",)
    regex: str = ""
    epoch: int = 0
    owned: Partitions = NOTHING
    resubscribe: bool = True
    news: bool = True


@dataclass
class World:
    group: ConsumerGroup = field(default_factory=lambda: ConsumerGroup("g"))
    topics: dict[str, Topic] = field(default_factory=lambda: {"a": Topic(A, 4), "b": Topic(B, 3)})
    log: list[tuple[Key, Value | None]] = field(default_factory=list)
    members: dict[str, Member] = field(default_factory=dict)
    incarnations: int = 0
    slow: bool = False
    """Regular expressions are not resolved yet when a heartbeat comes."""
    group_steps: set[tuple[GroupState, GroupState]] = field(default_factory=set)
    member_steps: set[tuple[MemberState, MemberState]] = field(default_factory=set)
    version: int = 0
    now_ms: int = 1_000_000

    def find(self, regexes: frozenset[str]) -> Matches:
        if self.slow:
            return Matches({}, self.version, self.now_ms)
        found = {regex: tuple(sorted(filter(re.compile(regex).fullmatch, self.topics))) for regex in regexes}
        return Matches(found, self.version, self.now_ms)

    def check_member(self, member_id: str, current: Current) -> None:
        """What its state says is so."""
        if current.state == MemberState.UNREVOKED_PARTITIONS:
            assert current.revoking and current.epoch < self.group.target_epoch, "it keeps its epoch until it did"
            return
        assert not current.revoking
        target = self.group.targets.get(member_id, NOTHING)
        if current.epoch == self.group.target_epoch and current.state == MemberState.STABLE:
            assert current.assigned == target
        elif current.epoch == self.group.target_epoch:
            assert current.assigned < target, "it waits for the rest"

    def change(self, topics: dict[str, Topic]) -> None:
        self.topics, self.version = topics, self.version + 1

    def wishes(self, member: Member) -> set[str]:
        return {name for name in self.topics if name in member.topics or re.fullmatch(member.regex, name)}

    def commit(self, decision: consumer.Decision) -> None:
        before = self.group.state, dict(self.group.current)
        self._replay(decision)
        after = self.group.state
        if after is not before[0]:
            assert after in GROUP_STEPS[before[0]], f"{before[0]} -> {after}"
            self.group_steps.add((before[0], after))
        for member_id, old in before[1].items():
            then, now = MemberState(old.state), MemberState(self.group.of(member_id).state)
            if member_id in self.group.members and now is not then:
                assert now in MEMBER_STEPS[then] or self.group.of(member_id).epoch == AWAY
                self.member_steps.add((then, now))

    def _replay(self, decision: consumer.Decision) -> None:
        for key, value in decision.entries:
            if isinstance(key, MemberKey) and value is None:
                self.group.said.pop(key.member, None)
            found = decode(encode_key(key), encode_value(value))
            assert found == Entry(key, value), "what is written is what is read"
            self.log.append((key, value))
            self.group.replay(key, value)

    def replayed(self) -> ConsumerGroup:
        group = ConsumerGroup("g")
        for key, value in self.log:
            group.replay(key, value)
        return group

    def beat(self, member: Member, *, lose_answer: bool = False, lose_write: bool = False) -> BeatAnswer:
        full = member.epoch == 0 or member.resubscribe
        request = Beat(
            member.id,
            member.epoch,
            member.instance,
            None,
            "c",
            "/h",
            1000 if full else -1,
            member.topics if full else None,
            member.regex if full else None,
            None,
            member.owned if full or member.news or not member.terse else None,
        )
        decision = consumer.beat(self.group, request, self.topics, self.find)
        if lose_write:
            member.resubscribe = True
            return BeatAnswer(ErrorCode.not_coordinator)
        self.commit(decision)
        answer = decision.answer
        if request.owned is not None and request.epoch > 0 and answer.error is ErrorCode.none:
            self.group.said[member.id] = request.owned
        if lose_answer:
            # A good client says everything again when it does not know what was heard.
            member.resubscribe = member.resubscribe or not member.terse
        else:
            self.take(member, answer)
        return answer

    def take(self, member: Member, answer: BeatAnswer) -> None:
        member.resubscribe = member.news = False
        if answer.error in (ErrorCode.unknown_member_id, ErrorCode.fenced_member_epoch, ErrorCode.fenced_instance_id):
            member.epoch, member.owned, member.resubscribe = 0, NOTHING, True
        elif answer.error is ErrorCode.none and answer.epoch >= 0:
            member.epoch = answer.epoch
            if answer.assignment is not None:
                member.news = member.owned != answer.assignment
                member.owned = answer.assignment

    def leave(self, member: Member, epoch: int) -> None:
        request = Beat(member.id, epoch, member.instance, None, "c", "/h", -1, None, None, None, None)
        decision = consumer.beat(self.group, request, self.topics)
        self.commit(decision)
        member.owned, member.epoch, member.resubscribe = NOTHING, 0, True
        if decision.answer.error is ErrorCode.none and member.instance is not None:
            self.incarnations += 1
            member.id = f"{member.instance}-{self.incarnations}"

    def expire(self, member: Member) -> None:
        """Its session has ended: only of one that the group does not hear of any more."""
        if member.id in self.group.members:
            member.owned, member.epoch, member.resubscribe = NOTHING, 0, True
            self.commit(consumer.remove(self.group, (member.id,)))

    def check(self) -> None:
        seen: dict[tuple[UUID, int], str] = {}
        for member in self.members.values():
            if member.id in self.group.members and self.group.of(member.id).epoch == member.epoch:
                for at in member.owned:
                    assert at not in seen, f"{at} is owned by {seen[at]} and {member.id}"
                    seen[at] = member.id
        given_out: set[tuple[UUID, int]] = set()
        for current in self.group.current.values():
            assert not given_out & (current.assigned | current.revoking)
            given_out |= current.assigned | current.revoking
        for member_id, current in self.group.current.items():
            self.check_member(member_id, current)
        assert state_of(self.replayed()) == state_of(self.group)
        assert self.group.target_epoch <= self.group.epoch


def state_of(group: ConsumerGroup) -> tuple[object, ...]:
    return (
        group.epoch,
        group.target_epoch,
        group.metadata_hash,
        group.members,
        group.targets,
        group.current,
        group.instances,
        group.owners,
        group.regexes,
    )


NAMES = ("m1", "m2", "m3", "s1", "s2")
TERSE = ("m3", "s2")
steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["beat"] * 6
            + ["all"] * 2
            + ["lost answer", "lost write", "leave", "away", "expire", "topics", "grow"]
            + ["new topic", "slow", "refresh"]
        ),
        st.sampled_from(NAMES),
    ),
    max_size=80,
)


def run(world: World, what: str, name: str) -> None:
    world.now_ms += 3000
    static = name.startswith("s")
    member = world.members.setdefault(name, Member(f"{name}-0", name if static else None, name in TERSE))
    if what == "beat":
        world.beat(member)
    elif what == "all":
        for each in world.members.values():
            world.beat(each)
    elif what == "lost answer":
        world.beat(member, lose_answer=True)
    elif what == "lost write":
        world.beat(member, lose_write=True)
    elif what == "leave":
        world.leave(member, LEAVING)
    elif what == "away" and static:
        world.leave(member, AWAY)
    elif what == "expire":
        world.expire(member)
    elif what == "topics":
        place = SUBSCRIPTIONS.index((member.topics, member.regex))
        member.topics, member.regex = SUBSCRIPTIONS[(place + 1) % len(SUBSCRIPTIONS)]
        member.resubscribe = True
    elif what == "new topic":
        others = {name: topic for name, topic in world.topics.items() if name != "c"}
        world.change(others if "c" in world.topics else {**others, "c": Topic(C, 2)})
    elif what == "slow":
        world.slow = not world.slow
    elif what == "refresh" and world.group.members:
        entries = consumer.refresh(world.group, world.topics, world.find)
        world.commit(consumer.Decision(BeatAnswer(ErrorCode.none), entries))
    elif what == "grow":
        world.change({**world.topics, "b": Topic(B, world.topics["b"].partitions + 1)})


@given(steps)
@example([("beat", "m1"), ("beat", "m3"), ("beat", "m1"), ("beat", "m1"), ("lost answer", "m3")])
def test_no_partition_has_two_owners_and_all_are_given_out_in_the_end(schedule: list[tuple[str, str]]) -> None:
    world = World()
    for what, name in schedule:
        run(world, what, name)
        world.check()
    world.slow = False
    world.now_ms += REFRESH_MS
    run(world, "refresh", "m1")
    assert not consumer.behind(world.group, world.version)
    for _ in range(12):
        for member in world.members.values():
            world.beat(member)
            world.check()
    if world.members:
        assert world.group.state == "Stable"
        alive = [member for member in world.members.values() if member.id in world.group.members]
        wanted = {(topic.id, index) for topic in world.topics.values() for index in range(topic.partitions)}
        topics = {world.topics[name].id for member in alive for name in world.wishes(member)}
        assert world.group.regexes.keys() == {member.regex for member in alive} - {""}
        assert {at for member in alive for at in member.owned} == {at for at in wanted if at[0] in topics}


def test_the_tables_have_every_step_that_there_is() -> None:
    """`World.commit` has seen to it that there are no others."""
    groups, members, rng = set[object](), set[object](), random.Random(1)
    acts = ["beat", "beat", "beat", "all", "leave", "expire", "away", "topics", "grow", "new topic", "lost answer"]
    for _ in range(150):
        world, names = World(), rng.sample(NAMES, rng.randrange(1, len(NAMES)))
        for _ in range(40):
            run(world, rng.choice(acts), rng.choice(names))
            world.check()
        groups |= world.group_steps
        members |= world.member_steps
    assert groups == {(before, after) for before, steps in GROUP_STEPS.items() for after in steps}
    assert members == {(before, after) for before, steps in MEMBER_STEPS.items() for after in steps}


@given(st.integers(0, 10_000))
def test_uniform_is_even_and_sticky(seed: int) -> None:
    rng = random.Random(seed)
    sizes = {UUID(int=number): rng.randrange(1, 9) for number in range(1, rng.randrange(2, 5))}
    wishes = {f"m{number}": frozenset(sizes) for number in range(rng.randrange(1, 7))}
    first = uniform_assignor(wishes, sizes, {})
    loads = [len(owned) for owned in first.values()]
    assert max(loads) - min(loads) <= 1 and sum(loads) == sum(sizes.values())
    assert uniform_assignor(wishes, sizes, first) == first
    fewer = dict(wishes)
    if len(fewer) > 1:
        gone = fewer.popitem()[0]
        second = uniform_assignor(fewer, sizes, first)
        assert all(first[member] <= second[member] for member in fewer), "what stays is not moved"
        assert frozenset().union(*second.values()) == frozenset().union(*first.values()), gone


@given(st.integers(0, 10_000))
def test_any_wishes_are_met_by_both(seed: int) -> None:
    rng = random.Random(seed)
    sizes = {UUID(int=number): rng.randrange(1, 6) for number in range(1, 5)}
    wishes = {f"m{number}": frozenset(topic for topic in sizes if rng.random() < 0.6) for number in range(5)}
    for assignor in (uniform_assignor, range_assignor):
        plan = assignor(wishes, sizes, {})
        owned = [at for partitions in plan.values() for at in partitions]
        wanted = frozenset().union(*wishes.values())
        assert sorted(owned) == sorted((topic, at) for topic in sizes if topic in wanted for at in range(sizes[topic]))
        assert all(at[0] in wishes[member] for member, partitions in plan.items() for at in partitions)


def test_known_bytes() -> None:
    """Keys and values as Kafka's schemas (all flexible, version 0) have them."""
    rows: list[tuple[Key, str, Value, str]] = [
        (EpochKey("g"), "0003000167", Epoch(5), "00000000000500"),
        (EpochKey("g"), "0003000167", Epoch(5, 7), "0000000000050100080000000000000007"),
        (TargetEpochKey("g"), "0006000167", TargetEpoch(5), "00000000000500"),
        (
            TargetKey("g", "m"),
            "000700016700016d",
            Target(frozenset({(A, 2)})),
            "000002" + A.hex + "02000000020000",
        ),
        (
            CurrentKey("g", "m"),
            "000800016700016d",
            Current(5, 4, 1, NOTHING, frozenset({(A, 2)})),
            "00000000000500000004010102" + A.hex + "02000000020000",
        ),
        (
            MemberKey("g", "m"),
            "000500016700016d",
            MemberFacts(None, "r", "c", "/h", ("a",), None, 1000, "range"),
            "00000002720263032f6802026100000003e80672616e676500",
        ),
        (
            RegexKey("g", "a.*"),
            "00100001670003612e2a",
            Resolved(("a", "bc"), 7, 1_700_000_000_000),
            "00000302610362630000000000000007" + "0000018bcfe56800" + "00",
        ),
    ]
    for key, key_bytes, value, value_bytes in rows:
        assert encode_key(key).hex() == key_bytes
        assert encode_value(value) == bytes.fromhex(value_bytes)
        assert decode(encode_key(key), encode_value(value)) == Entry(key, value)
