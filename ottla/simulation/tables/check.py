"""What compacted topics are to have in common at the end: the last value of every key, whatever was cleaned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ottla.log import PartitionLog
from ottla.records import decode_batch, iter_headers, read_header, read_marker
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.errors import Anomaly
from ottla.simulation.invariants.partitions import PartitionTruth

_CHUNK = 1 << 20

Table = dict[bytes, tuple[int, bytes]]
"""By key: the offset of its last record and its value. A key whose last record is a tombstone is not in it."""


def tables_settled(cluster: SimulatedCluster) -> bool:
    """Whether every replica of a compacted partition has all that is committed, and nothing else."""
    return all(
        found.high_watermark == found.log_end_offset == truth.end
        for truth in _compacted(cluster)
        for node_id in cluster.nodes
        if (found := cluster.partition_on(node_id, truth.topic, truth.index)) is not None
    )


def tables_are_equal(cluster: SimulatedCluster) -> int:
    """Compare each replica with what was committed, record by record; returns how many tables were compared.

    Raises Anomaly.
    """
    compared = 0
    for truth in _compacted(cluster):
        expected = table(truth.records)
        for node_id, node in cluster.nodes.items():
            found = cluster.partition_on(node_id, truth.topic, truth.index)
            if found is None or found.log is None:
                continue
            if any(path.startswith(found.log.directory + "/") for path in node.disk.rotten):
                continue
            _compare(f"{truth.name} on node {node_id}", table(_batches(found.log, found.high_watermark)), expected)
            compared += 1
    return compared


def table(batches: Iterable[bytes]) -> Table:
    """What a reader of committed records ends up with. Raises CorruptBatch."""
    data = tuple(batches)
    endings = _endings(data)
    found: dict[bytes, tuple[int, bytes | None]] = {}
    for batch in data:
        header = read_header(batch)
        if header.is_control or (
            header.is_transactional and not _is_committed(endings.get(header.producer_id, ()), header.base_offset)
        ):
            continue
        for record in decode_batch(batch):
            if record.key is not None:
                found[record.key] = record.offset, record.value
    return {key: (offset, value) for key, (offset, value) in found.items() if value is not None}


def _endings(batches: Iterable[bytes]) -> dict[int, list[tuple[int, bool]]]:
    """By producer id: where its transactions ended, and whether they were committed."""
    found: dict[int, list[tuple[int, bool]]] = {}
    for batch in batches:
        header = read_header(batch)
        marker = read_marker(batch) if header.is_control else None
        if marker is not None:
            found.setdefault(header.producer_id, []).append((header.base_offset, marker.commit))
    return found


def _is_committed(endings: Sequence[tuple[int, bool]], offset: int) -> bool:
    return next((commit for at, commit in endings if at > offset), False)


def _compacted(cluster: SimulatedCluster) -> list[PartitionTruth]:
    """Those of which all is known."""
    return [
        truth
        for truth in cluster.invariants.partitions.values()
        if truth.compacted and not truth.loose and len(truth.records) == len(truth.batches)
    ]


def _batches(log: PartitionLog, end: int) -> Iterable[bytes]:
    at = log.log_start_offset
    while at < end:
        chunk = log.read(at, _CHUNK, up_to=end)
        for position, header in iter_headers(chunk):
            yield bytes(chunk[position : position + header.size])
            at = header.next_offset


def _compare(who: str, found: Table, expected: Table) -> None:
    if found == expected:
        return
    keys = [key for key in expected.keys() | found.keys() if found.get(key) != expected.get(key)]
    told = [f"{key!r}: has {found.get(key)}, committed is {expected.get(key)}" for key in sorted(keys)[:5]]
    raise Anomaly(f"{who} differs in {len(keys)} of {len(expected)} keys\n" + "\n".join(told))
