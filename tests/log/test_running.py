"""Whether only a process died, or the machine with its page cache."""

import asyncio
import random

import pytest

from ottla.log import GroupCommit, LogConfig, LogManager, ModelledDisk


async def opened(disk: ModelledDisk) -> LogManager:
    return await LogManager.open(
        disk, "data", lambda _topic: LogConfig(), clock=lambda: 1000, rng=random.Random(1), commits=GroupCommit()
    )


@pytest.mark.parametrize(("how", "kept", "epoch"), [("kill", True, 7), ("crash", False, -1), ("wipe", False, -1)])
def test_a_killed_process_has_lost_nothing_and_a_machine_without_power_may_have(
    how: str, kept: bool, epoch: int
) -> None:
    async def scenario() -> None:
        disk = ModelledDisk(random.Random(1))
        manager = await opened(disk)
        assert not manager.kept_everything
        manager.note_running(7)
        getattr(disk, how)()
        found = await opened(disk)
        assert not found.was_clean
        assert (found.kept_everything, found.last_broker_epoch) == (kept, epoch)

    asyncio.run(scenario())
