"""The classic machine, rule by rule."""

from __future__ import annotations

import struct

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.groups import classic
from ottla.broker.groups.classic import TRANSITIONS, Identity, JoinAnswer, State, Sync, SyncAnswer
from ottla.broker.groups.embedded import assignment_bytes
from tests.groups.machine import REBALANCE_MS, Client, World, subscription


def test_every_state_is_reached_from_another() -> None:
    reached = {state for after in TRANSITIONS.values() for state in after}
    assert reached == set(State) and set(TRANSITIONS) == set(State)


def test_two_members_share_the_partitions() -> None:
    world = World()
    world.settle("a", "b")
    assert world.group.state is State.STABLE
    assert sorted(map(len, world.told[world.group.generation].values())) == [3, 3]


def test_kip_394_an_id_is_given_first_and_spam_does_not_grow_the_group() -> None:
    world = World()
    for number in range(50):
        client = Client(f"spam{number}")
        world.join(client)
        assert client.member_id.startswith(f"spam{number}-")
    assert (len(world.group.pending), len(world.group.members)) == (50, 0)
    world.advance(11.0)
    assert world.group.forgettable and not len(world.group.newcomers)


def test_kip_394_an_id_that_was_forgotten_is_unknown() -> None:
    world = World()
    client = world.client("a")
    world.join(client)
    world.advance(11.0)
    world.join(client)
    assert client.member_id == ""


def test_kip_134_an_empty_group_waits_for_more_members() -> None:
    world = World(initial_delay_s=3.0)
    first, second = world.client("a"), world.client("b")
    world.join(first, defer=False)
    world.advance(2.0)
    world.join(second, defer=False)
    world.advance(2.0)
    assert world.group.state is State.PREPARING_REBALANCE
    world.advance(2.5)
    assert world.group.state is State.COMPLETING_REBALANCE
    assert (first.generation, second.generation, world.rebalances) == (1, 1, 1)


def test_kip_345_a_static_member_comes_back_without_a_rebalance() -> None:
    world = World()
    world.settle("a", "b", static=True)
    before, rebalances = world.group.generation, world.rebalances
    old = world.clients["a"].member_id
    again = Client("a", "i-a")
    world.join(again)
    assert again.joining is not None, "the new id is told when it is written down"
    world.commit_all()
    assert (again.generation, world.rebalances) == (before, rebalances)
    assert again.member_id not in ("", old)
    assert world.heartbeat(world.clients["a"]) is ErrorCode.fenced_instance_id
    world.sync(again)
    assert world.heartbeat(again) is ErrorCode.none
    assert persistent_ids(world) == {again.member_id, world.clients["b"].member_id}


def persistent_ids(world: World) -> set[str]:
    return set(world.recovered().members)


def test_kip_345_a_static_member_that_stops_keeps_its_place_until_its_session_ends() -> None:
    world = World()
    world.settle("a", "b", static=True)
    rebalances = world.rebalances
    for _ in range(3):
        world.advance(3.0)
        assert world.heartbeat(world.clients["b"]) is ErrorCode.none
    world.advance(3.0)
    assert world.heartbeat(world.clients["b"]) is ErrorCode.rebalance_in_progress
    assert world.rebalances == rebalances + 1


def test_kip_814_a_leader_that_knows_it_is_told_to_skip_the_assignment() -> None:
    world = World()
    world.settle("a", "b", static=True)
    (leader,) = (client for client in world.clients.values() if client.leader)
    answers: list[JoinAnswer] = []
    take = world.take_generation

    def keep(client: Client, answer: JoinAnswer) -> None:
        answers.append(answer)
        take(client, answer)

    world.take_generation = keep  # type: ignore[method-assign]
    for skip in (True, False):
        again = Client(leader.name, leader.instance)
        world.join(again, skip=skip)
        world.commit_all()
    new, old = answers
    assert (new.skip_assignment, new.leader, len(new.members)) == (True, new.member_id, 2)
    assert (old.skip_assignment, old.leader, old.members) == (False, new.member_id, ())


def test_kip_389_a_full_group_takes_nobody() -> None:
    world = World(max_size=2)
    world.settle("a", "b")
    third = world.client("c")
    world.join(third)
    assert (third.member_id, len(world.group.members)) == ("", 2)
    assert world.group.state is State.STABLE


def test_kip_559_another_protocol_is_refused() -> None:
    world = World()
    world.settle("a")
    stranger = world.client("b")
    stranger.protocols = (("sticky", subscription("t")),)
    world.join(stranger)
    assert stranger.joining is None and stranger.member_id == ""


def test_votes_decide_among_the_common_protocols() -> None:
    world = World()
    lists = {"a": "xyz", "b": "zyx", "c": "zx"}
    for name, order in lists.items():
        world.client(name).protocols = tuple((each, b"") for each in order)
    world.settle(*lists)
    assert world.group.protocol == "z"


def test_commits_of_an_older_generation_are_refused() -> None:
    world = World()
    world.settle("a", "b")
    client = world.clients["a"]
    assert world.check_commit(client) is ErrorCode.none
    client.generation -= 1
    assert world.check_commit(client) is ErrorCode.illegal_generation
    client.generation += 1
    stranger = Client("x")
    assert world.check_commit(stranger) is ErrorCode.unknown_member_id


def test_a_commit_while_the_assignment_is_being_made_is_refused_and_before_it_not() -> None:
    world = World()
    world.settle("a")
    client = world.clients["a"]
    world.join(world.client("b"), defer=False)
    assert world.group.state is State.PREPARING_REBALANCE
    assert world.check_commit(client) is ErrorCode.none
    world.join(client)
    assert world.group.state is State.COMPLETING_REBALANCE
    assert world.check_commit(client) is ErrorCode.rebalance_in_progress


def test_who_does_not_come_to_the_rebalance_is_out() -> None:
    world = World()
    world.settle("a", "b")
    late, other = world.clients["a"], world.clients["b"]
    world.leave(other)
    world.join(world.client("c"), defer=False)
    for _ in range(8):
        world.advance(REBALANCE_MS / 8000)
        world.heartbeat(late)
    assert list(world.group.members) == [world.clients["c"].member_id]


def test_who_does_not_sync_is_out() -> None:
    world = World()
    for name in ("a", "b"):
        world.join(world.client(name), defer=False)
    world.advance(0)
    world.sync(world.clients["a"])
    for _ in range(5):
        world.heartbeat(world.clients["b"])
        world.advance(REBALANCE_MS / 5000)
    world.commit_all()
    assert world.clients["b"].member_id not in world.group.members


def test_a_write_that_fails_makes_the_members_come_again() -> None:
    world = World()
    client = world.client("a")
    world.join(client, defer=False)
    world.advance(0)
    world.sync(client)
    assert client.syncing is not None
    world.commit_one(ErrorCode.coordinator_not_available)
    assert client.syncing is None and not world.told
    assert world.group.state is State.PREPARING_REBALANCE


def test_a_second_request_of_a_member_takes_the_place_of_the_first() -> None:
    world = World()
    world.settle("a")
    effects = classic.sync(world.group, Sync(1, "nobody", None, 1, None, None, ()), world.now)
    assert effects.replies == [(1, SyncAnswer(ErrorCode.unknown_member_id))]
    world.join(world.client("b"), defer=False)
    first = world.client("b").joining
    world.client("b").member_id = next(id for id in world.group.members if id.startswith("b-"))
    world.join(world.client("b"))
    assert first not in world.tickets and len(world.tickets) == 1


def test_a_rolling_restart_of_static_members_makes_no_rebalance_and_of_dynamic_ones_two_each() -> None:
    """RELIABILITY 2.24: no more rebalances than Kafka's rules need."""
    names = [f"m{number}" for number in range(50)]
    for static, most in ((True, 0), (False, 2 * len(names))):
        world = World()
        world.settle(*names, static=static)
        before = world.rebalances
        for name in names:
            if not static:
                world.leave(world.clients[name])
            world.clients[name] = Client(name, world.clients[name].instance)
            for client in world.clients.values():
                world.proceed(client)
            for _ in range(4):
                for client in sorted(world.clients.values(), key=lambda each: each.leader):
                    world.proceed(client)
                world.commit_all()
        assert world.group.state is State.STABLE
        assert world.rebalances - before <= most
        world.check()


def test_leaving_by_instance_id_alone() -> None:
    world = World()
    world.settle("a", "b", static=True)
    errors, effects = classic.leave(world.group, [Identity("", "i-a"), Identity("", "i-x")], world.now)
    world.carry_out(effects)
    assert errors == [ErrorCode.none, ErrorCode.unknown_member_id]
    assert len(world.group.members) == 1


def owning(*partitions: int) -> bytes:
    """Join metadata of a cooperative consumer of "t" (ConsumerProtocolSubscription v1)."""
    owned = struct.pack(">ih", 1, 1) + b"t" + struct.pack(f">i{len(partitions)}i", len(partitions), *partitions)
    return struct.pack(">hih", 1, 1, 1) + b"t" + struct.pack(">i", -1) + (owned if partitions else struct.pack(">i", 0))


@pytest.mark.parametrize(("left", "rebalances"), [((), 0), ((2, 3), 1)])
def test_kip_429_who_comes_back_goes_on_where_its_former_life_had_given_partitions_up(
    left: tuple[int, ...], rebalances: int
) -> None:
    world = World()
    world.settle("a", "b", static=True)
    for name, owned, assigned in (("a", (0, 1, *left), (0,)), ("b", (), (1,))):
        member = world.group.members[world.clients[name].member_id]
        member.protocols = (("range", owning(*owned)),)
        member.assignment = assignment_bytes([("t", index) for index in assigned], 1)
    before = world.rebalances
    again = Client("a", "i-a", protocols=(("range", owning()),))
    world.join(again)
    world.commit_all()
    assert world.rebalances - before == rebalances
    assert (again.joining is None) is (rebalances == 0)


def reading(*topics: str, version: int = 1) -> bytes:
    named = b"".join(struct.pack(">h", len(topic)) + topic.encode() for topic in topics)
    return struct.pack(">hi", version, len(topics)) + named + struct.pack(">ii", -1, 0)


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize(
    ("now", "rebalances"),
    [(("t", "u"), 0), (("u", "t"), 0), (("t",), 1), (("t", "u", "v"), 1), (("v",), 1), ((), 1)],
)
def test_kafka_12759_a_static_member_comes_back_with_other_topics(
    now: tuple[str, ...], rebalances: int, name: str
) -> None:
    world = World()
    world.settle("a", "b", static=True)
    for member in world.group.members.values():
        member.protocols = (("range", reading("t", "u")),)
    before = world.rebalances
    again = Client(name, f"i-{name}", protocols=(("range", reading(*now, version=3)),))
    world.join(again)
    world.commit_all()
    assert world.rebalances - before == rebalances


@pytest.mark.parametrize("who", ["leader", "follower"])
@pytest.mark.parametrize("when", ["before the leader syncs", "while it is written", "after its own sync"])
def test_kafka_9801_a_static_member_that_comes_back_before_the_generation_is_complete(who: str, when: str) -> None:
    """The plan that the leader makes, or has made, is for its former id: it is not given an empty part, but all join
    again, and nobody is left with what was meant for a generation that never was."""
    world = World()
    world.settle("a", "b", static=True)
    a, b = world.clients["a"], world.clients["b"]
    a.protocols = b.protocols = (("range", subscription("t", "u")),)
    for each in (a, b):
        world.join(each)
    assert world.group.state is State.COMPLETING_REBALANCE
    leader, follower = (a, b) if a.leader else (b, a)
    generation, old = world.group.generation, leader if who == "leader" else follower
    if when == "after its own sync":
        world.sync(old)
    elif when == "while it is written":
        world.sync(leader)
        assert world.writes
    again = Client(old.name, old.instance, protocols=old.protocols)
    world.clients[old.name] = again
    world.join(again)
    assert world.group.state is State.PREPARING_REBALANCE and again.generation == -1, "not what it missed"
    world.commit_all()
    if who == "follower" and when == "before the leader syncs":
        world.sync(leader)
    assert not world.told[generation], "of this generation nobody is told a part"
    other = follower if old is leader else leader
    assert world.heartbeat(other) is ErrorCode.rebalance_in_progress
    world.join(other)
    assert world.group.state is State.COMPLETING_REBALANCE and world.group.generation == generation + 1
    for each in sorted((again, other), key=lambda each: each.leader):
        world.sync(each)
    world.commit_all()
    assert sorted(map(len, world.told[generation + 1].values())) == [3, 3]
    assert world.heartbeat(old) is ErrorCode.fenced_instance_id
    world.check()
