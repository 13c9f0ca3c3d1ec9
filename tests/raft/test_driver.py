"""The asyncio shell: order of persist and send, group commit, what callers are told."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from ottla.controller.raft import (
    Entry,
    Message,
    NotLeader,
    OutcomeUnknown,
    RaftConfig,
    RaftDriver,
    RaftStatus,
    RaftStopped,
    Ready,
)
from tests.raft.memory_storage import MemoryStorage

DEADLINE = 10.0


class Network:
    """Hands messages over in the next turn of the loop."""

    def __init__(self) -> None:
        self.drivers: dict[int, RaftDriver] = {}
        self.down: set[int] = set()
        self.changed = asyncio.Event()

    def link(self, sender: int) -> "Link":
        return Link(self, sender)


class Link:
    def __init__(self, network: Network, sender: int) -> None:
        self._network, self._sender = network, sender

    def send(self, to: int, message: Message) -> None:
        if {to, self._sender} & self._network.down:
            return
        asyncio.get_running_loop().call_soon(self._network.drivers[to].receive, self._sender, message)


class Peer:
    """One node: its driver and the state machine that it feeds."""

    def __init__(self, node_id: int, voters: frozenset[int], network: Network, storage: MemoryStorage) -> None:
        self.storage = storage
        self.state: list[bytes] = []
        self.statuses: list[RaftStatus] = []
        config = RaftConfig(node_id, voters, election_timeout=0.3, heartbeat_interval=0.05, retained_entries=0)
        self.driver = RaftDriver(
            config,
            storage,
            network.link(node_id),
            random.Random(node_id),
            run_blocking=self.run_blocking,
            on_apply=self.apply,
            on_snapshot=self.restore,
            snapshot_source=self.capture,
            snapshot_entries=20,
        )
        self.changed = network.changed
        self.driver.subscribe(self.note_status)
        network.drivers[node_id] = self.driver

    async def run_blocking(self, function: Callable[[], Any]) -> Any:
        result = await asyncio.get_running_loop().run_in_executor(None, function)
        self.changed.set()
        return result

    def note_status(self, status: RaftStatus) -> None:
        self.statuses.append(status)
        self.changed.set()

    def apply(self, entries: Sequence[Entry]) -> None:
        self.state += [entry.data for entry in entries if entry.data]
        self.changed.set()

    def restore(self, data: bytes, index: int, term: int) -> None:
        self.state = data.split(b",") if data else []
        self.changed.set()

    def capture(self) -> Callable[[], bytes]:
        state = list(self.state)
        return lambda: b",".join(state)


class Quorum:
    def __init__(self, size: int) -> None:
        self.network = Network()
        voters = frozenset(range(1, size + 1))
        self.peers = {node: Peer(node, voters, self.network, MemoryStorage()) for node in voters}

    async def leader(self) -> Peer:
        return await self.until(lambda: next((p for p in self.peers.values() if p.driver.status.leading), None))

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for something that becomes true with an apply, a new status or a finished write."""
        async with asyncio.timeout(DEADLINE):
            while not (found := condition()):
                self.network.changed.clear()
                await self.network.changed.wait()
        return found

    async def stop(self) -> None:
        for peer in self.peers.values():
            await peer.driver.stop()


@pytest.fixture
async def quorum() -> AsyncIterator[Quorum]:  # three voters
    quorum = Quorum(3)
    for peer in quorum.peers.values():
        await peer.driver.start()
    yield quorum
    await quorum.stop()


async def test_proposals_are_applied_everywhere_in_order(quorum: Quorum) -> None:
    leader = await quorum.leader()
    data = [b"%d" % number for number in range(50)]
    indexes = await asyncio.gather(*(leader.driver.propose(item) for item in data))
    assert indexes == sorted(indexes)
    assert leader.driver.applied_index >= indexes[-1]
    await quorum.until(lambda: all(peer.state == data for peer in quorum.peers.values()))


async def test_proposals_of_one_moment_share_one_write(quorum: Quorum) -> None:
    leader = await quorum.leader()
    writes: list[Ready] = []
    persist = leader.storage.persist
    leader.storage.persist = lambda ready: (writes.append(ready), persist(ready))[1]  # type: ignore[method-assign, func-returns-value]
    await asyncio.gather(*(leader.driver.propose(b"%d" % number) for number in range(50)))
    assert sum(bool(ready.entries) for ready in writes) == 1


async def test_storage_is_told_once_that_nothing_more_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the recovery point reaches the last entry of a burst although it is not written with every entry."""
    monkeypatch.setattr("ottla.controller.raft.driver.SETTLE_S", 0.02)
    quorum = Quorum(1)
    peer = quorum.peers[1]
    await peer.driver.start()
    await quorum.leader()
    await quorum.until(lambda: peer.storage.settled == 1)
    await peer.driver.propose(b"x")
    await quorum.until(lambda: peer.storage.settled == 2)
    for _ in range(5):  # the timers of a leader go on, and write nothing
        await peer.driver.read_barrier()
    assert peer.storage.settled == 2
    await peer.driver.stop()


async def test_follower_refuses_proposals_and_names_the_leader(quorum: Quorum) -> None:
    leader = await quorum.leader()
    follower = next(peer for peer in quorum.peers.values() if peer is not leader)
    await quorum.until(lambda: follower.driver.leader_id)
    with pytest.raises(NotLeader) as refusal:
        await follower.driver.propose(b"x")
    assert refusal.value.leader == leader.driver.leader_id
    with pytest.raises(NotLeader):
        await follower.driver.read_barrier()


async def test_thesis_6_2_cut_off_leader_resigns_and_says_that_the_outcome_is_unknown(quorum: Quorum) -> None:
    old = await quorum.leader()
    quorum.network.down.add(next(node for node, peer in quorum.peers.items() if peer is old))
    with pytest.raises(OutcomeUnknown):
        await asyncio.wait_for(old.driver.propose(b"x"), DEADLINE)
    new = await quorum.until(
        lambda: next((p for p in quorum.peers.values() if p is not old and p.driver.status.leading), None)
    )
    await new.driver.propose(b"y")
    quorum.network.down.clear()
    await quorum.until(lambda: old.state == [b"y"])


async def test_read_barrier_returns_what_is_applied(quorum: Quorum) -> None:
    leader = await quorum.leader()
    index = await leader.driver.propose(b"x")
    assert await asyncio.wait_for(leader.driver.read_barrier(), DEADLINE) >= index


async def test_thesis_3_10_leadership_is_handed_over(quorum: Quorum) -> None:
    leader = await quorum.leader()
    assert await leader.driver.transfer_leadership()
    successor = await quorum.leader()
    assert successor is not leader
    await successor.driver.propose(b"x")


async def test_section_7_snapshot_shortens_the_log_and_is_the_start_after_a_restart() -> None:
    quorum = Quorum(1)
    peer = quorum.peers[1]
    await peer.driver.start()
    await quorum.leader()
    data = [b"%d" % number for number in range(30)]
    for item in data:
        await peer.driver.propose(item)
    await quorum.until(lambda: peer.storage.snapshot is not None and len(peer.storage.entries) < 31)
    await peer.driver.stop()
    again = Peer(1, frozenset({1}), quorum.network, peer.storage)
    await again.driver.start()
    assert len(again.state) >= 19, "the snapshot is there before anything is elected"
    await quorum.until(lambda: again.state == data)
    await again.driver.stop()


async def test_failed_write_ends_the_node_and_nothing_is_answered() -> None:
    quorum = Quorum(1)
    peer = quorum.peers[1]
    await peer.driver.start()
    await quorum.leader()

    def fails(ready: Ready) -> None:
        raise OSError("fsync failed")

    peer.storage.persist = fails  # type: ignore[method-assign]
    with pytest.raises(RaftStopped):
        await peer.driver.propose(b"x")
    assert peer.driver.failed is not None
    with pytest.raises(OSError, match="fsync"):
        await peer.driver.failed
    with pytest.raises(RaftStopped):
        await peer.driver.propose(b"y")
    await peer.driver.stop()


async def test_status_tells_when_the_leader_is_current(quorum: Quorum) -> None:
    leader = await quorum.leader()
    assert leader.statuses[-1].leading
    assert not leader.statuses[0].leading
    assert leader.driver.applied_index >= 1
