"""Sharing partitions: every rule's own promise, balance and stickiness, and the bytes that members exchange."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import pytest
from aiokafka.coordinator.protocol import (  # type: ignore[import-untyped]
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)
from hypothesis import given
from hypothesis import strategies as st
from kafka.protocol.consumer.metadata import (  # type: ignore[import-untyped]
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
)

from ottla.client import TopicPartition
from ottla.client.group.assignors import ASSIGNORS, COOPERATIVE_STICKY, RANGE, ROUNDROBIN, STICKY, RosterMember, Shares
from ottla.client.group.protocol import (
    BadMetadata,
    Subscription,
    decode_assignment,
    decode_sticky,
    decode_subscription,
    encode_assignment,
    encode_sticky,
    encode_subscription,
)

TOPICS = ("a", "b", "c")
counts_of = st.fixed_dictionaries({topic: st.integers(0, 7) for topic in TOPICS})
partitions_of = st.lists(st.builds(TopicPartition, st.sampled_from(TOPICS), st.integers(0, 8)), unique=True).map(tuple)


def member(name: str, topics: tuple[str, ...] = TOPICS, **told: object) -> RosterMember:
    return RosterMember(name, None, Subscription(topics, **told))  # type: ignore[arg-type]


@st.composite
def rosters(draw: st.DrawFn, same: bool = False) -> list[RosterMember]:
    names = draw(st.lists(st.sampled_from("pqrstuvw"), min_size=1, unique=True))
    common = tuple(draw(st.lists(st.sampled_from(TOPICS), min_size=1, unique=True)))
    roster = []
    for name in names:
        topics = common if same else tuple(draw(st.lists(st.sampled_from(TOPICS), unique=True)))
        owned = draw(partitions_of)
        roster.append(member(name, topics, owned=owned, generation=draw(st.integers(0, 3))))
    return roster


def everything(roster: list[RosterMember], counts: dict[str, int]) -> Counter[TopicPartition]:
    wanted = {topic for each in roster for topic in each.subscription.topics}
    return Counter(TopicPartition(topic, index) for topic in wanted for index in range(counts.get(topic, 0)))


@given(st.sampled_from([RANGE, ROUNDROBIN, STICKY]), rosters(), counts_of)
def test_every_partition_has_exactly_one_owner_that_wants_it(assignor, roster, counts) -> None:
    shares = assignor.assign(roster, counts)
    assert set(shares) == {each.id for each in roster}
    assert Counter(tp for share in shares.values() for tp in share) == everything(roster, counts)
    for each in roster:
        assert all(tp.topic in each.subscription.topics for tp in shares[each.id])


@given(rosters(same=True), counts_of)
def test_sticky_is_even_and_keeps_as_much_as_evenness_lets_it(roster, counts) -> None:
    shares = STICKY.assign(roster, counts)
    sizes = [len(share) for share in shares.values()]
    assert max(sizes) - min(sizes) <= 1
    # Once it is even, a second look at it changes nothing.
    again = [
        member(who, roster[0].subscription.topics, owned=tuple(share), generation=4) for who, share in shares.items()
    ]
    assert STICKY.assign(again, counts) == shares


@given(rosters(), counts_of)
def test_sticky_leaves_no_single_move_that_makes_it_more_even(roster, counts) -> None:
    shares = STICKY.assign(roster, counts)
    for rich in roster:
        for poor in roster:
            if len(shares[rich.id]) > len(shares[poor.id]) + 1:
                assert not {tp.topic for tp in shares[rich.id]} & set(poor.subscription.topics)


@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 7))
def test_sticky_moves_only_what_a_member_that_went_had(partitions: int, members: int, goes: int) -> None:
    counts = {"a": partitions}
    roster = [member(str(index), ("a",)) for index in range(members)]
    before = STICKY.assign(roster, counts)
    left = [
        member(each.id, ("a",), owned=tuple(before[each.id]), generation=1)
        for each in roster
        if each.id != str(goes % members)
    ]
    if left:
        after = STICKY.assign(left, counts)
        assert all(set(before[each.id]) <= set(after[each.id]) for each in left)


@given(rosters(), counts_of)
def test_cooperative_gives_nothing_away_that_somebody_owns_and_ends_even(roster, counts) -> None:
    for _ in range(4):
        shares = COOPERATIVE_STICKY.assign(roster, counts)
        for each in roster:
            mine = {tp for other in roster if other is not each for tp in other.subscription.owned}
            assert not mine & set(shares[each.id])
        before = {each.id: each.subscription.owned for each in roster}
        roster = [
            member(each.id, each.subscription.topics, owned=tuple(shares[each.id]), generation=9) for each in roster
        ]
        if all(set(before[each.id]) == set(shares[each.id]) for each in roster):
            break
    owners = Counter(tp for each in roster for tp in each.subscription.owned)
    assert owners == everything(roster, counts)


def test_cooperative_takes_two_rounds_to_move() -> None:
    """KIP-429."""
    had = tuple(TopicPartition("a", index) for index in range(4))
    first = COOPERATIVE_STICKY.assign([member("p", ("a",), owned=had, generation=1), member("q", ("a",))], {"a": 4})
    assert (len(first["p"]), len(first["q"])) == (2, 0)
    kept = member("p", ("a",), owned=tuple(first["p"]), generation=2)
    second = COOPERATIVE_STICKY.assign([kept, member("q", ("a",), generation=2)], {"a": 4})
    assert set(second["p"]) == set(first["p"])
    assert len(second["q"]) == 2


def test_the_later_generation_is_believed() -> None:
    tp = (TopicPartition("a", 0),)
    zombie, owner = member("p", ("a",), owned=tp, generation=3), member("q", ("a",), owned=tp, generation=4)
    assert STICKY.assign([zombie, owner], {"a": 1})["q"] == list(tp)


def shares_of(assignor: object, counts: dict[str, int], **topics: tuple[str, ...]) -> dict[str, list[str]]:
    roster = [member(name, mine) for name, mine in topics.items()]
    shares: Shares = assignor.assign(roster, counts)  # type: ignore[attr-defined]
    return {who: [str(tp) for tp in share] for who, share in shares.items()}


def test_range() -> None:
    """The example of Kafka's own documentation: topics are cut alike, so that equal numbers meet."""
    assert shares_of(RANGE, {"a": 3, "b": 3}, p=("a", "b"), q=("a", "b")) == {
        "p": ["a-0", "a-1", "b-0", "b-1"],
        "q": ["a-2", "b-2"],
    }


def test_roundrobin() -> None:
    assert shares_of(ROUNDROBIN, {"a": 3, "b": 3}, p=("a", "b"), q=("a", "b")) == {
        "p": ["a-0", "a-2", "b-1"],
        "q": ["a-1", "b-0", "b-2"],
    }
    assert shares_of(ROUNDROBIN, {"a": 1, "b": 2, "c": 3}, p=("a",), q=("a", "b"), r=("a", "b", "c")) == {
        "p": ["a-0"],
        "q": ["b-0"],
        "r": ["b-1", "c-0", "c-1", "c-2"],
    }


def test_static_members_come_first_and_keep_their_place() -> None:
    """KIP-345: a restart gives another member id, and the same share."""
    static = RosterMember("z-1", "one", Subscription(("a",)))
    again = RosterMember("b-2", "one", Subscription(("a",)))
    for roster in ([static, member("c", ("a",))], [again, member("c", ("a",))]):
        shares = RANGE.assign(roster, {"a": 3})
        assert shares[roster[0].id] == [TopicPartition("a", 0), TopicPartition("a", 1)]


subscriptions = st.builds(
    Subscription,
    st.lists(st.sampled_from(TOPICS), unique=True).map(tuple),
    partitions_of.map(lambda tps: tuple(sorted(tps))),
    st.integers(-1, 100),
    st.none() | st.binary(max_size=10),
    st.none() | st.text(max_size=4),
)


@given(subscriptions)
def test_subscriptions_as_other_libraries_read_and_write_them(told: Subscription) -> None:
    data = encode_subscription(told)
    assert decode_subscription(data) == told
    old = ConsumerProtocolMemberMetadata.decode(data)
    assert (tuple(old.subscription), old.user_data) == (told.topics, told.user_data)
    new = ConsumerProtocolSubscription.decode(data)
    owned = {TopicPartition(row.topic, index) for row in new.owned_partitions for index in row.partitions}
    assert (owned, new.generation_id, new.rack_id) == (set(told.owned), told.generation, told.rack)
    theirs = ConsumerProtocolMemberMetadata(0, list(told.topics), told.user_data).encode()
    assert decode_subscription(theirs) == Subscription(told.topics, user_data=told.user_data)


@given(partitions_of)
def test_assignments_as_other_libraries_read_and_write_them(tps: tuple[TopicPartition, ...]) -> None:
    data = encode_assignment(tps)
    assert set(decode_assignment(data)) == set(tps)
    for kind in (ConsumerProtocolMemberAssignment, ConsumerProtocolAssignment):
        theirs = kind.decode(data)
        assert {TopicPartition(tp[0], tp[1]) for tp in theirs.partitions()} == set(tps)
    rows = [("a", [0, 2]), ("b", [1])]
    theirs = ConsumerProtocolMemberAssignment(0, rows, b"").encode()
    assert [str(tp) for tp in decode_assignment(theirs)] == ["a-0", "a-2", "b-1"]


@given(partitions_of, st.integers(-1, 9))
def test_sticky_user_data(tps: tuple[TopicPartition, ...], generation: int) -> None:
    assert decode_sticky(encode_sticky(tps, generation)) == (tuple(sorted(tps)), generation)
    assert decode_sticky(encode_sticky(tps, generation)[:-4]) == (tuple(sorted(tps)), -1)


@given(subscriptions, st.integers(0, 200), st.binary(max_size=30))
def test_damaged_bytes_are_bad_metadata_and_nothing_else(told: Subscription, cut: int, noise: bytes) -> None:
    for data in (encode_subscription(told)[:cut], noise, encode_subscription(told)[:cut] + noise):
        for decode in (decode_subscription, decode_assignment, decode_sticky):
            with suppress(BadMetadata):
                decode(data)


def test_names() -> None:
    assert sorted(ASSIGNORS) == ["cooperative-sticky", "range", "roundrobin", "sticky"]
    with pytest.raises(BadMetadata):
        decode_subscription(b"\xff\xff")
