"""What is known of one producer, and Kafka's producer snapshot format (version 1). Pure."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from crc32c import crc32c

from ottla.log.errors import CorruptFile

MAX_SEQUENCE = 0x7FFFFFFF
WINDOW = 5
_HEAD = struct.Struct(">hIi")  # version, CRC-32C of all that follows the CRC, number of entries
_CRC_START = 6
_ENTRY = struct.Struct(">qhiqiqiq")


@dataclass(slots=True)
class BatchMetadata:
    """One remembered batch. `last_sequence` is -1 for a producer known only through a transaction marker."""

    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp: int

    @property
    def base_offset(self) -> int:
        return self.last_offset - self.offset_delta

    @property
    def base_sequence(self) -> int:
        return (self.last_sequence - self.offset_delta) & MAX_SEQUENCE


def window(*batches: BatchMetadata) -> deque[BatchMetadata]:
    """What is remembered of a producer's batches, oldest first: the oldest gives way to the newest."""
    return deque(batches, WINDOW)


@dataclass(slots=True)
class ProducerEntry:
    """`batches` oldest first, at most five (`window`). Offsets are -1 where there is none.

    `coordinator_epoch`: of the last transaction marker. `current_txn_first_offset`: where its open transaction began.
    `idle_since_ms`: when `expire` first saw the producer quiet, by our own clock; None while it writes.
    """

    producer_id: int
    epoch: int
    batches: deque[BatchMetadata]
    last_timestamp: int
    coordinator_epoch: int = -1
    current_txn_first_offset: int = -1
    idle_since_ms: int | None = None


def encode_entries(entries: Collection[ProducerEntry]) -> bytes:
    """A snapshot. It keeps only the last batch of each producer."""
    rows = []
    for entry in entries:
        last = entry.batches[-1] if entry.batches else BatchMetadata(-1, -1, 0, entry.last_timestamp)
        rows.append(
            _ENTRY.pack(
                entry.producer_id,
                entry.epoch,
                last.last_sequence,
                last.last_offset,
                last.offset_delta,
                entry.last_timestamp,
                entry.coordinator_epoch,
                entry.current_txn_first_offset,
            )
        )
    body = struct.pack(">i", len(rows)) + b"".join(rows)
    return struct.pack(">hI", 1, crc32c(body)) + body


def decode_entries(data: bytes) -> list[ProducerEntry]:
    """The inverse of encode_entries. Raises CorruptFile."""
    if len(data) < _HEAD.size:
        raise CorruptFile("producer snapshot: shorter than its header")
    version, crc, count = _HEAD.unpack_from(data)
    if version != 1 or len(data) != _HEAD.size + count * _ENTRY.size:
        raise CorruptFile(f"producer snapshot: version {version}, {count} entries, {len(data)} bytes")
    if crc32c(data[_CRC_START:]) != crc:
        raise CorruptFile("producer snapshot: CRC does not match")
    entries = []
    for row in _ENTRY.iter_unpack(data[_HEAD.size :]):
        producer_id, epoch, last_sequence, last_offset, delta, timestamp, coordinator_epoch, txn_first = row
        batches = window(BatchMetadata(last_sequence, last_offset, delta, timestamp)) if last_offset >= 0 else window()
        entries.append(ProducerEntry(producer_id, epoch, batches, timestamp, coordinator_epoch, txn_first))
    return entries
