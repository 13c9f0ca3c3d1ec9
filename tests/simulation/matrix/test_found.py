"""Storms with faults of disks that found something, each with what it was."""

import pytest

from ottla.log import ModelledDisk
from ottla.simulation.errors import Anomaly
from ottla.simulation.storm import storm

DISKS = ["disk full", "disk errors", "stalled syncs", "bit rot", "wipe", "kill", "stop", "pause", "partition"]


@pytest.mark.parametrize("seed", ["disk 119", "disk 127"])
def test_a_node_whose_disk_fails_while_it_starts_does_not_wait_for_ever(seed: str):
    assert storm(seed, seconds=15, kinds=DISKS)


def test_two_that_were_killed_and_one_that_was_wiped():
    """Only one of them has lost anything; all three looked like that to the controller."""
    assert storm("disk 282", seconds=15, kinds=DISKS)


POWER = ["lone power off", "kill", "kill all", "wipe", "stop", "disk full"]


@pytest.mark.parametrize("seed", range(3))
def test_one_loses_its_power_while_others_are_killed(seed: int):
    """With the page cache policy too."""
    assert storm(f"disk {seed}", seconds=15, kinds=POWER)


def test_it_loses_records_if_nobody_can_tell_a_kill_from_a_loss_of_power(monkeypatch: pytest.MonkeyPatch):
    assert storm("disk 8", seconds=15, kinds=POWER)
    monkeypatch.setattr(ModelledDisk, "boot_id", lambda _disk: "")
    with pytest.raises(Anomaly, match="committed is"):
        storm("disk 8", seconds=15, kinds=POWER)
