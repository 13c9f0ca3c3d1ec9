"""Incremental fetch sessions (KIP-227)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from kio.schema.errors import ErrorCode

from ottla.broker.fetch_sessions import (
    FINAL_EPOCH,
    FULL_LOOK_S,
    INITIAL_EPOCH,
    MAX_EPOCH,
    FetchItem,
    FetchPlan,
    SessionCache,
    next_epoch,
)
from ottla.broker.fetching import Alarm
from ottla.wire import FetchPartition


def item(index: int, offset: int = 0, topic: str = "t") -> FetchItem:
    return FetchItem(topic, FetchPartition(index, offset, 1000))


def cache(slots: int = 4, **kwargs: float) -> SessionCache:
    return SessionCache(random.Random(1), slots=slots, eviction_s=kwargs.get("eviction_s", 120.0), max_partitions=100)


def begin(
    sessions: SessionCache,
    session_id: int,
    epoch: int,
    items: list[FetchItem],
    forgotten: list[int] | None = None,
    *,
    privileged: bool = False,
    ids: bool = False,
    now: float = 0.0,
) -> FetchPlan | ErrorCode:
    return sessions.begin(
        session_id,
        epoch,
        items,
        [("t", index) for index in forgotten or []],
        privileged=privileged,
        uses_topic_ids=ids,
        now=now,
    )


def opened(sessions: SessionCache, count: int, *, privileged: bool = False, now: float = 0.0) -> FetchPlan:
    plan = begin(sessions, 0, INITIAL_EPOCH, [item(index) for index in range(count)], privileged=privileged, now=now)
    assert isinstance(plan, FetchPlan)
    return plan


def test_a_sessionless_fetch_keeps_nothing() -> None:
    sessions = cache()
    plan = begin(sessions, 0, FINAL_EPOCH, [item(0), item(1)])
    assert isinstance(plan, FetchPlan)
    assert plan.session_id == 0
    assert [one.row.partition for one in plan.items()] == [0, 1]
    assert len(sessions) == 0


def test_a_full_fetch_opens_a_session_and_an_incremental_one_looks_only_at_hot_partitions() -> None:
    sessions = cache()
    plan = opened(sessions, 3)
    session = plan.session
    assert session is not None
    assert [one.row.partition for one in plan.items()] == [0, 1, 2]
    for one in plan.items():
        session.cool(one)
    second = begin(sessions, session.id, 1, [item(1, offset=7)])
    assert isinstance(second, FetchPlan)
    assert second.incremental
    assert [(one.row.partition, one.row.fetch_offset) for one in second.items()] == [(1, 7)]
    session.hot["t", 2] = session.items["t", 2]
    third = begin(sessions, session.id, 2, [])
    assert isinstance(third, FetchPlan)
    assert [one.row.partition for one in third.items()] == [1, 2]


def test_an_event_makes_a_partition_hot_unless_the_session_has_given_it_up() -> None:
    session = opened(cache(), 2).session
    assert session is not None
    one = session.items["t", 1]
    one.partition = object()
    alarm = Alarm(session, one)
    session.hot.clear()
    alarm(1)
    assert list(session.hot) == [("t", 1)]
    session.cool(one)
    one.release()
    alarm(1)
    assert not session.hot


def test_a_served_partition_goes_to_the_end_of_the_line() -> None:
    sessions = cache()
    plan = opened(sessions, 3)
    assert plan.session is not None
    plan.session.rotate(plan.session.items["t", 0])
    following = begin(sessions, plan.session_id, 1, [])
    assert isinstance(following, FetchPlan)
    assert [one.row.partition for one in following.items()] == [1, 2, 0]


def test_naming_a_partition_again_keeps_what_was_told() -> None:
    sessions = cache()
    plan = opened(sessions, 1)
    assert plan.session is not None
    plan.session.items["t", 0].told_high_watermark = 5
    begin(sessions, plan.session_id, 1, [item(0, offset=9)])
    assert plan.session.items["t", 0].told_high_watermark == 5
    assert plan.session.items["t", 0].row.fetch_offset == 9


@pytest.mark.parametrize(
    ("session_id", "epoch", "ids", "error"),
    [
        (99, 1, False, ErrorCode.fetch_session_id_not_found),
        (0, 1, False, ErrorCode.fetch_session_id_not_found),
        (None, 2, False, ErrorCode.invalid_fetch_session_epoch),
        (None, 5, False, ErrorCode.invalid_fetch_session_epoch),
        (None, -7, False, ErrorCode.invalid_fetch_session_epoch),
        (None, 1, True, ErrorCode.fetch_session_topic_id_error),
    ],
)
def test_wrong_sessions_are_refused(session_id: int | None, epoch: int, ids: bool, error: ErrorCode) -> None:
    sessions = cache()
    plan = opened(sessions, 1)
    assert begin(sessions, plan.session_id if session_id is None else session_id, epoch, [], ids=ids) is error


def test_the_final_epoch_ends_the_session() -> None:
    sessions = cache()
    plan = opened(sessions, 2)
    last = begin(sessions, plan.session_id, FINAL_EPOCH, [item(0)])
    assert isinstance(last, FetchPlan)
    assert last.session_id == 0
    assert len(sessions) == 0
    assert begin(sessions, plan.session_id, 1, []) is ErrorCode.fetch_session_id_not_found


def test_forgetting_everything_ends_the_session() -> None:
    sessions = cache()
    plan = opened(sessions, 2)
    empty = begin(sessions, plan.session_id, 1, [], forgotten=[0, 1])
    assert isinstance(empty, FetchPlan)
    assert (empty.session_id, tuple(empty.items())) == (0, ())
    assert len(sessions) == 0
    assert sessions.partitions == 0


def test_a_plan_that_was_overtaken_or_evicted_is_not_answered() -> None:
    sessions = cache(slots=1, eviction_s=1.0)
    plan = opened(sessions, 1)
    first = begin(sessions, plan.session_id, 1, [])
    assert isinstance(first, FetchPlan)
    assert not first.lost
    begin(sessions, plan.session_id, 2, [])
    assert [first.lost] == [ErrorCode.invalid_fetch_session_epoch]
    opened(sessions, 1, now=5.0)
    assert [first.lost] == [ErrorCode.fetch_session_id_not_found]


def test_epochs_wrap_to_one() -> None:
    assert next_epoch(MAX_EPOCH) == 1
    assert next_epoch(MAX_EPOCH - 1) == MAX_EPOCH


class TestEviction:
    def test_a_full_cache_serves_newcomers_without_a_session(self) -> None:
        sessions = cache(slots=2)
        opened(sessions, 1)
        opened(sessions, 1)
        assert opened(sessions, 50).session_id == 0

    def test_the_stalest_goes_when_unused_for_long(self) -> None:
        sessions = cache(slots=2)
        stale, fresh = opened(sessions, 9), opened(sessions, 1)
        begin(sessions, fresh.session_id, 1, [], now=100.0)
        assert opened(sessions, 1, now=121.0).session_id != 0
        assert begin(sessions, stale.session_id, 1, []) is ErrorCode.fetch_session_id_not_found

    def test_an_old_smaller_one_goes_for_a_larger(self) -> None:
        sessions = cache(slots=1)
        small = opened(sessions, 1)
        for epoch in range(1, 4):
            begin(sessions, small.session_id, epoch, [], now=60.0 * epoch)
        assert opened(sessions, 1, now=181.0).session_id == 0
        assert opened(sessions, 2, now=181.0).session_id != 0

    def test_a_follower_takes_the_place_of_a_consumer_at_once_but_not_the_other_way(self) -> None:
        sessions = cache(slots=1)
        opened(sessions, 50)
        follower = opened(sessions, 1, privileged=True)
        assert follower.session_id != 0
        for epoch in range(1, 4):
            begin(sessions, follower.session_id, epoch, [], now=60.0 * epoch)
        assert opened(sessions, 50, now=181.0).session_id == 0

    def test_evicted_partitions_are_released(self) -> None:
        sessions = cache(slots=1, eviction_s=1.0)
        released = []
        watched = item(0)
        watched.unwatch = lambda: released.append(0)
        begin(sessions, 0, INITIAL_EPOCH, [watched])
        opened(sessions, 1, now=5.0)
        assert released == [0]


@given(st.lists(st.integers(0, 60), max_size=12))
@settings(max_examples=50)
def test_the_number_of_partitions_is_bounded(sizes: list[int]) -> None:
    sessions = cache(slots=100)
    for size in sizes:
        opened(sessions, size)
        assert sessions.partitions <= 100
    assert sessions.partitions == sum(len(session.items) for session in sessions)


class Sessions(RuleBasedStateMachine):
    """One client that follows the protocol sees exactly the partitions that a plain model would show it."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = cache(slots=2, eviction_s=50.0)
        self.now = 0.0
        self.session_id = 0
        self.epoch = 1
        self.model: dict[int, int] = {}
        self.hot: set[int] = set()
        self.looked = 0.0

    @rule(offsets=st.dictionaries(st.integers(0, 8), st.integers(0, 100), min_size=1))
    def full(self, offsets: dict[int, int]) -> None:
        plan = begin(
            self.sessions,
            self.session_id,
            INITIAL_EPOCH,
            [item(index, offset) for index, offset in offsets.items()],
            now=self.now,
        )
        assert isinstance(plan, FetchPlan)
        assert {one.row.partition: one.row.fetch_offset for one in plan.items()} == offsets
        self.session_id, self.epoch = plan.session_id, 1
        self.model, self.hot = (dict(offsets), set(offsets)) if plan.session_id else ({}, set())
        self.looked = self.now

    @precondition(lambda self: self.session_id != 0)
    @rule(
        offsets=st.dictionaries(st.integers(0, 8), st.integers(0, 100)),
        forgotten=st.sets(st.integers(0, 8)),
        cool=st.sets(st.integers(0, 8)),
    )
    def incremental(self, offsets: dict[int, int], forgotten: set[int], cool: set[int]) -> None:
        items = [item(index, offset) for index, offset in offsets.items()]
        plan = begin(self.sessions, self.session_id, self.epoch, items, sorted(forgotten), now=self.now)
        if plan is ErrorCode.fetch_session_id_not_found:
            assert self.session_id not in {session.id for session in self.sessions}
            self.session_id, self.model, self.hot = 0, {}, set()
            return
        assert isinstance(plan, FetchPlan)
        self.model = {index: at for index, at in {**self.model, **offsets}.items() if index not in forgotten}
        self.hot = (self.hot | set(offsets)) - forgotten
        self.epoch += 1
        if self.now - self.looked >= FULL_LOOK_S:
            self.looked, self.hot = self.now, set(self.model)
        if not self.model:
            assert plan.session_id == 0
            self.session_id = 0
            return
        assert {one.row.partition: one.row.fetch_offset for one in plan.items()} == {
            index: self.model[index] for index in self.hot
        }
        assert plan.session is not None
        for one in plan.items():
            if one.row.partition in cool:
                plan.session.cool(one)
        self.hot -= cool

    @rule(count=st.integers(1, 5), privileged=st.booleans())
    def somebody_else(self, count: int, privileged: bool) -> None:
        opened(self.sessions, count, privileged=privileged, now=self.now)

    @rule(seconds=st.integers(0, 60))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def bounded_and_counted(self) -> None:
        assert len(self.sessions) <= 2
        assert self.sessions.partitions == sum(len(session.items) for session in self.sessions)
        for session in self.sessions:
            assert session.items
            assert session.hot.keys() <= session.items.keys()


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
