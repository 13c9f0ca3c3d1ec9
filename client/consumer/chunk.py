"""Fetched batches of one partition, decoded batch by batch as records are taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ottla.client.structs import ConsumerRecord, TopicPartition
from ottla.records import CONTROL_BIT, BatchHeader, CorruptBatch, Record, decode_batch, iter_headers

Deserializer = Callable[[bytes | None], Any]

ABORT = 0
"""Type of a control record that ends a transaction with an abort; 1 is a commit."""


def as_is(data: bytes | None) -> bytes | None:
    """The deserializer that leaves bytes alone."""
    return data


class Chunk:
    """The record data of one partition in one Fetch answer.

    Args:
        broker: who gave it.
        aborted: (producer id, first offset) of the aborted transactions in it, for read_committed; their records
            and all control records are left out.
    """

    def __init__(
        self,
        tp: TopicPartition,
        data: bytes | memoryview,
        *,
        broker: int | None = None,
        aborted: Iterable[tuple[int, int]] = (),
        key: Deserializer = as_is,
        value: Deserializer = as_is,
    ) -> None:
        self.size = len(data)
        self.broker = broker
        self.headers = list(iter_headers(data))
        self._tp = tp
        self._data = data
        self._key = key
        self._value = value
        self._decoded = 0
        """How many of the batches are in `_records`, or were."""
        self._records: list[Record] = []
        self._header: BatchHeader | None = None
        self._aborted = deque(sorted(aborted, key=lambda pair: pair[1]))
        self._aborting: set[int] = set()

    @property
    def empty(self) -> bool:
        return not self._records and self._decoded == len(self.headers)

    def take(self, position: int, limit: int) -> tuple[list[ConsumerRecord], int, int]:
        """Up to `limit` records from `position` on: (records, next position, leader epoch before it). `position` is
        where the last call has ended.

        Raises CorruptBatch, and what a deserializer raises, once there is nothing before it to hand out: the position
        is that of the bad batch or record then, which is still there, and whoever goes on behind it loses no other.
        """
        taken: list[ConsumerRecord] = []
        epoch = self._header.leader_epoch if self._header is not None else -1
        left, batches = limit, len(self.headers)
        while left > 0:
            if not self._records and self._decoded == batches:
                break
            try:
                if not self._records:
                    self._next_batch(position)
            except CorruptBatch:
                if taken:
                    break  # the next call comes to it again
                raise
            records, header = self._records, self._header
            assert header is not None
            count = len(records)
            handed = self._hand_out(header, records if count <= left else records[:left], first=not taken)
            taken += handed
            epoch = header.leader_epoch if handed or not count else epoch
            if len(handed) < count:
                self._records = records[len(handed) :]
                return taken, max(position, taken[-1].offset + 1), epoch
            self._records = []
            left -= count
            # After compaction the last offsets of a batch have no record.
            following = header.base_offset + header.last_offset_delta + 1
            if following > position:
                position = following
        return taken, position, epoch

    def _next_batch(self, position: int) -> None:
        pos, header = self.headers[self._decoded]
        records = decode_batch(self._data, pos, header=header)
        self._header = header
        self._decoded += 1
        while self._aborted and self._aborted[0][1] <= header.last_offset:
            self._aborting.add(self._aborted.popleft()[0])
        if header.attributes & CONTROL_BIT:
            if records and records[0].key is not None and records[0].key[2:4] == ABORT.to_bytes(2, "big"):
                self._aborting.discard(header.producer_id)
            records = []
        elif self._aborting and header.is_transactional and header.producer_id in self._aborting:
            records = []
        elif header.base_offset < position:
            records = [record for record in records if record.offset >= position]
        self._records = records

    def _hand_out(self, header: BatchHeader, records: Sequence[Record], *, first: bool) -> list[ConsumerRecord]:
        """Those up to the one that a deserializer chokes on, which has to be the first of all to raise."""
        try:
            return self._deserialized(header, records)
        except Exception:
            handed: list[ConsumerRecord] = []
            for record in records:
                try:
                    handed += self._deserialized(header, (record,))
                except Exception:  # noqa: BLE001  raised by the next call, which begins with it
                    break
            if first and not handed:
                raise
            return handed

    def _deserialized(self, header: BatchHeader, records: Iterable[Record]) -> list[ConsumerRecord]:
        topic, partition = self._tp
        kind, epoch = header.timestamp_type if header.attributes else 0, header.leader_epoch
        key, value = self._key, self._value
        return [
            ConsumerRecord(
                topic,
                partition,
                offset,
                timestamp,
                kind,
                raw_key if key is as_is else key(raw_key),
                raw_value if value is as_is else value(raw_value),
                headers,
                -1 if raw_key is None else len(raw_key),
                -1 if raw_value is None else len(raw_value),
                epoch,
            )
            for offset, timestamp, raw_key, raw_value, headers in records
        ]
