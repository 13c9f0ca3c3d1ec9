"""Replicas as they stand on the disks of the nodes, and what has to be true of them.

Nothing here goes through a broker: the files are read as they are, so that a broker which lies about them is found out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ottla.cluster import Ledger, PartitionLedger
from ottla.records import decode_batch, iter_headers, verify_batch
from tests.failover.cluster import NODES, Cluster


@dataclass(frozen=True, slots=True)
class Replica:
    """One partition on one disk below an offset: its batches, one segment after the other."""

    data: bytes

    def values(self) -> list[tuple[int, bytes]]:
        """(offset, value) of every record. Raises CorruptBatch."""
        found: list[tuple[int, bytes]] = []
        for position, _ in iter_headers(self.data):
            verify_batch(self.data, position)
            found += [(record.offset, record.value or b"") for record in decode_batch(self.data, position)]
        return found


def read_replica(data_directory: Path, topic: str, partition: int, below: int) -> Replica:
    """The replica in a data directory below offset `below`. Batches that begin at or above it are left out."""
    directory = data_directory / f"{topic}-{partition}"
    data = b"".join(segment.read_bytes() for segment in sorted(directory.glob("*.log")))
    end = 0
    for position, header in iter_headers(data):
        if header.base_offset >= below:
            break
        end = position + header.size
    return Replica(data[:end])


def end_offset(data_directory: Path, topic: str, partition: int) -> int:
    """Where a replica's log ends on disk; 0 when there is none."""
    directory = data_directory / f"{topic}-{partition}"
    end = 0
    for segment in sorted(directory.glob("*.log")):
        for _, header in iter_headers(segment.read_bytes()):
            end = header.next_offset
    return end


def check_identical(cluster: Cluster, topic: str, high_watermarks: Sequence[int]) -> list[Replica]:
    """Every node holds the same bytes below the high watermarks; returns one replica of each partition."""
    agreed = []
    for partition, high_watermark in enumerate(high_watermarks):
        replicas = {node: read_replica(cluster.data(node), topic, partition, high_watermark) for node in NODES}
        first = replicas[NODES[0]]
        for node, replica in replicas.items():
            assert replica.data == first.data, f"{topic}-{partition}: {_difference(node, replica, first)}"
        offsets = [offset for offset, _ in first.values()]
        assert offsets == list(range(high_watermark)), f"{topic}-{partition}: not every offset is there once"
        agreed.append(first)
    return agreed


def _difference(node: int, replica: Replica, first: Replica) -> str:
    here, there = dict(replica.values()), dict(first.values())
    apart = sorted(offset for offset in here.keys() | there.keys() if here.get(offset) != there.get(offset))
    if not apart:
        return f"node {node} has the records of node {NODES[0]} in other batches"
    return f"node {node} differs from node {NODES[0]} at {len(apart)} offsets from {apart[0]} to {apart[-1]}"


def checkpoint(path: Path) -> list[list[str]]:
    """The rows of one of Kafka's checkpoint files, in words."""
    return [line.split() for line in path.read_text(encoding="ascii").splitlines()[2:]]


async def check_epochs(cluster: Cluster) -> None:
    """Stop every node cleanly, so that it writes its checkpoints: they must tell of the same leader epochs everywhere.

    While a node runs, its epochs are in the batches alone; the file is for the next start.
    """
    await cluster.stop(*NODES)
    marks: dict[tuple[str, str], int] = {}
    for node in NODES:
        for topic, partition, offset in checkpoint(cluster.data(node) / "replication-offset-checkpoint"):
            if int(partition) >= 0:  # the last row is the checksum of the file
                marks[topic, partition] = min(marks.get((topic, partition), 1 << 62), int(offset))
    assert marks
    for (topic, partition), mark in marks.items():
        epochs = {}
        for node in NODES:
            file = cluster.data(node) / f"{topic}-{partition}" / "leader-epoch-checkpoint"
            epochs[node] = [(int(epoch), int(start)) for epoch, start in checkpoint(file) if int(start) < mark]
        assert len({tuple(rows) for rows in epochs.values()}) == 1, f"{topic}-{partition} below {mark}: {epochs}"


def check_acknowledged(replica: Replica, ledger: PartitionLedger) -> None:
    """Every acknowledged record is there at its offset, and none is there twice or before an earlier one."""
    values = [(offset, int(value)) for offset, value in replica.values()]
    at = dict(values)
    wrong = [(sequence, offset) for sequence, offset in ledger.acknowledged.items() if at.get(offset) != sequence]
    assert not wrong, f"{len(wrong)} acknowledged records are not where they were, the first (value, offset) {wrong[0]}"
    sequences = [sequence for _, sequence in values]
    assert sequences == sorted(set(sequences)), "records are there twice, or out of order"


async def check_replicas(cluster: Cluster, topic: str, ledger: Ledger) -> None:
    """Once every ISR is full: all replicas are identical below the high watermark, and hold what was acknowledged."""
    await cluster.in_sync(topic)
    marks = await cluster.high_watermarks(topic, len(ledger.partitions))
    for replica, part in zip(check_identical(cluster, topic, marks), ledger.partitions, strict=True):
        assert part.acknowledged, "nothing was acknowledged: the test has shown nothing"
        check_acknowledged(replica, part)


def values_of(replicas: Iterable[Replica]) -> list[bytes]:
    """The values of all these replicas, one partition after the other."""
    return [value for replica in replicas for _, value in replica.values()]
