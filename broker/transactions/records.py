"""The records of `__transaction_state`: Kafka's own keys and values (TransactionLogKey, TransactionLogValue).

A key is a 16-bit version (0) and the transactional id. A value begins with the 16-bit version of its schema: 0, or 1,
which has tagged fields, and is written from level 1 of `transaction.version` on. Below that v0 is, but for a state that
came to be by the second protocol: what v0 has no place for may still be needed then. No value is a tombstone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from ottla.broker.coordination import BadRecord, Reader, Writer
from ottla.broker.transactions.model import VERSION_2, Partition, Producer, State, Transaction

_KEY: Final = 0
_VALUE: Final = 1
LATEST_LEVEL: Final = 2
_PREVIOUS_ID, _NEXT_ID, _VERSION = 0, 1, 2
_LAST_EPOCH: Final = 10_000
"""Not Kafka's, which forgets the last epoch with the coordinator and then fences a producer that asks again. Readers
pass over tags that they do not know (KIP-482)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record; `value` of None is a tombstone."""

    id: str
    value: Transaction | None


def encode(entry: Entry, level: int = LATEST_LEVEL) -> tuple[bytes, bytes | None]:
    """Key and value of the record; `level` is that of `transaction.version`."""
    writer = Writer()
    writer.int16(_KEY)
    writer.string(entry.id)
    return writer.done(), None if entry.value is None else _encode_value(entry.value, level)


def _encode_value(value: Transaction, level: int) -> bytes:
    flexible = level >= 1 or value.version >= VERSION_2 or value.next_id >= 0
    writer = Writer(flexible=flexible)
    writer.int16(_VALUE if flexible else 0)
    writer.int64(value.producer.id)
    writer.int16(value.producer.epoch)
    writer.int32(value.timeout_ms)
    writer.int8(value.state)
    if value.state is State.EMPTY:
        writer.no_elements()
    else:
        _write_partitions(writer, value.partitions)
    writer.int64(value.updated_at)
    writer.int64(value.started_at)
    if not flexible:
        return writer.done()
    tagged = {
        _PREVIOUS_ID: _fixed(value.previous_id, 8, -1),
        _NEXT_ID: _fixed(value.next_id, 8, -1),
        _VERSION: _fixed(value.version, 2, 0),
        _LAST_EPOCH: _fixed(value.last_epoch, 2, -1),
    }
    writer.tagged_fields({tag: data for tag, data in tagged.items() if data})
    return writer.done()


def _fixed(value: int, size: int, default: int) -> bytes:
    """A tagged field's bytes; none for its default, which is not written."""
    return b"" if value == default else value.to_bytes(size, "big", signed=True)


def _write_partitions(writer: Writer, partitions: Iterable[Partition]) -> None:
    topics = [(topic, [index for _, index in rows]) for topic, rows in groupby(sorted(partitions), lambda at: at[0])]
    writer.count(len(topics))
    for topic, indexes in topics:
        writer.string(topic)
        writer.count(len(indexes))
        for index in indexes:
            writer.int32(index)
        writer.no_tagged_fields()


def decode(key: bytes, value: bytes | None) -> Entry | None:
    """The record, or None for a key of a version that is not known here (Kafka passes over it too).

    Raises BadRecord for what cannot be read, a value of an unknown version included.
    """
    reader = Reader(key)
    if reader.int16() != _KEY:
        return None
    return Entry(reader.string(), None if value is None else _decode_value(value))


def _decode_value(data: bytes) -> Transaction:
    reader = Reader(data)
    version = reader.int16()
    if not 0 <= version <= _VALUE:
        raise BadRecord(f"value version {version}")
    reader.flexible = version >= 1
    producer_id, epoch, timeout_ms = reader.int64(), reader.int16(), reader.int32()
    state = _state(reader.int8())
    partitions = frozenset(_read_partitions(reader))
    updated_at, started_at = reader.int64(), reader.int64()
    tagged = reader.tagged_fields()
    return Transaction(
        producer=Producer(producer_id, epoch),
        state=state,
        timeout_ms=timeout_ms,
        updated_at=updated_at,
        started_at=started_at,
        partitions=partitions,
        previous_id=_number(tagged, _PREVIOUS_ID, -1),
        next_id=_number(tagged, _NEXT_ID, -1),
        last_epoch=_number(tagged, _LAST_EPOCH, -1),
        version=_number(tagged, _VERSION, 0),
    )


def _state(number: int) -> State:
    if number not in (State.DEAD, State.PREPARE_EPOCH_FENCE):
        try:
            return State(number)
        except ValueError:
            pass
    raise BadRecord(f"state {number}")


def _number(tagged: dict[int, bytes], tag: int, default: int) -> int:
    data = tagged.get(tag)
    return default if data is None else int.from_bytes(data, "big", signed=True)


def _read_partitions(reader: Reader) -> Iterable[Partition]:
    for _ in range(reader.nullable_count() or 0):
        topic = reader.string()
        for _ in range(reader.count()):
            yield topic, reader.int32()
        reader.tagged_fields()
