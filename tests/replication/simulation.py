"""Three replicas of one partition with the real controller decisions, on modelled disks, one step at a time.

Every message is held until a step delivers it, so that a schedule can make any of them late, and a node stale. What
must hold is checked after each step.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from kio.schema.errors import ErrorCode

from ottla.broker.replication import FetchWant, ProduceWait, following, leading
from ottla.broker.replication.follower import FollowerState
from ottla.broker.replication.leader import LeaderState, Outcome
from ottla.controller import (
    AlterPartition,
    AlterPartitionReassignments,
    CreateTopics,
    IsrMember,
    PartitionIsr,
    Policy,
    Reassignment,
)
from ottla.controller.rpc import NewTopic
from ottla.log import LogConfig
from ottla.records import Record, encode_batch, verify_batch
from tests.replication.stepped_controller import SteppedController
from tests.replication.stepped_node import LAG_S, TOPIC, Entries, Node


class Simulation(SteppedController):
    def __init__(
        self, *, nodes: int = 3, replicas: int | None = None, min_insync: int = 2, flush: str = "os", seed: int = 0
    ) -> None:
        super().__init__(seed)
        # The decisions go by the same number as the leaders, which have it from their file.
        self.policy = Policy(broker_defaults={"min.insync.replicas": str(min_insync)})
        self.now = 100.0
        self.acked: dict[int, tuple[int, int]] = {}
        self.waiting: list[tuple[ProduceWait, int, tuple[int, int]]] = []
        self.committed: Entries = {}
        self.hw_of_epoch: dict[int, int] = {}
        self.counter = 0
        self.wandering: list[tuple[int, FetchWant]] = []
        config = LogConfig(flush=cast(Any, flush))
        ids = range(1, nodes + 1)
        self.nodes = {id: Node(id, config, self.rng, min_insync, lambda: self.now) for id in ids}
        for node in self.nodes.values():
            self.register(node)
        self.decide_on(CreateTopics(topics=(NewTopic(name=TOPIC, assignments={0: tuple(ids[:replicas])}),)))
        for node in self.nodes.values():
            node.topic_id = self.image.topics[TOPIC].id
            node.open()
            self.catch_up(node)

    # Steps: each may be impossible just now, and then does nothing

    def see(self, id: int) -> bool:
        """The node applies the next metadata entry."""
        node = self.nodes[id]
        if not node.alive or node.seen >= len(self.history):
            return False
        image = self.history[node.seen]
        node.seen += 1
        node.eligible = {broker.id: broker.epoch for broker in image.brokers.values() if broker.eligible}
        state = image.partition(TOPIC, 0)
        if state is None:
            return True
        if id not in state.replicas:
            if node.holds:
                self.check()  # what it has committed since the last step
                node.drop()
            return True
        if not node.holds:
            node.open_log()
        partition, leads = node.partition, state.leader == id
        if partition.role.leader_epoch == state.leader_epoch and partition.is_leader == leads:
            partition.update_isr(state)
        elif leads:
            partition.become_leader(state)
        else:
            partition.become_follower(state)
        partition.advance()
        return True

    def catch_up(self, node: Node) -> None:
        """From a snapshot: a node that starts sees only the last image, never its own past."""
        node.seen = max(len(self.history) - 1, 0)
        while self.see(node.id):
            pass

    def produce(self, id: int) -> ErrorCode | int:
        """To whoever believes to lead, acks=all."""
        node = self.nodes[id]
        if not node.alive or not node.holds:
            return ErrorCode.network_exception
        self.counter += 1
        batch = encode_batch([Record(0, 1, b"k", f"{self.counter}".encode(), ())])
        header = verify_batch(batch)
        appended = leading.append(node.partition, batch, header, acks=-1, now_ms=0)
        if isinstance(appended, ErrorCode):
            return appended
        wait = ProduceWait(cast(asyncio.AbstractEventLoop, None))
        node.partition.acknowledge(appended.last_offset + 1, -1, wait, 0)
        self.waiting.append((wait, appended.base_offset, (node.partition.leader_epoch, header.crc)))
        return appended.base_offset

    def ask(self, id: int) -> bool:
        """The follower's fetch reaches its leader, and the answer is on its way."""
        node = self.nodes[id]
        if not node.alive or not isinstance(node.partition.role, FollowerState) or node.fetched is not None:
            return False
        role = node.partition.role
        leader = self.nodes.get(role.leader_id)
        if leader is None or not leader.alive:
            return False
        want = self._want(node, role)
        node.fetched = (role, leading.read_for_follower(leader.partition, want), want.offset)
        return True

    @staticmethod
    def _want(node: Node, role: FollowerState) -> FetchWant:
        if node.config.flush == "synced":
            node.log.flush()
        return FetchWant(node.log.log_end_offset, 1, role.leader_epoch, node.log.last_epoch, node.id, node.broker_epoch)

    def stray(self, id: int) -> bool:
        """A fetch leaves, and is held up on its way: the follower has given that connection up."""
        node = self.nodes[id]
        role = node.partition.role
        if not node.alive or not isinstance(role, FollowerState) or role.leader_id not in self.nodes:
            return False
        self.wandering = [*self.wandering, (role.leader_id, self._want(node, role))][-4:]
        return True

    def arrive(self, _id: int = 0) -> bool:
        """A fetch that was held up comes to whom it was meant for. Nobody waits for the answer."""
        if not self.wandering:
            return False
        to, want = self.wandering.pop(0)
        leader = self.nodes[to]
        if leader.alive and leader.holds:
            leading.read_for_follower(leader.partition, want)
        return True

    def reassign(self, *replicas: int) -> bool:
        return self._reassign(replicas)

    def cancel(self, _id: int = 0) -> bool:
        return self._reassign(None)

    def _reassign(self, replicas: tuple[int, ...] | None) -> bool:
        wish = Reassignment(topic=TOPIC, partition=0, replicas=replicas)
        (result,) = self.decide_on(AlterPartitionReassignments(partitions=(wish,))).partitions
        return not result.error

    def answer(self, id: int) -> bool:
        """The leader's answer reaches the follower, who throws it away if it has another role by now."""
        node = self.nodes[id]
        if not node.alive or node.fetched is None:
            return False
        (role, result, asked_at), node.fetched = node.fetched, None
        if node.partition.role is not role:
            return True
        if result.error is ErrorCode.offset_out_of_range:
            following.start_over(node.partition, result.log_start_offset)
        elif result.error is ErrorCode.none and result.diverging is not None:
            before = node.partition.high_watermark
            following.truncate(node.partition, result.diverging)
            assert node.log.log_end_offset >= before, "truncated below the high watermark"
        elif result.error is ErrorCode.none:
            if result.records:
                following.append_from_leader(node.partition, result.records, asked_at)
            following.adopt(node.partition, result.high_watermark, result.log_start_offset)
        return True

    def lose(self, id: int) -> bool:
        """The answer is lost."""
        self.nodes[id].fetched = None
        return True

    def alter(self, id: int) -> bool:
        """The leader's proposal reaches the controller."""
        node = self.nodes[id]
        if not node.alive or not node.outbox:
            return False
        proposal = node.outbox.pop(0)
        if not node.partition.still_proposes(proposal):
            return True
        members = ((m, node.broker_epoch if m == id else epoch) for m, epoch in proposal.members)
        request = AlterPartition(
            node_id=id,
            broker_epoch=node.broker_epoch,
            partitions=(
                PartitionIsr(
                    topic_id=node.topic_id,
                    partition=0,
                    leader_epoch=proposal.leader_epoch,
                    partition_epoch=proposal.partition_epoch,
                    new_isr=tuple(IsrMember(id=m, broker_epoch=epoch) for m, epoch in members),
                ),
            ),
        )
        node.answers.append((proposal, self.decide_on(request)))
        return True

    def altered(self, id: int, *, lost: bool = False) -> bool:
        """The controller's answer reaches the leader, or is lost and asked for again."""
        node = self.nodes[id]
        if not node.alive or not node.answers:
            return False
        proposal, answer = node.answers.pop(0)
        if lost or answer.error:
            outcome = Outcome.RETRY
        else:
            (result,) = answer.partitions
            outcome = node.partition.isr_answered(proposal, ErrorCode(result.error))
        if outcome is Outcome.RETRY and node.partition.still_proposes(proposal):
            node.outbox.append(proposal)
        return True

    def kill(self, id: int, *, power: bool = False) -> bool:
        node = self.nodes[id]
        if not node.alive:
            return False
        self.harvest()
        node.alive = False
        if node.holds:
            node.log.abandon()
        if power:
            node.disk.crash()
        return True

    def start(self, id: int) -> bool:
        """Again, as a new incarnation; the controller notices at the latest now that the old one is gone."""
        node = self.nodes[id]
        if node.alive:
            return False
        self.fence(id)
        node.open()
        self.register(node)
        self.catch_up(node)
        return True

    def pump(self, id: int) -> bool:
        """Everything goes well for this node for a moment."""
        while self.see(id):
            pass
        self.sync(id)
        self.answer(id)
        for _ in range(3):
            self._fetch_moves(id)
        self.alter(id)
        self.altered(id)
        return True

    def sync(self, id: int) -> bool:
        if self.nodes[id].alive:
            self.nodes[id].group.fire()
        return True

    def note(self, id: int) -> bool:
        """The high-watermark checkpoint."""
        if self.nodes[id].alive and self.nodes[id].holds:
            self.nodes[id].checkpoint = self.nodes[id].partition.high_watermark
        return True

    def lag(self, id: int) -> bool:
        """Time passes and the node looks for lagging followers."""
        self.now += LAG_S * 0.6
        if self.nodes[id].alive and self.nodes[id].holds:
            self.nodes[id].partition.shrink_isr()
        return True

    # What must hold

    def harvest(self) -> None:
        """Note the acknowledgements that clients have got."""
        still = []
        for wait, offset, entry in self.waiting:
            if not wait.done:
                still.append((wait, offset, entry))
            elif not wait.errors:
                assert self.acked.setdefault(offset, entry) == entry, "two records acknowledged at one offset"
        self.waiting = still

    def check(self) -> None:
        self.harvest()
        for node in self.nodes.values():
            if not node.alive or not node.holds:
                continue
            role, entries = node.partition.role, node.entries()
            assert role.high_watermark <= node.log.log_end_offset
            for offset in range(role.high_watermark):
                entry = self.committed.setdefault(offset, entries[offset])
                assert entry == entries[offset], f"{offset} is another record on {node.id}"
            if isinstance(role, LeaderState):
                assert role.high_watermark >= self.hw_of_epoch.get(role.leader_epoch, 0)
                self.hw_of_epoch[role.leader_epoch] = role.high_watermark
        for offset, entry in self.acked.items():
            assert self.committed.get(offset) == entry, f"{offset} was acknowledged but is not committed"

    def heal(self) -> None:
        """Everybody comes back and everything is delivered, until nothing moves any more; then all must be well."""
        for id, node in self.nodes.items():
            self.start(id)
            broker = self.image.brokers[id]
            if broker.fenced:
                assert node.alive
                self.heartbeat(node)
        for _ in range(60):
            for id in self.nodes:
                while self.see(id):
                    pass
                self.sync(id)
                self.answer(id)
                self._fetch_all(id)
                self.alter(id)
                self.altered(id)
            self.check()
            if self._whole():
                return
        raise AssertionError(f"does not come together: {self.state}, {[n.partition.role for n in self.nodes.values()]}")

    def _fetch_all(self, id: int) -> None:
        for _ in range(1000):
            if not self._fetch_moves(id):
                return
        raise AssertionError("fetching goes in circles")

    def _fetch_moves(self, id: int) -> bool:
        """One fetch, there and back; whether it changed the follower's log."""
        node = self.nodes[id]
        if not node.alive or not node.holds:
            return False
        before = node.log.log_end_offset
        return self.ask(id) and self.answer(id) and node.log.log_end_offset != before

    def _whole(self) -> bool:
        leader, state = self.nodes.get(self.state.leader), self.state
        if leader is None or not set(state.target) <= set(state.isr) or not leader.partition.is_leader:
            return False
        if any(node.seen < len(self.history) for node in self.nodes.values()):
            return False
        assert not state.reassigning, "all that is wanted is in sync, and the others do not go"
        replicas = [self.nodes[id] for id in state.replicas]
        assert all(node.holds is (node in replicas) for node in self.nodes.values())
        end = leader.log.log_end_offset
        if any(node.partition.high_watermark < end for node in replicas):
            return False
        for node in replicas:
            assert node.entries() == leader.entries()
        entries = leader.entries()
        for offset, entry in self.acked.items():
            assert entries[offset] == entry, f"the record acknowledged at {offset} is lost"
        return True

    def settle(self) -> None:
        """Deliver everything that is under way, without bringing anybody back."""
        for _ in range(20):
            for id in self.nodes:
                while self.see(id):
                    pass
                self.sync(id)
                self.answer(id)
                self.ask(id)
                self.answer(id)
                self.alter(id)
                self.altered(id)
        self.check()
