"""What replicas must have in common once nothing is wrong any more, seen by somebody who looks into all nodes."""

from __future__ import annotations

from ottla.broker import Partition
from ottla.log import PartitionLog
from ottla.records import iter_headers
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.errors import Anomaly

_CHUNK = 1 << 20


def settled(cluster: SimulatedCluster, topic: str, partitions: int) -> bool:
    """Whether every replica's high watermark is at the same end."""
    for index in range(partitions):
        replicas = _replicas(cluster, topic, index).values()
        if len({end for each in replicas for end in (each.high_watermark, each.log_end_offset)}) != 1:
            return False
    return True


def nothing_moves(cluster: SimulatedCluster) -> bool:
    """Whether no reassignment is under way by the metadata of any node."""
    for node in cluster.nodes.values():
        quorum = None if node.node is None else node.node.quorum
        if quorum is None or any(state.reassigning for _, _, state in quorum.view.image.all_partitions()):
            return False
    return True


def nothing_too_much(cluster: SimulatedCluster) -> None:
    """Nobody has a replica of a partition, or its log, who is not meant to by the newest metadata. Raises Anomaly."""
    directories = {
        node_id: {path.rpartition("/")[0] for path in node.disk.files()} for node_id, node in cluster.nodes.items()
    }
    for topic, index, state in cluster.invariants.metadata.latest.all_partitions():
        for node_id in set(cluster.nodes).difference(state.replicas):
            has_log = f"/data/{topic.name}-{index}" in directories[node_id]
            if has_log or cluster.partition_on(node_id, topic.name, index) is not None:
                raise Anomaly(f"node {node_id} has a replica of {topic.name}-{index}; wanted are {state.replicas}")


def replicas_are_equal(cluster: SimulatedCluster, topic: str, partitions: int) -> None:
    """Every replica holds the same bytes below its high watermark, and knows the same epochs; from where on all have
    something, for each goes by its own retention. Raises Anomaly."""
    for index in range(partitions):
        logs = [found.log for found in _replicas(cluster, topic, index).values() if found.log is not None]
        start = max((log.log_start_offset for log in logs), default=0)
        copies: dict[int, bytes] = {}
        epochs: dict[int, tuple[tuple[int, int], ...]] = {}
        for node_id, found in _replicas(cluster, topic, index).items():
            if found.log is not None:
                if any(path.startswith(found.log.directory + "/") for path in cluster.nodes[node_id].disk.rotten):
                    continue  # nobody has read there since a bit flipped, or it was written only lately
                copies[node_id] = _contents(found.log, start, found.high_watermark)
                # An epoch without a record is known to its leader only.
                known = (entry for entry in found.log.epochs if entry[1] < found.high_watermark)
                epochs[node_id] = tuple(entry for entry in known if entry[1] > start or not start)
        if len(set(copies.values())) > 1:
            sizes = {node_id: len(copy) for node_id, copy in copies.items()}
            raise Anomaly(f"replicas of {topic}-{index} differ below the high watermark; bytes: {sizes}")
        if len(set(epochs.values())) > 1:
            raise Anomaly(f"replicas of {topic}-{index} differ in what they know of epochs: {epochs}")


def _replicas(cluster: SimulatedCluster, topic: str, index: int) -> dict[int, Partition]:
    found = {node_id: cluster.partition_on(node_id, topic, index) for node_id in cluster.nodes}
    return {node_id: replica for node_id, replica in found.items() if replica is not None}


def _contents(log: PartitionLog, start: int, end: int) -> bytes:
    chunks, at = [], start
    while at < end:
        chunk = log.read(at, _CHUNK, up_to=end)
        chunks.append(chunk)
        for _, header in iter_headers(chunk):
            at = header.next_offset
    return b"".join(chunks)
