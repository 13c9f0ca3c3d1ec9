"""The classic machine under random schedules: members that come and go, time, failing writes, moving coordinators."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from ottla.broker.groups.classic import State
from tests.groups.machine import World, subscription

NAMES = ("a", "b", "c", "s1", "s2")
PROTOCOLS = (
    (("range", subscription("t")),),
    (("range", subscription("t", "u")), ("roundrobin", subscription("t"))),
    (("roundrobin", subscription("t")), ("range", subscription("t"))),
)
steps = st.one_of(
    st.tuples(st.sampled_from(["all", "all", "proceed"]), st.sampled_from(NAMES)),
    st.tuples(
        st.sampled_from(["join", "join", "join", "old join", "sync", "sync", "sync", "heartbeat", "commit", "leave"]),
        st.sampled_from(NAMES),
    ),
    st.tuples(st.sampled_from(["restart", "protocols 0", "protocols 1", "protocols 2"]), st.sampled_from(NAMES)),
    st.tuples(st.just("advance"), st.sampled_from([0.1, 3.0, 9.0, 21.0])),
    st.tuples(st.sampled_from(["write", "write", "write", "fail", "move"]), st.none()),
)


def run(world: World, step: tuple[str, object]) -> None:
    what, about = step
    if isinstance(about, str):
        client = world.client(about, static=about.startswith("s"))
        if what == "all":
            for name in NAMES[: NAMES.index(about) + 1]:
                world.proceed(world.client(name, static=name.startswith("s")))
        elif what == "proceed":
            world.proceed(client)
        elif what == "join":
            world.join(client)
        elif what == "old join":
            world.join(client, defer=False, skip=False)
        elif what == "sync" and client.generation >= 0:
            world.sync(client)
        elif what == "heartbeat":
            world.heartbeat(client)
        elif what == "commit":
            accepted = world.check_commit(client) is ErrorCode.none
            alone = client.generation < 0 and world.group.state is State.EMPTY
            assert not accepted or alone or client.generation == world.group.generation
        elif what == "leave":
            world.leave(client)
        elif what == "restart":
            client.member_id, client.generation, client.leader, client.members = "", -1, False, ()
        elif what.startswith("protocols"):
            client.protocols = PROTOCOLS[int(what[-1])]
    elif isinstance(about, float):
        world.advance(about)
    elif what == "write":
        world.commit_one()
    elif what == "fail":
        world.commit_one(ErrorCode.coordinator_not_available)
    else:
        world.move()


@given(st.lists(steps, max_size=80), st.sampled_from([0.0, 3.0]), st.sampled_from([2, 100]))
def test_one_owner_in_a_generation_and_replay_is_the_live_state(
    schedule: list[tuple[str, object]], delay: float, max_size: int
) -> None:
    world = World(delay, max_size)
    for step in schedule:
        run(world, step)
        world.check()
    # Nobody waits for ever: silent members go, and whoever waits is answered.
    for _ in range(20):
        world.advance(400.0)
        world.commit_all()
    assert not world.tickets
    world.check()
    assert not world.group.members and not world.group.pending
    assert world.group.state is State.EMPTY


@given(st.lists(steps, max_size=60))
def test_a_generation_is_never_told_twice_with_other_members(schedule: list[tuple[str, object]]) -> None:
    """A generation that an assignment was told of is in the log, so that the next one is higher after any move."""
    world = World()
    for step in schedule:
        run(world, step)
        if world.told:
            highest = max(world.told)
            assert world.group.generation >= highest
            assert any(value.generation >= highest for value in world.log)
