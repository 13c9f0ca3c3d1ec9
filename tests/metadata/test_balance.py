"""Plans for moving replicas: what they reach, and what they never do."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ottla.controller.metadata import Site, plan_balance, plan_evacuation
from ottla.controller.metadata.layout import Key, Layout, Replicas

Given = tuple[list[Site], dict[Key, Replicas]]


@st.composite
def layouts(draw: st.DrawFn) -> Given:
    brokers = list(range(1, draw(st.integers(1, 8)) + 1))
    racks = draw(st.sampled_from([(None,), ("a",), ("a", "b"), ("a", "b", "c"), ("a", None)]))
    closed = draw(st.sets(st.sampled_from(brokers), max_size=2))
    sites = [Site(broker, racks[broker % len(racks)], broker not in closed) for broker in brokers]
    partitions = {}
    for topic in draw(st.lists(st.sampled_from("tuv"), unique=True)):
        factor = draw(st.integers(1, min(4, len(brokers))))
        for index in range(draw(st.integers(1, 8))):
            order = draw(st.permutations(brokers))
            partitions[topic, index] = tuple(order[:factor])
    return sites, partitions


def spread(counts: Counter[int], brokers: list[int]) -> int:
    """The sum of squares: less is more even."""
    return sum(counts[broker] ** 2 for broker in brokers)


@given(layouts())
def test_a_balanced_layout_is_left_as_it_is(given: Given) -> None:
    sites, partitions = given
    after = partitions | plan_balance(sites, partitions)
    assert plan_balance(sites, after) == {}


@given(layouts())
def test_balancing_keeps_what_there_is_and_spreads_it(given: Given) -> None:
    sites, partitions = given
    before = Layout(sites, partitions)
    after = Layout(sites, partitions | plan_balance(sites, partitions))
    is_open = {site.id for site in sites if site.open}
    for key, replicas in after.partitions.items():
        assert len(replicas) == len(set(replicas)) == len(partitions[key])
        assert set(replicas) - set(partitions[key]) <= is_open, "only open sites are given more"
        assert after.crowding(replicas) <= before.crowding(partitions[key])
    everybody = [site.id for site in sites]
    if all(before.crowding(replicas) == after.crowding(after.partitions[key]) for key, replicas in partitions.items()):
        assert spread(after.replicas, everybody) <= spread(before.replicas, everybody)


@given(layouts())
def test_without_racks_and_closed_sites_brokers_differ_by_one_at_most(given: Given) -> None:
    sites, partitions = [Site(site.id) for site in given[0]], given[1]
    after = Layout(sites, partitions | plan_balance(sites, partitions))
    counts = [after.replicas[site.id] for site in sites]
    assert max(counts) - min(counts) <= 1


@given(layouts(), st.data())
def test_evacuation_empties_brokers_as_far_as_there_is_room(given: Given, data: st.DataObject) -> None:
    sites, partitions = given
    away = data.draw(st.sets(st.sampled_from([site.id for site in sites]), min_size=1))
    plan = plan_evacuation(sites, partitions, away, sorted(partitions))
    room = {site.id for site in sites if site.open} - away
    for key, before in partitions.items():
        after = plan.get(key, before)
        assert len(after) == len(set(after)) == len(before)
        assert set(after) - set(before) <= room
        for old, new in zip(before, after, strict=True):
            assert new == old or old in away, "who stays keeps the place"
        if set(after) & away:
            assert room <= set(after), "nobody else is left"
    again = partitions | plan
    assert plan_evacuation(sites, again, away, sorted(again)) == {}


def test_a_replacement_comes_from_a_rack_that_has_none() -> None:
    sites = [Site(1, "a"), Site(2, "b"), Site(3, "c"), Site(4, "a"), Site(5, "b"), Site(6, "c")]
    assert plan_evacuation(sites, {("t", 0): (1, 2, 3)}, {2}, [("t", 0)]) == {("t", 0): (1, 5, 3)}


def test_replacements_are_spread() -> None:
    sites = [Site(broker) for broker in range(1, 6)]
    partitions: dict[Key, Replicas] = {("t", index): (1, 2) for index in range(6)}
    plan = plan_evacuation(sites, partitions, {1}, partitions)
    assert Counter(replicas[0] for replicas in plan.values()) == {3: 2, 4: 2, 5: 2}


def test_a_new_broker_is_filled_and_leads() -> None:
    sites = [Site(broker) for broker in range(1, 5)]
    partitions: dict[Key, Replicas] = {("t", index): (1, 2, 3) for index in range(8)}
    after = Layout(sites, partitions | plan_balance(sites, partitions))
    assert [after.replicas[broker] for broker in range(1, 5)] == [6, 6, 6, 6]
    assert [after.leaders[broker] for broker in range(1, 5)] == [2, 2, 2, 2]


def test_a_closed_broker_is_given_nothing_and_may_give() -> None:
    sites = [Site(1), Site(2), Site(3, open=False), Site(4, open=False)]
    partitions: dict[Key, Replicas] = {("t", index): (3,) for index in range(4)}
    after = Layout(sites, partitions | plan_balance(sites, partitions))
    assert after.replicas[4] == 0 and after.replicas[1] and after.replicas[2]


def test_racks_come_first() -> None:
    """Both replicas are in one rack, and the other rack has a broker that is full."""
    sites = [Site(1, "a"), Site(2, "a"), Site(3, "b")]
    partitions: dict[Key, Replicas] = {("t", 0): (1, 2), ("u", 0): (3,), ("u", 1): (3,), ("u", 2): (3,)}
    after = partitions | plan_balance(sites, partitions)
    assert 3 in after["t", 0]
