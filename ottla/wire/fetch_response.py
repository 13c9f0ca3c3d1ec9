"""Fetch responses (key 1), versions 4 to 18: encoded around record chunks, decoded into slices of the frame.

Versions: 5 adds the log start offset, 7 the error and session (KIP-227), 11 the preferred replica (KIP-392),
12 is flexible and adds the diverging epoch and the current leader (KIP-595), 13 has topic ids, 16 adds
endpoints (KIP-951). Snapshot ids, which only Kafka's own controllers use, are neither written nor read.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from ottla.wire.api import Chunk, Raw
from ottla.wire.errors import ProtocolError
from ottla.wire.fetch import FLEXIBLE, TOPIC_IDS, read_count, read_topic, topic_bytes
from ottla.wire.framing import Frame
from ottla.wire.primitives import SHORT, VARINTS, array_size, read_tags, read_varint, skip_tags, varint
from ottla.wire.produce import NodeEndpoint, decode_endpoints, encode_endpoints

MAX_ELEMENTS = 1_000_000
"""Most partitions and aborted transactions in one response."""

_I32 = struct.Struct(">i")
_THROTTLE_SESSION = struct.Struct(">ihi")
_V4_PARTITION = struct.Struct(">ihqq")
_V5_PARTITION = struct.Struct(">ihqqq")
_FLEXIBLE_PARTITION = struct.Struct(">ihqqqBi")  # with an empty array of aborted transactions, or none
_DIVERGING_TAG = struct.Struct(">BBiqB")
_LEADER_TAG = struct.Struct(">BBiiB")
_EPOCH_OFFSET = struct.Struct(">iq")
_PAIR = struct.Struct(">ii")
_ABORTED = struct.Struct(">qq")
_ONE_CHUNK = frozenset((bytes, bytearray, memoryview))


class FetchPartitionResponse(NamedTuple):
    """What one partition gives. `records` is None, or whole batches as one chunk or a list of chunks.

    `aborted_transactions` is [(producer id, first offset)] or None; `diverging_epoch` is (epoch, end offset)
    (KIP-595); `current_leader` is (leader id, leader epoch) (KIP-951).
    """

    partition: int
    error_code: int = 0
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start_offset: int = -1
    records: Chunk | Sequence[Chunk] | None = b""
    aborted_transactions: Sequence[tuple[int, int]] | None = None
    preferred_read_replica: int = -1
    diverging_epoch: tuple[int, int] | None = None
    current_leader: tuple[int, int] | None = None


# What FetchPartitionResponse._make does, without Python code.
_new = tuple.__new__


@dataclass(slots=True)
class FetchResponse:
    """A decoded response. The records of each partition are None or one slice of the frame."""

    throttle_ms: int
    error_code: int
    session_id: int
    topics: list[tuple[str | UUID, list[FetchPartitionResponse]]]
    node_endpoints: list[NodeEndpoint]


def encode_fetch_response(
    version: int,
    topics: Sequence[tuple[str | UUID, Sequence[FetchPartitionResponse]]],
    *,
    error_code: int = 0,
    session_id: int = 0,
    throttle_ms: int = 0,
    node_endpoints: Sequence[NodeEndpoint] = (),
) -> Raw:
    """The response's body; record chunks are passed on as they are, and what the version lacks is left out."""
    flexible = version >= FLEXIBLE
    chunks: list[Chunk] = []
    if version >= 7:
        out = bytearray(_THROTTLE_SESSION.pack(throttle_ms, error_code, session_id))
    else:
        out = bytearray(_I32.pack(throttle_ms))
    count = len(topics)
    out += VARINTS[count + 1] if flexible and count < SHORT else array_size(count, flexible)
    for topic, partitions in topics:
        if version >= TOPIC_IDS and topic.__class__ is UUID:
            out += topic.int.to_bytes(16, "big")
        else:
            out += topic_bytes(topic, version)
        count = len(partitions)
        out += VARINTS[count + 1] if flexible and count < SHORT else array_size(count, flexible)
        for partition in partitions:
            out = _encode_partition(chunks, out, version, partition)
        if flexible:
            out += b"\0"
    if flexible:
        out += encode_endpoints(node_endpoints) if node_endpoints and version >= 16 else b"\0"
    chunks.append(out)
    return Raw(chunks)


def _encode_partition(
    chunks: list[Chunk], out: bytearray, version: int, partition: FetchPartitionResponse
) -> bytearray:
    """Appends to `out`, or closes it with the records behind it; returns what to append to from here on."""
    index, error, high, stable, start, records, aborted, preferred, diverging, leader = partition
    flexible = version >= FLEXIBLE
    if flexible and not aborted:
        out += _FLEXIBLE_PARTITION.pack(index, error, high, stable, start, 0 if aborted is None else 1, preferred)
    else:
        if version >= 5:
            out += _V5_PARTITION.pack(index, error, high, stable, start)
        else:
            out += _V4_PARTITION.pack(index, error, high, stable)
        out += _aborted_bytes(aborted, flexible)
        if version >= 11:
            out += _I32.pack(preferred)
    if records is None:
        out += b"\0" if flexible else b"\xff\xff\xff\xff"
    else:
        one = records.__class__ in _ONE_CHUNK
        size = len(records) if one else sum(map(len, records))  # type: ignore[arg-type]
        out += VARINTS[size + 1] if flexible and size < SHORT else array_size(size, flexible)
        if size:
            chunks.append(out)
            chunks += (records,) if one else records  # type: ignore[arg-type]
            out = bytearray()
    if flexible:
        out += b"\0" if diverging is None and leader is None else _partition_tags(diverging, leader)
    return out


def _aborted_bytes(aborted: Sequence[tuple[int, int]] | None, flexible: bool) -> bytes:
    if aborted is None:
        return b"\0" if flexible else b"\xff\xff\xff\xff"
    end = b"\0" if flexible else b""
    return array_size(len(aborted), flexible) + b"".join(_ABORTED.pack(*each) + end for each in aborted)


def _partition_tags(diverging: tuple[int, int] | None, leader: tuple[int, int] | None) -> bytes:
    out = b""
    count = 0
    if diverging is not None and diverging != (-1, -1):
        out += _DIVERGING_TAG.pack(0, 13, *diverging, 0)
        count += 1
    if leader is not None and leader != (-1, -1):
        out += _LEADER_TAG.pack(1, 9, *leader, 0)
        count += 1
    return varint(count) + out


def decode_fetch_response(frame: Frame, version: int, pos: int = 0) -> FetchResponse:
    """The response's body that starts at `pos`. Raises ProtocolError."""
    try:
        return _decode(frame, version, pos)
    except (IndexError, struct.error) as error:
        raise ProtocolError("a Fetch response is cut off") from error
    except UnicodeDecodeError as error:
        raise ProtocolError("a string is not UTF-8") from error


def _decode(frame: Frame, version: int, pos: int) -> FetchResponse:
    flexible = version >= FLEXIBLE
    topics: list[tuple[str | UUID, list[FetchPartitionResponse]]] = []
    if version >= 7:
        throttle_ms, error_code, session_id = _THROTTLE_SESSION.unpack_from(frame, pos)
        pos += 10
    else:
        (throttle_ms,) = _I32.unpack_from(frame, pos)
        error_code = session_id = 0
        pos += 4
    response = FetchResponse(throttle_ms, error_code, session_id, topics, [])
    view = memoryview(frame)
    left = MAX_ELEMENTS
    count, pos = (byte - 1, pos + 1) if flexible and (byte := frame[pos]) < 0x80 else read_count(frame, pos, flexible)
    for _ in range(count):
        topic, pos = read_topic(frame, pos, version)
        if flexible and 0 < (byte := frame[pos]) < 0x80:
            partition_count, pos = byte - 1, pos + 1
            left -= byte
        else:
            partition_count, pos = read_count(frame, pos, flexible)
            left -= 1 + max(partition_count, 0)
        if left < 0:
            raise ProtocolError("too many array elements")
        partitions: list[FetchPartitionResponse] = []
        for _ in range(partition_count):
            partition, pos = _decode_partition(view, version, pos, left)
            if aborted := partition.aborted_transactions:
                left -= len(aborted)
            partitions.append(partition)
        if flexible:
            pos = skip_tags(frame, pos) if frame[pos] else pos + 1
        topics.append((topic, partitions))
    if flexible and frame[pos]:
        tags, pos = read_tags(frame, pos)
        if version >= 16 and 0 in tags:
            response.node_endpoints = decode_endpoints(frame, tags[0][0])
    return response


def _decode_partition(view: memoryview, version: int, pos: int, left: int) -> tuple[FetchPartitionResponse, int]:
    flexible = version >= FLEXIBLE
    start = preferred = -1
    aborted: list[tuple[int, int]] | None
    if flexible and view[pos + 30] <= 1:
        index, error, high, stable, start, count, preferred = _FLEXIBLE_PARTITION.unpack_from(view, pos)
        aborted = [] if count else None
        pos += 35
    else:
        if version >= 5:
            index, error, high, stable, start = _V5_PARTITION.unpack_from(view, pos)
            pos += 30
        else:
            index, error, high, stable = _V4_PARTITION.unpack_from(view, pos)
            pos += 22
        aborted, pos = _decode_aborted(view, pos, flexible, left)
        if version >= 11:
            (preferred,) = _I32.unpack_from(view, pos)
            pos += 4
    if flexible:
        if (size := view[pos]) < 0x80:
            pos += 1
        elif (more := view[pos + 1]) < 0x80:
            size, pos = size & 0x7F | more << 7, pos + 2
        else:
            size, pos = read_varint(view, pos)
    else:
        size, pos = _I32.unpack_from(view, pos)[0] + 1, pos + 4
    records = None
    if size > 0:
        stop = pos + size - 1
        if stop > len(view):
            raise IndexError(pos)
        records = view[pos:stop]
        pos = stop
    diverging = leader = None
    if flexible and view[pos] == 0:
        pos += 1
    elif flexible:
        tags, pos = read_tags(view, pos)
        if 0 in tags:
            diverging = _EPOCH_OFFSET.unpack_from(view, tags[0][0])
        if 1 in tags:
            leader = _PAIR.unpack_from(view, tags[1][0])
    values = (index, error, high, stable, start, records, aborted, preferred, diverging, leader)
    return _new(FetchPartitionResponse, values), pos


def _decode_aborted(view: memoryview, pos: int, flexible: bool, left: int) -> tuple[list[tuple[int, int]] | None, int]:
    count, pos = read_count(view, pos, flexible)
    if count < 0:
        return None, pos
    if count > left:
        raise ProtocolError("too many array elements")
    aborted = []
    for _ in range(count):
        producer_id, first_offset = _ABORTED.unpack_from(view, pos)
        aborted.append((producer_id, first_offset))
        pos += 16
        if flexible:
            pos = skip_tags(view, pos)
    return aborted, pos
