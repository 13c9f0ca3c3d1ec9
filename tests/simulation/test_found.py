"""What the simulation has found, each as the shortest storm that shows it. What became a story is in scenarios/."""

import pytest

from ottla.simulation.invariants.metadata import MetadataTruth
from ottla.simulation.invariants.partitions import PartitionTruth
from ottla.simulation.storm import storm


@pytest.mark.parametrize("seed", range(2))
def test_a_single_loss_of_power_among_clean_stops_and_pauses(seed: int):
    assert storm(seed, seconds=15, kinds=["lone power off", "stop", "pause"], rate=20).acknowledged


def test_a_leader_that_was_stalled_need_not_have_what_later_ones_committed():
    """It hears of its epoch when that is over; what was committed up to then it must have."""
    truth = PartitionTruth("orders", 0, MetadataTruth({}, lambda *_: None))
    truth.ends = {1: 10, 3: 20}
    assert [truth.end_in(epoch) for epoch in range(5)] == [0, 10, 10, 20, 20]
