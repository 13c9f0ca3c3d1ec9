"""PeerWatch: the fast way to learn that a node was killed."""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from ottla.controller.rpc.errors import (
    PeerHungUp,
    PeerRefused,
    PeerRejected,
    PeerSilent,
    PeerUnreachable,
    PeerUnresolvable,
)
from ottla.controller.rpc.http_client import RpcClient, WatchStream
from ottla.controller.rpc.peers import Address
from ottla.controller.rpc.server import WATCH_BEAT_S, WATCH_PATH
from ottla.controller.rpc.watch_state import Sign, Standing, WatchState
from ottla.tasks import start_task, stop_tasks

log = structlog.get_logger(__name__)

_SILENCE_S = 3.0 * WATCH_BEAT_S


class _Peer:
    def __init__(self) -> None:
        self.state = WatchState()
        self.incarnation: str | None = None
        self.rejection: str | None = None


class PeerWatch:
    """Keeps one long-lived GET /v1/watch to every other node and reports what it proves.

    `on_peer_dead(node_id)` is called once when there is evidence that the peer's process is gone: its connection
    broke without a goodbye and connecting again was refused, or its host name is gone too (docker takes the
    name of a dead container away). With kill -9 on one machine that takes a few milliseconds. A pause (SIGSTOP)
    or a cut network brings silence, never evidence; neither does a clean stop, which says goodbye.

    `on_peer_refused(node_id)` is called each time that connecting to a dead peer is refused again: another process of
    it may have come, and died, between two attempts.

    `on_peer_alive(node_id)` is called every time a watch is established, the first time included, so whoever
    keeps suspicions can lift them without knowing what came before.

    A peer that was never reached since this node started but refuses connections is reported dead as well: a node that
    starts after a peer was killed must not wait for that peer. A peer that merely has not started yet looks the
    same. That is harmless: a controller holds no session for a broker that has not registered, and Raft acts
    on suspicion of a node only when that node is its leader, which a node that never ran is not. Safety never depends
    on any of this.

    Callbacks run on the loop and must not block.
    """

    def __init__(
        self,
        rpc: RpcClient,
        *,
        on_peer_dead: Callable[[int], None],
        on_peer_alive: Callable[[int], None],
        on_peer_refused: Callable[[int], None] = lambda _node_id: None,
        introduce_as: Address | None = None,
    ) -> None:
        """`introduce_as` is this node's own controller address when it is not one of the configured voters."""
        self._rpc = rpc
        self._on_dead = on_peer_dead
        self._on_alive = on_peer_alive
        self._on_refused = on_peer_refused
        self._path = f"{WATCH_PATH}?address={introduce_as[0]}:{introduce_as[1]}" if introduce_as else WATCH_PATH
        self._peers: dict[int, _Peer] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def start(self, peers: Iterable[int]) -> None:
        """Begin watching these nodes (this node itself is left out). May be called again with more."""
        for node_id in peers:
            if node_id != self._rpc.me.node_id and node_id not in self._peers:
                peer = self._peers[node_id] = _Peer()
                self._tasks[node_id] = start_task(self._keep(node_id, peer), f"peer-watch-{node_id}")

    async def stop(self) -> None:
        """Stop watching. No callback runs after this."""
        await stop_tasks(self._tasks.values())

    @property
    def dead_peers(self) -> frozenset[int]:
        """Nodes with evidence of death that have not come back."""
        return frozenset(node_id for node_id, peer in self._peers.items() if peer.state.standing is Standing.DEAD)

    @property
    def standings(self) -> dict[int, str]:
        """Node id to unknown, watching, broken, silent, dead or left."""
        return {node_id: peer.state.standing.value for node_id, peer in self._peers.items()}

    def incarnation_of(self, node_id: int) -> str | None:
        """The life of the node that answers at its configured address right now; None while it is not watched."""
        peer = self._peers.get(node_id)
        return peer.incarnation if peer is not None and peer.state.standing is Standing.WATCHING else None

    async def _keep(self, node_id: int, peer: _Peer) -> None:
        while True:
            sign = await self._attempt(node_id, peer)
            self._see(node_id, peer, sign)
            await asyncio.sleep(peer.state.delay)

    async def _attempt(self, node_id: int, peer: _Peer) -> Sign:
        """Watch until something ends it, and say what that was."""
        try:
            async with self._rpc.watch(node_id, self._path, timeout=peer.state.patience) as stream:
                if (sign := await self._follow(node_id, peer, stream)) is not None:
                    return sign
        except PeerRefused:
            return Sign.REFUSED
        except PeerUnresolvable:
            return Sign.UNRESOLVABLE
        except PeerSilent:
            return Sign.SILENT
        except PeerHungUp:
            return Sign.BROKEN
        except PeerUnreachable:
            return Sign.SILENT
        except PeerRejected as error:
            if peer.rejection != str(error):
                peer.rejection = str(error)
                log.warning("watch_refused", peer=node_id, reason=str(error))
            return Sign.SILENT
        return Sign.BROKEN

    async def _follow(self, node_id: int, peer: _Peer, stream: WatchStream) -> Sign | None:
        peer.incarnation, peer.rejection = stream.incarnation, None
        self._see(node_id, peer, Sign.ESTABLISHED)
        while line := await stream.line(_SILENCE_S):
            if line == b"bye":
                return Sign.GOODBYE
        return None

    def _see(self, node_id: int, peer: _Peer, sign: Sign) -> None:
        before, peer.state = peer.state, peer.state.after(sign)
        standing = peer.state.standing
        if standing is before.standing:
            if standing is Standing.DEAD and sign is Sign.REFUSED:
                self._on_refused(node_id)
            return
        log.info("peer_watch", peer=node_id, standing=standing.value, was=before.standing.value, sign=sign.value)
        if standing is Standing.DEAD:
            self._on_dead(node_id)
        elif standing is Standing.WATCHING:
            self._on_alive(node_id)
