"""The member's machine against the broker's own, over random schedules; and its rules one by one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from ottla.client import FencedInstanceIdError
from ottla.client.group.model import Answered, Fenced, Phase, Subscribe
from tests.client.group_world import POLL_S, SESSION_S, TOPICS, World

STRATEGIES = (("range",), ("sticky",), ("cooperative-sticky",), ("cooperative-sticky", "roundrobin"))
ACTIONS = ("start", "start", "stop", "crash", "move", "outage", "work", "slow", "grow", "fence")
steps = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.integers(0, 9), st.sampled_from((0.0, 0.02, 0.3, 2.0, 8.0, 25.0))),
    max_size=25,
)


def act(world: World, action: str, who: int) -> None:
    live = [program for program in world.programs if program.alive and program.machine.topics]
    if action == "start":
        world.start()
    elif action == "move":
        world.move()
    elif action == "outage":
        world.up = not world.up
    elif action == "grow":
        world.grow()
    elif live:
        program = live[who % len(live)]
        if action == "stop":
            world.stop(program)
        elif action == "crash":
            world.crash(program)
        elif action == "work":
            program.busy_since = world.now
        elif action == "slow":
            program.callback_s = 3.0
        else:
            world.tell(program, Fenced(ErrorCode.unknown_member_id, program.machine.identity))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(STRATEGIES), steps, st.integers(0, 2**32))
def test_no_partition_ever_has_two_owners_and_calm_makes_it_whole(
    strategy: tuple[str, ...], schedule: list[tuple[str, int, float]], seed: int
) -> None:
    world = World(random.Random(seed), strategy)
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
        if world.settled():
            break
    assert world.settled()
    assert not any(program.errors for program in world.programs)
    generation = {program.machine.generation for program in world.programs}
    world.advance(30.0)
    assert world.settled()
    assert {program.machine.generation for program in world.programs} == generation, "it is stable, and stays so"


def stable(world: World, *, within: float = 10.0) -> float:
    began = world.now
    while not world.settled():
        assert world.now - began < within
        world.advance(0.05)
    return world.now - began


@pytest.fixture(params=STRATEGIES, ids="+".join)
def world(request: pytest.FixtureRequest) -> World:
    return World(random.Random(1), request.param)


def test_a_restarted_coordinator_makes_no_rebalance(world: World) -> None:
    members = [world.start() for _ in range(3)]
    stable(world)
    generation = members[0].machine.generation
    world.move()
    world.advance(3 * SESSION_S)
    assert world.settled()
    assert members[0].machine.generation == generation


def test_a_crashed_member_is_replaced_after_its_session(world: World) -> None:
    members = [world.start() for _ in range(3)]
    stable(world)
    world.crash(members[1])
    world.advance(SESSION_S)
    stable(world, within=3.0)


def test_a_cooperative_member_keeps_what_does_not_move() -> None:
    """KIP-429."""
    world = World(random.Random(1), ("cooperative-sticky",))
    first = world.start()
    stable(world)
    had = set(first.owned)
    world.start()
    while not world.settled():
        world.advance(0.01)
        assert len(had & first.owned) >= 3
    assert len(first.owned) in (3, 4)


def test_a_busy_program_leaves_and_comes_back_when_it_reads(world: World) -> None:
    """KIP-62: max.poll.interval.ms."""
    busy, other = world.start(), world.start()
    stable(world)
    busy.busy_since = world.now
    world.advance(POLL_S + 3.0)
    assert busy.machine.phase is Phase.IDLE
    assert not busy.owned
    assert len(other.owned) == 7
    world.poll(busy)
    stable(world)
    assert busy.owned


def test_a_static_member_keeps_its_place_through_a_restart(world: World) -> None:
    """KIP-345."""
    old, other = world.start("one"), world.start("two")
    stable(world)
    had, generation = set(old.owned), other.machine.generation
    world.stop(old)
    world.advance(1.0)
    assert old.machine.phase is Phase.OUT
    again = world.start("one")
    world.advance(2.0)
    assert again.owned == had
    assert other.machine.generation == generation


def test_the_older_of_two_with_one_instance_id_is_fenced_and_stays_out() -> None:
    world = World(random.Random(1))
    old = world.start("one")
    stable(world)
    new = world.start("one")
    world.advance(3.0)
    assert isinstance(old.errors[0], FencedInstanceIdError)
    for _ in range(3):
        world.poll(old)
        world.advance(2.0)
    assert (old.machine.phase, len(old.errors)) == (Phase.FAILED, 1)
    assert new.machine.phase is Phase.STABLE
    assert not old.owned


def test_an_answer_of_a_generation_that_is_over_changes_nothing(world: World) -> None:
    member = world.start()
    stable(world)
    old = member.machine.identity
    world.start()
    stable(world)
    world.tell(member, Answered("heartbeat", ErrorCode.illegal_generation, old))
    world.tell(member, Fenced(ErrorCode.illegal_generation, old))
    assert member.machine.phase is Phase.STABLE
    assert member.owned


def test_unsubscribing_in_the_middle_of_a_join_leaves(world: World) -> None:
    member = world.start()
    world.advance(0.2)
    world.stop(member)
    world.advance(1.0)
    assert member.machine.phase is Phase.OUT
    assert not world.group.members
    world.tell(member, Subscribe(TOPICS))
    stable(world)
