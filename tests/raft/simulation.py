"""A quorum of Raft cores in virtual time: messages are lost, repeated, delayed and overtaken, fsyncs take time, nodes
lose power (and sometimes their disk). Every run is a function of one seed. Invariants are checked after every event."""

import heapq
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count

from ottla.controller.raft import Entry, Message, RaftConfig, RaftCore, Ready, Refusal, Role, VoterNode
from tests.raft.invariants import Invariants, require
from tests.raft.memory_storage import MemoryStorage


@dataclass
class Faults:
    """Chances per message, and ranges in seconds."""

    drop: float = 0.0
    duplicate: float = 0.0
    delay: tuple[float, float] = (0.0005, 0.002)
    fsync: tuple[float, float] = (0.0005, 0.003)


@dataclass
class SimulatedNode:
    node_id: int
    config: RaftConfig
    storage: MemoryStorage
    core: RaftCore | None = None
    life: int = 0  # counts starts: events of an earlier life are void
    writing: Ready | None = None
    state: list[tuple[int, bytes]] = field(default_factory=list)  # the state machine: (index, data) applied
    alarm: float = float("inf")


class Simulation:
    core_type: type[RaftCore] = RaftCore
    storage_type: type[MemoryStorage] = MemoryStorage
    ack_before_persist = False

    def __init__(self, nodes: int, seed: int, learners: int = 0, **settings: float) -> None:
        self.rng = random.Random(seed)
        self.now = 100.0
        self.faults = Faults()
        self.cut: set[tuple[int, int]] = set()
        self.bootstrap = frozenset(range(1, nodes + 1))
        self.changes: dict[int, int | Refusal] = {}  # token of an addition -> what became of it
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.barriers: list[tuple[int, int]] = []
        self.invariants = Invariants(self)
        self.trace: Callable[[int, int, Message], None] | None = None
        self.loses: Callable[[Message], bool] = lambda message: False
        self.nodes: dict[int, SimulatedNode] = {}
        for node_id in range(1, nodes + learners + 1):
            config = RaftConfig(node_id, self.bootstrap, directory_id=f"dir-{node_id}-0", **settings)  # type: ignore[arg-type]
            self.nodes[node_id] = SimulatedNode(node_id, config, self.storage_type())
            self.start(node_id)

    @property
    def voters(self) -> frozenset[int]:
        """The newest that are committed."""
        return self.invariants.voters or self.bootstrap

    def voter_sets(self) -> set[frozenset[int]]:
        """Those, and all newer ones that were ever in a log: they may be on a disk or on their way to one."""
        proposed = self.invariants.proposed_voters
        return {self.voters, *(voters for at, voters in proposed if at > self.invariants.voters_index)}

    # -- nodes

    def start(self, node_id: int) -> None:
        node = self.nodes[node_id]
        if node.core is not None:
            return
        persistent = node.storage.load()
        node.life += 1
        node.writing = None
        node.core = self.core_type(node.config, random.Random(self.rng.getrandbits(64)), persistent, self.now)
        node.state = decode_state(persistent.snapshot.data) if persistent.snapshot else []
        self.invariants.restarted(node)
        self.pump(node)

    def crash(self, node_id: int) -> None:
        """Power loss: of what was being written, some prefix is there."""
        node = self.nodes[node_id]
        if node.core is None:
            return
        if node.writing is not None:
            node.storage.tear(node.writing, self.rng)
        node.core = None
        node.writing = None

    def wipe(self, node_id: int) -> None:
        """The node comes back with an empty disk, hence with a new directory id."""
        self.crash(node_id)
        node = self.nodes[node_id]
        node.storage = self.storage_type()
        # Whoever replaces the disk names the voters as they are, of whom at least one has a memory.
        node.config = replace(node.config, directory_id=f"dir-{node_id}-{node.life}", voters=self.voters)
        self.invariants.wiped = True

    def may_wipe(self, node_id: int) -> bool:
        """Losing disks is survivable while fewer than half have lost theirs and have not been readmitted."""
        return all(
            self.lost(voters, node_id) <= (len(voters) - 1) // 2 for voters in self.voter_sets() if node_id in voters
        )

    def lost(self, voters: frozenset[int], wiped: int | None = None) -> int:
        """How many of these are without memory, once `wiped` is."""
        states = {voter: self.nodes[voter].storage.hard_state for voter in voters}
        return sum(voter == wiped or state is None or state.recovering for voter, state in states.items())

    # -- events

    def at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (when, next(self._order), event))

    def run(self, seconds: float) -> None:
        self.run_until(lambda: False, seconds)

    def run_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Let time pass until ``condition``; False if ``seconds`` passed first."""
        end = self.now + seconds
        while not condition():
            if not self._queue or self._queue[0][0] > end:
                self.now = end
                return condition()
            self.now, _, event = heapq.heappop(self._queue)
            event()
            self.invariants.check()
        return True

    def pump(self, node: SimulatedNode) -> None:
        """What the driver does: one Ready at a time, in the promised order."""
        core = node.core
        while core is not None and node.writing is None:
            needs_disk = core.must_persist
            ready = core.ready(self.now)
            if not ready:
                break
            require(needs_disk or not ready.must_persist, "the driver goes by must_persist, and would not write this")
            for envelope in ready.urgent:
                self.send(node.node_id, *envelope)
            if self.ack_before_persist:
                for envelope in ready.messages:
                    self.send(node.node_id, *envelope)
            if ready.must_persist:
                self._write(node, ready)
            else:
                self._finish(node, core, ready)
        self._arm(node)

    def _write(self, node: SimulatedNode, ready: Ready) -> None:
        node.writing = ready
        life = node.life
        self.at(self.now + self.rng.uniform(*self.faults.fsync), lambda: self._written(node, life))

    def _written(self, node: SimulatedNode, life: int) -> None:
        ready, core = node.writing, node.core
        if core is None or ready is None or node.life != life:
            return
        node.storage.persist(ready)
        node.writing = None
        self._finish(node, core, ready)
        self.pump(node)

    def _finish(self, node: SimulatedNode, core: RaftCore, ready: Ready) -> None:
        if not self.ack_before_persist:
            for envelope in ready.messages:
                self.send(node.node_id, *envelope)
        core.persisted(ready, self.now)
        if ready.installed is not None:
            node.state = decode_state(ready.installed.data)
        self.apply(node, ready.committed)
        self.barriers += ready.barriers
        self.changes |= dict(ready.changes)
        if ready.snapshot is not None:
            node.storage.compact(core.log.first_index)

    def apply(self, node: SimulatedNode, entries: tuple[Entry, ...]) -> None:
        node.state += [(entry.index, entry.data) for entry in entries]

    def _arm(self, node: SimulatedNode) -> None:
        core = node.core
        if core is None or core.deadline == node.alarm or core.deadline == float("inf"):
            return
        node.alarm = core.deadline
        life, alarm = node.life, node.alarm
        self.at(max(self.now, alarm), lambda: self._tick(node, life, alarm))

    def _tick(self, node: SimulatedNode, life: int, alarm: float) -> None:
        if node.core is None or node.life != life or node.alarm != alarm:
            return
        node.alarm = float("inf")
        node.core.tick(self.now)
        self.pump(node)

    # -- the network

    def send(self, sender: int, to: int, message: Message) -> None:
        self.invariants.sent(sender, to, message)
        if self.trace is not None:
            self.trace(sender, to, message)
        copies = 0 if self.rng.random() < self.faults.drop else 1
        copies += self.rng.random() < self.faults.duplicate
        if (sender, to) in self.cut or to not in self.nodes or self.loses(message):
            copies = 0
        for _ in range(copies):
            when = self.now + self.rng.uniform(*self.faults.delay)
            self.at(when, lambda: self.deliver(sender, to, message))

    def deliver(self, sender: int, to: int, message: Message) -> None:
        node = self.nodes[to]
        if node.core is not None:
            node.core.step(sender, message, self.now)
            self.pump(node)

    def isolate(self, node_id: int) -> None:
        for other in self.nodes:
            self.cut |= {(node_id, other), (other, node_id)}

    def heal(self) -> None:
        self.cut.clear()
        self.faults = Faults()

    # -- what one asks

    def leaders(self) -> list[int]:
        return [n.node_id for n in self.nodes.values() if n.core is not None and n.core.role is Role.LEADER]

    @property
    def leader(self) -> int | None:
        """The leader of the newest term."""
        led = [(n.core.term, n.node_id) for n in self.nodes.values() if n.core and n.core.role is Role.LEADER]
        return max(led)[1] if led else None

    def core(self, node_id: int) -> RaftCore:
        core = self.nodes[node_id].core
        assert core is not None, f"node {node_id} is down"
        return core

    def propose(self, node_id: int, data: bytes) -> int | None:
        index = self.core(node_id).propose([data])
        self.pump(self.nodes[node_id])
        return index

    def add(self, node_id: int, new: int) -> Refusal | int:
        """Ask `node_id` to let `new` vote; the token under which `changes` tells the outcome."""
        token, config = next(self._order), self.nodes[new].config
        node = VoterNode(new, config.directory_id, f"node-{new}", 9093)
        refusal = self.core(node_id).add_voter(token, node, self.now)
        self.pump(self.nodes[node_id])
        return token if refusal is None else refusal

    def remove(self, node_id: int, old: int) -> Refusal | int:
        outcome = self.core(node_id).remove_voter(old, "", self.now)
        self.pump(self.nodes[node_id])
        return outcome

    def grow(self, new: int, seconds: float = 20.0) -> None:
        """Add `new`, whatever it takes."""
        end = self.now + seconds
        while new not in self.voters:
            assert self.now < end, f"node {new} does not become a voter: {self.describe()}"
            leader = self.elect()
            token = self.add(leader, new)
            self.run_until(lambda t=token: t in self.changes or new in self.voters, 1.0)  # type: ignore[misc]
            self.run(0.05)

    def shrink(self, old: int, seconds: float = 20.0) -> None:
        end = self.now + seconds
        while old in self.voters:
            assert self.now < end, f"node {old} stays a voter: {self.describe()}"
            self.remove(self.elect(), old)
            self.run_until(lambda: old not in self.voters, 0.3)

    def suspect(self, node_id: int, dead: int) -> None:
        self.core(node_id).suspect(dead, self.now)
        self.pump(self.nodes[node_id])

    def snapshot(self, node_id: int) -> bool:
        node = self.nodes[node_id]
        core = self.core(node_id)
        index = node.state[-1][0] if node.state else 0
        taken = index > 0 and core.compact(index, encode_state(node.state))
        self.pump(node)
        return taken

    def elect(self, seconds: float = 5.0) -> int:
        assert self.run_until(self.has_working_leader, seconds), "no leader"
        leader = self.leader
        assert leader is not None
        return leader

    def has_working_leader(self) -> bool:
        """A leader that has committed an entry of its own term."""
        leader = self.leader
        if leader is None:
            return False
        core = self.core(leader)
        return core.leading is not None and core.commit >= core.leading.first_index

    def converged(self) -> bool:
        """Everybody is up, knows the one leader, and has applied the same log to its end."""
        cores = [node.core for node in self.nodes.values()]
        leader = self.leader
        if leader is None or len(self.leaders()) != 1:
            return False
        leading = self.core(leader).leading
        if leading is None or leading.transfer_to is not None or leading.joining is not None:
            return False
        if leader not in self.core(leader).voters:
            return False
        last = self.core(leader).log.last_index
        return all(
            core is not None
            and core.leader_id == leader
            and core.commit == core.applied == last
            and not core.recovering
            for core in cores
        ) and all(node.writing is None for node in self.nodes.values())

    def settle(self, seconds: float = 20.0) -> None:
        """Heal and restart everything: there must be progress."""
        self.heal()
        for node in self.nodes.values():
            self.start(node.node_id)
            # Whoever heals a cluster also puts right the settings of nodes whose voters have all gone.
            self.core(node.node_id).config = replace(node.config, voters=self.voters)
        assert self.run_until(self.converged, seconds), f"no progress: {self.describe()}"
        leader = self.leader
        assert leader is not None
        index = self.propose(leader, b"after the storm")
        assert index is not None
        assert self.run_until(self.converged, 2.0), f"a proposal got stuck: {self.describe()}"
        states = {tuple(node.state) for node in self.nodes.values()}
        assert len(states) == 1, "state machines differ"

    def describe(self) -> str:
        return "; ".join(
            f"{n.node_id}: down" if n.core is None else
            f"{n.node_id}: {n.core.role} term {n.core.term} leader {n.core.leader_id} log {n.core.log.first_index}"
            f"..{n.core.log.last_index}@{n.core.log.last_term} commit {n.core.commit} recovering {n.core.recovering}"
            f" voters {sorted(n.core.voters)}"
            for n in self.nodes.values()
        )  # fmt: skip


def encode_state(state: list[tuple[int, bytes]]) -> bytes:
    return json.dumps([[index, data.decode()] for index, data in state]).encode()


def decode_state(data: bytes) -> list[tuple[int, bytes]]:
    return [(index, text.encode()) for index, text in json.loads(data)]
