"""The checker itself: one synthetic history for each thing that it must notice."""

from __future__ import annotations

import pytest

from ottla.cluster.ledger import Ledger


def _ledger(acknowledged: list[tuple[int, int]], read: list[tuple[int, int]]) -> Ledger:
    ledger = Ledger(1)
    for at, (sequence, offset) in enumerate(acknowledged):
        ledger.acknowledge(0, sequence, offset, float(at))
    for offset, sequence in read:
        ledger.saw(0, offset, sequence)
    return ledger


def test_a_faithful_history_is_clean() -> None:
    verdict = _ledger([(0, 0), (1, 1)], [(0, 0), (1, 1)]).verdict()
    assert verdict.clean
    assert (verdict.acknowledged, verdict.read) == (2, 2)


def test_a_record_without_acknowledgement_may_be_there() -> None:
    assert _ledger([(0, 0), (2, 2)], [(0, 0), (1, 1), (2, 2)]).verdict().clean


def test_a_lost_record_is_noticed() -> None:
    assert _ledger([(0, 0), (1, 1)], [(0, 0)]).verdict().lost == 1


def test_a_duplicate_is_noticed() -> None:
    assert _ledger([(0, 0)], [(0, 0), (1, 0)]).verdict().duplicated == 1


def test_a_record_that_is_read_again_at_its_own_offset_is_no_duplicate_but_out_of_order() -> None:
    verdict = _ledger([(0, 0)], [(0, 0), (0, 0)]).verdict()
    assert (verdict.duplicated, verdict.out_of_order) == (0, 1)


def test_order_is_checked() -> None:
    assert _ledger([(0, 0), (1, 1)], [(0, 1), (1, 0)]).verdict().out_of_order == 1


def test_an_acknowledged_offset_must_hold_the_record() -> None:
    assert _ledger([(0, 0)], [(3, 0)]).verdict().misplaced == 1


def test_two_acknowledgements_of_one_record_must_agree() -> None:
    ledger = _ledger([(0, 0)], [])
    with pytest.raises(ValueError, match="acknowledged at 0 and 5"):
        ledger.acknowledge(0, 0, 5, 1.0)


def test_gaps() -> None:
    ledger = Ledger(1)
    for sequence, at in enumerate((0.0, 1.0, 4.0, 4.5)):
        ledger.acknowledge(0, sequence, sequence, at)
    assert ledger.longest_gap(since=1.5, until=2.0) == 3.0
    assert ledger.longest_gap(since=4.1, until=9.0) == 0.5
