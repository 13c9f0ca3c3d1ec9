"""Counting the array elements of a message before it is turned into objects.

100 MiB of two-byte structs is 6 GB of Python objects. Large requests are walked over here first, which
makes nothing but integers, and those with too many elements are refused.
"""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeAlias

from kio.serial._introspect import EntityField, EntityTupleField, classify_field, get_field_tag, is_optional

from ottla.wire.errors import ProtocolError
from ottla.wire.framing import Frame
from ottla.wire.primitives import read_varint
from ottla.wire.schema import EntityType

_FIXED = {
    "int8": 1,
    "bool": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "error_code": 2,
    "int32": 4,
    "uint32": 4,
    "timedelta_i32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
    "timedelta_i64": 8,
    "datetime_i64": 8,
    "uuid": 16,
}

_Skip: TypeAlias = Callable[["_Walk", int], int]
"""Takes the position of a value, returns that of the next one."""


class _Walk:
    """One pass over one frame. Raises IndexError where the frame ends too early."""

    __slots__ = ("frame", "left", "size")

    def __init__(self, frame: Frame, left: int) -> None:
        self.frame = frame
        self.size = len(frame)
        self.left = left

    def count(self, elements: int, pos: int) -> None:
        if elements > self.size - pos:
            raise ProtocolError(f"an array of {elements} elements with {self.size - pos} bytes left")
        self.left -= elements
        if self.left < 0:
            raise ProtocolError("too many array elements")

    def integer(self, pos: int, size: int) -> int:
        if pos + size > self.size:
            raise IndexError(pos)
        return int.from_bytes(self.frame[pos : pos + size], "big", signed=True)


class ElementCounter:
    """Walks over messages of one class."""

    def __init__(self, cls: EntityType, limit: int) -> None:
        self._name = cls.__name__
        self._limit = limit
        self._skip = _entity(cls)

    def check(self, frame: Frame, pos: int) -> None:
        """Raises ProtocolError if the message at `pos` has more array elements than the limit, or is cut off."""
        walk = _Walk(frame, self._limit)
        try:
            end = self._skip(walk, pos)
        except IndexError as error:
            raise ProtocolError(f"{self._name} is cut off") from error
        if end > walk.size:
            raise ProtocolError(f"{self._name} is cut off")


def _entity(cls: EntityType) -> _Skip:
    plain: list[_Skip] = []
    tagged: dict[int, _Skip] = {}
    for field in fields(cls):
        tag = get_field_tag(field)
        if tag is None:
            plain.append(_field(field, cls.__flexible__, nullable=is_optional(field)))
        else:
            tagged[tag] = _field(field, cls.__flexible__, nullable=False)

    def skip(walk: _Walk, pos: int) -> int:
        for skip_field in plain:
            pos = skip_field(walk, pos)
            if pos > walk.size:
                raise IndexError(pos)
        return _tags(walk, pos, tagged) if flexible else pos

    flexible = cls.__flexible__
    return skip


def _tags(walk: _Walk, pos: int, tagged: dict[int, _Skip]) -> int:
    count, pos = read_varint(walk.frame, pos)
    walk.count(count, pos)
    for _ in range(count):
        tag, pos = read_varint(walk.frame, pos)
        size, pos = read_varint(walk.frame, pos)
        if tag in tagged:
            tagged[tag](walk, pos)
        pos += size
    return pos


def _field(field: Any, flexible: bool, *, nullable: bool) -> _Skip:
    kind = classify_field(field)
    if isinstance(kind, EntityField | EntityTupleField):
        one = _entity(kind.type_)
        if not kind.is_array and nullable:
            one = _nullable(one)
        fixed = None
    else:
        kafka_type = str(field.metadata["kafka_type"])
        fixed = _FIXED.get(kafka_type)
        one = _sized(fixed) if fixed else _blob(kafka_type, flexible)
    return _array(one, fixed, flexible) if kind.is_array else one


def _sized(size: int) -> _Skip:
    return lambda walk, pos: pos + size


def _nullable(one: _Skip) -> _Skip:
    # A struct that may be null starts with a byte that says so (KIP-893).
    return lambda walk, pos: pos + 1 if walk.integer(pos, 1) < 0 else one(walk, pos + 1)


def _blob(kafka_type: str, flexible: bool) -> _Skip:
    prefix = 2 if kafka_type == "string" else 4

    def skip(walk: _Walk, pos: int) -> int:
        return pos + prefix + max(walk.integer(pos, prefix), 0)

    def skip_compact(walk: _Walk, pos: int) -> int:
        size, pos = read_varint(walk.frame, pos)
        return pos + max(size - 1, 0)

    return skip_compact if flexible else skip


def _array(one: _Skip, fixed: int | None, flexible: bool) -> _Skip:
    def skip(walk: _Walk, pos: int) -> int:
        if flexible:
            count, pos = read_varint(walk.frame, pos)
            count -= 1
        else:
            count = walk.integer(pos, 4)
            pos += 4
        if count <= 0:
            return pos
        walk.count(count, pos)
        if fixed is not None:
            return pos + count * fixed
        for _ in range(count):
            pos = one(walk, pos)
        return pos

    return skip
