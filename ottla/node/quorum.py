"""A node's part in the metadata quorum: Raft with transport and storage, the controller, and the watch over peers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker import QuorumStatus
from ottla.controller import (
    ActiveController,
    AddRaftVoter,
    Address,
    AnyRequest,
    ClusterIdentity,
    ControllerClient,
    ControllerSettings,
    FindVoters,
    FindVotersResponse,
    Handlers,
    LogStorage,
    MetadataView,
    PeerAddresses,
    PeerWatch,
    QuorumFinder,
    RaftConfig,
    RaftDriver,
    RaftStatus,
    RaftTransport,
    RemoveRaftVoter,
    RpcClient,
    RpcResponse,
    RpcServer,
    VoterNode,
    VoterSet,
    change_voters,
    decode_message,
    encode_message,
    is_answer,
)
from ottla.log import GroupCommit
from ottla.node.quorum_status import quorum_status
from ottla.tasks import start_task, stop_tasks

log = structlog.get_logger(__name__)

# A node that knows of no cluster says so, first after so long: others may only be starting.
FIRST_TOLD_S = 3.0
TOLD_EVERY_S = 10.0
# A node that knows of no leader for so long asks at the bootstrap servers who votes.
SEEK_EVERY_S = 3.0


class Quorum:
    """Everything that speaks on the controller listener.

    ``settings`` is None on a node without the controller role: such a node follows the metadata log as a learner and
    never decides anything. Without ``voters`` they are found through ``bootstrap_servers`` (KIP-853), unless the log
    knows them; with both, those servers are asked when no leader is known.
    """

    def __init__(
        self,
        raft: RaftConfig,
        storage: LogStorage,
        me: ClusterIdentity,
        *,
        voters: dict[int, Address],
        bootstrap_servers: Sequence[Address] = (),
        listen: Address,
        advertised: Address,
        settings: ControllerSettings | None,
        group: GroupCommit,
        rng: random.Random,
        snapshot_bytes: int,
    ) -> None:
        self._listen = listen
        self.started = False
        self._met: set[int] = set()
        self._raft = raft
        self.addresses = PeerAddresses(voters)
        self._rpc = RpcClient(me, self.addresses, rng)
        self._transport = RaftTransport(self._rpc, encode_message, self._receive, is_answer=is_answer)
        self._finder = QuorumFinder(self._rpc, bootstrap_servers)
        self.view = MetadataView(me.cluster_id)
        self.driver = RaftDriver(
            raft,
            storage,
            self._transport,
            rng,
            run_blocking=group.run_blocking,
            on_apply=self.view.on_apply,
            on_snapshot=self.view.on_snapshot,
            on_voters=self._on_voters,
            on_hint=self._on_hint,
            find_voters=self._finder.find,
            snapshot_source=self.view.snapshot_source,
            snapshot_bytes=snapshot_bytes,
        )
        self.active = (
            ActiveController(raft.node_id, self.driver, self.view, settings, rng) if settings is not None else None
        )
        self.controller = ControllerClient(
            raft.node_id,
            self._rpc,
            leader=lambda: self.driver.leader_id,
            local=self._handle if self.active is not None else None,
            voters=sorted(voters),
        )
        self.watch = PeerWatch(
            self._rpc,
            on_peer_dead=self._peer_dead,
            on_peer_alive=self._peer_alive,
            on_peer_refused=self._peer_refused,
            introduce_as=None if raft.node_id in voters else advertised,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._server = RpcServer(
            me,
            Handlers(
                raft=self._receive,
                controller=self._handle,
                raft_accepted=self._transport.accepted,
                incarnation_of=self.watch.incarnation_of,
                introduced=self._introduced,
            ),
            rng,
        )

    async def start(self) -> None:
        """Open the listener, load what Raft has on disk, and begin to take part. Raises OSError, RaftInvariantError."""
        self.driver.subscribe(self._on_status)
        await self._server.start(*self._listen)
        await self.driver.start()
        self.started = True
        self.watch.start([*self.addresses, *self.driver.core.voters])
        if self.driver.core.unfounded:
            self._tasks.append(start_task(self._tell_who_is_missing(), "waiting for voters"))
        if self._finder:
            self._tasks.append(start_task(self._seek(), "seeking the quorum"))

    async def stop(self) -> None:
        """Hand over the leadership, then go, saying goodbye to those who watch. Safe after half a start."""
        if self.started and self.can_decide:
            await self.driver.transfer_leadership()
        if self.active is not None:
            self.active.stop()
        await stop_tasks(self._tasks)
        await self.watch.stop()
        await self.driver.stop()
        await self._server.stop()
        await self._transport.close()
        await self._rpc.close()

    @property
    def finding(self) -> bool:
        """Whether it is still to be found out who votes."""
        return self._finder.finding

    @property
    def missing(self) -> list[int] | None:
        """The voters that this one cannot reach, while it knows of no cluster; None when it does."""
        if not self.started or not self.driver.core.unfounded:
            return None
        standings = self.watch.standings
        others = sorted(self.driver.core.voters - {self._raft.node_id})
        return [voter for voter in others if standings.get(voter) != "watching"]

    async def _tell_who_is_missing(self) -> None:
        """A new cluster needs all its voters once: say so to whoever wonders why nothing happens."""
        await asyncio.sleep(FIRST_TOLD_S)
        while (missing := self.missing) is not None:
            log.warning(
                "waiting_for_voters",
                node=self._raft.node_id,
                missing=missing,
                addresses=[":".join(map(str, self.addresses.get(voter) or ())) for voter in missing],
                reason="a new cluster begins when every voter of controller.quorum.voters has been there at once; "
                "in one that exists this node needs a majority of voters that have kept their metadata log",
            )
            await asyncio.sleep(TOLD_EVERY_S)

    @property
    def last_index(self) -> int:
        """Raft index of the last entry in the log here; 0 before the start."""
        return self.driver.core.log.last_index if self.started else 0

    @property
    def dropped_messages(self) -> int:
        """Raft messages given up since the start."""
        return self._transport.dropped

    @property
    def can_decide(self) -> bool:
        """Whether a majority of the voters may be there: without one nothing is worth waiting for."""
        away = [node for node, standing in self.watch.standings.items() if standing in ("dead", "left")]
        voters = self.driver.core.voters if self.started else self._raft.voters
        return len(voters.difference(away)) > len(voters) // 2

    def status(self) -> QuorumStatus:
        """This node's view of the quorum, for DescribeQuorum and metrics."""
        return quorum_status(self.driver.core, asyncio.get_running_loop().time())

    # Who votes

    def _on_voters(self, voters: VoterSet) -> None:
        """These are in force here, committed or not."""
        known = {node.node_id: (node.host, node.port) for node in voters.nodes if node.port}
        self.addresses.set_voters(known)
        self.controller.set_voters(sorted(voters.ids))
        if self.started:
            self.watch.start(known)
        self.controller.leader_changed()

    def _on_hint(self, voters: VoterSet) -> None:
        """Another node has a set of voters that may be newer: reason enough to look for them, and to be known there."""
        for node in voters.nodes:
            if node.port and self.addresses.get(node.node_id) is None:
                self.addresses.learn(node.node_id, (node.host, node.port))
        self.watch.start(voters.ids)

    async def _seek(self) -> None:
        """All voters that this node has heard of may have been replaced while it was away."""
        while True:
            await asyncio.sleep(SEEK_EVERY_S)
            if self.driver.leader_id is None and (found := await self._finder.ask()) is not None:
                voters = VoterSet.of(VoterNode(node_id, "", *address) for node_id, address in found.items())
                self._on_hint(voters)
                self.driver.hint(voters)

    def _known_voters(self) -> FindVotersResponse:
        nodes = self.driver.core.voter_set.nodes if self.started else ()
        rows = tuple((node.node_id, node.host, node.port) for node in nodes if node.port)
        if not rows:
            error = ErrorCode.leader_not_available.value
            return FindVotersResponse(error=error, message="this node does not know yet who votes")
        return FindVotersResponse(voters=rows)

    # What comes in

    def _receive(self, sender: int, frame: bytes) -> None:
        self.driver.receive(sender, decode_message(frame))

    async def _handle(self, request: AnyRequest, caller: int) -> RpcResponse:
        if isinstance(request, FindVoters):
            return self._known_voters()
        if self.active is None or not self.started:
            # The listener is open before Raft has read its log, so that the others find this node at once.
            leader = self.driver.leader_id if self.started else None
            return request.response_type(error=ErrorCode.not_controller.value, controller_id=leader)
        if isinstance(request, AddRaftVoter | RemoveRaftVoter):
            return await change_voters(self.driver, request)
        return await self.active.handle(request, caller)

    def _introduced(self, node_id: int, address: Address) -> None:
        if self.addresses.learn(node_id, address):
            log.info("node_introduced", peer=node_id, address=f"{address[0]}:{address[1]}")
        if self.started:
            # Before, there is no Raft that could be told what becomes of it; it is watched with all others then.
            self.watch.start([node_id])

    def _on_status(self, status: RaftStatus) -> None:
        if self.active is not None:
            self.active.on_status(status)
        self.controller.leader_changed()

    def _peer_dead(self, node_id: int) -> None:
        if node_id in self._met:
            log.warning("peer_died", peer=node_id)
        self.driver.suspect(node_id)
        self._peer_refused(node_id)

    def _peer_refused(self, node_id: int) -> None:
        if self.active is not None:
            self.active.peer_dead(node_id)

    def _peer_alive(self, node_id: int) -> None:
        self._met.add(node_id)
        self.driver.trust(node_id)
        if self.active is not None:
            self.active.peer_alive(node_id)
