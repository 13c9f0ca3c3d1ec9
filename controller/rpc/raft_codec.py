"""Raft messages as bytes: one tag for the type, then its fields in order, big-endian. Pure.

    int 8 bytes, bool 1, str and bytes 4 of length and the content, entries 4 of count and then index, term, data each

The layouts follow from the message classes, so a new field or message needs nothing here, except that all nodes
of a cluster must have it: tags are the positions in `Message`, whose order is therefore part of the protocol.
"""

import struct
from collections.abc import Callable
from dataclasses import fields
from itertools import groupby
from operator import attrgetter
from typing import Any, get_args, get_type_hints

from ottla.controller.raft.messages import (
    AppendResponse,
    Entry,
    Message,
    SnapshotResponse,
    VoteResponse,
)

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
_FIXED: dict[object, str] = {int: "q", bool: "B"}
_VARYING: dict[object, tuple[_Write, _Read]] = {
    str: (_write_str, _read_str),
    bytes: (_write_bytes, _read_bytes),
    tuple[Entry, ...]: (_write_entries, _read_entries),
}


class _Fixed:
    """Fields of one message that follow each other and have a size of their own: packed and unpacked at once."""

    def __init__(self, names: list[str], kinds: list[object]) -> None:
        self._layout = struct.Struct(">" + "".join(_FIXED[kind] for kind in kinds))
        self._get = attrgetter(*names)
        self._one = len(names) == 1
        self._truths = [at for at, kind in enumerate(kinds) if kind is bool]

    def write(self, out: list[bytes], message: Message) -> None:
        values = self._get(message)
        out.append(self._layout.pack(values) if self._one else self._layout.pack(*values))

    def read(self, reader: _Reader, values: list[Any]) -> None:
        at = len(values)
        values += reader.unpack(self._layout)
        for truth in self._truths:
            if values[at + truth] > 1:
                raise BadMessage(f"{values[at + truth]} is no truth value")
            values[at + truth] = values[at + truth] == 1


class _Varying:
    """A field that says how long it is."""

    def __init__(self, name: str, kind: object) -> None:
        self._get = attrgetter(name)
        self._write, self._read = _VARYING[kind]

    def write(self, out: list[bytes], message: Message) -> None:
        self._write(out, self._get(message))

    def read(self, reader: _Reader, values: list[Any]) -> None:
        values.append(self._read(reader))


def _layout(kind: type) -> list[_Fixed | _Varying]:
    types = get_type_hints(kind)
    parts: list[_Fixed | _Varying] = []
    for fixed, group in groupby(fields(kind), lambda each: types[each.name] in _FIXED):
        names = [each.name for each in group]
        if fixed:
            parts.append(_Fixed(names, [types[name] for name in names]))
        else:
            parts += [_Varying(name, types[name]) for name in names]
    return parts


_KINDS: tuple[type, ...] = get_args(Message)
_LAYOUTS = {kind: (bytes([tag]), _layout(kind)) for tag, kind in enumerate(_KINDS)}


def is_answer(message: Message) -> bool:
    """Whether it is said because of a message of the receiver's, and to nobody else."""
    return isinstance(message, AppendResponse | VoteResponse | SnapshotResponse)


def encode_message(message: Message) -> bytes:
    """Raises struct.error when a number does not fit in 64 bits (a broken invariant, not an input)."""
    tag, layout = _LAYOUTS[type(message)]
    out = [tag]
    for part in layout:
        part.write(out, message)
    return b"".join(out)


def decode_message(data: bytes) -> Message:
    """Raises BadMessage for anything that `encode_message` does not make, trailing bytes included."""
    reader = _Reader(data)
    (tag,) = reader.take(1)
    if tag >= len(_KINDS):
        raise BadMessage(f"no message has tag {tag}")
    kind = _KINDS[tag]
    values: list[Any] = []
    try:
        for part in _LAYOUTS[kind][1]:
            part.read(reader, values)
    except UnicodeDecodeError as error:
        raise BadMessage(str(error)) from None
    if reader.at != len(data):
        raise BadMessage(f"{len(data) - reader.at} bytes are left over")
    message: Message = kind(*values)
    return message
