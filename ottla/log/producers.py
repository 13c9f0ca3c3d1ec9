"""Idempotent and transactional producers: who wrote what last, so that a retry is recognised (KIP-98, five batches a
producer), and whose transaction is open. Pure.

The state is a function of the log: updated with every batch appended, on leaders and followers alike, rebuilt from
batch headers on recovery, and shortened by snapshots in Kafka's .snapshot format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kio.schema.errors import ErrorCode

from ottla.log.aborted import AbortedTransaction
from ottla.log.producer_entries import (
    MAX_SEQUENCE,
    WINDOW,
    BatchMetadata,
    ProducerEntry,
    decode_entries,
    encode_entries,
    window,
)
from ottla.log.transactions import Transactions
from ottla.log.verification import Verification, Verifications
from ottla.records import CONTROL_BIT, TRANSACTIONAL_BIT, BatchHeader, EndMarker

MAX_EPOCH = 0x7FFF


class New(NamedTuple):
    """The batch continues its producer's sequence."""


class Duplicate(NamedTuple):
    """The batch is in the log already, at these offsets; `timestamp` is its largest record timestamp (ms)."""

    base_offset: int
    last_offset: int
    timestamp: int


NEW = New()


class ProducerState:
    """Producer id -> entry. `end_offset` is the offset up to which the log is reflected here.

    `transactions` has those that hold back the last stable offset, `verifications` what this leader is asking about.
    """

    __slots__ = ("_entries", "end_offset", "transactions", "verifications")

    def __init__(self, end_offset: int = 0) -> None:
        self._entries: dict[int, ProducerEntry] = {}
        self.end_offset = end_offset
        self.transactions = Transactions()
        self.verifications = Verifications()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> Mapping[int, ProducerEntry]:
        return self._entries

    @property
    def oldest_transaction_ms(self) -> int:
        """Timestamp of the last record in the transaction that is open for longest, -1 if none is."""
        producer_id = self.transactions.oldest_open
        return -1 if producer_id is None else self._entries[producer_id].last_timestamp

    @property
    def has_seen_markers(self) -> bool:
        """Whether a transaction of any producer that is known has ended."""
        return any(entry.coordinator_epoch >= 0 for entry in self._entries.values())

    # --- what a leader may append

    def check(
        self, header: BatchHeader, verification: Verification | None = None, *, sequenced: bool = True
    ) -> New | Duplicate | ErrorCode:
        """Judge a batch that is about to be appended.

        invalid_producer_epoch for a fenced producer, out_of_order_sequence_number for a gap or a batch older than the
        window. A producer that is not known (expired, or its records are gone) may begin at any sequence.
        invalid_txn_state for a batch outside of the producer's open transaction, and for the first of a transaction
        unless its `verification` still holds (KIP-890). `sequenced`: not so for a coordinator's own records, which are
        in no sequence and never retried.
        """
        entry = self._entries.get(header.producer_id)
        if header.attributes & TRANSACTIONAL_BIT:
            return self._check_transactional(header, entry, verification, sequenced)
        if header.producer_id < 0 or entry is None:
            return NEW
        verdict = _check_sequence(header, entry)
        if verdict is NEW and entry.current_txn_first_offset >= 0:
            return ErrorCode.invalid_txn_state
        return verdict

    def _check_transactional(
        self, header: BatchHeader, entry: ProducerEntry | None, verification: Verification | None, sequenced: bool
    ) -> New | Duplicate | ErrorCode:
        verdict: New | Duplicate | ErrorCode = NEW
        if entry is not None and sequenced:
            verdict = _check_sequence(header, entry)
            if isinstance(verdict, Duplicate) or verdict is ErrorCode.invalid_producer_epoch:
                return verdict
        elif entry is not None and header.producer_epoch < entry.epoch:
            return ErrorCode.invalid_producer_epoch
        if self._in_transaction(entry, header.producer_epoch):
            return verdict
        asked = self.verifications.get(header.producer_id, header.producer_epoch)
        if verification is None or asked is not verification:
            return ErrorCode.invalid_txn_state
        unknown = entry is None or not entry.batches
        if sequenced and (
            header.base_sequence > verification.lowest_sequence
            or (verification.strict and unknown and header.base_sequence != 0)
        ):
            return ErrorCode.out_of_order_sequence_number
        return verdict

    @staticmethod
    def _in_transaction(entry: ProducerEntry | None, epoch: int) -> bool:
        """Under a newer epoch than the open transaction's that one is over, whether or not its marker has come."""
        return entry is not None and entry.current_txn_first_offset >= 0 and entry.epoch == epoch

    def ask(self, producer_id: int, epoch: int, sequence: int, *, strict: bool) -> Verification | ErrorCode | None:
        """What has to be verified with the coordinator before a transactional batch may be appended; None when its
        transaction is open here. invalid_producer_epoch when the producer is fenced."""
        entry = self._entries.get(producer_id)
        if entry is not None and epoch < entry.epoch:
            return ErrorCode.invalid_producer_epoch
        if self._in_transaction(entry, epoch):
            return None
        return self.verifications.ask(producer_id, epoch, sequence, strict=strict)

    def coordinator_epoch(self, producer_id: int) -> int:
        """Of the coordinator that has ended the producer's last transaction here, -1 if none has."""
        entry = self._entries.get(producer_id)
        return -1 if entry is None else entry.coordinator_epoch

    def check_marker(
        self, producer_id: int, epoch: int, marker: EndMarker, *, strict: bool = False
    ) -> New | ErrorCode | None:
        """Judge a marker before it is appended; None when it would change nothing, as that of a retry (KAFKA-19999).

        invalid_producer_epoch, transaction_coordinator_fenced. `strict`: the transaction was one of transactions v2,
        whose markers carry the bumped epoch (KIP-890, KIP-1228): then one that ends an open transaction of the very
        epoch is a late copy, and the transaction a later one.
        """
        entry = self._entries.get(producer_id)
        if entry is None:
            return NEW
        if epoch < entry.epoch:
            return ErrorCode.invalid_producer_epoch
        if marker.coordinator_epoch < entry.coordinator_epoch:
            return ErrorCode.transaction_coordinator_fenced
        is_open = entry.current_txn_first_offset >= 0
        if strict and is_open and epoch == entry.epoch < MAX_EPOCH:
            return ErrorCode.invalid_producer_epoch
        if is_open or (epoch, marker.coordinator_epoch) != (entry.epoch, entry.coordinator_epoch):
            return NEW
        return None

    # --- what is in the log

    def update(self, header: BatchHeader, base_offset: int) -> None:
        """Take in a batch of records that is in the log at `base_offset`, whatever `check` would say of it."""
        delta = header.last_offset_delta
        last_offset = base_offset + delta
        self.end_offset = last_offset + 1
        producer_id = header.producer_id
        if producer_id < 0:
            return
        entry = self._entries.get(producer_id)
        if entry is None or entry.epoch != header.producer_epoch:
            entry = self._entry(producer_id, header.producer_epoch)
        entry.last_timestamp = header.max_timestamp
        entry.idle_since_ms = None
        if header.attributes & TRANSACTIONAL_BIT and entry.current_txn_first_offset < 0:
            entry.current_txn_first_offset = base_offset
            self.transactions.begin(producer_id, base_offset)
            self.verifications.end(producer_id)
        last_sequence = (header.base_sequence + delta) & MAX_SEQUENCE
        entry.batches.append(BatchMetadata(last_sequence, last_offset, delta, header.max_timestamp))

    def _entry(self, producer_id: int, epoch: int) -> ProducerEntry:
        entry = self._entries.get(producer_id)
        if entry is None:
            entry = self._entries[producer_id] = ProducerEntry(producer_id, epoch, window(), -1)
        elif entry.epoch != epoch:
            entry.epoch = epoch
            entry.batches = window()
        return entry

    def end_transaction(
        self, header: BatchHeader, base_offset: int, marker: EndMarker | None
    ) -> AbortedTransaction | None:
        """Take in a control batch that is in the log at `base_offset`; the transaction that it aborted, if one.

        Without a marker compaction has emptied the batch, and what it ended is gone; it still fences.
        """
        self.end_offset = base_offset + header.last_offset_delta + 1
        producer_id = header.producer_id
        if producer_id < 0:
            return None
        self.verifications.marked(producer_id, header.producer_epoch)
        entry = self._entry(producer_id, header.producer_epoch)
        entry.last_timestamp = header.max_timestamp
        entry.idle_since_ms = None
        entry.current_txn_first_offset = -1
        if marker is not None:
            entry.coordinator_epoch = marker.coordinator_epoch
        ended = self.transactions.end(producer_id, base_offset)
        if ended is None or marker is None or marker.commit:
            return None
        first_offset, last_stable_offset = ended
        return AbortedTransaction(producer_id, first_offset, base_offset, last_stable_offset)

    def remember(self, header: BatchHeader) -> None:
        """Fill a window from behind: Kafka's snapshot keeps only the last batch of a producer.

        To be called with the batches before the snapshot, newest first. Without it a retry of an older batch in flight
        would be taken for a gap after a restart.
        """
        entry = self._entries.get(header.producer_id)
        if entry is None or entry.epoch != header.producer_epoch or header.attributes & CONTROL_BIT:
            return
        batches = entry.batches
        if batches and len(batches) < WINDOW and header.last_offset < batches[0].base_offset:
            delta = header.last_offset_delta
            last_sequence = (header.base_sequence + delta) & MAX_SEQUENCE
            if (last_sequence + 1) & MAX_SEQUENCE == batches[0].base_sequence:
                batches.insert(0, BatchMetadata(last_sequence, header.last_offset, delta, header.max_timestamp))

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
        self.verifications.expire(now_ms, ttl_ms)
        return len(old)

    def snapshot(self) -> bytes:
        """The state at `end_offset` in Kafka's producer snapshot format, version 1."""
        return encode_entries(self._entries.values())

    @staticmethod
    def from_snapshot(data: bytes, end_offset: int) -> ProducerState:
        """The state that `data` holds, as of `end_offset`. Raises CorruptFile."""
        state = ProducerState(end_offset)
        entries = decode_entries(data)
        state._entries = {entry.producer_id: entry for entry in entries}
        open_ones = [entry for entry in entries if entry.current_txn_first_offset >= 0]
        for entry in sorted(open_ones, key=lambda each: each.current_txn_first_offset):
            state.transactions.begin(entry.producer_id, entry.current_txn_first_offset)
        return state


def _check_sequence(header: BatchHeader, entry: ProducerEntry) -> New | Duplicate | ErrorCode:
    if header.producer_epoch < entry.epoch:
        return ErrorCode.invalid_producer_epoch
    if header.producer_epoch > entry.epoch:
        return NEW if header.base_sequence == 0 else ErrorCode.out_of_order_sequence_number
    delta = header.last_offset_delta
    last_sequence = (header.base_sequence + delta) & MAX_SEQUENCE
    for batch in entry.batches:
        if batch.last_sequence == last_sequence and batch.offset_delta == delta:
            return Duplicate(batch.base_offset, batch.last_offset, batch.timestamp)
    expected = (entry.batches[-1].last_sequence + 1) & MAX_SEQUENCE if entry.batches else 0
    return NEW if header.base_sequence == expected else ErrorCode.out_of_order_sequence_number
