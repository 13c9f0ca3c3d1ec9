"""The last write of a metadata log: nothing behind it says that it was durable."""

import random

import pytest

from ottla.controller.raft import Entry, HardState, Ready
from ottla.log import ModelledDisk
from tests.raft.file_storage import LOG, open_storage, reopened

HARD = HardState(7, 2, False, "disk.1")
ENTRIES = tuple(Entry(index, 7, b"x" * (index * 7 % 20)) for index in range(1, 5))


def written(*groups: tuple[Entry, ...]) -> ModelledDisk:
    disk = ModelledDisk(random.Random(1))
    storage = open_storage(disk)
    storage.load()
    storage.persist(Ready(hard_state=HARD))
    for group in groups:
        storage.persist(Ready(entries=group))
    disk.crash()
    return disk


@pytest.mark.parametrize("replaceable", [True, False])
def test_any_single_bit_of_the_log_is_flipped_back(replaceable: bool) -> None:
    disk = written(ENTRIES)
    whole = disk.read(LOG)
    for position in range(len(whole)):
        for bit in range(8):
            disk.flip_bit(LOG, position, bit)
            found = reopened(disk, replaceable=replaceable)
            if found.entries == ENTRIES:
                assert disk.read(LOG) == whole
            disk.write_atomic(LOG, whole)
            assert found.entries == ENTRIES, (position, bit)


def test_more_than_a_bit_before_a_later_write_is_damage() -> None:
    start = len(written(ENTRIES[:1]).read(LOG))
    for position in range(start, start + 40):
        other = written(ENTRIES[:2], ENTRIES[2:3], ENTRIES[3:])
        for at in (position, position + 1, position + 30):
            other.flip_bit(LOG, at, at % 8)
        found = reopened(other)
        if found.entries == ENTRIES:
            continue  # two of the three were in the term, which stands there twice
        assert found.hard_state is not None
        assert found.hard_state.damaged, position
        assert found.entries == ENTRIES[:1]


def test_more_than_a_bit_in_the_last_write_is_a_torn_tail() -> None:
    disk = written(ENTRIES[:2], ENTRIES[2:])
    start = len(written(ENTRIES[:2]).read(LOG))
    for at in (start + 30, start + 31):
        disk.flip_bit(LOG, at)
    found = reopened(disk, replaceable=False)
    assert (found.hard_state, found.entries) == (HARD, ENTRIES[:2])
