"""The follower's machine, its session, and where truncation ends (KIP-101, KIP-279, KIP-595, KIP-227)."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.broker.replication.follower import BadDivergence, EpochEnd, FollowerState, diverges, truncation_point
from ottla.broker.replication.follower_session import FollowerSession
from ottla.log import EpochCache
from ottla.wire import FetchPartition

TOPIC = UUID(int=1)


def test_the_high_watermark_goes_with_the_own_log_and_never_back() -> None:
    state = FollowerState(1, 5, 3)
    assert state.learn(10, 7) and state.high_watermark == 7
    assert not state.learn(5, 9) and state.high_watermark == 7
    assert state.truncated(9) == 0 and state.truncated(4) == 3 and state.high_watermark == 4


@pytest.mark.parametrize("diverging", [EpochEnd(-1, -1), EpochEnd(3, 12)])
def test_an_answer_that_cuts_nothing_is_the_leaders_mistake(diverging: EpochEnd) -> None:
    with pytest.raises(BadDivergence):
        truncation_point(diverging, EpochEnd(3, 12), 10)


epoch_lists = st.lists(st.integers(0, 3), max_size=12)


@given(epoch_lists, epoch_lists, epoch_lists)
def test_truncation_ends_where_the_logs_part(common: list[int], ours: list[int], theirs: list[int]) -> None:
    """Logs as lists of epochs. An epoch has one leader, so equal offset and epoch mean the same record."""
    shared = sorted(common)
    base = shared[-1] if shared else 0
    # Epochs above the shared ones are written by one side only.
    mine = shared + sorted(base + 1 + 2 * epoch for epoch in ours)
    leaders = shared + sorted(base + 2 + 2 * epoch for epoch in theirs)
    cache = EpochCache()
    for offset, epoch in enumerate(leaders):
        cache.assign(epoch, offset)
    cache.assign(100, len(leaders))
    for _ in range(len(mine) + 1):
        if not mine:
            break
        end = EpochEnd(*cache.end_offset_for(mine[-1], len(leaders)))
        if not diverges(len(mine), mine[-1], end):
            break
        own_cache = EpochCache()
        for offset, epoch in enumerate(mine):
            own_cache.assign(epoch, offset)
        own = EpochEnd(*own_cache.end_offset_for(end.epoch, len(mine)))
        mine = mine[: truncation_point(end, own, len(mine))]
    assert mine == leaders[: len(mine)]
    assert len(mine) >= len(shared), "nothing that both have is cut"


def position(index: int, offset: int) -> FetchPartition:
    return FetchPartition(index, offset, 100, 1, 0, 0)


def test_a_session_names_only_what_changed() -> None:
    session = FollowerSession()
    for index in range(3):
        session.want(TOPIC, position(index, 0))
    topics, forgotten = session.request()
    assert (session.id, session.epoch, forgotten) == (0, 0, [])
    assert [row.partition for row in topics[0][1]] == [0, 1, 2]
    session.answered(77)
    assert (session.id, session.epoch) == (77, 1) and session.request() == ([], [])
    session.answered(77)
    session.want(TOPIC, position(1, 5))
    session.want(TOPIC, position(2, 0))
    session.forget(TOPIC, 0)
    assert session.request() == ([(TOPIC, [position(1, 5)])], [(TOPIC, [0])])
    session.answered(77)
    session.reset()
    assert (session.id, session.epoch) == (77, 0), "the leader is told which session to forget"
    assert [row.partition for row in session.request()[0][0][1]] == [1, 2]
    session.answered(0)
    assert (session.id, session.epoch) == (0, 0)


def test_forgotten_and_wanted_again_between_two_requests() -> None:
    session = FollowerSession()
    session.want(TOPIC, position(0, 0))
    session.request()
    session.answered(5)
    session.forget(TOPIC, 0)
    session.want(TOPIC, position(0, 0))
    assert session.request() == ([(TOPIC, [position(0, 0)])], [])
