"""Each anomaly of the table in the smallest history that has it; and what looks like one and is none."""

from __future__ import annotations

import pytest

from ottla.simulation.checker import CHECKS, Model, check
from ottla.simulation.checker.cycles import circular_flow
from ottla.simulation.history import Entry, Kind
from tests.simulation.checker.told import K, Tale, ready


def test_nothing_is_wrong():
    assert ready().found() == {}
    assert check([]) == []


def test_inconsistent_offset_between_two_writers():
    tale = ready()
    last = tale.sends(2, (4, 2))
    assert tale.found() == {"inconsistent-offset": (4, 6, last.index), "unseen": (last.index,)} | {
        "lost-write": (last.index,)
    }


def test_inconsistent_offset_between_two_readers():
    tale = Tale()
    one, other = tale.sends(0, (1, None), kind="info"), tale.sends(1, (2, None), kind="info")
    first, second = tale.polls(2, (0, 1)), tale.polls(3, (0, 2))
    ops = (one.index, other.index, first.index, second.index)
    assert tale.found() == {"inconsistent-offset": ops}


def test_duplicate():
    tale = ready()
    again = tale.polls(1, (3, 2))
    assert tale.found() == {"duplicate": (2, 6, again.index)}


def test_two_keys_may_have_equal_values():
    tale = ready()
    tale.sends(0, (1, 0), key="t-1")
    tale.polls(1, (0, 1), key="t-1")
    assert tale.found() == {}


def test_aborted_read():
    tale = ready()
    failed = tale.sends(0, (4, None), kind="fail")
    read = tale.polls(1, (3, 4))
    assert tale.found() == {"G1a": (failed.index, read.index)}


def test_what_failed_may_be_absent_and_what_is_indeterminate_may_be_there_or_not():
    tale = ready()
    tale.sends(0, (4, None), kind="fail")
    tale.sends(2, (5, None), kind="info")
    tale.sends(3, (6, None), kind="info")
    tale.begins_to_send(4, 7)
    tale.polls(1, (3, 6), (4, 7))
    assert tale.found() == {}


def test_an_aborted_read_by_a_poll_that_failed_is_none():
    tale = ready()
    tale.sends(0, (4, None), kind="fail")
    tale.polls(2, (3, 4), kind="fail")
    assert tale.found() == {}


def test_precommitted_read():
    tale = ready()
    own = [["send", K, [3, 4]], ["poll", {K: [[3, 4]]}]]
    txn = tale.does(0, "txn", [["send", K, [None, 4]], ["poll", {}]], own)
    assert tale.found() == {"precommitted-read": (txn.index,)}


def test_a_transaction_may_read_what_others_have_committed():
    tale = ready()
    tale.does(0, "txn", [["poll", {}], ["send", K, [None, 4]]], [["poll", {K: [[0, 1]]}], ["send", K, [3, 4]]])
    tale.polls(1, (3, 4))
    assert tale.found() == {}


def test_unwritten_read():
    tale = ready()
    read = tale.polls(1, (3, 99))
    assert tale.found() == {"unwritten-read": (read.index,)}


def test_lost_write():
    tale = Tale()
    lost = tale.sends(0, (1, 0))
    tale.sends(0, (2, 1))
    tale.polls(1, (1, 2))
    assert tale.found() == {"lost-write": (lost.index,), "unseen": (lost.index,)}


def test_a_write_behind_everything_that_was_read_is_only_unseen():
    tale = ready()
    late = tale.sends(0, (4, 3))
    assert tale.found() == {"unseen": (late.index,)}
    assert tale.found(unfinished=True) == {}


def test_an_acknowledged_record_of_an_indeterminate_send_must_be_seen_too():
    tale = ready()
    mixed = tale.sends(0, (4, 3), (5, None), kind="info")
    assert tale.found() == {"unseen": (mixed.index,)}


def test_a_transaction_of_which_a_part_was_read_is_committed_as_a_whole():
    tale = ready()
    sent = [["send", K, [3, 4]], ["send", "t-1", [0, 1]], ["send", "t-1", [1, 2]]]
    txn = tale.does(0, "txn", sent, kind="info")
    tale.polls(1, (3, 4))
    tale.sends(2, (3, 2), key="t-1")
    tale.polls(3, (2, 3), key="t-1")
    findings = check(tale)
    assert [(finding.kind, finding.key, finding.ops) for finding in findings] == [
        ("torn-transaction", "t-1", (txn.index,)),
        ("lost-write", "t-1", (txn.index,)),
        ("lost-write", "t-1", (txn.index,)),
    ]


L = "t-1"


def writes(tale: Tale, process: int, *records: tuple[str, int | None, int], kind: Kind = "ok") -> Entry:
    """A transaction with (key, offset, value) each."""
    invoked = tale.invoke(process, "txn", [["send", key, [None, value]] for key, _, value in records])
    error = None if kind == "ok" else "Aborted"
    tale.complete(invoked, kind, [["send", key, [offset, value]] for key, offset, value in records], error=error)
    return invoked


def test_torn_transaction():
    tale = Tale()
    txn = writes(tale, 0, (K, 0, 1), (L, 0, 1))
    tale.polls(1, (0, 1))
    assert tale.found() == {"torn-transaction": (txn.index,), "unseen": (txn.index,)}


def test_a_transaction_whose_outcome_nobody_knows_is_torn_all_the_same():
    tale = Tale()
    txn = writes(tale, 0, (K, None, 1), (L, None, 1), kind="info")
    tale.polls(1, (0, 1))
    assert tale.found() == {"torn-transaction": (txn.index,)}


def test_a_transaction_is_torn_before_the_end_when_what_is_missing_was_passed_by():
    tale = Tale()
    txn = writes(tale, 0, (K, 0, 1), (L, 0, 1))
    writes(tale, 0, (L, 2, 2))
    tale.polls(1, (0, 1))
    assert tale.found(unfinished=True) == {}, "of the other partition nothing was read yet"
    tale.polls(1, (2, 2), key=L)
    assert tale.found(unfinished=True) == {"torn-transaction": (txn.index,), "lost-write": (txn.index,)}


def test_transactions_that_are_whole_are_not_torn():
    tale = Tale()
    writes(tale, 0, (K, 0, 1), (L, 0, 1))
    writes(tale, 0, (K, 2, 2), (L, 2, 2), kind="fail")
    writes(tale, 2, (K, 4, 3), (L, 4, 3), kind="info")
    tale.polls(1, (0, 1))
    tale.polls(1, (0, 1), key=L)
    assert tale.found() == {}


def test_half_of_an_aborted_transaction_is_an_aborted_read():
    tale = Tale()
    txn = writes(tale, 0, (K, 0, 1), (L, 0, 1), kind="fail")
    read = tale.polls(1, (0, 1))
    assert tale.found() == {"G1a": (txn.index, read.index)}


def test_what_is_written_in_several_partitions_without_a_transaction_is_not_torn():
    tale = Tale()
    invoked = tale.invoke(0, "send", [["send", K, [None, 1]], ["send", L, [None, 1]]])
    tale.complete(invoked, "info", [["send", K, [0, 1]], ["send", L, [None, 1]]])
    tale.polls(1, (0, 1))
    assert tale.found() == {}


def test_transactions_may_interleave_and_leave_gaps():
    """G0 is allowed, and so are offsets that nobody reads: markers, and what was aborted."""
    tale = Tale()
    one = tale.invoke(0, "txn", [["send", K, [None, 1]], ["send", K, [None, 3]]])
    two = tale.invoke(2, "txn", [["send", K, [None, 2]], ["send", K, [None, 4]]])
    tale.complete(one, "ok", [["send", K, [0, 1]], ["send", K, [2, 3]]])
    tale.complete(two, "ok", [["send", K, [1, 2]], ["send", K, [5, 4]]])
    tale.polls(1, (0, 1), (1, 2), (2, 3), (5, 4))
    assert tale.found() == {}


def test_transactions_that_have_each_read_the_other():
    tale = Tale()
    one = tale.invoke(0, "txn", [["poll", {}], ["send", K, [None, 1]]])
    two = tale.invoke(2, "txn", [["poll", {}], ["send", L, [None, 1]]])
    tale.complete(one, "ok", [["poll", {L: [[0, 1]]}], ["send", K, [0, 1]]])
    tale.complete(two, "ok", [["poll", {K: [[0, 1]]}], ["send", L, [0, 1]]])
    assert tale.found() == {"G1c": (one.index, two.index)}


def test_truncated():
    tale = ready()
    invoked = tale.invoke(1, "poll", [["poll", {}]])
    tale.complete(invoked, "fail", None, error="LogTruncationError: log of t-0 was truncated")
    assert tale.found() == {"truncated": (invoked.index,)}


def test_out_of_range_after_reading_is_a_truncation_and_after_being_sent_there_is_none():
    """A leader that was cut off and replaced has less than others know of, and says so in good faith."""
    error = f"OffsetOutOfRangeError: OFFSET_OUT_OF_RANGE (1): position 3 [partition {K}, broker 2, leader epoch 0]"
    tale = ready()
    read = tale.invoke(1, "poll", [["poll", {}]])
    tale.complete(read, "fail", None, error=error)
    tale.does(2, "assign", {K: 3})
    sent = tale.invoke(2, "poll", [["poll", {}]])
    tale.complete(sent, "fail", None, error=error)
    assert tale.found() == {"truncated": (read.index,)}


def test_poll_skip():
    tale = ready()
    first, second = tale.polls(2, (0, 1)), tale.polls(2, (2, 3))
    assert tale.found() == {"poll-skip": (first.index, second.index)}


def test_nonmonotonic_poll():
    tale = ready()
    again = tale.polls(1, (2, 3))
    assert tale.found() == {"nonmonotonic-poll": (6, again.index)}


@pytest.mark.parametrize("offset, skips", [(0, True), (1, False), (2, False)])
def test_a_position_that_was_given_counts_as_read_up_to_there(offset, skips):
    tale = ready()
    assigned = tale.does(2, "assign", {K: offset})
    read = tale.polls(2, (1, 2), (2, 3))
    expected = {0: {"poll-skip": (assigned.index, read.index)}, 1: {}, 2: {"nonmonotonic-poll": (2, 2)}}[offset]
    found = tale.found()
    assert set(found) == set(expected)
    if skips:
        assert found == expected


def test_an_offset_without_a_record_is_none_that_was_skipped():
    tale = Tale()
    tale.sends(0, (1, 0))
    tale.sends(0, (2, 7))
    tale.does(1, "assign", {K: 0})
    tale.polls(1, (0, 1))
    tale.polls(1, (7, 2))
    assert tale.found() == {}


def test_another_process_or_a_new_position_begins_anew():
    tale = ready()
    tale.polls(2, (1, 2), (2, 3))
    tale.does(1, "assign", {K: 0})
    tale.polls(1, (0, 1))
    assert tale.found() == {}


def test_a_key_that_stays_assigned_keeps_its_position():
    tale = ready()
    tale.does(1, "assign", {K: None, "t-1": 0})
    again = tale.polls(1, (0, 1))
    assert tale.found() == {"nonmonotonic-poll": (6, again.index)}


def test_a_key_that_was_given_up_has_no_position():
    tale = ready()
    tale.does(1, "assign", {"t-1": 0})
    tale.does(1, "assign", {K: None})
    tale.polls(1, (1, 2))
    assert tale.found() == {}


def test_a_poll_that_failed_moves_nothing():
    tale = ready()
    tale.polls(2, (0, 1))
    tale.polls(2, (1, 2), kind="fail")
    tale.polls(2, (1, 2))
    assert tale.found() == {}


def test_under_subscribe_polls_may_skip_and_go_back_between_operations():
    tale = ready()
    tale.does(1, "subscribe", ["t"])
    tale.polls(1, (0, 1))
    tale.polls(1, (2, 3))
    tale.polls(1, (1, 2))
    assert tale.found() == {}


def test_int_poll_skip():
    tale = ready()
    read = tale.polls(2, (0, 1), (2, 3))
    assert tale.found() == {"int-poll-skip": (read.index,)}


def test_int_nonmonotonic_poll():
    tale = ready()
    read = tale.polls(2, (0, 1), (1, 2), (2, 3), (0, 1))
    assert tale.found() == {"int-nonmonotonic-poll": (read.index,)}


def test_within_a_transaction_polls_follow_one_another():
    tale = ready()
    polls = [["poll", {K: [[0, 1]]}], ["poll", {K: [[2, 3]]}]]
    txn = tale.does(2, "txn", [["poll", {}], ["poll", {}]], polls)
    assert tale.found() == {"int-poll-skip": (txn.index,)}


def test_keys_that_were_rebalanced_are_not_judged():
    tale = ready()
    tale.does(2, "subscribe", ["t"])
    read = tale.polls(2, (0, 1), (2, 3))
    assert tale.found() == {"int-poll-skip": (read.index,)}
    *others, last = tale.entries
    tale.entries = [*others, type(last)(**{**_fields(last), "rebalance_log": [["t-1"], [K]]})]
    assert tale.found() == {}


def _fields(entry):
    return {name: getattr(entry, name) for name in type(entry).__slots__}


def test_nonmonotonic_send():
    tale = Tale()
    first, second = tale.sends(0, (1, 1)), tale.sends(0, (2, 0))
    tale.polls(1, (0, 2), (1, 1))
    assert tale.found() == {"nonmonotonic-send": (first.index, second.index)}


def test_nonmonotonic_send_is_seen_from_what_was_read():
    tale = Tale()
    first, second = tale.sends(0, (1, None)), tale.sends(0, (2, None), kind="info")
    tale.polls(1, (0, 2), (1, 1))
    assert tale.found() == {"nonmonotonic-send": (first.index, second.index)}


def test_int_nonmonotonic_send():
    tale = Tale()
    sent = tale.sends(0, (1, 1), (2, 0))
    tale.polls(1, (0, 2), (1, 1))
    assert tale.found() == {"int-nonmonotonic-send": (sent.index,)}


def test_sends_of_two_processes_have_no_order_and_others_may_come_between():
    tale = Tale()
    tale.sends(0, (1, 3), (2, 5))
    tale.sends(1, (3, 0), (4, 4))
    tale.polls(2, (0, 3), (3, 1), (4, 4), (5, 2))
    assert tale.found() == {}


@pytest.mark.parametrize("known", ["acknowledged", "read", "asked"])
def test_stale_end(known):
    tale = Tale()
    tale.does(9, "leads", {K: 3})
    before = tale.sends(0, (1, 7 if known != "read" else None))
    if known == "read":
        before = tale.polls(1, (7, 1))
    if known == "asked":
        before = tale.does(1, "ends", [K], {K: [9, 3]})
    asked = tale.does(2, "ends", [K], {K: [8 if known == "asked" else 7, 3]})
    tale.does(3, "epochs", None, {K: [[2, 0], [3, 6]]})
    assert tale.found(unfinished=True) == {"stale-end": (before.index, asked.index)}


def test_a_leader_that_was_replaced_may_not_know_what_later_ones_have_committed():
    tale = ready()
    tale.does(2, "ends", [K], {K: [2, 4]})
    tale.does(2, "ends", [K], {K: [3, 5]})
    tale.does(2, "ends", [K], {K: [2, 4]})
    tale.does(3, "epochs", None, {K: [[4, 0], [5, 2]]})
    assert tale.found() == {}


@pytest.mark.parametrize("answered_in, stale", [(0, False), (1, True), (2, True)])
@pytest.mark.parametrize("known", ["acknowledged", "read"])
def test_a_leader_that_was_replaced_may_not_know_that_its_own_records_are_committed(known, answered_in, stale):
    """Offset 7 was written in epoch 0; the leader of epoch 1 has it, too, commits it and says so."""
    tale = Tale()
    tale.does(9, "leads", {K: 0})
    tale.begins_to_send(1, 1)
    tale.does(9, "leads", {K: 1})
    before = tale.sends(0, (2, 7)) if known == "acknowledged" else tale.polls(2, (7, 1))
    asked = tale.does(2, "ends", [K], {K: [7, answered_in]})
    tale.does(3, "epochs", None, {K: [[0, 0], [1, 8]]})
    assert tale.found(unfinished=True) == ({"stale-end": (before.index, asked.index)} if stale else {})


@pytest.mark.parametrize("answered_in, stale", [(1, False), (2, True)])
def test_a_leader_that_was_cut_off_may_lead_again_and_commit_what_the_one_between_never_saw(answered_in, stale):
    """Offset 7 was written in epoch 0 while somebody led in epoch 1, and committed in epoch 2 by its writer."""
    tale = Tale()
    tale.does(9, "leads", {K: 1})
    tale.begins_to_send(1, 1)
    tale.does(9, "leads", {K: 2})
    before = tale.sends(0, (2, 7))
    asked = tale.does(2, "ends", [K], {K: [7, answered_in]})
    tale.does(3, "epochs", None, {K: [[0, 0], [2, 8]]})
    assert tale.found(unfinished=True) == ({"stale-end": (before.index, asked.index)} if stale else {})


def test_an_end_may_be_older_than_what_was_acknowledged_after_it_was_asked_for():
    tale = ready()
    invoked = tale.invoke(2, "ends", [K])
    tale.sends(0, (4, 3))
    tale.polls(1, (3, 4))
    tale.complete(invoked, "ok", {K: [3, 1]})
    tale.does(2, "ends", [K], {K: [4, 1]})
    tale.does(3, "epochs", None, {K: [[1, 0]]})
    assert tale.found() == {}


def test_circular_flow_between_two_transactions():
    tale = Tale()
    one = tale.invoke(0, "txn", [["send", K, [None, 1]], ["poll", {}]])
    other = tale.invoke(1, "txn", [["send", "t-1", [None, 1]], ["poll", {}]])
    tale.complete(one, "ok", [["send", K, [0, 1]], ["poll", {"t-1": [[0, 1]]}]])
    tale.complete(other, "ok", [["send", "t-1", [0, 1]], ["poll", {K: [[0, 1]]}]])
    assert tale.found() == {"G1c": (one.index, other.index)}


def test_circular_flow_through_time():
    """It was read before it was written."""
    tale = Tale()
    read = tale.polls(0, (0, 1))
    tale.polls(1)
    sent = tale.sends(2, (1, 0))
    assert tale.found() == {"G1c": (read.index, sent.index)}


def test_circular_flow_within_one_process():
    tale = Tale()
    read = tale.polls(0, (0, 1))
    middle = tale.does(0, "txn", [["send", "t-1", [None, 1]]], [["send", "t-1", [0, 1]]])
    sent = tale.sends(0, (1, 0))
    tale.polls(1, (0, 1), key="t-1")
    found = tale.found()
    assert found["G1c"][0] == read.index and found["G1c"][-1] == sent.index
    assert middle.index not in found["G1c"] or len(found["G1c"]) == 3


def test_what_overlaps_may_have_happened_in_any_order():
    tale = Tale()
    sent = tale.begins_to_send(0, 1)
    tale.polls(1, (0, 1))
    tale.complete(sent, "ok", [["send", K, [0, 1]]])
    assert tale.found() == {}


def test_the_order_of_writes_is_an_edge_only_when_asked_for():
    tale = Tale()
    tale.sends(0, (1, 1))
    tale.sends(1, (2, 0))
    tale.polls(2, (0, 2), (1, 1))
    assert tale.found() == {}
    (finding,) = circular_flow(Model(tale), ww=True)
    assert finding.ops == (0, 2)


def test_every_name_of_the_table_is_in_a_test():
    with open(__file__, encoding="utf-8") as file:
        text = file.read()
    for names in CHECKS.values():
        for name in names:
            assert f'"{name}"' in text
