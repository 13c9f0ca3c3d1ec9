"""Raft messages as bytes: one tag for the type, then its fields in order, big-endian. Pure.

    int 8 bytes, bool 1, str and bytes 4 of length and the content, entries 4 of count and then index, term, data each

The layouts follow from the message classes, so a new field or message needs nothing here, except that all nodes
of a cluster must have it: tags are the positions in `Message`, whose order is therefore part of the protocol.
"""

import struct
from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any, NamedTuple, get_args, get_type_hints

from ottla.controller.raft.messages import (
    AppendResponse,
    Entry,
    Message,
    SnapshotResponse,
    VoteResponse,
)

_ENTRY = struct.Struct(">qqI")
_FIXED: dict[object, str] = {int: "q", bool: "B"}
_VARYING: dict[object, type] = {str: str, bytes: bytes, tuple[Entry, ...]: Entry}


class BadMessage(ValueError):
    """Bytes that are not a Raft message."""


class _Run(NamedTuple):
    """Fields that follow each other and have a size of their own, and then one that says how long it is, if there is
    one: what is packed and unpacked at once ends with its length."""

    layout: struct.Struct
    end: int  # position of the first field that is not of a fixed size
    truths: tuple[int, ...]  # positions of the truth values
    varying: type | None  # of the field at `end`: str, bytes or Entry (any number of them); None: there is none


def _runs(kind: type) -> tuple[_Run, ...]:
    types = get_type_hints(kind)
    kinds = [types[each.name] for each in fields(kind)]
    runs: list[_Run] = []
    codes, truths = ">", []
    for at, each in enumerate(kinds):
        if each in _FIXED:
            codes += _FIXED[each]
            truths += [at] if each is bool else []
            continue
        runs.append(_Run(struct.Struct(codes + "I"), at, tuple(truths), _VARYING[each]))
        codes, truths = ">", []
    if codes != ">":
        runs.append(_Run(struct.Struct(codes), len(kinds), tuple(truths), None))
    return tuple(runs)


def _values(kind: type) -> Callable[[Any], Any]:
    return attrgetter(*(each.name for each in fields(kind)))


_KINDS: tuple[type, ...] = get_args(Message)
_ANSWERS = (AppendResponse, VoteResponse, SnapshotResponse)
_RUNS = [_runs(kind) for kind in _KINDS]
_WRITERS = {kind: (bytes([tag]), _values(kind), _RUNS[tag]) for tag, kind in enumerate(_KINDS)}


def is_answer(message: Message) -> bool:
    """Whether it is said because of a message of the receiver's, and to nobody else."""
    return type(message) in _ANSWERS


def encode_message(message: Message) -> bytes:
    """Raises struct.error when a number does not fit in 64 bits (a broken invariant, not an input)."""
    tag, get, runs = _WRITERS[type(message)]
    values = get(message)
    if type(values) is not tuple:
        values = (values,)  # the message has one field
    out: list[bytes] = [tag]
    at = 0
    for layout, end, _, varying in runs:
        if varying is None:
            out.append(layout.pack(*values[at:end]))
            break
        value = values[end].encode() if varying is str else values[end]
        out.append(layout.pack(*values[at:end], len(value)))
        if varying is Entry:
            for entry in value:
                out += (_ENTRY.pack(entry.index, entry.term, len(entry.data)), entry.data)
        else:
            out.append(value)
        at = end + 1
    return b"".join(out)


def decode_message(data: bytes) -> Message:
    """Raises BadMessage for anything that `encode_message` does not make, trailing bytes included."""
    if not data:
        raise BadMessage("cut short")
    tag = data[0]
    if tag >= len(_KINDS):
        raise BadMessage(f"no message has tag {tag}")
    try:
        values = _read(data, _RUNS[tag])
    except UnicodeDecodeError as error:
        raise BadMessage(str(error)) from None
    except struct.error:
        raise BadMessage("cut short") from None
    message: Message = _KINDS[tag](*values)
    return message


def _read(data: bytes, runs: tuple[_Run, ...]) -> list[Any]:
    """The fields' values. Raises struct.error where numbers are cut short."""
    values: list[Any] = []
    at = 1
    for layout, _, truths, varying in runs:
        values += layout.unpack_from(data, at)
        at += layout.size
        for truth in truths:
            if values[truth] > 1:
                raise BadMessage(f"{values[truth]} is no truth value")
            values[truth] = values[truth] == 1
        if varying is None:
            break
        size = values.pop()
        if varying is Entry:
            entries, at = _read_entries(data, at, size) if size else ((), at)
            values.append(entries)
            continue
        value, at = data[at : at + size], at + size
        if at > len(data):
            raise BadMessage("cut short")
        values.append(value.decode() if varying is str else value)
    if at != len(data):
        raise BadMessage(f"{len(data) - at} bytes are left over")
    return values


def _read_entries(data: bytes, at: int, count: int) -> tuple[tuple[Entry, ...], int]:
    """So many entries, and where they end."""
    if count * _ENTRY.size > len(data) - at:
        raise BadMessage(f"{count} entries cannot fit")
    entries = []
    for _ in range(count):
        index, term, size = _ENTRY.unpack_from(data, at)
        at += _ENTRY.size
        if size > len(data) - at:
            raise BadMessage("cut short")
        entries.append(Entry(index, term, data[at : at + size]))
        at += size
    return tuple(entries), at
