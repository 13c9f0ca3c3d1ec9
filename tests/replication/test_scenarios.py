"""Named histories in which other systems lost or kept acknowledged records; see shared RELIABILITY section 2."""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.replication import FetchWant, leading
from ottla.broker.replication.leader import LeaderState
from ottla.controller import ConfigOp, ConfigResourceOps, IncrementalAlterConfigs
from tests.replication.simulation import Simulation
from tests.replication.stepped_node import LAG_S, TOPIC, Node


def leader_of(simulation: Simulation) -> Node:
    return simulation.nodes[simulation.state.leader]


def produce(simulation: Simulation, count: int = 1) -> None:
    for _ in range(count):
        assert isinstance(simulation.produce(simulation.state.leader), int)


def fail_over(simulation: Simulation, id: int, **how: bool) -> None:
    """Kill `id`, have it fenced, and let the others hear of that."""
    simulation.kill(id, **how)
    simulation.fence(id)
    for other in simulation.nodes:
        while simulation.see(other):
            pass


def test_kip_101_a_restarted_follower_keeps_what_lies_above_its_high_watermark() -> None:
    """Follower 2 holds the record but not yet its commit, restarts, and must lead before it can fetch again."""
    simulation = Simulation(nodes=2, min_insync=1)
    produce(simulation)
    simulation.ask(2)
    simulation.answer(2)
    simulation.ask(2)  # tells the leader that 2 has it: acknowledged now, but the answer never comes
    simulation.lose(2)
    simulation.check()
    assert list(simulation.acked) == [0] and simulation.nodes[2].partition.high_watermark == 0
    # A restart without losing its place in the ISR: it was quick and the controller did not notice.
    node = simulation.nodes[2]
    node.log.abandon()
    seen = node.seen
    node.open()
    node.seen = seen - 1
    simulation.see(2)
    assert node.log.log_end_offset == 1
    fail_over(simulation, 1)
    assert leader_of(simulation) is node
    simulation.heal()
    assert list(simulation.acked) == [0]


def test_kip_279_fast_failovers_leave_no_diverged_log() -> None:
    """Each leader writes what nobody else gets, then dies; whoever is back must end with the same bytes."""
    simulation = Simulation(min_insync=1)
    produce(simulation, 2)
    simulation.settle()
    for _ in range(5):
        leader = simulation.state.leader
        produce(simulation, 3)
        fail_over(simulation, leader)
        simulation.start(leader)
        produce(simulation, 1)
        simulation.pump(leader)
        simulation.pump(simulation.state.leader)
    simulation.heal()


def test_kip_279_the_epoch_asked_for_is_not_the_leaders() -> None:
    """2 wrote alone in an epoch that 1 never saw: the end of the one before it counts."""
    simulation = Simulation(nodes=2, min_insync=1)
    produce(simulation, 2)
    simulation.settle()
    simulation.nodes[1].partition.become_follower(simulation.state)
    stale = simulation.nodes[2]
    role_image = simulation.state
    fail_over(simulation, 1)
    produce(simulation, 1)  # on 2, in the next epoch, committed by 2 alone
    assert stale.log.last_epoch == role_image.leader_epoch + 1
    simulation.start(1)
    simulation.settle()
    simulation.heal()


def test_kafka_10706_elections_without_writes_still_let_a_follower_converge() -> None:
    simulation = Simulation()
    produce(simulation, 1)
    simulation.settle()
    for _ in range(6):
        leader = simulation.state.leader
        fail_over(simulation, leader)
        simulation.start(leader)
        simulation.settle()
    produce(simulation, 1)
    simulation.heal()
    assert {len(node.entries()) for node in simulation.nodes.values()} == {2}


def test_kafka_10706_an_epoch_led_without_a_record_claims_no_offset() -> None:
    """1 led for a moment and wrote nothing, then follows and gets an older record at just the offset it began at."""
    simulation = Simulation()
    produce(simulation, 1)
    simulation.settle()
    first, brief, last = simulation.nodes[1], simulation.nodes[2], simulation.nodes[3]
    produce(simulation, 1)
    simulation.ask(3)
    simulation.answer(3)
    fail_over(simulation, first.id)
    assert leader_of(simulation) is brief
    simulation.fence(brief.id)
    for id in (2, 3, 2):
        while simulation.see(id):
            pass
    assert leader_of(simulation) is last
    simulation.heartbeat(brief)
    for _ in range(3):
        simulation.pump(3)
        simulation.pump(2)
    assert brief.log.last_epoch == 0 and brief.log.log_end_offset == 2
    assert brief.log.end_offset_for_epoch(0) == (0, 2)
    simulation.heal()


def test_kip_320_epochs_fence_old_and_new_believers() -> None:
    simulation = Simulation()
    partition = leader_of(simulation).partition
    epoch = partition.leader_epoch
    produce(simulation)
    assert leading.read(partition, FetchWant(0, 100, epoch)).error is ErrorCode.none
    assert leading.read(partition, FetchWant(0, 100, epoch + 1)).error is ErrorCode.unknown_leader_epoch
    fail_over(simulation, simulation.state.leader)
    partition = leader_of(simulation).partition
    assert leading.read(partition, FetchWant(0, 100, epoch)).error is ErrorCode.fenced_leader_epoch
    follower = next(n.partition for n in simulation.nodes.values() if n.alive and not n.partition.is_leader)
    assert leading.read(follower, FetchWant(0, 100)).error is ErrorCode.not_leader_or_follower


def test_kip_966_the_last_replica_standing_cannot_commit_alone() -> None:
    """RF 3, min ISR 2: with one left nothing is acknowledged or shown, and what was waiting is told so."""
    simulation = Simulation()
    produce(simulation)
    simulation.settle()
    leader = leader_of(simulation)
    produce(simulation)
    wait = simulation.waiting[-1][0]
    others = [id for id in simulation.nodes if id != leader.id]
    simulation.kill(others[0])
    simulation.kill(others[1])
    simulation.fence(others[0])
    simulation.fence(others[1])
    before = leader.partition.high_watermark
    simulation.see(leader.id)
    assert not wait.done
    simulation.see(leader.id)
    assert wait.errors == {0: ErrorCode.not_enough_replicas_after_append}
    assert leader.partition.high_watermark == before == 1
    assert simulation.produce(leader.id) is ErrorCode.not_enough_replicas
    # Power loss of the last one takes its unsynced tail, committed records included, unless it never was alone:
    # here they were all written by the others too, who may not lead before it is back.
    simulation.heal()


def test_kip_966_power_loss_of_the_last_isr_member_with_synced_records() -> None:
    simulation = Simulation(flush="synced")
    produce(simulation)
    simulation.settle()
    simulation.settle()
    assert list(simulation.acked) == [0]
    fail_over(simulation, 3, power=True)
    fail_over(simulation, 2, power=True)
    simulation.kill(1, power=True)
    simulation.heal()
    assert list(simulation.acked) == [0]


def test_kip_903_a_reborn_broker_with_an_empty_disk_is_not_in_sync() -> None:
    """Its fetches under the new epoch count for nothing old, and a stale proposal cannot bring it back."""
    simulation = Simulation()
    produce(simulation, 3)
    simulation.settle()
    leader = leader_of(simulation)
    victim = next(id for id in simulation.nodes if id != leader.id)
    follower = simulation.nodes[victim]
    old_epoch = follower.broker_epoch
    simulation.kill(victim)
    follower.disk.remove_tree("d/t-0")
    follower.checkpoint = 0
    simulation.start(victim)
    assert victim not in simulation.state.isr
    while simulation.see(leader.id):
        pass
    role = leader.partition.role
    assert isinstance(role, LeaderState)
    late = FetchWant(3, 100, role.leader_epoch, 0, victim, old_epoch)
    assert leading.read_for_follower(leader.partition, late).error is ErrorCode.not_leader_or_follower
    simulation.ask(victim)
    assert role.followers[victim].end_offset == 0 and not leader.outbox
    simulation.heal()


def test_stale_isr_proposal_after_an_election_changes_nothing() -> None:
    simulation = Simulation()
    produce(simulation)
    leader = leader_of(simulation)
    simulation.lag(leader.id)
    simulation.lag(leader.id)
    assert leader.outbox, "two followers lag"
    simulation.fence(leader.id)  # an election; the old leader has not heard of it
    isr = simulation.state.isr
    simulation.alter(leader.id)
    simulation.altered(leader.id)
    assert simulation.state.isr == isr
    role = leader.partition.role
    assert isinstance(role, LeaderState) and role.isr.maximal == {1, 2, 3}
    assert leader.partition.high_watermark == 0 and not simulation.acked
    simulation.heal()


def test_a_cut_off_leader_alone_acknowledges_nothing() -> None:
    """Its shrink to itself is never committed, so the others' offsets go on counting (aphyr 293)."""
    simulation = Simulation(min_insync=1)
    produce(simulation)
    simulation.settle()
    old = leader_of(simulation)
    simulation.fence(old.id)  # cut off: it sees nothing of this
    for id in simulation.nodes:
        while id != old.id and simulation.see(id):
            pass
    assert isinstance(simulation.produce(old.id), int)
    wait = simulation.waiting[-1][0]
    simulation.lag(old.id)
    simulation.lag(old.id)
    simulation.alter(old.id)
    simulation.altered(old.id)
    assert not wait.done
    produce(simulation)
    simulation.settle()
    assert wait.errors == {0: ErrorCode.not_leader_or_follower}
    simulation.heal()


def test_redpanda_3003_losing_leadership_between_append_and_commit_is_no_success() -> None:
    simulation = Simulation()
    produce(simulation)
    wait, old = simulation.waiting[-1][0], simulation.state.leader
    follower = next(id for id in simulation.nodes if id != old)
    simulation.fence(old)
    while simulation.see(old):
        pass
    assert wait.errors == {0: ErrorCode.not_leader_or_follower}
    simulation.ask(follower)
    simulation.heal()
    assert not simulation.acked


def test_the_high_watermark_waits_for_a_replica_that_was_only_proposed() -> None:
    """An expansion that the controller may have made counts, even if its answer was lost (maximal ISR)."""
    simulation = Simulation()
    produce(simulation)
    simulation.settle()
    fail_over(simulation, 3)
    simulation.settle()
    simulation.start(3)
    for id in simulation.nodes:
        while simulation.see(id):
            pass
    leader = leader_of(simulation)
    simulation.ask(3)
    simulation.answer(3)
    assert leader.outbox
    simulation.alter(leader.id)
    assert 3 in simulation.state.isr
    simulation.altered(leader.id, lost=True)
    produce(simulation)
    offset = leader.partition.high_watermark
    simulation.ask(2)
    simulation.answer(2)
    simulation.ask(2)
    assert leader.partition.high_watermark == offset, "3 does not have it yet, and may be elected"
    simulation.answer(2)
    simulation.heal()


def test_time_that_passes_without_writes_makes_nobody_lag() -> None:
    simulation = Simulation()
    produce(simulation)
    simulation.settle()
    leader = leader_of(simulation)
    simulation.now += 100 * LAG_S
    leader.partition.shrink_isr()
    produce(simulation)
    leader.partition.shrink_isr()
    assert not leader.outbox


def test_a_follower_behind_the_leaders_log_start_begins_there_even_inside_a_batch() -> None:
    simulation = Simulation(nodes=2, min_insync=1)
    leader, follower = simulation.nodes[1], simulation.nodes[2]
    fail_over(simulation, 2)
    produce(simulation, 6)
    leader.log.advance_log_start(4)
    simulation.start(2)
    for id in simulation.nodes:
        while simulation.see(id):
            pass
    simulation.ask(2)
    simulation.answer(2)
    assert (follower.log.log_end_offset, follower.log.last_epoch) == (4, -1)
    for _ in range(3):
        simulation.pump(2)
    assert (follower.log.log_start_offset, follower.log.log_end_offset) == (4, 6)


def test_kip_455_a_fetch_from_before_a_replica_was_dropped_does_not_count_for_its_new_log() -> None:
    """Its connection was given up, but the request is still on its way when the replica begins anew, with nothing."""
    simulation = Simulation(nodes=4, replicas=3)
    produce(simulation, 2)
    simulation.settle()
    simulation.stray(3)
    simulation.reassign(1, 2)
    simulation.settle()
    assert simulation.state.replicas == (1, 2) and not simulation.nodes[3].holds
    simulation.reassign(1, 2, 3)
    for id in simulation.nodes:
        while simulation.see(id):
            pass
    assert simulation.nodes[3].holds and simulation.nodes[3].log.log_end_offset == 0
    simulation.arrive()
    leader = leader_of(simulation)
    assert not leader.outbox, "it is not proposed for the ISR"
    assert isinstance(leader.partition.role, LeaderState)
    assert leader.partition.role.followers[3].end_offset == -1
    simulation.heal()
    assert simulation.state.isr == (1, 2, 3)


def test_kip_455_an_old_leader_that_has_not_heard_that_it_was_dropped_commits_nothing() -> None:
    """All its replicas are others now; it is behind with the metadata, and clients still write to it."""
    simulation = Simulation(nodes=6, replicas=3)
    produce(simulation)
    simulation.settle()
    simulation.reassign(4, 5, 6)
    for id in (1, 4, 5, 6):
        while simulation.see(id):
            pass
    for id in (4, 5, 6):
        for _ in range(2):
            simulation.ask(id)
            simulation.answer(id)
        simulation.alter(1)
        simulation.see(1) if id != 6 else None
    assert simulation.state.replicas == (4, 5, 6)
    stale = simulation.nodes[1]
    assert stale.holds and isinstance(simulation.produce(1), int)
    for id in (2, 3):
        simulation.ask(id)
        simulation.answer(id)
        simulation.ask(id)
    simulation.check()
    assert len(simulation.acked) == 1, "what it was given since is nobody's"
    simulation.heal()
    assert not stale.holds and len(simulation.acked) == 1


def test_kip_966_a_leader_that_asks_for_fewer_in_sync_replicas_than_the_controller_commits_nothing_alone() -> None:
    """min.insync.replicas was raised, and the leader has not heard of it: the controller takes those for eligible whom
    the leader goes on without."""
    simulation = Simulation(min_insync=1)
    produce(simulation)
    simulation.settle()
    raised = ConfigOp(key="min.insync.replicas", op="set", value="2")
    resource = ConfigResourceOps(kind="topic", name=TOPIC, ops=(raised,))
    simulation.decide_on(IncrementalAlterConfigs(resources=(resource,)))
    simulation.see(1)  # it cannot make anything of it yet
    assert simulation.nodes[1].partition.min_insync == 1
    produce(simulation)
    simulation.now += 2 * LAG_S
    simulation.lag(1)
    simulation.alter(1)
    simulation.altered(1)
    simulation.see(1)
    assert (simulation.state.isr, simulation.state.elr) == ((1,), (2, 3))
    simulation.check()
    assert list(simulation.acked) == [0]
    fail_over(simulation, 1)
    assert simulation.state.leader == 2
    simulation.heal()
    assert list(simulation.acked) == [0]
