"""Random schedules of faults for a simulated quorum."""

from collections.abc import Callable, Mapping

from tests.raft.simulation import Faults, Simulation

Step = Callable[[Simulation], None]


def storm(
    simulation: Simulation, steps: list[str], wipes: bool = True, faults: "Mapping[str, Step] | None" = None
) -> None:
    """One fault after the other, with time and proposals in between."""
    number = 0
    for name in steps:
        if name != "wipe" or wipes:
            (faults or FAULTS)[name](simulation)
        for _ in range(simulation.rng.randint(0, 4)):
            _propose(simulation, number)
            number += 1
            simulation.run(simulation.rng.uniform(0, 0.01))
        simulation.run(simulation.rng.choice([0.005, 0.05, 0.3, 2.5]))


def _propose(simulation: Simulation, number: int) -> None:
    """To whoever believes that it leads, the deposed included."""
    leaders = simulation.leaders()
    if leaders:
        simulation.propose(simulation.rng.choice(leaders), b"p%d" % number)


def _any_up(simulation: Simulation) -> int | None:
    up = [node.node_id for node in simulation.nodes.values() if node.core is not None]
    return simulation.rng.choice(up) if up else None


def _any(simulation: Simulation) -> int:
    return simulation.rng.choice(list(simulation.nodes))


def _crash(simulation: Simulation) -> None:
    simulation.crash(_any(simulation))


def _crash_leader(simulation: Simulation) -> None:
    """As kill -9 looks to the others: all have evidence, not all at once."""
    leader = simulation.leader
    if leader is None:
        return
    simulation.crash(leader)
    for node in simulation.nodes:
        if node != leader:
            simulation.at(
                simulation.now + simulation.rng.uniform(0, 0.01), lambda n=node: _suspect(simulation, n, leader)
            )


def _suspect(simulation: Simulation, node_id: int, dead: int) -> None:
    if simulation.nodes[node_id].core is not None:
        simulation.suspect(node_id, dead)


def _crash_all(simulation: Simulation) -> None:
    for node in simulation.nodes:
        simulation.crash(node)


def _restart(simulation: Simulation) -> None:
    simulation.start(_any(simulation))


def _restart_all(simulation: Simulation) -> None:
    for node in simulation.nodes:
        simulation.start(node)


def _wipe(simulation: Simulation) -> None:
    victim = simulation.rng.choice(sorted(simulation.voters))
    if simulation.may_wipe(victim):
        simulation.wipe(victim)
        simulation.start(victim)


def _isolate(simulation: Simulation) -> None:
    simulation.isolate(_any(simulation))


def _isolate_leader(simulation: Simulation) -> None:
    if simulation.leader is not None:
        simulation.isolate(simulation.leader)


def _cut_one_way(simulation: Simulation) -> None:
    simulation.cut.add((_any(simulation), _any(simulation)))


def _join(simulation: Simulation) -> None:
    simulation.cut.clear()


def _noisy(simulation: Simulation) -> None:
    simulation.faults = Faults(
        drop=simulation.rng.choice([0, 0.1, 0.4]),
        duplicate=simulation.rng.choice([0, 0.2]),
        delay=simulation.rng.choice([(0.0005, 0.002), (0.0005, 0.4), (0.0005, 1.5)]),
        fsync=simulation.rng.choice([(0.0, 0.001), (0.001, 0.05), (0.0, 0.5)]),
    )


def _quiet(simulation: Simulation) -> None:
    simulation.faults = Faults()


def _false_evidence(simulation: Simulation) -> None:
    node = _any_up(simulation)
    if node is not None:
        simulation.suspect(node, _any(simulation))


def _snapshot(simulation: Simulation) -> None:
    node = _any_up(simulation)
    if node is not None:
        simulation.snapshot(node)


def _transfer(simulation: Simulation) -> None:
    leader = simulation.leader
    if leader is not None:
        simulation.core(leader).transfer_leadership(_any(simulation), simulation.now)
        simulation.pump(simulation.nodes[leader])


def _barrier(simulation: Simulation) -> None:
    leader = simulation.leader
    if leader is not None:
        simulation.core(leader).read_barrier(1, simulation.now)
        simulation.pump(simulation.nodes[leader])


def _wipe_any(simulation: Simulation) -> None:
    victim = _any(simulation)
    if simulation.may_wipe(victim):
        simulation.wipe(victim)
        simulation.start(victim)


def _add(simulation: Simulation) -> None:
    leaders = simulation.leaders()
    if leaders:
        simulation.add(simulation.rng.choice(leaders), _any(simulation))


def _remove(simulation: Simulation) -> None:
    leaders = simulation.leaders()
    if leaders:
        leader = simulation.rng.choice(leaders)
        _remove_if_survivable(simulation, leader, simulation.rng.choice(sorted(simulation.core(leader).voters)))


def _remove_leader(simulation: Simulation) -> None:
    if simulation.leader is not None:
        _remove_if_survivable(simulation, simulation.leader, simulation.leader)


def _remove_if_survivable(simulation: Simulation, leader: int, old: int) -> None:
    """A leader refuses when it has heard that too many disks are lost; here nobody tries before it has, either."""
    left = simulation.core(leader).voters - {old}
    if simulation.lost(left) <= (len(left) - 1) // 2:
        simulation.remove(leader, old)


FAULTS: dict[str, Step] = {
    "crash": _crash,
    "crash leader": _crash_leader,
    "crash all": _crash_all,
    "restart": _restart,
    "restart all": _restart_all,
    "wipe": _wipe,
    "isolate": _isolate,
    "isolate leader": _isolate_leader,
    "cut one way": _cut_one_way,
    "join": _join,
    "noisy": _noisy,
    "quiet": _quiet,
    "false evidence": _false_evidence,
    "snapshot": _snapshot,
    "transfer": _transfer,
    "barrier": _barrier,
}

# Several names for one change, so that a storm has many of them.
CHANGES: dict[str, Step] = {
    **FAULTS,
    **{f"add {number}": _add for number in range(4)},
    **{f"remove {number}": _remove for number in range(2)},
    "remove leader": _remove_leader,
    "wipe any": _wipe_any,
}
