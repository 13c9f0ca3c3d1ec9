"""Bits flip on the disk of a voter: what it has acknowledged must not vanish silently (Jepsen on NATS 2.12.1, 7549)."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.controller.raft import (
    Entry,
    HardState,
    PersistentState,
    RaftConfig,
    RaftCore,
    RaftInvariantError,
    Ready,
    Role,
    Snapshot,
)
from ottla.controller.raft.messages import VoteRequest, VoteResponse
from ottla.log import ModelledDisk
from ottla.records import iter_headers
from tests.raft.file_storage import DIRECTORY, LOG, QUORUM_STATE, FileStorage, entry_at, open_storage, reopened, spoil
from tests.raft.simulation import Simulation
from tests.raft.storms import FAULTS, storm

HARD = HardState(7, 2, False, "disk.1")
DAMAGED = HardState(7, 2, True, "", True)
TERMS = (1, 1, 3, 3, 6, 7)
ENTRIES = tuple(Entry(index, term, b"x" * (index * 7 % 20)) for index, term in enumerate(TERMS, 1))


def written(settled: int, count: int = len(ENTRIES)) -> ModelledDisk:
    """A log of ``count`` entries, one persist each, whose recovery point is behind the entry ``settled``."""
    disk = ModelledDisk(random.Random(1))
    storage = open_storage(disk)
    storage.load()
    storage.persist(Ready(hard_state=HARD))
    for entry in ENTRIES[:count]:
        storage.persist(Ready(entries=(entry,)))
        if entry.index == settled:
            storage.settle()
    disk.crash()
    return disk


def log_size() -> int:
    return len(written(0).read(LOG))


def check_flip(settled: int, position: int, bit: int) -> None:
    disk = written(settled)
    hit = entry_at(disk, position)
    spoil(disk, position, bit)
    found = reopened(disk)
    assert found.entries == ENTRIES[: hit - 1], "everything before the damage is there, nothing behind it"
    assert found.hard_state == (DAMAGED if hit <= max(settled, len(ENTRIES) - 1) else HARD), "later entries tell"
    assert reopened(disk) == found, "what was found out is not forgotten by another crash"


@pytest.mark.parametrize("settled", [0, 3, 6])
def test_a_bit_flipped_at_every_byte_of_the_log(settled: int) -> None:
    """The fields that the checksum of a batch does not cover (offset, length, leader epoch) are among them."""
    for position in range(log_size()):
        check_flip(settled, position, position % 8)


@given(settled=st.integers(0, 6), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_bit_and_any_recovery_point(settled: int, place: float, bit: int) -> None:
    check_flip(settled, int(place * log_size()), bit)


@given(st.integers(0, 5), st.randoms(use_true_random=False))
def test_a_log_that_lost_its_end_below_the_recovery_point(kept: int, rng: random.Random) -> None:
    """Cut at an entry's boundary, or the file is gone: nothing looks torn, and yet entries are missing."""
    disk = written(6)
    whole = disk.read(LOG)
    if kept == 0 and rng.random() < 0.5:
        disk.remove(LOG)
    else:
        disk.write_atomic(LOG, whole[: len(written(0, kept).read(LOG)) if kept else 0])
    found = reopened(disk)
    assert (found.hard_state, found.entries) == (DAMAGED, ENTRIES[:kept])


def test_after_the_damage_is_answered_for_there_is_a_new_recovery_point() -> None:
    disk = written(6)
    spoil(disk, 3, 0)
    storage = open_storage(disk)
    assert storage.load() == PersistentState(DAMAGED, None, ())
    renamed = HardState(7, 2, True, "disk.2", True)
    storage.persist(Ready(hard_state=renamed))
    storage.persist(Ready(entries=ENTRIES[:2]))
    storage.close()
    assert reopened(disk) == PersistentState(renamed, None, ENTRIES[:2]), "the old loss is not found a second time"
    spoil(disk, 3, 0)
    assert reopened(disk).hard_state == DAMAGED, "a new one is"


def test_recovery_point_is_kept_at_close_at_start_with_a_snapshot_and_every_so_many_entries() -> None:
    def close(disk: ModelledDisk) -> None:
        storage = open_storage(disk)
        storage.load()
        storage.close()

    def start(disk: ModelledDisk) -> None:
        open_storage(disk).load()
        disk.crash()

    def snapshot(disk: ModelledDisk) -> None:
        storage = open_storage(disk)
        storage.load()
        storage.persist(Ready(entries=(Entry(7, 7, b"seven"),)))
        storage.persist(Ready(snapshot=Snapshot(2, 1, b"two")))
        disk.crash()

    for way in (close, start, snapshot):
        disk = written(0)
        way(disk)
        spoil(disk, len(disk.read(LOG)) - 1, 0)
        found = reopened(disk)
        assert found.hard_state == DAMAGED, way.__name__


def test_recovery_point_is_not_written_per_entry() -> None:
    disk = ModelledDisk(random.Random(1))
    writes: list[str] = []
    storage = open_storage(disk)
    storage.load()
    storage.persist(Ready(hard_state=HARD))
    disk.on_operation = lambda name, path: writes.append(path) if name == "rename" else None
    for index in range(1, 2001):
        storage.persist(Ready(entries=(Entry(index, 7, b"x"),)))
    kept = [path for path in writes if "quorum-state" in path]
    assert 4 <= len(kept) <= 10
    disk.crash()
    spoil(disk, len(disk.read(LOG)) // 2, 0)
    assert reopened(disk).hard_state == DAMAGED


def test_a_conflicting_tail_below_the_recovery_point_is_no_damage() -> None:
    """Raft itself cuts the log: whatever the moment of a crash, that is never mistaken for a loss."""
    for crash_after in range(1, 40):
        disk = written(6)
        storage = open_storage(disk)
        storage.load()
        disk.crash_at = disk.operations + crash_after
        try:
            storage.persist(Ready(hard_state=HardState(8, None, False, "disk.1"), entries=(Entry(2, 8, b"new"),)))
            storage.persist(Ready(snapshot=Snapshot(9, 8, b"nine"), install=True))
            storage.persist(Ready(snapshot=Snapshot(4, 8, b"four"), install=True))
        except BaseException as error:  # noqa: BLE001
            assert type(error).__name__ == "Crashed"
        disk.crash()
        hard_state = reopened(disk, replaceable=False).hard_state
        assert hard_state is not None
        assert not hard_state.recovering, crash_after


def test_a_snapshot_does_not_make_damage_in_the_log_around_it_harmless() -> None:
    """Also where only the term of the entry at the snapshot rots, which looks like another history."""
    size = log_size()
    for position in range(size):
        disk = written(6)
        storage = open_storage(disk)
        storage.load()
        storage.persist(Ready(snapshot=Snapshot(3, 3, b"three")))
        storage.close()
        spoil(disk, position, position % 8)
        found = reopened(disk)
        assert found.snapshot == Snapshot(3, 3, b"three")
        assert found.hard_state is not None
        missing = found.entries != ENTRIES[3:]
        assert found.hard_state.recovering == missing
        assert found.entries == ENTRIES[3 : 3 + len(found.entries)]


def test_rot_in_the_term_at_a_snapshot_is_not_taken_for_an_interrupted_install() -> None:
    """That would drop the entries behind the snapshot, also those that were acknowledged a moment ago."""
    disk = written(6)
    storage = open_storage(disk)
    storage.load()
    storage.persist(Ready(snapshot=Snapshot(6, 7, b"six")))
    storage.persist(Ready(entries=(Entry(7, 7, b"acknowledged"),)))
    disk.crash()
    start = next(at for at, header in iter_headers(disk.read(LOG)) if header.base_offset == 5)
    disk.flip_bit(LOG, start + 15, 0)
    assert reopened(disk) == PersistentState(DAMAGED, Snapshot(6, 7, b"six"), ())


@pytest.mark.parametrize("position", [3, 15, 100, -1])
def test_without_others_to_recover_from_the_start_is_refused_and_nothing_is_touched(position: int) -> None:
    disk = written(6)
    position %= len(disk.read(LOG))
    spoil(disk, position, 4)
    before = {name: disk.read(f"{DIRECTORY}/{name}") for name in ("quorum-state", LOG.rsplit("/", 1)[1])}
    for _ in range(2):
        with pytest.raises(RaftInvariantError) as refused:
            open_storage(disk, replaceable=False).load()
        text = str(refused.value)
        assert f"{DIRECTORY}: the log is sound only up to offset" in text
        assert "durable up to 6" in text
        assert "restore" in text and "backup" in text and "wipe" not in text and "\n" not in text
        assert {name: disk.read(f"{DIRECTORY}/{name}") for name in before} == before


def test_without_others_a_torn_tail_is_still_only_that() -> None:
    disk = written(4)
    spoil(disk, len(disk.read(LOG)) - 1, 0)
    assert reopened(disk, replaceable=False) == PersistentState(HARD, None, ENTRIES[:5])


@pytest.mark.parametrize(("voters", "node", "replaceable"), [
    ({1}, 1, False), ({1, 2}, 1, False), ({1, 2, 3}, 1, True), ({1, 2, 3, 4}, 1, True), ({1}, 2, True),
])  # fmt: skip
def test_who_can_be_replaced(voters: set[int], node: int, replaceable: bool) -> None:
    assert RaftConfig(node, frozenset(voters)).is_replaceable is replaceable


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_bit_flipped_in_the_quorum_state_is_refused(place: float, bit: int) -> None:
    """JSON with another number in it is still JSON: only a checksum tells."""
    disk = written(6)
    intact = reopened(disk)
    disk.flip_bit(QUORUM_STATE, int(place * len(disk.read(QUORUM_STATE))), bit)
    for replaceable, cure in ((True, "wipe"), (False, "backup")):
        try:
            assert reopened(disk, replaceable=replaceable) == intact, "white space"
        except RaftInvariantError as refused:
            assert "quorum-state" in str(refused) and "damaged" in str(refused) and cure in str(refused)
            assert "\n" not in str(refused)


def test_a_quorum_state_from_before_there_was_a_checksum_is_read() -> None:
    disk = written(6)
    disk.write_atomic(
        QUORUM_STATE,
        b'{"data_version": 1, "clusterId": "c1", "nodeId": 1, "leaderEpoch": 7, "votedId": 2, "recovering": false,'
        b' "identity": "disk.1"}',
    )
    assert reopened(disk) == PersistentState(HARD, None, ENTRIES)


def test_a_voter_that_lost_all_entries_to_damage_does_not_take_it_for_the_first_election() -> None:
    core = RaftCore(RaftConfig(1, frozenset({1, 2, 3})), random.Random(1), PersistentState(DAMAGED), now=0.0)
    assert core.recovering
    assert core.identity
    for now in range(1, 10):
        core.tick(float(now))
    assert core.role is Role.FOLLOWER
    core.step(2, VoteRequest(8, 0, 0), 20.0)
    ready = core.ready(20.0)
    assert ready.hard_state == HardState(8, None, True, core.identity, True), "the new name is durable before any word"
    answers = [envelope.message for envelope in ready.messages if isinstance(envelope.message, VoteResponse)]
    assert answers == [VoteResponse(8, 8, False)]


class OnDisks(Simulation):
    storage_type = FileStorage

    def crash(self, node_id: int) -> None:
        down = self.nodes[node_id].core is None
        writing = self.nodes[node_id].writing is not None
        super().crash(node_id)
        if not down and not writing:
            self.file_storage(node_id).crash()

    def file_storage(self, node_id: int) -> FileStorage:
        storage = self.nodes[node_id].storage
        assert isinstance(storage, FileStorage)
        return storage

    def rot(self, node_id: int) -> None:
        """The node idles long enough to note its recovery point, dies, and comes back to a flipped bit."""
        node = self.nodes[node_id]
        if node.core is None or node.writing is not None:
            return
        self.file_storage(node_id).settle()
        self.crash(node_id)
        self.invariants.wiped = True
        self.file_storage(node_id).rot(self.rng)
        self.start(node_id)


def seeds() -> Iterator[int]:
    yield from range(30)


def test_a_committed_entry_survives_rot_at_a_minority_and_the_death_of_the_leader() -> None:
    """Entry on the leader and the victim, the third voter cut off; the victim's copy rots; the leader dies."""
    for seed in seeds():
        simulation = OnDisks(3, seed=seed)
        leader = simulation.elect()
        simulation.run(1)
        victim, other = sorted(simulation.voters - {leader})
        simulation.isolate(other)
        index = 0
        for number in range(3):
            index = simulation.propose(leader, b"on two disks only %d" % number) or 0
            simulation.run(0.05)
        assert index
        assert simulation.core(leader).commit >= index
        simulation.rot(victim)
        simulation.crash(leader)
        simulation.heal()
        simulation.run(20)
        assert simulation.leaders() == [], "the damaged voter helped to elect a leader without committed entries"
        simulation.settle()
        assert (index, b"on two disks only 2") in simulation.nodes[other].state
        assert not any(simulation.core(node).recovering for node in simulation.voters)
        simulation.invariants.check_everything()


def test_rot_at_the_leader_and_at_a_learner() -> None:
    for seed in seeds():
        simulation = OnDisks(3, seed=seed, learners=1, retained_entries=2)
        leader = simulation.elect()
        simulation.run(1)
        for number in range(6):
            simulation.propose(leader, b"%d" % number)
            simulation.run(0.05)
        if seed % 2:
            simulation.snapshot(leader)
            simulation.run(0.05)
        simulation.rot(leader)
        simulation.rot(4)
        simulation.settle()
        assert not simulation.core(4).recovering
        simulation.invariants.check_everything()


def _rot(simulation: Simulation) -> None:
    victim = simulation.rng.choice(sorted(simulation.nodes))
    assert isinstance(simulation, OnDisks)
    if victim not in simulation.voters or simulation.may_wipe(victim):
        simulation.rot(victim)


STEPS = [name for name in sorted(FAULTS) if name != "wipe"]


@pytest.mark.parametrize("voters", [3, 5])
@given(seed=st.integers(0, 2**32), steps=st.lists(st.sampled_from([*STEPS, "rot", "rot", "rot"]), max_size=20))
def test_figure_3_properties_survive_storms_with_rotting_disks(voters: int, seed: int, steps: list[str]) -> None:
    simulation = OnDisks(voters, seed, learners=1, retained_entries=4, snapshot_chunk_bytes=64, max_batch_bytes=256)
    storm(simulation, steps, faults={**FAULTS, "rot": _rot})
    simulation.settle()
    simulation.invariants.check_everything()
