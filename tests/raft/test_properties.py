"""Random schedules of loss, repetition, delay, reordering, power loss and restart: the invariants of Figure 3 of the
Raft paper hold after every event, and after healing there is progress."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.raft.simulation import Simulation
from tests.raft.storms import FAULTS, storm

SEEDS = st.integers(0, 2**32)
STEPS = st.lists(st.sampled_from(sorted(FAULTS)), max_size=25)


@pytest.mark.parametrize("voters", [3, 5])
@given(seed=SEEDS, steps=STEPS)
def test_figure_3_properties_survive_every_storm_and_then_there_is_progress(
    voters: int, seed: int, steps: list[str]
) -> None:
    simulation = Simulation(voters, seed, learners=1, retained_entries=4, snapshot_chunk_bytes=64, max_batch_bytes=256)
    storm(simulation, steps)
    simulation.settle()
    simulation.invariants.check_everything()


@given(seed=SEEDS, steps=STEPS)
def test_single_voter_survives_every_storm(seed: int, steps: list[str]) -> None:
    simulation = Simulation(1, seed, learners=1, retained_entries=2)
    storm(simulation, steps, wipes=False)
    simulation.settle()
    simulation.invariants.check_everything()
