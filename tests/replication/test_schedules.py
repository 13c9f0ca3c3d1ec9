"""Random schedules: nothing acknowledged is lost, replicas agree below the high watermark, and it never goes back."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from tests.replication.simulation import Simulation

Step = Callable[[Simulation, int], object]

COMMON: list[Step] = 2 * [
    Simulation.produce,
    lambda simulation, id: simulation.produce(max(simulation.state.leader, 1)),
    lambda simulation, id: simulation.produce(max(simulation.state.leader, 1)),
    Simulation.ask,
    Simulation.ask,
    Simulation.answer,
    Simulation.answer,
    Simulation.see,
    Simulation.see,
    Simulation.see,
    Simulation.alter,
    Simulation.altered,
    Simulation.pump,
    Simulation.pump,
    Simulation.pump,
    Simulation.pump,
]
RARE: list[Step] = [
    Simulation.lose,
    lambda simulation, id: simulation.altered(id, lost=True),
    Simulation.fence,
    lambda simulation, id: simulation.heartbeat(simulation.nodes[id]) if simulation.nodes[id].alive else None,
    Simulation.note,
    Simulation.lag,
    Simulation.start,
    Simulation.start,
    Simulation.start,
]
KILL: list[Step] = [Simulation.kill]
POWER: list[Step] = [lambda simulation, id: simulation.kill(id, power=True), Simulation.sync, Simulation.sync]


TARGETS = ((4, 2, 3), (1, 5), (4, 5, 1, 2, 3), (3,), (5, 4, 2))
REASSIGN: list[Step] = [
    lambda simulation, id: simulation.reassign(*TARGETS[id - 1]),
    lambda simulation, id: simulation.reassign(*TARGETS[id - 1]),
    Simulation.cancel,
    Simulation.stray,
    Simulation.arrive,
]


def schedules(steps: list[Step], nodes: int = 3) -> st.SearchStrategy[list[tuple[int, int]]]:
    one = st.tuples(st.integers(0, len(steps) - 1), st.integers(1, nodes))
    return st.lists(one, min_size=60, max_size=250)


def run(simulation: Simulation, steps: list[Step], schedule: list[tuple[int, int]]) -> None:
    for step, id in schedule:
        steps[step](simulation, id)
        simulation.check()
    simulation.heal()


OS = COMMON + RARE + KILL
MOVED = COMMON + RARE + KILL + REASSIGN
MOVED_SYNCED = COMMON + RARE + POWER + REASSIGN
SYNCED = COMMON + RARE + POWER


@given(schedules(OS))
def test_kills_lose_nothing(schedule: list[tuple[int, int]]) -> None:
    run(Simulation(), OS, schedule)


@given(schedules(SYNCED), st.integers(0, 1000))
def test_power_loss_loses_nothing_when_records_are_synced(schedule: list[tuple[int, int]], seed: int) -> None:
    run(Simulation(flush="synced", seed=seed), SYNCED, schedule)


@given(schedules(OS))
def test_one_replica_may_be_enough(schedule: list[tuple[int, int]]) -> None:
    run(Simulation(min_insync=1), OS, schedule)


@given(schedules(MOVED, 5))
def test_reassignments_lose_nothing(schedule: list[tuple[int, int]]) -> None:
    run(Simulation(nodes=5, replicas=3), MOVED, schedule)


@given(schedules(MOVED_SYNCED, 5), st.integers(0, 1000))
def test_reassignments_and_power_loss_lose_nothing_when_records_are_synced(
    schedule: list[tuple[int, int]], seed: int
) -> None:
    run(Simulation(nodes=5, replicas=3, flush="synced", seed=seed), MOVED_SYNCED, schedule)
