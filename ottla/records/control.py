"""Control batches: the markers that end a transaction in a partition (KIP-98, Kafka's EndTransactionMarker)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ottla.records.batch import Record, decode_batch, encode_batch
from ottla.records.header import BatchHeader, Buffer, CorruptBatch

_KEY = struct.Struct(">hh")  # version, type
_VALUE = struct.Struct(">hi")  # version, coordinator epoch
_ABORT, _COMMIT = 0, 1


class EndMarker(NamedTuple):
    """How a transaction ended, and the epoch of the coordinator that says so."""

    commit: bool
    coordinator_epoch: int


def encode_marker(marker: EndMarker, *, producer_id: int, producer_epoch: int, timestamp: int) -> bytes:
    """The control batch for the leader of a partition to append; `timestamp` in ms. It has no sequence."""
    key = _KEY.pack(0, _COMMIT if marker.commit else _ABORT)
    value = _VALUE.pack(0, marker.coordinator_epoch)
    return encode_batch(
        [Record(0, timestamp, key, value)],
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        transactional=True,
        control=True,
    )


def read_marker(buf: Buffer, pos: int = 0, *, header: BatchHeader | None = None) -> EndMarker | None:
    """The marker in the control batch at `pos`; None when compaction has emptied the batch, or it is of another kind.

    Later versions of key and value only add to them. Raises CorruptBatch.
    """
    records = decode_batch(buf, pos, header=header)
    if not records:
        return None
    key, value = records[0].key, records[0].value
    try:
        _, kind = _KEY.unpack_from(key or b"")
        if kind not in (_ABORT, _COMMIT):
            return None
        _, coordinator_epoch = _VALUE.unpack_from(value or b"")
    except struct.error as error:
        raise CorruptBatch(f"a control record with key {key!r} and value {value!r}") from error
    return EndMarker(kind == _COMMIT, coordinator_epoch)
