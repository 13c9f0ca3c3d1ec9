"""Raft messages as bytes for the RPC between nodes: several in one body, so that what leaves together travels together.

Per message: two big-endian u32 (length of the header, length of the payload), a JSON header, the payload. Entries and
snapshot bytes are payload, never JSON.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from ottla.controller.raft.messages import (
    AppendRequest,
    AppendResponse,
    Entry,
    JoinRequest,
    Message,
    SnapshotChunk,
    SnapshotResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)

_LENGTHS: Final = struct.Struct(">II")
_KINDS: Final[dict[str, type[Message]]] = {
    "vote": VoteRequest,
    "voted": VoteResponse,
    "append": AppendRequest,
    "appended": AppendResponse,
    "snapshot": SnapshotChunk,
    "installed": SnapshotResponse,
    "timeout-now": TimeoutNow,
    "join": JoinRequest,
}
_NAMES: Final = {kind: name for name, kind in _KINDS.items()}
_BYTES_FIELDS: Final = {"entries", "data"}

Natural = Annotated[int, Field(ge=0, lt=1 << 63)]


class MalformedMessage(Exception):
    """The peer's fault: these bytes are no Raft message."""


@with_config(ConfigDict(extra="forbid", strict=True))
class _Header(TypedDict, total=False):
    kind: str
    term: Natural
    last_index: Natural
    last_term: Natural
    pre: bool
    transfer: bool
    election: Natural
    granted: bool
    prev_index: Natural
    prev_term: Natural
    commit: Natural
    stamp: Natural
    readmitted: str
    success: bool
    index: Natural
    hint_index: Natural
    hint_term: Natural
    identity: str
    recovering: bool
    snapshot_term: Natural
    offset: Natural
    total: Natural
    next_offset: Natural
    sizes: list[tuple[Natural, Natural]]  # of entries: term, bytes


_HEADER: Final = TypeAdapter(_Header)


def encode(messages: Iterable[Message]) -> bytes:
    """One body with all ``messages``."""
    parts: list[bytes] = []
    for message in messages:
        header: dict[str, Any] = {"kind": _NAMES[type(message)]}
        header.update((f.name, getattr(message, f.name)) for f in fields(message) if f.name not in _BYTES_FIELDS)
        payload: list[bytes] = []
        if isinstance(message, AppendRequest):
            header["sizes"] = [(entry.term, len(entry.data)) for entry in message.entries]
            payload = [entry.data for entry in message.entries]
        elif isinstance(message, SnapshotChunk):
            payload = [message.data]
        encoded = _HEADER.dump_json(header)  # type: ignore[arg-type]
        parts += [_LENGTHS.pack(len(encoded), sum(map(len, payload))), encoded, *payload]
    return b"".join(parts)


def decode(body: bytes) -> Iterator[Message]:
    """The messages of one body, in order. Raises MalformedMessage; memory is bounded by the body's size."""
    position = 0
    while position < len(body):
        if len(body) - position < _LENGTHS.size:
            raise MalformedMessage("truncated lengths")
        header_size, payload_size = _LENGTHS.unpack_from(body, position)
        start = position + _LENGTHS.size
        position = start + header_size + payload_size
        if position > len(body):
            raise MalformedMessage("truncated message")
        yield _decode_one(body[start : start + header_size], body[start + header_size : position])


def _decode_one(encoded: bytes, payload: bytes) -> Message:
    try:
        header: dict[str, Any] = dict(_HEADER.validate_json(encoded))
        kind = _KINDS[header.pop("kind", "")]
        sizes = header.pop("sizes", None)
        if kind is AppendRequest:
            header["entries"] = _entries(header["prev_index"], sizes or [], payload)
        elif kind is SnapshotChunk:
            header["data"] = payload
        elif payload or sizes:
            raise MalformedMessage(f"{kind.__name__} carries no payload")
        return kind(**header)
    except (ValidationError, KeyError, TypeError) as error:
        raise MalformedMessage(f"not a Raft message: {type(error).__name__}") from error


def _entries(previous: int, sizes: list[tuple[int, int]], payload: bytes) -> tuple[Entry, ...]:
    if sum(size for _, size in sizes) != len(payload):
        raise MalformedMessage("entries do not fill the payload")
    entries: list[Entry] = []
    position = 0
    for index, (term, size) in enumerate(sizes, start=previous + 1):
        entries.append(Entry(index, term, payload[position : position + size]))
        position += size
    return tuple(entries)
