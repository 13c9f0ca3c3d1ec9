"""Clients of a compacted topic under faults, and mistakes in our own code that have to be found by them."""

import pytest

from ottla.log import PartitionLog
from ottla.log.compaction import KeyOffsets, Rules
from ottla.records import Record, encode_batch, encode_marker
from ottla.records.control import EndMarker
from ottla.simulation.plan import Plan
from ottla.simulation.tables import table
from tests.simulation.mutants.catching import catch, runs_alike, thick

CLEANING = {
    "log.cleaner.backoff.ms": "200",
    "log.cleaner.min.cleanable.ratio": "0.01",
    "offsets.topic.segment.bytes": "1000",
    "transaction.state.log.segment.bytes": "1000",
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "250",
}


def plan(seed, kinds, besides="tables", seconds=10.0):
    faults = thick(f"table mutants/{seed}", kinds, seconds)
    return Plan(seed, 3, seconds, None, faults, 2.0, CLEANING, besides)


def drop_the_last_of_a_key(patch):
    original = KeyOffsets.is_last
    patch.setattr(KeyOffsets, "is_last", lambda self, key, offset: original(self, key, offset - 1))


def clean_above_the_high_watermark(patch):
    original = PartitionLog.begin_cleaning
    patch.setattr(PartitionLog, "begin_cleaning", lambda self, first, _, now: original(self, first, 2**62, now))


def drop_tombstones_at_once(patch):
    """Whoever was away when it was written goes on with what it has deleted."""
    original = Rules.__init__

    def init(self, last, now_ms, _delete_retention_ms, *rest):
        original(self, last, now_ms, -1, *rest)

    patch.setattr(Rules, "__init__", init)


MUTANTS = {
    "drop the last of a key": (drop_the_last_of_a_key, (), 1, "tables"),
    "clean above the high watermark": (clean_above_the_high_watermark, ("late", "isolate"), 12, "tables"),
    "drop tombstones at once": (drop_tombstones_at_once, ("kill", "isolate"), 6, "tables"),
    "drop the last of a key of a coordinator": (drop_the_last_of_a_key, (), 1, "transactions"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_within_so_many_seeds(name):
    mutate, kinds, seeds, besides = MUTANTS[name]
    catch(mutate, lambda seed: plan(seed, kinds, besides), seeds)


def test_the_same_seed_gives_the_same_run():
    work = runs_alike(plan(3, ("kill",), seconds=3.0)).work_besides
    assert work["written"] > 0 and work["read"] > 0


def at(offset, batch):
    return offset.to_bytes(8) + batch[8:]


def keyed(offset, *pairs, producer_id=-1):
    records = [Record(0, 0, key, value) for key, value in pairs]
    return at(offset, encode_batch(records, producer_id=producer_id, producer_epoch=0, transactional=producer_id >= 0))


def ending(offset, producer_id, *, commit):
    marker = EndMarker(commit, coordinator_epoch=0)
    return at(offset, encode_marker(marker, producer_id=producer_id, producer_epoch=0, timestamp=0))


def test_a_table_is_what_a_reader_of_committed_records_ends_up_with():
    log = [
        keyed(0, (b"a", b"1"), (b"b", b"1"), (None, b"x")),
        keyed(3, (b"a", b"2"), (b"c", b"2"), producer_id=7),
        keyed(5, (b"a", b"3"), producer_id=8),
        ending(6, 7, commit=False),
        keyed(7, (b"b", None), (b"d", b"4"), producer_id=7),
        ending(9, 8, commit=True),
        keyed(10, (b"d", b"5")),
        ending(11, 7, commit=True),
        keyed(12, (b"a", b"6"), producer_id=8),
    ]
    assert table(log) == {b"a": (5, b"3"), b"d": (10, b"5")}
    assert table([]) == {}
