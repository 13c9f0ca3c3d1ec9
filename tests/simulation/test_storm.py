"""A fixed set of seeds under every kind of fault. A seed that found something stays here with what it found."""

import pytest

from ottla.simulation.nemesis import FAULTS
from ottla.simulation.storm import storm


@pytest.mark.parametrize("kind", list(FAULTS))
def test_every_kind_of_fault_by_itself(kind: str):
    report = storm(f"only {kind}", seconds=5, kinds=[kind], interval=0.1)
    assert set(report.faults) <= {kind}
    assert report.acknowledged


@pytest.mark.parametrize("seed", [3, 14, 26, 35, 44])
def test_swarm(seed: int):
    assert storm(seed, seconds=10, interval=0.1).acknowledged
