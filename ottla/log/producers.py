"""Idempotent producers: who wrote what last, so that a retry is recognised (KIP-98, five batches a producer). Pure.

The state is a function of the log: updated with every batch appended, on leaders and followers alike, rebuilt from
batch headers on recovery, and shortened by snapshots in Kafka's .snapshot format.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from crc32c import crc32c
from kio.schema.errors import ErrorCode

from ottla.log.errors import CorruptFile
from ottla.records import BatchHeader

WINDOW = 5
_MAX_SEQUENCE = 0x7FFFFFFF
_HEAD = struct.Struct(">hIi")  # version, CRC-32C of all that follows the CRC, number of entries
_CRC_START = 6
_ENTRY = struct.Struct(">qhiqiqiq")


class BatchMetadata(NamedTuple):
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
        return (self.last_sequence - self.offset_delta) & _MAX_SEQUENCE


@dataclass(slots=True)
class ProducerEntry:
    """`batches` oldest first, at most WINDOW. Offsets are -1 where there is none.

    `idle_since_ms`: when `expire` first saw the producer quiet, by our own clock; None while it writes.
    """

    producer_id: int
    epoch: int
    batches: list[BatchMetadata]
    last_timestamp: int
    coordinator_epoch: int = -1
    current_txn_first_offset: int = -1
    idle_since_ms: int | None = None


class New(NamedTuple):
    """The batch continues its producer's sequence."""


class Duplicate(NamedTuple):
    """The batch is in the log already, at these offsets; `timestamp` is its largest record timestamp (ms)."""

    base_offset: int
    last_offset: int
    timestamp: int


NEW = New()


class ProducerState:
    """Producer id -> entry. `end_offset` is the offset up to which the log is reflected here."""

    __slots__ = ("_entries", "end_offset")

    def __init__(self, end_offset: int = 0) -> None:
        self._entries: dict[int, ProducerEntry] = {}
        self.end_offset = end_offset

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> Mapping[int, ProducerEntry]:
        return self._entries

    def check(self, header: BatchHeader) -> New | Duplicate | ErrorCode:
        """Judge a batch that a client produced, before it is appended.

        invalid_producer_epoch for a fenced producer, out_of_order_sequence_number for a gap or a batch older than the
        window. A producer that is not known (expired, or its records are gone) may begin at any sequence.
        """
        entry = self._entries.get(header.producer_id)
        if header.producer_id < 0 or entry is None:
            return NEW
        if header.producer_epoch < entry.epoch:
            return ErrorCode.invalid_producer_epoch
        if header.producer_epoch > entry.epoch:
            return NEW if header.base_sequence == 0 else ErrorCode.out_of_order_sequence_number
        delta = header.last_offset_delta
        last_sequence = (header.base_sequence + delta) & _MAX_SEQUENCE
        for batch in entry.batches:
            if batch.last_sequence == last_sequence and batch.offset_delta == delta:
                return Duplicate(batch.base_offset, batch.last_offset, batch.timestamp)
        expected = (entry.batches[-1].last_sequence + 1) & _MAX_SEQUENCE if entry.batches else 0
        return NEW if header.base_sequence == expected else ErrorCode.out_of_order_sequence_number

    def update(self, header: BatchHeader, base_offset: int) -> None:
        """Take in a batch that is in the log at `base_offset`, whatever `check` would say of it."""
        last_offset = base_offset + header.last_offset_delta
        self.end_offset = last_offset + 1
        producer_id = header.producer_id
        if producer_id < 0:
            return
        entry = self._entries.get(producer_id)
        if entry is None:
            entry = self._entries[producer_id] = ProducerEntry(producer_id, header.producer_epoch, [], -1)
        elif entry.epoch != header.producer_epoch:
            entry.epoch = header.producer_epoch
            entry.batches = []
        entry.last_timestamp = header.max_timestamp
        entry.idle_since_ms = None
        if header.is_control:
            entry.current_txn_first_offset = -1
            return
        if header.is_transactional and entry.current_txn_first_offset < 0:
            entry.current_txn_first_offset = base_offset
        delta = header.last_offset_delta
        last_sequence = (header.base_sequence + delta) & _MAX_SEQUENCE
        batches = entry.batches
        batches.append(BatchMetadata(last_sequence, last_offset, delta, header.max_timestamp))
        if len(batches) > WINDOW:
            del batches[0]

    def remember(self, header: BatchHeader) -> None:
        """Fill a window from behind: Kafka's snapshot keeps only the last batch of a producer.

        To be called with the batches before the snapshot, newest first. Without it a retry of an older batch in flight
        would be taken for a gap after a restart.
        """
        entry = self._entries.get(header.producer_id)
        if entry is None or entry.epoch != header.producer_epoch or header.is_control:
            return
        batches = entry.batches
        if batches and len(batches) < WINDOW and header.last_offset < batches[0].base_offset:
            delta = header.last_offset_delta
            last_sequence = (header.base_sequence + delta) & _MAX_SEQUENCE
            if (last_sequence + 1) & _MAX_SEQUENCE == batches[0].base_sequence:
                batches.insert(0, BatchMetadata(last_sequence, header.last_offset, delta, header.max_timestamp))

    def first_unstable_offset(self) -> int | None:
        """The first offset of the oldest transaction still open, None if there is none."""
        firsts = [e.current_txn_first_offset for e in self._entries.values() if e.current_txn_first_offset >= 0]
        return min(firsts, default=None)

    def expire(self, now_ms: int, ttl_ms: int) -> int:
        """Forget producers that were quiet for `ttl_ms` between calls of this method. Returns how many.

        Record timestamps are the client's and may lie in any year, so they do not count; nor does an open transaction
        ever expire.
        """
        old = []
        for producer_id, entry in self._entries.items():
            if entry.current_txn_first_offset >= 0:
                continue
            if entry.idle_since_ms is None or entry.idle_since_ms > now_ms:
                entry.idle_since_ms = now_ms
            elif now_ms - entry.idle_since_ms >= ttl_ms:
                old.append(producer_id)
        for producer_id in old:
            del self._entries[producer_id]
        return len(old)

    def clear(self, end_offset: int) -> None:
        self._entries.clear()
        self.end_offset = end_offset

    def snapshot(self) -> bytes:
        """The state at `end_offset` in Kafka's producer snapshot format, version 1."""
        rows = []
        for entry in self._entries.values():
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

    @staticmethod
    def from_snapshot(data: bytes, end_offset: int) -> ProducerState:
        """The state that `data` holds, as of `end_offset`. Raises CorruptFile."""
        if len(data) < _HEAD.size:
            raise CorruptFile("producer snapshot: shorter than its header")
        version, crc, count = _HEAD.unpack_from(data)
        if version != 1 or len(data) != _HEAD.size + count * _ENTRY.size:
            raise CorruptFile(f"producer snapshot: version {version}, {count} entries, {len(data)} bytes")
        if crc32c(data[_CRC_START:]) != crc:
            raise CorruptFile("producer snapshot: CRC does not match")
        state = ProducerState(end_offset)
        for row in _ENTRY.iter_unpack(data[_HEAD.size :]):
            producer_id, epoch, last_sequence, last_offset, delta, timestamp, coordinator_epoch, txn_first = row
            batches = [BatchMetadata(last_sequence, last_offset, delta, timestamp)] if last_offset >= 0 else []
            state._entries[producer_id] = ProducerEntry(
                producer_id, epoch, batches, timestamp, coordinator_epoch, txn_first
            )
        return state
