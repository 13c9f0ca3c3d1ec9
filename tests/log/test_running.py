"""Whether only a process died, or the machine with its page cache."""

import asyncio
import random

import pytest

from ottla.log import GroupCommit, LogConfig, LogManager, ModelledDisk
from ottla.log.checkpoints import Running


async def opened(disk: ModelledDisk) -> LogManager:
    return await LogManager.open(
        disk, "data", lambda _topic: LogConfig(), clock=lambda: 1000, rng=random.Random(1), commits=GroupCommit()
    )


@pytest.mark.parametrize(
    ("synced", "how", "kept"),
    [
        (False, "kill", True),
        (False, "crash", False),
        (False, "wipe", False),
        (True, "kill", True),
        (True, "crash", True),
        (True, "wipe", False),
    ],
)
def test_a_killed_process_has_lost_nothing_and_a_machine_without_power_may_have_unless_it_synced(
    synced: bool, how: str, kept: bool
) -> None:
    async def scenario() -> None:
        disk = ModelledDisk(random.Random(1))
        manager = await opened(disk)
        assert not manager.kept_everything
        await manager.note_running(7, synced=synced)
        getattr(disk, how)()
        found = await opened(disk)
        assert not found.was_clean
        assert (found.kept_everything, found.last_broker_epoch) == (kept, 7 if kept else -1)

    asyncio.run(scenario())


def test_a_note_that_nobody_can_read_promises_nothing() -> None:
    assert Running.decode(b"{") == Running.decode(b"[]") == Running()
