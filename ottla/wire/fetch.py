"""Fetch requests (key 1), versions 4 to 18, without an object per field.

Versions: 5 adds the log start offset, 7 sessions (KIP-227), 9 the leader epoch (KIP-320), 11 the rack
(KIP-392), 12 is flexible and adds the last fetched epoch (KIP-595), 13 has topic ids (KIP-516), 15 moves
the replica into a tagged field with its epoch (KIP-903), 17 adds a directory id and
18 a high watermark (KIP-1166), which are not looked at.
"""

import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from ottla.wire.api import Raw
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

MIN_VERSION, MAX_VERSION = 4, 18
MAX_ELEMENTS = 50_000
"""Most topics, partitions and forgotten partitions in one request."""

FLEXIBLE = 12
TOPIC_IDS = 13

_I32 = struct.Struct(">i")
_WAIT = struct.Struct(">iiib")
_WAIT_SESSION = struct.Struct(">iiibii")
_REPLICA = struct.Struct(">iq")
_REPLICA_TAG = struct.Struct(">BBiqB")
_ONLY_REPLICA_TAG = struct.Struct(">BBBiqB")
_ONLY_REPLICA = b"\x01\x01\x0d"  # one tagged field: tag 1, of 13 bytes
_V4_PARTITION = struct.Struct(">iqi")
_V5_PARTITION = struct.Struct(">iqqi")
_V9_PARTITION = struct.Struct(">iiqqi")
_V12_PARTITION = struct.Struct(">iiqiqiB")
# A topic by id of which one partition is asked, as nearly all are: the id, the array's size, the partition, no tags.
_LONE_PARTITION = struct.Struct(">16sBiiqiqiBB")
_LONE = 2  # the compact size of an array of one element


class FetchPartition(NamedTuple):
    """What is asked of one partition; -1 where the asker does not know or the version does not say."""

    partition: int
    fetch_offset: int
    max_bytes: int
    current_leader_epoch: int = -1
    last_fetched_epoch: int = -1
    log_start_offset: int = -1


@dataclass(slots=True)
class FetchRequest:
    """Topics are named up to v12, and given by id (a UUID, zero for none) from v13 on."""

    max_wait_ms: int
    min_bytes: int
    max_bytes: int = 0x7FFFFFFF
    isolation_level: int = 0
    session_id: int = 0
    session_epoch: int = -1
    topics: list[tuple[str | UUID, list[FetchPartition]]] = field(default_factory=list)
    forgotten: list[tuple[str | UUID, list[int]]] = field(default_factory=list)
    rack_id: str = ""
    replica_id: int = -1
    replica_epoch: int = -1
    cluster_id: str | None = None


# What FetchPartition._make does, without Python code.
_new = tuple.__new__


def parse_fetch_request(frame: Frame, version: int, pos: int = 0) -> FetchRequest:
    """The request's body that starts at `pos`. Raises ProtocolError."""
    try:
        return _parse(frame, version, pos)
    except (IndexError, struct.error) as error:
        raise ProtocolError("a Fetch request is cut off") from error
    except UnicodeDecodeError as error:
        raise ProtocolError("a string is not UTF-8") from error


def _parse(frame: Frame, version: int, pos: int) -> FetchRequest:
    flexible = version >= FLEXIBLE
    replica_id = -1
    if version < 15:
        (replica_id,) = _I32.unpack_from(frame, pos)
        pos += 4
    topics: list[tuple[str | UUID, list[FetchPartition]]] = []
    forgotten: list[tuple[str | UUID, list[int]]] = []
    if version >= 7:
        wait, least, most, isolation, session_id, session_epoch = _WAIT_SESSION.unpack_from(frame, pos)
        pos += 21
    else:
        wait, least, most, isolation = _WAIT.unpack_from(frame, pos)
        session_id, session_epoch = 0, -1
        pos += 13
    request = FetchRequest(
        wait, least, most, isolation, session_id, session_epoch, topics, forgotten, replica_id=replica_id
    )
    left = MAX_ELEMENTS
    if flexible and frame[pos] == _LONE:
        count, pos = 1, pos + 1
    else:
        count, pos = read_count(frame, pos, flexible)
    for _ in range(count):
        if version >= TOPIC_IDS and frame[pos + 16] == _LONE and left > 1:
            id_, _, index, epoch, offset, fetched, start, size, tags, end = _LONE_PARTITION.unpack_from(frame, pos)
            if not (tags or end):
                asked = _new(FetchPartition, (index, offset, size, epoch, fetched, start))
                topics.append((topic_id(id_), [asked]))
                left -= 2
                pos += _LONE_PARTITION.size
                continue
        topic, pos = read_topic(frame, pos, version)
        partitions, pos = _read_partitions(frame, pos, version, left)
        left -= 1 + len(partitions)
        topics.append((topic, partitions))
    if flexible and frame[pos : pos + 2] == b"\1\1":
        pos += 2  # nothing is forgotten, and there is no rack
    else:
        pos = _read_forgotten_and_rack(request, frame, version, pos, left)
    if flexible and frame[pos]:
        _read_request_tags(request, frame, pos, version)
    return request


def _read_forgotten_and_rack(request: FetchRequest, frame: Frame, version: int, pos: int, left: int) -> int:
    flexible = version >= FLEXIBLE
    if version >= 7:
        count, pos = read_count(frame, pos, flexible)
        for _ in range(count):
            topic, pos = read_topic(frame, pos, version)
            indexes, pos = _read_indexes(frame, pos, flexible, left)
            left -= 1 + len(indexes)
            request.forgotten.append((topic, indexes))
    if version >= 11:
        rack_id, pos = read_string(frame, pos, flexible)
        request.rack_id = rack_id or ""
    return pos


def _read_partitions(frame: Frame, pos: int, version: int, left: int) -> tuple[list[FetchPartition], int]:
    count, pos = read_count(frame, pos, version >= FLEXIBLE)
    if count >= left:
        raise ProtocolError("too many array elements")
    partitions = []
    for _ in range(count):
        if version >= FLEXIBLE:
            index, epoch, offset, fetched_epoch, start, size, tags = _V12_PARTITION.unpack_from(frame, pos)
            partitions.append(FetchPartition(index, offset, size, epoch, fetched_epoch, start))
            pos = skip_tags(frame, pos + 32) if tags else pos + 33
        elif version >= 9:
            index, epoch, offset, start, size = _V9_PARTITION.unpack_from(frame, pos)
            partitions.append(FetchPartition(index, offset, size, epoch, -1, start))
            pos += 28
        elif version >= 5:
            index, offset, start, size = _V5_PARTITION.unpack_from(frame, pos)
            partitions.append(FetchPartition(index, offset, size, -1, -1, start))
            pos += 24
        else:
            index, offset, size = _V4_PARTITION.unpack_from(frame, pos)
            partitions.append(FetchPartition(index, offset, size))
            pos += 16
    return partitions, skip_tags(frame, pos) if version >= FLEXIBLE else pos


def _read_indexes(frame: Frame, pos: int, flexible: bool, left: int) -> tuple[list[int], int]:
    count, pos = read_count(frame, pos, flexible)
    if count >= left:
        raise ProtocolError("too many array elements")
    indexes: list[int] = []
    if count > 0:
        indexes += struct.unpack_from(f">{count}i", frame, pos)
        pos += 4 * count
    return indexes, skip_tags(frame, pos) if flexible else pos


def _read_request_tags(request: FetchRequest, frame: Frame, pos: int, version: int) -> None:
    if version >= 15 and frame[pos : pos + 3] == _ONLY_REPLICA:
        _, _, request.replica_id, request.replica_epoch, _ = _REPLICA_TAG.unpack_from(frame, pos + 1)
        return
    tags, _pos = read_tags(frame, pos)
    if 0 in tags:
        request.cluster_id, _pos = read_string(frame, tags[0][0], True)
    if version >= 15 and 1 in tags:
        request.replica_id, request.replica_epoch = _REPLICA.unpack_from(frame, tags[1][0])


def encode_fetch_request(version: int, request: FetchRequest) -> Raw:
    """The request's body; what the version does not have is left out."""
    flexible = version >= FLEXIBLE
    topics = request.topics
    out = bytearray()
    if version < 15:
        out += _I32.pack(request.replica_id)
    waits = request.max_wait_ms, request.min_bytes, request.max_bytes, request.isolation_level
    if version >= 7:
        out += _WAIT_SESSION.pack(*waits, request.session_id, request.session_epoch)
    else:
        out += _WAIT.pack(*waits)
    out += VARINTS[size + 1] if flexible and (size := len(topics)) < SHORT else array_size(len(topics), flexible)
    for topic, partitions in topics:
        if version >= TOPIC_IDS and topic.__class__ is UUID and len(partitions) == 1:
            ((index, offset, size, epoch, fetched, start),) = partitions
            id_ = topic.int.to_bytes(16, "big")
            out += _LONE_PARTITION.pack(id_, _LONE, index, epoch, offset, fetched, start, size, 0, 0)
            continue
        out += topic_bytes(topic, version)
        out += array_size(len(partitions), flexible)
        for partition in partitions:
            out += _partition_bytes(partition, version)
        if flexible:
            out += b"\0"
    if flexible and not request.forgotten and not request.rack_id:
        out += b"\1\1"
    else:
        _write_forgotten_and_rack(out, version, request)
    if version >= 15 and request.cluster_id is None and request.replica_id >= 0:
        out += _ONLY_REPLICA_TAG.pack(1, 1, 13, request.replica_id, request.replica_epoch, 0)
    elif flexible:
        out += _request_tags(request, version)
    return Raw([out])


def _write_forgotten_and_rack(out: bytearray, version: int, request: FetchRequest) -> None:
    flexible = version >= FLEXIBLE
    if version >= 7:
        out += array_size(len(request.forgotten), flexible)
        for topic, indexes in request.forgotten:
            out += topic_bytes(topic, version)
            out += array_size(len(indexes), flexible) + struct.pack(f">{len(indexes)}i", *indexes)
            if flexible:
                out += b"\0"
    if version >= 11:
        out += string(request.rack_id, flexible)


def _partition_bytes(partition: FetchPartition, version: int) -> bytes:
    index, offset, size, epoch, fetched_epoch, start = partition
    if version >= FLEXIBLE:
        return _V12_PARTITION.pack(index, epoch, offset, fetched_epoch, start, size, 0)
    if version >= 9:
        return _V9_PARTITION.pack(index, epoch, offset, start, size)
    if version >= 5:
        return _V5_PARTITION.pack(index, offset, start, size)
    return _V4_PARTITION.pack(index, offset, size)


def _request_tags(request: FetchRequest, version: int) -> bytes:
    count = 0
    out = b""
    if request.cluster_id is None and request.replica_id == -1 and request.replica_epoch == -1:
        return VARINTS[0]
    if request.cluster_id is not None:
        inner = string(request.cluster_id, True)
        out += b"\0" + varint(len(inner)) + inner
        count += 1
    if version >= 15 and (request.replica_id, request.replica_epoch) != (-1, -1):
        out += _REPLICA_TAG.pack(1, 13, request.replica_id, request.replica_epoch, 0)
        count += 1
    return varint(count) + out


def read_count(frame: Frame, pos: int, flexible: bool) -> tuple[int, int]:
    """The length of an array, where null is -1, and the position after it."""
    if flexible:
        if (count := frame[pos]) < 0x80:
            return count - 1, pos + 1
        count, pos = read_varint(frame, pos)
        return count - 1, pos
    return _I32.unpack_from(frame, pos)[0], pos + 4


@lru_cache(4096)
def topic_id(data: bytes) -> UUID:
    """The id with these 16 bytes. Kept, as a UUID is slow to make and to compare, except with itself."""
    return UUID(bytes=data)


def read_topic(frame: Frame, pos: int, version: int) -> tuple[str | UUID, int]:
    """The name or the id of a topic, and the position after it."""
    if version >= TOPIC_IDS:
        stop = pos + 16
        if stop > len(frame):
            raise IndexError(pos)
        return topic_id(bytes(frame[pos:stop])), stop
    name, pos = read_string(frame, pos, version >= FLEXIBLE)
    if name is None:
        raise ProtocolError("a topic without a name")
    return name, pos


def topic_bytes(topic: str | UUID, version: int) -> bytes:
    """The name or the id of a topic, whichever the version has. Raises TypeError for the other one."""
    if version >= TOPIC_IDS:
        if not isinstance(topic, UUID):
            raise TypeError(f"Fetch v{version} takes topic ids, not {topic!r}")
        return topic.bytes
    if not isinstance(topic, str):
        raise TypeError(f"Fetch v{version} takes topic names, not {topic!r}")
    return string(topic, version >= FLEXIBLE)
