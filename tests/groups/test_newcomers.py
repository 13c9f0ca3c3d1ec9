"""How many may be new: the bounds themselves, and what they mean for members of a classic group."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from ottla.broker.groups import classic
from ottla.broker.groups.classic import ClassicGroup, Effects, Join, JoinAnswer, Now, State
from ottla.broker.groups.newcomers import Bounds, Newcomers
from tests.groups.machine import START, Client, World, subscription


@dataclass(frozen=True)
class Named:
    id: str


ACTS = st.tuples(
    st.sampled_from(["put", "put", "put", "move", "drop", "drop all"]),
    st.sampled_from([Named("a"), Named("b"), Named("c")]),
    st.integers(0, 9).map(str),
    st.integers(0, 3000),
    st.booleans(),
)


@given(st.lists(ACTS, max_size=60))
def test_the_bounds_hold_and_who_waits_goes_last(acts: list[tuple[str, Named, str, int, bool]]) -> None:
    bounds = Bounds(12, 30_000, 6, 15_000)
    newcomers, model = Newcomers(bounds), dict[tuple[Named, str], bool]()
    for act, group, member, size, waits in acts:
        if act == "put":
            newcomers.put(group, member, size, waits=waits)
            model[group, member] = waits
        elif act == "move":
            newcomers.move(group, member, waits=waits)
            if (group, member) in model:
                model[group, member] = waits
        elif act == "drop":
            newcomers.drop(group, member)
            model.pop((group, member), None)
        else:
            newcomers.drop_all(group)
            model = {key: value for key, value in model.items() if key[0] != group}
        for of, gone, was_waiting in newcomers.excess(group):
            assert model.pop((of, gone)) is was_waiting
            if was_waiting:
                assert all(model[key] for key in model if key[0] == of), "a silent one is left in that group"
        assert len(newcomers) == len(model) <= bounds.members and newcomers.size <= bounds.size
        assert all(key in newcomers for key in model)
        for each in {key[0] for key in model}:
            assert sum(key[0] == each for key in model) <= bounds.of_group
    for group, member in tuple(model):
        newcomers.drop(group, member)
    assert (len(newcomers), newcomers.size, newcomers._shares) == (0, 0, {})


def test_the_oldest_silent_one_makes_room_and_else_the_last_that_came() -> None:
    newcomers, group = Newcomers(Bounds(of_group=2)), Named("g")
    for member, waits in (("a", False), ("b", False), ("c", True)):
        newcomers.put(group, member, 0, waits=waits)
    assert newcomers.excess(group) == [(group, "a", False)]
    newcomers.put(group, "d", 0, waits=True)
    assert newcomers.excess(group) == [(group, "b", False)]
    newcomers.put(group, "e", 0, waits=True)
    assert newcomers.excess(group) == [(group, "e", True)]


# In the classic machine


def ask(group: ClassicGroup, ticket: int, *, instance: str | None = None, member_id: str = "") -> tuple[Join, Effects]:
    protocols = (("range", subscription("t")),)
    request = Join(
        ticket, member_id, instance, "c", "/h", 10_000, 20_000, "consumer", protocols, f"m{ticket}", may_defer_id=False
    )
    return request, classic.join(group, request, START)


def test_a_new_member_goes_with_its_connection() -> None:
    for instance in (None, "i"):
        group = ClassicGroup("g")
        request, _ = ask(group, 1, instance=instance)
        assert (len(group.members), len(group.newcomers)) == (1, 1)
        effects = classic.gave_up(group, request, START)
        assert not group.members and not effects.writes, "nothing of it was written, and need not be"
        assert group.forgettable and not len(group.newcomers)


def test_a_rebalance_goes_on_without_a_new_member_that_has_gone() -> None:
    world = World()
    world.settle("a", "b")
    request, _ = ask(world.group, 99)
    world.tickets[99] = Client("new")
    world.join(world.clients["a"])
    assert world.group.state is State.PREPARING_REBALANCE
    world.carry_out(classic.gave_up(world.group, request, world.now))
    world.join(world.clients["b"])
    assert world.group.state is State.COMPLETING_REBALANCE and len(world.group.members) == 2


def test_a_member_that_had_a_generation_does_not_go_with_its_connection() -> None:
    """It has partitions, and comes back to them (as in Kafka)."""
    world = World()
    world.settle("a", "b")
    member_id = world.clients["a"].member_id
    request, _ = ask(world.group, 99, member_id=member_id)
    classic.gave_up(world.group, request, world.now)
    assert member_id in world.group.members and not len(world.group.newcomers)


def test_a_static_member_that_took_a_new_ones_place_is_new() -> None:
    group = ClassicGroup("g", initial_delay_s=60.0)
    first, _ = ask(group, 1, instance="i")
    second, effects = ask(group, 2, instance="i")
    assert effects.replies == [(1, JoinAnswer(ErrorCode.fenced_instance_id, "m1"))]
    classic.gave_up(group, first, START)
    assert group.members.keys() == {"m2"} and len(group.newcomers) == 1
    assert not classic.tick(group, Now(START.at + 11, 0)).replies, "it waits longer than its session"
    classic.gave_up(group, second, START)
    assert not group.members and not len(group.newcomers)


def test_members_are_new_until_their_generation_is_written() -> None:
    world = World()
    a = world.client("a")
    world.join(a, defer=False)
    world.advance(0.0)
    assert world.group.state is State.COMPLETING_REBALANCE and len(world.group.newcomers) == 1
    world.sync(a)
    assert len(world.group.newcomers) == 1
    world.commit_all()
    assert world.group.state is State.STABLE and not len(world.group.newcomers)


def test_who_is_crowded_out_comes_again() -> None:
    world = World()
    client = Client("a")
    world.join(client)
    world.carry_out(classic.crowd_out(world.group, client.member_id, world.now, waits=False))
    assert world.group.forgettable
    world.join(client)
    assert client.member_id == "", "its id is unknown"
    group = ClassicGroup("g")
    ask(group, 1)
    effects = classic.crowd_out(group, "m1", START, waits=True)
    assert effects.replies == [(1, JoinAnswer(ErrorCode.coordinator_not_available, "m1"))]
    assert group.forgettable and not effects.writes
