"""The leader's machine by itself: high watermark, ISR and AlterPartition's answers (KIP-497, KIP-903, KIP-966)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from ottla.broker.replication.isr import Committed, PendingExpand, PendingShrink
from ottla.broker.replication.leader import MAX_BEYOND, LeaderState, Outcome
from ottla.controller import PartitionImage

ELIGIBLE = {1: 11, 2: 12, 3: 13}
LAG_S = 30.0


def image(
    isr: tuple[int, ...] = (1, 2, 3), partition_epoch: int = 7, elr: tuple[int, ...] = (), adding: tuple[int, ...] = ()
) -> PartitionImage:
    return PartitionImage((1, 2, 3), isr, 1, 5, partition_epoch, elr, adding=adding)


def leader(
    isr: tuple[int, ...] = (1, 2, 3), *, end: int = 10, high_watermark: int = 0, min_insync: int = 2
) -> LeaderState:
    return LeaderState(
        node_id=1,
        image=image(isr),
        log_end=end,
        durable_end=end,
        high_watermark=high_watermark,
        min_insync=min_insync,
        max_lag_s=LAG_S,
        now=0.0,
    )


def fetched(state: LeaderState, id: int, offset: int, now: float = 0.0, broker_epoch: int | None = None) -> None:
    epoch = ELIGIBLE[id] if broker_epoch is None else broker_epoch
    state.followers[id].fetched(epoch, offset, state.log_end, now)


def test_the_high_watermark_is_the_least_of_the_isr_and_never_goes_back() -> None:
    state = leader(high_watermark=3)
    assert not state.advance(ELIGIBLE, 0) and state.high_watermark == 3
    fetched(state, 2, 9)
    assert not state.advance(ELIGIBLE, 0), "3 has not shown itself in this epoch"
    fetched(state, 3, 6)
    assert state.advance(ELIGIBLE, 0) and state.high_watermark == 6
    fetched(state, 3, 2)
    assert not state.advance(ELIGIBLE, 0) and state.high_watermark == 6


def test_a_leader_counts_itself_only_as_far_as_it_is_durable() -> None:
    state = leader((1,), min_insync=1)
    state.durable_end = 4
    assert state.advance(ELIGIBLE, 0) and state.high_watermark == 4


def test_it_stands_still_below_min_insync_which_is_never_more_than_the_replicas() -> None:
    state = leader((1,), min_insync=2)
    assert state.under_min_isr and not state.advance(ELIGIBLE, 0)
    state.min_insync = 5
    assert state.effective_min_insync == 3


def test_it_waits_for_a_follower_that_is_about_to_join() -> None:
    state = leader((1, 2))
    fetched(state, 2, 10)
    fetched(state, 3, 10)
    state.appended(12, 1.0)
    state.durable_end = 12
    fetched(state, 2, 12, 1.0)
    assert state.advance(ELIGIBLE, 1.0) and state.high_watermark == 10
    assert state.advance({1: 11, 2: 12}, 1.0) and state.high_watermark == 12, "3 is fenced"


@pytest.mark.parametrize(
    ("offset", "broker_epoch", "eligible", "joins"),
    [
        (10, 13, ELIGIBLE, True),
        (9, 13, ELIGIBLE, False),  # below the start of the leader's epoch
        (10, 12, ELIGIBLE, False),  # an earlier incarnation
        (10, 14, ELIGIBLE, False),  # one that the metadata here do not know yet
        (10, 13, {1: 11, 2: 12}, False),  # fenced
    ],
)
def test_who_may_join_the_isr(offset: int, broker_epoch: int, eligible: dict[int, int], joins: bool) -> None:
    state = leader((1, 2))
    fetched(state, 3, offset, broker_epoch=broker_epoch)
    proposal = state.expand(state.followers[3], eligible)
    assert (proposal is not None) is joins
    if proposal is not None:
        assert proposal.members == ((1, 11), (2, 12), (3, 13))
        assert state.isr == PendingExpand(frozenset({1, 2}), 3) and state.isr.maximal == {1, 2, 3}
        assert state.expand(state.followers[3], eligible) is None, "one at a time"


def test_a_follower_whose_proposal_was_made_void_is_proposed_again_without_another_fetch() -> None:
    """It waits at the leader for records, which nobody may write while the ISR is too small: its next fetch is far."""
    state = leader((1, 2), end=10, high_watermark=10)
    fetched(state, 3, 10)
    assert state.expand(state.followers[3], ELIGIBLE) is not None
    assert state.expand_again(ELIGIBLE, 0.0) is None, "it is proposed already"
    assert state.update(image((1,), 8), 0.0) and state.under_min_isr
    assert state.expand_again({1: 11}, 0.0) is None, "2 has not shown itself, 3 is fenced"
    again = state.expand_again(ELIGIBLE, 0.0)
    assert again is not None and again.members == ((1, 11), (3, 13)) and again.partition_epoch == 8


def test_a_follower_that_was_dropped_for_its_lag_has_to_fetch_first() -> None:
    state = leader(end=10, high_watermark=10)
    state.followers[2].fetched(12, 10, 10, 0.0)
    state.followers[3].fetched(13, 10, 10, 0.0)
    state.appended(11, 1.0)
    late = 2.0 + LAG_S
    fetched(state, 2, 11, late)
    dropped = state.shrink(ELIGIBLE, late)
    assert dropped is not None and dropped.members == ((1, 11), (2, 12))
    assert state.answered(dropped, ErrorCode.none) is Outcome.COMMITTED
    assert state.update(image((1, 2), 8), late)
    assert state.high_watermark == 10, "it could be proposed as far as offsets go"
    assert state.expand_again(ELIGIBLE, late) is None


def test_lag_is_measured_from_when_a_follower_had_everything() -> None:
    state = leader()
    fetched(state, 2, 10)
    fetched(state, 3, 10)
    state.appended(20, 100.0)  # a hundred seconds of silence are nobody's lag
    assert state.shrink(ELIGIBLE, 100.0 + LAG_S) is None
    fetched(state, 2, 19, 125.0)  # not all, but all that was there at its previous fetch
    state.appended(30, 126.0)
    fetched(state, 2, 29, 128.0)
    proposal = state.shrink(ELIGIBLE, 101.0 + LAG_S)
    assert proposal is not None and proposal.members == ((1, 11), (2, 12))
    assert state.isr == PendingShrink(frozenset({1, 2, 3}), frozenset({3})) and state.isr.maximal == {1, 2, 3}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ErrorCode.operation_not_attempted, Outcome.REVERTED),
        (ErrorCode.ineligible_replica, Outcome.REVERTED),
        (ErrorCode.fenced_leader_epoch, Outcome.AWAIT_METADATA),
        (ErrorCode.invalid_update_version, Outcome.AWAIT_METADATA),
        (ErrorCode.unknown_topic_id, Outcome.AWAIT_METADATA),
        (ErrorCode.new_leader_elected, Outcome.AWAIT_METADATA),
        (ErrorCode.not_controller, Outcome.RETRY),
        (ErrorCode.unknown_server_error, Outcome.RETRY),
    ],
)
def test_refusals(error: ErrorCode, outcome: Outcome) -> None:
    state = leader((1, 2))
    fetched(state, 3, 10)
    proposal = state.expand(state.followers[3], ELIGIBLE)
    assert proposal is not None and state.answered(proposal, error) is outcome
    # Only a refusal for sure lets the high watermark forget the replica.
    assert state.isr.maximal == ({1, 2} if outcome is Outcome.REVERTED else {1, 2, 3})


def test_answers_and_metadata_in_any_order() -> None:
    state = leader((1, 2))
    fetched(state, 3, 10)
    proposal = state.expand(state.followers[3], ELIGIBLE)
    assert proposal is not None
    assert state.update(image((1, 2, 3), 8), 0.0), "the metadata overtook the answer"
    assert state.answered(proposal, ErrorCode.none) is Outcome.STALE and state.isr == Committed(frozenset({1, 2, 3}))
    assert not state.update(image((1, 2), 7), 0.0), "and old metadata are no news"
    state.appended(20, 0.0)
    second = state.shrink(ELIGIBLE, 100.0)
    assert second is not None
    assert state.answered(second, ErrorCode.none) is Outcome.COMMITTED
    assert isinstance(state.isr, PendingShrink) and state.isr.maximal == {1, 2, 3}, "the metadata decide"
    assert state.update(image((1,), 9), 100.0)
    assert (state.isr, state.partition_epoch) == (Committed(frozenset({1})), 9)


def test_nothing_is_committed_while_the_controller_has_eligible_leaders_besides_the_isr() -> None:
    """KIP-966. The leader may not know yet that min.insync.replicas was raised, or may have another one in its file:
    what it would commit alone, 2 does not have, and 2 may be elected."""
    state = leader((1, 2), min_insync=1)
    fetched(state, 2, 10)
    assert state.advance(ELIGIBLE, 0.0) and state.high_watermark == 10
    state.update(image((1,), 8, elr=(2,)), 0.0)
    state.appended(11, 0.0)
    state.durable_end = 11
    assert state.under_min_isr and not state.advance(ELIGIBLE, 0.0)
    state.update(image((1,), 9), 0.0)
    assert not state.under_min_isr and state.advance({1: 11}, 0.0) and state.high_watermark == 11


def test_replicas_that_are_added_are_not_asked_for_before_all_are_there() -> None:
    """KIP-455. Just as the controller counts them: it must not have eligible leaders whom the leader goes without."""
    state = leader((1,), min_insync=2)
    assert state.under_min_isr
    state.update(image((1,), 8, adding=(2, 3)), 0.0)
    assert not state.under_min_isr and state.effective_min_insync == image(adding=(2, 3)).required_in_sync(2) == 1
    state.update(image((1,), 9), 0.0)
    assert state.under_min_isr and image().required_in_sync(2) == 2


@given(st.lists(st.tuples(st.integers(2, 3), st.integers(0, 30)), max_size=40), st.integers(0, 10))
def test_whatever_followers_say_it_is_monotonic_and_below_every_isr_member(
    fetches: list[tuple[int, int]], start: int
) -> None:
    state = leader(high_watermark=start)
    for step, (id, offset) in enumerate(fetches):
        if offset > state.log_end:
            state.appended(offset, float(step))
            state.durable_end = state.log_end
        fetched(state, id, offset, float(step))
        before = state.high_watermark
        moved = state.advance(ELIGIBLE, float(step))
        assert moved == (state.high_watermark > before)
        if moved:
            assert state.high_watermark == min(10**9, state.log_end, *(f.end_offset for f in state.followers.values()))


def test_it_is_not_sure_of_what_it_never_had_until_everybody_who_may_be_elected_has_fetched_since() -> None:
    state = leader((1, 2, 3))
    fetched(state, 2, 10, now=1.0)
    fetched(state, 3, 10, now=1.0)
    assert not state.is_beyond(15, 2.0), "a successor may have been elected at any time since"
    fetched(state, 2, 10, now=3.0)
    assert not state.is_beyond(15, 4.0), "3 may be it"
    fetched(state, 3, 10, now=5.0)
    assert state.is_beyond(15, 6.0)
    assert not state.is_beyond(15, 7.0), "whoever asks anew may know more"
    assert not state.is_beyond(16, 7.0)
    assert not state.is_beyond(15, 100.0), "a question of long ago says nothing"


def test_nobody_else_may_be_elected() -> None:
    assert leader((1,)).is_beyond(15, 0.0)
    state = leader((1,))
    assert state.update(image((1,), 8, elr=(3,)), 0.0)
    assert not state.is_beyond(15, 1.0), "an eligible leader outside of the ISR may be"
    fetched(state, 3, 4, now=2.0)
    assert state.is_beyond(15, 3.0)


def test_questions_about_what_is_beyond_are_bounded() -> None:
    state = leader((1, 2))
    for offset in range(1000):
        assert not state.is_beyond(100 + offset, 0.0)
    assert len(state._beyond) <= MAX_BEYOND
