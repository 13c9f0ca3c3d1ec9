"""KAFKA-16541, KAFKA-7897: the power goes while the checkpoint of leader epochs is being written, at any operation."""

import contextlib
from collections.abc import Iterator

import pytest

from ottla.log import ModelledDisk, recovery
from ottla.log.checkpoints import LEADER_EPOCH_FILE
from tests.simulation.scenarios.stage import TOPIC, Broken, Stage, play

# A segment for each batch: of a segment below the recovery point the batches are not read again.
SYNCED = {"ottla_flush": "synced", "log_flush_offset_checkpoint_interval_ms": "200", "log_segment_bytes": "100"}


def power_fails_after(operations: int | None):
    """A story of three epochs; the leader of the last loses its power after so many disk operations, None: it does not.
    Returns the numbers of the operations on epoch checkpoints."""

    async def story(stage: Stage) -> list[int]:
        cluster = stage.cluster
        await stage.write(b"epoch 0")
        for epoch in (1, 2):
            leader = stage.leader()
            cluster.kill(leader)
            await stage.led_by_another(leader)
            cluster.start(leader)
            await cluster.until(lambda: cluster.full(TOPIC), "all are in sync", within=20)
            if epoch == 1:
                await stage.write(b"epoch 1")
                await cluster.advance(0.5)
        victim = stage.leader()
        disk = cluster.nodes[victim].disk
        began = disk.operations
        if operations is not None:
            cluster.nodes[victim].power_off_within(operations)
        with writes_of_epochs(disk) as seen:
            await stage.write(b"epoch 2")
            await cluster.advance(0.5)
        cluster.nodes[victim].lives_on()
        if operations is not None:
            assert not cluster.nodes[victim].alive
            cluster.start(victim)
        return [at - began for at in seen]

    return story


@contextlib.contextmanager
def writes_of_epochs(disk: ModelledDisk) -> Iterator[list[int]]:
    seen: list[int] = []
    before = disk.on_operation

    def look(operation: str, path: str) -> None:
        if LEADER_EPOCH_FILE in path:
            seen.append(disk.operations)
        if before is not None:
            before(operation, path)

    disk.on_operation = look
    yield seen
    disk.on_operation = before


@pytest.fixture(scope="module")
def moments() -> range:
    """From before the first to after the last operation on a checkpoint."""
    seen = play(power_fails_after(None), nodes=3, **SYNCED)
    assert len(seen) >= 4
    return range(max(0, min(seen) - 1), max(seen) + 2)


def test_the_epochs_are_whole_whenever_the_power_goes(moments: range):
    for operations in moments:
        play(power_fails_after(operations), nodes=3, **SYNCED)


def test_written_in_place_and_read_without_a_check_they_would_not_be(moments: range, monkeypatch: pytest.MonkeyPatch):
    write_atomic = ModelledDisk.write_atomic

    def write(self: ModelledDisk, path: str, data: bytes) -> None:
        if not path.endswith(LEADER_EPOCH_FILE):
            write_atomic(self, path, data)
            return
        file = self.open(path, create=True)
        file.truncate(0)
        file.append((data,))

    def load(disk: ModelledDisk, directory: str) -> list[tuple[int, int]]:
        path = f"{directory}/{LEADER_EPOCH_FILE}"
        lines = disk.read(path).decode().splitlines()[2:] if disk.exists(path) else []
        rows = [line.split() for line in lines]
        return [(int(row[0]), int(row[1])) for row in rows if len(row) == 2]

    monkeypatch.setattr(ModelledDisk, "write_atomic", write)
    monkeypatch.setattr(recovery, "_load_epochs", load)
    with pytest.raises(Broken):
        for operations in moments:
            play(power_fails_after(operations), watched=False, patience=5, nodes=3, **SYNCED)
