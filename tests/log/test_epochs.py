"""The epoch cache against a list with one epoch per record (KIP-101, KIP-279)."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ottla.log import EpochCache


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), max_size=15), st.data())
def test_against_one_epoch_per_record(steps: list[tuple[int, int, int]], data: st.DataObject) -> None:
    cache, records, epoch = EpochCache(), [], 0
    for bump, writes, cut in steps:
        epoch += bump
        cache.assign(epoch, len(records))
        records += [epoch] * writes
        if cut == 3 and records:
            at = data.draw(st.integers(0, len(records)))
            del records[at:]
            cache.truncate_from_end(at)
            epoch += 1
    entries = cache.entries
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(entries))
    for offset, expected in enumerate(records):
        assert cache.epoch_for_offset(offset) == expected
        known, below = cache.stretch(offset)
        assert known == expected and offset < below
        assert set(records[offset:below]) == {expected} and expected not in records[below:]
    for asked in range(epoch + 2):
        found, end = cache.end_offset_for(asked, len(records))
        if asked > cache.latest:
            assert (found, end) == (-1, -1)
            continue
        first_above = next((at for at, value in enumerate(records) if value > asked), len(records))
        assert end == first_above
        below = [value for value in records if value <= asked]
        assert found == asked if not below else found >= max(below)
    start = data.draw(st.integers(0, len(records)))
    cache.truncate_from_start(start)
    for offset in range(start, len(records)):
        assert cache.epoch_for_offset(offset) == records[offset]


def test_unknown_epochs() -> None:
    assert EpochCache().end_offset_for(3, 10) == (-1, -1)
    cache = EpochCache([(5, 10), (7, 20)])
    assert cache.end_offset_for(-1, 30) == (-1, -1)
    assert cache.end_offset_for(3, 30) == (3, 10)
    assert cache.end_offset_for(6, 30) == (5, 20)
    assert cache.end_offset_for(7, 30) == (7, 30)
    assert cache.end_offset_for(8, 30) == (-1, -1)
