"""Walking over a message without making objects of it, by kio's schema.

Every message goes through here before kio reads it. kio's reader reserves memory for as many elements as an
array claims to have, so that ten bytes can make it ask for 32 GiB, which aborts the process; and a hundred
MiB of two-byte structs, all really there, is 6 GB of Python objects. So the walk refuses arrays that are longer
than what is left of the frame, and too many elements in all. It is strict wherever kio might be of another
opinion on where the next field starts.

Besides, kio fails on tagged fields that it does not know, which must be ignored (KIP-482), and on times before
1970, of which -1 says that there is none: a message that has some is copied without them, and with 1970.
"""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeAlias

from kio.serial._introspect import EntityField, EntityTupleField, classify_field, get_field_tag, is_optional

from ottla.wire.errors import ProtocolError
from ottla.wire.framing import Frame
from ottla.wire.primitives import read_varint, varint

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

# As its compact length says, which is one more.
_MAX_STRING = 0x7FFF + 1
"""As many as a length of 16 bits can say, also where it is a varint: records of internal topics have such lengths."""
_MAX_BLOB = 0x7FFFFFFF + 1

_TIME = "datetime_i64"

_WEIGHT = 5
"""What an element counts that is more than a number: a struct, a string."""

EntityType: TypeAlias = Any

_Skip: TypeAlias = Callable[["_Walk", int], int]
"""Takes the position of a value, returns that of the next one."""


class _Walk:
    """One pass over one frame, which may copy what it passes. Raises IndexError where the frame ends too early."""

    __slots__ = ("copied", "frame", "left", "out", "size")

    def __init__(self, frame: Frame, left: int, out: bytearray | None, pos: int) -> None:
        self.frame = frame
        self.size = len(frame)
        self.left = left
        self.out = out
        self.copied = pos

    def copy_until(self, out: bytearray, pos: int) -> None:
        """What was passed since the last call, up to `pos`."""
        out += self.frame[self.copied : pos]
        self.copied = pos

    def count(self, elements: int, pos: int, weight: int = 1) -> None:
        if elements > self.size - pos:
            raise ProtocolError(f"an array of {elements} elements with {self.size - pos} bytes left")
        self.left -= elements * weight
        if self.left < 0:
            raise ProtocolError("too many array elements")

    def integer(self, pos: int, size: int) -> int:
        if pos + size > self.size:
            raise IndexError(pos)
        return int.from_bytes(self.frame[pos : pos + size], "big", signed=True)


class Walker:
    """Walks over messages of one class of kio's."""

    def __init__(self, cls: EntityType) -> None:
        self._name = cls.__name__
        self._skip = _entity(cls)

    def check(self, frame: Frame, pos: int, max_elements: int) -> None:
        """Raises ProtocolError if the message at `pos` has more array elements than allowed, or is cut off."""
        self._walk(_Walk(frame, max_elements, None, pos), pos)

    def known(self, frame: Frame, pos: int, max_elements: int) -> bytes:
        """The message at `pos` without the tagged fields that its class does not have, and times before 1970 as 1970.

        Raises ProtocolError as `check` does.
        """
        out = bytearray()
        walk = _Walk(frame, max_elements, out, pos)
        walk.copy_until(out, self._walk(walk, pos))
        return bytes(out)

    def _walk(self, walk: _Walk, pos: int) -> int:
        try:
            end = self._skip(walk, pos)
        except IndexError as error:
            raise ProtocolError(f"{self._name} is cut off") from error
        if end > walk.size:
            raise ProtocolError(f"{self._name} is cut off")
        return end


def _entity(cls: EntityType) -> _Skip:
    steps, tagged = _steps(cls)
    flexible = cls.__flexible__

    def skip(walk: _Walk, pos: int) -> int:
        size = walk.size
        for step in steps:
            pos = pos + step if step.__class__ is int else step(walk, pos)
            if pos > size:
                raise IndexError(pos)
        if not flexible:
            return pos
        # Hardly any struct has tagged fields: then one zero byte says so.
        return pos + 1 if walk.out is None and walk.frame[pos] == 0 else _tags(walk, pos, tagged)

    return skip


def _steps(cls: EntityType) -> tuple[list[Any], dict[int, _Skip]]:
    """The fields in order, each as a number of bytes or as what walks over it, and the tagged ones."""
    steps: list[Any] = []
    tagged: dict[int, _Skip] = {}
    for field in fields(cls):
        tag = get_field_tag(field)
        if tag is not None:
            tagged[tag] = _field(field, cls.__flexible__, nullable=False)
            continue
        kind = classify_field(field)
        kafka_type = str(field.metadata.get("kafka_type"))
        if kafka_type == _TIME and not kind.is_array and not is_optional(field):
            steps.append(_time)
            continue
        fixed = None if kind.is_array else _FIXED.get(kafka_type)
        if fixed is None:
            steps.append(_field(field, cls.__flexible__, nullable=is_optional(field)))
        elif steps and isinstance(steps[-1], int):
            steps[-1] += fixed
        else:
            steps.append(fixed)
    return steps, tagged


def _tags(walk: _Walk, pos: int, tagged: dict[int, _Skip]) -> int:
    out = walk.out
    if out is not None:
        walk.copy_until(out, pos)
    count, pos = read_varint(walk.frame, pos)
    if count == 0 and out is None:
        return pos
    walk.count(count, pos)
    kept = 0
    values = bytearray()
    for _ in range(count):
        tag, pos = read_varint(walk.frame, pos)
        size, pos = read_varint(walk.frame, pos)
        if pos + size > walk.size:
            raise IndexError(pos)
        if tag in tagged:
            kept += 1
            value = _tagged_value(walk, pos, size, tagged[tag])
            values += varint(tag) + varint(len(value)) + value
        pos += size
    if out is not None:
        out += varint(kept) + values
        walk.copied = pos
    return pos


def _tagged_value(walk: _Walk, pos: int, size: int, skip: _Skip) -> bytearray:
    """Walk over the value of a known tagged field; what is kept of it, if anything is."""
    outer, value = walk.out, bytearray()
    if outer is not None:
        walk.out, walk.copied = value, pos
    end = skip(walk, pos)
    if end != pos + size:
        raise ProtocolError(f"a tagged field of {size} bytes has {end - pos}")
    if outer is not None:
        walk.copy_until(value, end)
        walk.out = outer
    return value


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
    return _array(one, fixed, flexible, nullable=is_optional(field)) if kind.is_array else one


def _sized(size: int) -> _Skip:
    return lambda walk, pos: pos + size


def _time(walk: _Walk, pos: int) -> int:
    if walk.out is not None and walk.integer(pos, 8) < 0:
        walk.copy_until(walk.out, pos)
        walk.out += bytes(8)
        walk.copied = pos + 8
    return pos + 8


def _nullable(one: _Skip) -> _Skip:
    # A struct that may be null starts with a byte that says so (KIP-893).
    def skip(walk: _Walk, pos: int) -> int:
        marker = walk.integer(pos, 1)
        if marker not in (-1, 1):
            raise ProtocolError(f"a struct is neither there nor null, but {marker}")
        return pos + 1 if marker < 0 else one(walk, pos + 1)

    return skip


def _blob(kafka_type: str, flexible: bool) -> _Skip:
    prefix = 2 if kafka_type == "string" else 4
    longest = _MAX_STRING if kafka_type == "string" else _MAX_BLOB

    def skip(walk: _Walk, pos: int) -> int:
        size = walk.integer(pos, prefix)
        if size < -1:
            raise ProtocolError(f"a {kafka_type} of {size} bytes")
        return pos + prefix + max(size, 0)

    def skip_compact(walk: _Walk, pos: int) -> int:
        size = walk.frame[pos]
        if size >= 0x80:
            size, pos = read_varint(walk.frame, pos)
            if size > longest:
                raise ProtocolError(f"a {kafka_type} of {size - 1} bytes")
            pos -= 1
        return pos + size if size else pos + 1

    return skip_compact if flexible else skip


def _array(one: _Skip, fixed: int | None, flexible: bool, *, nullable: bool) -> _Skip:
    def skip(walk: _Walk, pos: int) -> int:
        if flexible:
            count, pos = read_varint(walk.frame, pos)
            count -= 1
        else:
            count = walk.integer(pos, 4)
            pos += 4
        if count <= 0:
            if count < -1 or (count < 0 and not nullable):
                raise ProtocolError(f"an array of {count} elements")
            return pos
        if fixed is not None:
            walk.count(count, pos)
            return pos + count * fixed
        walk.count(count, pos, _WEIGHT)
        for _ in range(count):
            pos = one(walk, pos)
        return pos

    return skip
