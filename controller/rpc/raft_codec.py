"""Raft messages as bytes: one tag for the type, then its fields in order, big-endian. Pure.

    int 8 bytes, bool 1, str and bytes 4 of length and the content, entries 4 of count and then index, term, data each

The layouts follow from the message classes, so a new field or message needs nothing here, except that all nodes
of a cluster must have it: tags are the positions in `Message`, whose order is therefore part of the protocol.
"""

import struct
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from ottla.controller.raft.messages import (
    AppendResponse,
    Entry,
    Message,
    SnapshotResponse,
    VoteResponse,
)

_INT = struct.Struct(">q")
_SIZE = struct.Struct(">I")
_ENTRY = struct.Struct(">qqI")


class BadMessage(ValueError):
    """Bytes that are not a Raft message."""


class _Reader:
    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        start = self.at
        self.at += layout.size
        if self.at > len(self.data):
            raise BadMessage("cut short")
        return layout.unpack_from(self.data, start)

    def take(self, size: int) -> bytes:
        start = self.at
        self.at += size
        if self.at > len(self.data):
            raise BadMessage("cut short")
        return self.data[start : self.at]


def _write_int(out: list[bytes], value: int) -> None:
    out.append(_INT.pack(value))


def _write_bool(out: list[bytes], value: bool) -> None:
    out.append(b"\x01" if value else b"\x00")


def _write_bytes(out: list[bytes], value: bytes) -> None:
    out.append(_SIZE.pack(len(value)))
    out.append(value)


def _write_str(out: list[bytes], value: str) -> None:
    _write_bytes(out, value.encode())


def _write_entries(out: list[bytes], entries: tuple[Entry, ...]) -> None:
    out.append(_SIZE.pack(len(entries)))
    for entry in entries:
        out.append(_ENTRY.pack(entry.index, entry.term, len(entry.data)))
        out.append(entry.data)


def _read_int(reader: _Reader) -> int:
    return reader.unpack(_INT)[0]


def _read_bool(reader: _Reader) -> bool:
    byte = reader.take(1)
    if byte not in (b"\x00", b"\x01"):
        raise BadMessage(f"{byte!r} is no truth value")
    return byte == b"\x01"


def _read_bytes(reader: _Reader) -> bytes:
    return reader.take(reader.unpack(_SIZE)[0])


def _read_str(reader: _Reader) -> str:
    return _read_bytes(reader).decode()


def _read_entries(reader: _Reader) -> tuple[Entry, ...]:
    (count,) = reader.unpack(_SIZE)
    if count * _ENTRY.size > len(reader.data) - reader.at:
        raise BadMessage(f"{count} entries cannot fit")
    entries = []
    for _ in range(count):
        index, term, size = reader.unpack(_ENTRY)
        entries.append(Entry(index, term, reader.take(size)))
    return tuple(entries)


_Write = Callable[[list[bytes], Any], None]
_Read = Callable[[_Reader], Any]
_FIELDS: dict[object, tuple[_Write, _Read]] = {
    int: (_write_int, _read_int),
    bool: (_write_bool, _read_bool),
    str: (_write_str, _read_str),
    bytes: (_write_bytes, _read_bytes),
    tuple[Entry, ...]: (_write_entries, _read_entries),
}


def _layout(kind: type) -> list[tuple[str, _Write, _Read]]:
    types = get_type_hints(kind)
    return [(field.name, *_FIELDS[types[field.name]]) for field in fields(kind)]


_KINDS: tuple[type, ...] = get_args(Message)
_LAYOUTS = {kind: (bytes([tag]), _layout(kind)) for tag, kind in enumerate(_KINDS)}


def is_answer(message: Message) -> bool:
    """Whether it is said because of a message of the receiver's, and to nobody else."""
    return isinstance(message, AppendResponse | VoteResponse | SnapshotResponse)


def encode_message(message: Message) -> bytes:
    """Raises struct.error when a number does not fit in 64 bits (a broken invariant, not an input)."""
    tag, layout = _LAYOUTS[type(message)]
    out = [tag]
    for name, write, _ in layout:
        write(out, getattr(message, name))
    return b"".join(out)


def decode_message(data: bytes) -> Message:
    """Raises BadMessage for anything that `encode_message` does not make, trailing bytes included."""
    reader = _Reader(data)
    (tag,) = reader.take(1)
    if tag >= len(_KINDS):
        raise BadMessage(f"no message has tag {tag}")
    kind = _KINDS[tag]
    try:
        values = [read(reader) for _, _, read in _LAYOUTS[kind][1]]
    except UnicodeDecodeError as error:
        raise BadMessage(str(error)) from None
    if reader.at != len(data):
        raise BadMessage(f"{len(data) - reader.at} bytes are left over")
    message: Message = kind(*values)
    return message
