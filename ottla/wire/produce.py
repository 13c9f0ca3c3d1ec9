"""Produce (key 0), versions 3 to 13: requests and responses without an object per field.

kio's reader copies the records into objects of its own, and its writer is Python that looks up every
field; these two messages are most of a broker's work. Versions: 5 adds the log start offset to responses,
8 record errors and a message (KIP-467), 9 is flexible, 10 adds leader hints (KIP-951), 13 has topic ids in place of
names (KIP-516).
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from ottla.wire.api import Chunk, Raw
from ottla.wire.errors import ProtocolError
from ottla.wire.framing import Frame
from ottla.wire.primitives import (
    SHORT,
    VARINTS,
    array_size,
    read_string,
    read_tags,
    read_varint,
    skip_tags,
    string,
    varint,
)

MIN_VERSION, MAX_VERSION = 3, 13
MAX_ELEMENTS = 20_000
"""Most topics and partitions in one request."""

_FLEXIBLE = 9
_TOPIC_IDS = 13
_ID_SIZE = 16
_I16 = struct.Struct(">h")
_I32 = struct.Struct(">i")
_INDEX_SIZE = struct.Struct(">ii")
_ACKS = struct.Struct(">hi")
_ACKS_TOPICS = struct.Struct(">hii")
_V3_PARTITION = struct.Struct(">ihqq")
_V5_PARTITION = struct.Struct(">ihqqq")
_LEADER = struct.Struct(">ii")
_LEADER_TAG = struct.Struct(">BBBiiB")
_UNEVENTFUL = b"\1\0\0"  # no record errors, no message, no tagged fields


class NodeEndpoint(NamedTuple):
    """Where a broker named as current leader is reached (KIP-951)."""

    node_id: int
    host: str
    port: int
    rack: str | None = None


@dataclass(slots=True)
class ProduceRequest:
    """`topics` is [(name, [(partition index, records or None)])]; the records are slices of the frame. From v13 on the
    names are empty, and `topic_ids` has the ids in their order."""

    transactional_id: str | None
    acks: int
    timeout_ms: int
    topics: list[tuple[str, list[tuple[int, bytes | memoryview | None]]]]
    topic_ids: list[UUID] = field(default_factory=list)


class ProducePartitionResponse(NamedTuple):
    """`record_errors` is [(batch index, message)]; current leader -1 means none to tell (KIP-951)."""

    partition: int
    error_code: int = 0
    base_offset: int = -1
    log_append_time: int = -1
    log_start_offset: int = -1
    error_message: str | None = None
    record_errors: Sequence[tuple[int, str | None]] = ()
    leader_id: int = -1
    leader_epoch: int = -1


# What ProducePartitionResponse._make does, without Python code.
_new = tuple.__new__


@dataclass(slots=True)
class ProduceResponse:
    """A decoded response. From v13 on the names are empty, and `topic_ids` has the ids in their order."""

    topics: list[tuple[str, list[ProducePartitionResponse]]]
    throttle_ms: int
    node_endpoints: list[NodeEndpoint]
    topic_ids: list[UUID] = field(default_factory=list)


def parse_produce_request(frame: Frame, version: int, pos: int = 0) -> ProduceRequest:
    """The request's body that starts at `pos`. Raises ProtocolError."""
    try:
        if version >= _FLEXIBLE:
            return _parse_flexible(frame, pos, by_id=version >= _TOPIC_IDS)
        return _parse_legacy(frame, pos)
    except (IndexError, struct.error) as error:
        raise ProtocolError("a Produce request is cut off") from error
    except UnicodeDecodeError as error:
        raise ProtocolError("a string is not UTF-8") from error


def _parse_flexible(frame: Frame, pos: int, *, by_id: bool) -> ProduceRequest:
    end = len(frame)
    view = memoryview(frame)
    size, pos = read_varint(frame, pos) if frame[pos] else (0, pos + 1)
    transactional_id = None
    if size:
        stop = pos + size - 1
        transactional_id = str(frame[pos:stop], "utf-8")
        pos = stop
    acks, timeout_ms = _ACKS.unpack_from(frame, pos)
    pos += 6
    count, pos = (count, pos + 1) if (count := frame[pos]) < 0x80 else read_varint(frame, pos)
    left = MAX_ELEMENTS
    topics: list[tuple[str, list[tuple[int, bytes | memoryview | None]]]] = []
    topic_ids: list[UUID] = []
    for _ in range(count - 1):
        if by_id:
            name, stop = "", pos + _ID_SIZE
            topic_ids.append(_read_id(frame, pos))
        else:
            size, pos = (size, pos + 1) if (size := frame[pos]) < 0x80 else read_varint(frame, pos)
            stop = pos + size - 1
            if size == 0 or stop > end:
                raise IndexError(pos)
            name = str(frame[pos:stop], "utf-8")
        count, pos = (count, stop + 1) if (count := frame[stop]) < 0x80 else read_varint(frame, stop)
        left -= count
        if left < 0:
            raise ProtocolError("too many array elements")
        partitions: list[tuple[int, bytes | memoryview | None]] = []
        for _ in range(count - 1):
            (index,) = _I32.unpack_from(frame, pos)
            pos += 4
            size, pos = (size, pos + 1) if (size := frame[pos]) < 0x80 else read_varint(frame, pos)
            if size:
                stop = pos + size - 1
                if stop > end:
                    raise IndexError(pos)
                partitions.append((index, view[pos:stop]))
                pos = stop
            else:
                partitions.append((index, None))
            pos = skip_tags(frame, pos) if frame[pos] else pos + 1
        pos = skip_tags(frame, pos) if frame[pos] else pos + 1
        left -= 1
        topics.append((name, partitions))
    if frame[pos]:
        skip_tags(frame, pos)
    return ProduceRequest(transactional_id, acks, timeout_ms, topics, topic_ids)


def _read_id(frame: Frame, pos: int) -> UUID:
    if pos + _ID_SIZE > len(frame):
        raise IndexError(pos)
    return UUID(bytes=bytes(frame[pos : pos + _ID_SIZE]))


def _parse_legacy(frame: Frame, pos: int) -> ProduceRequest:
    end = len(frame)
    view = memoryview(frame)
    (size,) = _I16.unpack_from(frame, pos)
    pos += 2
    transactional_id = None
    if size >= 0:
        transactional_id = str(frame[pos : pos + size], "utf-8")
        pos += size
    acks, timeout_ms, count = _ACKS_TOPICS.unpack_from(frame, pos)
    pos += 10
    left = MAX_ELEMENTS
    topics = []
    for _ in range(count):
        (size,) = _I16.unpack_from(frame, pos)
        pos += 2
        stop = pos + size
        if size < 0 or stop + 4 > end:
            raise IndexError(pos)
        name = str(frame[pos:stop], "utf-8")
        (count,) = _I32.unpack_from(frame, stop)
        pos = stop + 4
        left -= 1 + max(count, 0)
        if left < 0:
            raise ProtocolError("too many array elements")
        partitions: list[tuple[int, bytes | memoryview | None]] = []
        for _ in range(count):
            index, size = _INDEX_SIZE.unpack_from(frame, pos)
            pos += 8
            if size < 0:
                partitions.append((index, None))
                continue
            stop = pos + size
            if stop > end:
                raise IndexError(pos)
            partitions.append((index, view[pos:stop]))
            pos = stop
        topics.append((name, partitions))
    return ProduceRequest(transactional_id, acks, timeout_ms, topics)


def encode_produce_request(
    version: int,
    topics: Sequence[tuple[str, Sequence[tuple[int, Chunk]]]],
    *,
    acks: int,
    timeout_ms: int,
    transactional_id: str | None = None,
    topic_ids: Sequence[UUID] = (),
) -> Raw:
    """The request's body; record bytes are not copied. From v13 on `topic_ids` stand in the place of the names."""
    flexible = version >= _FLEXIBLE
    head = bytearray(b"\0" if flexible and transactional_id is None else string(transactional_id, flexible))
    head += _ACKS.pack(acks, timeout_ms)
    count = len(topics)
    head += VARINTS[count + 1] if flexible and count < SHORT else array_size(count, flexible)
    chunks: list[Chunk] = []
    for at, (name, partitions) in enumerate(topics):
        head += topic_ids[at].bytes if version >= _TOPIC_IDS else string(name, flexible)
        count = len(partitions)
        head += VARINTS[count + 1] if flexible and count < SHORT else array_size(count, flexible)
        for index, records in partitions:
            size = len(records)
            head += _I32.pack(index)
            head += VARINTS[size + 1] if flexible and size < SHORT else array_size(size, flexible)
            chunks += (head, records)
            head = bytearray(1 if flexible else 0)
        if flexible:
            head += b"\0"
    if flexible:
        head += b"\0"
    chunks.append(head)
    return Raw(chunks)


def encode_produce_response(
    version: int,
    topics: Sequence[tuple[str, Sequence[ProducePartitionResponse]]],
    *,
    throttle_ms: int = 0,
    node_endpoints: Sequence[NodeEndpoint] = (),
    topic_ids: Sequence[UUID] = (),
) -> Raw:
    """The response's body; what the version does not have is left out. From v13 on `topic_ids` stand in the place of
    the names."""
    flexible = version >= _FLEXIBLE
    count = len(topics)
    out = bytearray(VARINTS[count + 1] if flexible and count < SHORT else array_size(count, flexible))
    for at, (name, partitions) in enumerate(topics):
        out += topic_ids[at].bytes if version >= _TOPIC_IDS else string(name, flexible)
        count = len(partitions)
        out += VARINTS[count + 1] if flexible and count < SHORT else array_size(count, flexible)
        for partition in partitions:
            _encode_partition(out, version, partition)
        if flexible:
            out += b"\0"
    out += _I32.pack(throttle_ms)
    if flexible:
        out += encode_endpoints(node_endpoints) if node_endpoints and version >= 10 else b"\0"
    return Raw([out])


def _encode_partition(out: bytearray, version: int, partition: ProducePartitionResponse) -> None:
    index, error, base, append_time, start, message, record_errors, leader_id, leader_epoch = partition
    if version < 5:
        out += _V3_PARTITION.pack(index, error, base, append_time)
        return
    out += _V5_PARTITION.pack(index, error, base, append_time, start)
    if version < 8:
        return
    flexible = version >= _FLEXIBLE
    if flexible and not record_errors and message is None:
        out += b"\x01\x00"
    else:
        out += array_size(len(record_errors), flexible)
        for batch_index, text in record_errors:
            out += _I32.pack(batch_index)
            out += string(text, flexible)
            if flexible:
                out += b"\0"
        out += string(message, flexible)
    if version >= 10 and (leader_id, leader_epoch) != (-1, -1):
        out += _LEADER_TAG.pack(1, 0, 9, leader_id, leader_epoch, 0)
    elif flexible:
        out += b"\0"


def decode_produce_response(frame: Frame, version: int, pos: int = 0) -> ProduceResponse:
    """The response's body that starts at `pos`. Raises ProtocolError."""
    try:
        return _decode(frame, version, pos)
    except (IndexError, struct.error) as error:
        raise ProtocolError("a Produce response is cut off") from error
    except UnicodeDecodeError as error:
        raise ProtocolError("a string is not UTF-8") from error


def _decode(frame: Frame, version: int, pos: int) -> ProduceResponse:
    flexible = version >= _FLEXIBLE
    left = MAX_ELEMENTS
    topics = []
    topic_ids: list[UUID] = []
    count, pos = _read_count(frame, pos, flexible)
    for _ in range(count):
        name: str | None = ""
        if version >= _TOPIC_IDS:
            topic_ids.append(_read_id(frame, pos))
            pos += _ID_SIZE
        else:
            name, pos = read_string(frame, pos, flexible)
        partition_count, pos = _read_count(frame, pos, flexible)
        partitions = []
        left -= 1 + max(partition_count, 0)
        if left < 0:
            raise ProtocolError("too many array elements")
        for _ in range(partition_count):
            partition, pos = _decode_partition(frame, version, pos, left)
            left -= len(partition.record_errors)
            partitions.append(partition)
        if flexible:
            pos = skip_tags(frame, pos) if frame[pos] else pos + 1
        topics.append((name or "", partitions))
    (throttle_ms,) = _I32.unpack_from(frame, pos)
    endpoints: list[NodeEndpoint] = []
    if flexible and frame[pos + 4]:
        tags, _pos = read_tags(frame, pos + 4)
        if version >= 10 and 0 in tags:
            endpoints = decode_endpoints(frame, tags[0][0])
    return ProduceResponse(topics, throttle_ms, endpoints, topic_ids)


def _decode_partition(frame: Frame, version: int, pos: int, left: int) -> tuple[ProducePartitionResponse, int]:
    if version < 5:
        return ProducePartitionResponse(*_V3_PARTITION.unpack_from(frame, pos)), pos + _V3_PARTITION.size
    index, error, base, append_time, start = _V5_PARTITION.unpack_from(frame, pos)
    pos += _V5_PARTITION.size
    if version < 8:
        return ProducePartitionResponse(index, error, base, append_time, start), pos
    flexible = version >= _FLEXIBLE
    if flexible and frame[pos : pos + 3] == _UNEVENTFUL:
        return _new(ProducePartitionResponse, (index, error, base, append_time, start, None, [], -1, -1)), pos + 3
    count, pos = _read_count(frame, pos, flexible)
    if count > left:
        raise ProtocolError("too many array elements")
    record_errors = []
    for _ in range(count):
        (batch_index,) = _I32.unpack_from(frame, pos)
        text, pos = read_string(frame, pos + 4, flexible)
        if flexible:
            pos = skip_tags(frame, pos)
        record_errors.append((batch_index, text))
    message, pos = read_string(frame, pos, flexible)
    leader = (-1, -1)
    if flexible:
        tags, pos = read_tags(frame, pos)
        if version >= 10 and 0 in tags:
            leader = _LEADER.unpack_from(frame, tags[0][0])
    return ProducePartitionResponse(index, error, base, append_time, start, message, record_errors, *leader), pos


def _read_count(frame: Frame, pos: int, flexible: bool) -> tuple[int, int]:
    """The length of an array, where null is -1, and the position after it."""
    if flexible:
        if (count := frame[pos]) < 0x80:
            return count - 1, pos + 1
        count, pos = read_varint(frame, pos)
        return count - 1, pos
    return _I32.unpack_from(frame, pos)[0], pos + 4


def encode_endpoints(endpoints: Sequence[NodeEndpoint]) -> bytes:
    """The tagged fields of a response: none, or tag 0 with the endpoints (KIP-951)."""
    if not endpoints:
        return b"\0"
    inner = bytearray(varint(len(endpoints) + 1))
    for node_id, host, port, rack in endpoints:
        inner += _I32.pack(node_id) + string(host, True) + _I32.pack(port) + string(rack, True) + b"\0"
    return b"\x01\x00" + varint(len(inner)) + inner


def decode_endpoints(frame: Frame, pos: int) -> list[NodeEndpoint]:
    """The content of the tagged field that `encode_endpoints` writes.

    Raises ProtocolError, IndexError at the end of the frame, UnicodeDecodeError.
    """
    count, pos = read_varint(frame, pos)
    if count > MAX_ELEMENTS:
        raise ProtocolError("too many array elements")
    endpoints = []
    for _ in range(count - 1):
        (node_id,) = _I32.unpack_from(frame, pos)
        host, pos = read_string(frame, pos + 4, True)
        (port,) = _I32.unpack_from(frame, pos)
        rack, pos = read_string(frame, pos + 4, True)
        pos = skip_tags(frame, pos)
        endpoints.append(NodeEndpoint(node_id, host or "", port, rack))
    return endpoints
