"""What the simulation has found, each as the shortest storm that shows it. What became a story is in scenarios/."""

import pytest

from ottla.simulation.storm import storm


@pytest.mark.parametrize("seed", range(2))
def test_a_single_loss_of_power_among_clean_stops_and_pauses(seed: int):
    assert storm(seed, seconds=15, kinds=["lone power off", "stop", "pause"], rate=20).acknowledged
