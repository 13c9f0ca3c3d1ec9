"""The map of keys: its bound is one of memory, not only of a number."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from ottla.log.compaction import BYTES_PER_KEY, KeyOffsets
from ottla.records import Record, encode_batch, read_header


def batches(keys, *, each=500, size=20):
    for base in range(0, keys, each):
        records = [Record(base + at, 0, b"%0*d" % (size, base + at), b"v") for at in range(min(each, keys - base))]
        data = encode_batch(records, base_offset=base)
        yield read_header(data), data


@pytest.mark.parametrize("max_bytes", [200_000, 1_500_000])
@pytest.mark.parametrize("size", [8, 300])
def test_the_map_takes_no_more_memory_than_it_may(max_bytes, size):
    """Whatever the sizes of the keys are. The worst moment is when its table has just grown, and the old one is there
    as well."""
    prepared = list(batches(2 * max_bytes // BYTES_PER_KEY, size=size))
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        keys = KeyOffsets(0, max_bytes)
        for header, data in prepared:
            if not keys.add(header, data):
                break
        else:
            raise AssertionError("it never was full")
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before <= max_bytes
    # One batch, decoded, comes on top for a moment.
    assert peak - before <= max_bytes + 1_000_000
    assert len(keys) >= 0.8 * max_bytes / BYTES_PER_KEY - 500


def test_every_size_of_the_table_fits():
    """The table grows in leaps: right after one it takes most for each key."""
    prepared = list(batches(12_000, each=50))
    gc.collect()
    tracemalloc.start()
    try:
        keys = KeyOffsets(0, 1 << 40)
        start, _ = tracemalloc.get_traced_memory()
        worst = 0.0
        for header, data in prepared:
            keys.add(header, data)
            if len(keys) > 1000:
                now, _ = tracemalloc.get_traced_memory()
                worst = max(worst, (now - start) / len(keys))
    finally:
        tracemalloc.stop()
    assert worst <= BYTES_PER_KEY
