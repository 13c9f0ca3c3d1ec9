"""The HTTP listener of a node, with a read-only look at whatever of the node is there already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ottla.broker import QuorumStatus
from ottla.controller import MetadataImage
from ottla.gateway import Gateway, GroupRow, MetadataChanges, NodeViews, ReplicaRow, replica_rows
from ottla.log import CleanerStatus
from ottla.node.node import Node
from ottla.wire import Stats


class GatewayPart:
    """Serves from before the node starts until after it has stopped, so that a probe always has an answer."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._changes: MetadataChanges | None = None
        self._gateway = Gateway(
            NodeViews(
                node_id=node.config.node_id,
                reasons_not_ready=lambda: node.reasons_not_ready,
                image=self._image,
                quorum=self._quorum,
                is_active_controller=lambda: bool(node.quorum and node.quorum.active and node.quorum.active.active),
                raft_log_end=lambda: node.quorum.last_index + 1 if node.quorum else 0,
                raft_dropped=lambda: node.quorum.dropped_messages if node.quorum else 0,
                standings=self._standings,
                replicas=self._replicas,
                groups=self._groups,
                transactions=lambda: node.broker.transactions() if node.broker else None,
                traffic=self._traffic,
                changes=self._seen_changes,
                cleaner=self._cleaner,
            )
        )

    async def start(self) -> None:
        """Open the listener if the configuration names one. Raises OSError."""
        address = self._node.config.ottla_http_listener
        if address is not None:
            self._node.on_metadata(self._watch_changes)
            await self._gateway.start(*address)

    async def stop(self) -> None:
        """Close the listener."""
        await self._gateway.stop()

    def _watch_changes(self) -> None:
        """Count changes from the moment when there is metadata to compare with."""
        assert self._node.quorum is not None
        view = self._node.quorum.view
        self._changes = MetadataChanges(self._node.config.node_id, view.image)
        view.subscribe(self._changes.see)

    def _seen_changes(self) -> MetadataChanges | None:
        return self._changes

    def _image(self) -> MetadataImage:
        quorum = self._node.quorum
        return quorum.view.image if quorum else MetadataImage(self._node.config.cluster_id)

    def _quorum(self) -> QuorumStatus:
        quorum = self._node.quorum
        if quorum is None or not quorum.started:
            return QuorumStatus(self._node.config.node_id, -1, 0, 0, ())
        return quorum.status()

    def _standings(self) -> Mapping[int, str]:
        return self._node.quorum.watch.standings if self._node.quorum else {}

    def _replicas(self) -> Iterable[ReplicaRow]:
        broker = self._node.broker
        if broker is None or broker.replicas is None:
            return ()
        return replica_rows(broker.replicas.partitions(), broker.late_before_ms)

    def _groups(self) -> Iterable[GroupRow]:
        broker = self._node.broker
        for found in broker.groups() if broker else ():
            offsets = {at: value.offset for at, value in found.offsets.items()}
            yield GroupRow(found.group_id, found.state, found.members, offsets)

    def _cleaner(self) -> CleanerStatus | None:
        broker = self._node.broker
        return broker.replicas.cleaner if broker and broker.replicas else None

    def _traffic(self) -> Stats | None:
        broker = self._node.broker
        return broker.server.stats if broker and broker.server else None
