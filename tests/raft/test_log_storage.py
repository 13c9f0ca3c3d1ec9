"""Raft's files: what was promised is there after a crash at any point."""

import contextlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.controller.raft import Entry, HardState, LogStorage, PersistentState, RaftInvariantError, Ready, Snapshot
from ottla.log import Crashed, ModelledDisk

HARD = HardState(3, 2, False, "disk.1")


def storage(disk: ModelledDisk, cluster: str = "c1", node: int = 1) -> LogStorage:
    return LogStorage(disk, "/data", lambda: 1_700_000_000_000, cluster_id=cluster, node_id=node)


def entries(first: int, *terms: int) -> tuple[Entry, ...]:
    return tuple(Entry(first + n, term, b"%d@%d" % (first + n, term)) for n, term in enumerate(terms))


def reopened(disk: ModelledDisk) -> PersistentState:
    again = storage(disk)
    state = again.load()
    again.close()
    return state


@pytest.fixture
def disk() -> ModelledDisk:
    return ModelledDisk(random.Random(1))


def test_empty_directory_is_told_from_one_that_remembers(disk: ModelledDisk) -> None:
    first = storage(disk)
    assert first.load() == PersistentState(None, None, ())
    first.persist(Ready(hard_state=HARD))
    disk.crash()
    assert reopened(disk) == PersistentState(HARD, None, ())


@pytest.mark.parametrize("at", range(1, 7))
def test_a_vote_that_was_found_is_as_good_as_one_that_was_written(at: int) -> None:
    """Whoever wrote it may have died before it was durable; the next process answers by it."""
    for power in range(10):
        disk = ModelledDisk(random.Random(power))
        first = storage(disk)
        first.load()
        disk.operations, disk.crash_at = 0, at
        with contextlib.suppress(Crashed):
            first.persist(Ready(hard_state=HARD))
        disk.kill()
        found = storage(disk).load()
        disk.crash()
        assert reopened(disk) == found


def test_a_directory_that_was_found_is_as_good_as_one_that_was_made() -> None:
    for power in range(10):
        disk = ModelledDisk(random.Random(power))
        disk.mkdir("/data")
        disk.mkdir("/data/__cluster_metadata-0", durable=False)
        disk.kill()
        first = storage(disk)
        first.load()
        first.persist(Ready(hard_state=HARD))
        disk.crash()
        assert reopened(disk) == PersistentState(HARD, None, ())


def test_entries_survive_power_loss_once_persist_has_returned(disk: ModelledDisk) -> None:
    first = storage(disk)
    first.load()
    first.persist(Ready(hard_state=HARD, entries=entries(1, 1, 1, 2)))
    first.persist(Ready(entries=entries(4, 3)))
    disk.crash()
    assert reopened(disk).entries == entries(1, 1, 1, 2, 3)


def test_section_5_3_conflicting_tail_is_replaced(disk: ModelledDisk) -> None:
    first = storage(disk)
    first.load()
    first.persist(Ready(hard_state=HARD, entries=entries(1, 1, 1, 1)))
    first.persist(Ready(entries=entries(2, 3)))
    disk.crash()
    assert reopened(disk).entries == entries(1, 1) + entries(2, 3)


def test_section_7_own_snapshot_keeps_the_log_and_installed_one_replaces_it(disk: ModelledDisk) -> None:
    first = storage(disk)
    first.load()
    first.persist(Ready(hard_state=HARD, entries=entries(1, 1, 1, 1)))
    first.persist(Ready(snapshot=Snapshot(2, 1, b"two")))
    first.compact(2)
    assert "00000000000000000002-0000000001.checkpoint" in disk.listdir("/data/__cluster_metadata-0")
    disk.crash()
    assert reopened(disk) == PersistentState(HARD, Snapshot(2, 1, b"two"), entries(3, 1))
    second = storage(disk)
    second.load()
    second.persist(Ready(snapshot=Snapshot(9, 3, b"nine"), install=True))
    second.persist(Ready(entries=entries(10, 3)))
    second.compact(10)
    assert sum(name.endswith(".checkpoint") for name in disk.listdir("/data/__cluster_metadata-0")) == 1
    disk.crash()
    assert reopened(disk) == PersistentState(HARD, Snapshot(9, 3, b"nine"), entries(10, 3))


def test_directory_of_another_node_or_cluster_is_refused(disk: ModelledDisk) -> None:
    first = storage(disk)
    first.load()
    first.persist(Ready(hard_state=HARD))
    first.close()
    for other in (storage(disk, cluster="c2"), storage(disk, node=2)):
        with pytest.raises(RaftInvariantError, match="belongs to node 1 of cluster c1"):
            other.load()


@pytest.mark.parametrize("name", ["quorum-state", "00000000000000000002-0000000001.checkpoint"])
def test_damaged_promise_is_refused_not_forgotten(disk: ModelledDisk, name: str) -> None:
    first = storage(disk)
    first.load()
    first.persist(Ready(hard_state=HARD, entries=entries(1, 1, 1), snapshot=Snapshot(2, 1, b"two")))
    first.compact(1)
    first.close()
    disk.write_atomic(f"/data/__cluster_metadata-0/{name}", disk.read(f"/data/__cluster_metadata-0/{name}")[:-2])
    with pytest.raises(RaftInvariantError):
        storage(disk).load()


@given(seed=st.integers(0, 2**32), crash_after=st.integers(1, 120))
def test_any_crash_point_keeps_what_was_promised(seed: int, crash_after: int) -> None:
    """The power goes at a random disk operation. Afterwards there is the state after the last persist that returned,
    or a state on the way to the next one: never less, never a mixture that Raft would not have written."""
    rng = random.Random(seed)
    disk = ModelledDisk(rng)
    promised = PersistentState()
    attempted = promised
    subject = storage(disk)
    try:
        subject.load()
        disk.crash_at = disk.operations + crash_after
        for ready in history(rng):
            attempted = after(promised, ready)
            subject.persist(ready)
            promised = attempted
            if ready.snapshot is not None:
                subject.compact(ready.snapshot.index)
    except Crashed:
        pass
    disk.crash()
    found = reopened(disk)
    assert found.hard_state in (promised.hard_state, attempted.hard_state)
    assert found.snapshot in (promised.snapshot, attempted.snapshot)
    base = found.snapshot.index if found.snapshot else 0
    kept = [entry for entry in promised.entries if entry.index > base and entry in attempted.entries]
    assert set(kept) <= set(found.entries)
    assert set(found.entries) <= set(promised.entries) | set(attempted.entries)
    assert [entry.index for entry in found.entries] == list(range(base + 1, base + 1 + len(found.entries)))


def after(state: PersistentState, ready: Ready) -> PersistentState:
    snapshot = ready.snapshot or state.snapshot
    base = snapshot.index if snapshot else 0
    kept = () if ready.install else tuple(entry for entry in state.entries if entry.index > base)
    if ready.entries:
        kept = tuple(entry for entry in kept if entry.index < ready.entries[0].index) + ready.entries
    return PersistentState(ready.hard_state or state.hard_state, snapshot, kept)


def history(rng: random.Random) -> list[Ready]:
    """Readys as a follower produces them: appends, conflicts, terms, own and foreign snapshots."""
    readys: list[Ready] = []
    last, base, term = 0, 0, 1
    steps: list[Callable[[], None]] = []

    def grow() -> None:
        nonlocal last
        added = rng.randint(1, 4)
        readys.append(Ready(hard_state=HardState(term, None, False, "d"), entries=entries(last + 1, *[term] * added)))
        last += added

    def conflict() -> None:
        nonlocal last, term
        term += 1
        last = rng.randint(base, last)
        grow()

    def compact() -> None:
        nonlocal base
        if last > base:
            base = last
            readys.append(Ready(snapshot=Snapshot(base, term, b"s%d" % base)))

    def install() -> None:
        nonlocal base, last, term
        term += 1
        base = last = last + rng.randint(1, 5)
        state = HardState(term, None, False, "d")
        readys.append(Ready(hard_state=state, snapshot=Snapshot(base, term, b"s%d" % base), install=True))

    steps = [grow, grow, conflict, compact, install]
    for _ in range(12):
        rng.choice(steps)()
    return readys
