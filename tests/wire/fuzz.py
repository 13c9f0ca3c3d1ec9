"""Requests with made-up contents, whole and damaged, for every API and version of a registry."""

import random
import struct
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from kio.schema.errors import ErrorCode
from kio.serial._introspect import EntityField, EntityTupleField, classify_field, is_optional

from ottla.records import Record, encode_batch
from ottla.wire import Api, Registry, encode, request_type
from ottla.wire.schema import request_header_flexible

_INTEGERS = {
    "int8": 8,
    "int16": 16,
    "int32": 32,
    "int64": 64,
    "uint16": 16,
    "uint32": 32,
}
_WORDS = ("", "a", "orders", "__consumer_offsets", "x" * 255, "grün", "retention.ms", "topic-1", "../..", "1")


def random_entity(cls: Any, rng: random.Random, *, max_items: int = 3) -> Any:
    """An instance of a kio class that kio can write, with any contents."""
    values = {}
    for field in fields(cls):
        tagged = "tag" in field.metadata
        if field.default is not MISSING and rng.random() < 0.2:
            values[field.name] = field.default
        else:
            values[field.name] = _value(field, rng, max_items, nullable=is_optional(field), tagged=tagged)
    return cls(**values)


def _value(field: Any, rng: random.Random, max_items: int, *, nullable: bool, tagged: bool) -> Any:
    kind = classify_field(field)
    if nullable and rng.random() < 0.2 and (not tagged or field.default is None):
        return None
    if isinstance(kind, EntityTupleField):
        return tuple(random_entity(kind.type_, rng, max_items=max_items) for _ in range(rng.randint(0, max_items)))
    if isinstance(kind, EntityField):
        return random_entity(kind.type_, rng, max_items=max_items)
    kafka_type = str(field.metadata["kafka_type"])
    if kind.is_array:
        return tuple(random_primitive(kafka_type, rng) for _ in range(rng.randint(0, max_items)))
    return random_primitive(kafka_type, rng)


def random_primitive(kafka_type: str, rng: random.Random) -> Any:
    if kafka_type in _INTEGERS:
        bits = _INTEGERS[kafka_type]
        low = 0 if kafka_type.startswith("u") else -(2 ** (bits - 1))
        high = 2**bits - 1 if kafka_type.startswith("u") else 2 ** (bits - 1) - 1
        return min(high, max(low, rng.choice((0, 1, 2, -1, 100, 1000, low, high, rng.randint(low, high)))))
    match kafka_type:
        case "bool":
            return rng.random() < 0.5
        case "string":
            return rng.choice(_WORDS)
        case "bytes":
            return rng.randbytes(rng.choice((0, 1, 20)))
        case "records":
            return random_records(rng)
        case "uuid":
            return rng.choice((None, UUID(int=1), UUID(bytes=rng.randbytes(16))))
        case "error_code":
            return rng.choice(list(ErrorCode))
        case "float64":
            return rng.choice((0.0, -1.5, 1e300))
        case "timedelta_i32" | "timedelta_i64":
            return timedelta(milliseconds=rng.choice((-1, 0, 1, 500, 2**31 - 1)))
        case "datetime_i64":
            return datetime.fromtimestamp(rng.choice((0, 1_700_000_000)), UTC)
    raise AssertionError(f"no values for {kafka_type}")


def random_records(rng: random.Random) -> bytes:
    """A sound record batch, two of them, or nothing."""

    def batch() -> bytes:
        records = [
            Record(0, 1_700_000_000_000 + i, rng.choice((None, b"key")), rng.choice((None, rng.randbytes(30))))
            for i in range(rng.randint(1, 3))
        ]
        return encode_batch(records, compression=rng.randint(0, 4), producer_id=rng.choice((-1, 7)), base_sequence=0)

    return b"".join(batch() for _ in range(rng.choice((0, 1, 1, 1, 2))))


@dataclass(frozen=True)
class Fuzzed:
    """One request as bytes, length included; `damage` says what was done to it ("none": it is valid)."""

    api: str
    version: int
    damage: str
    data: bytes


def valid_frame(api: Api, version: int, rng: random.Random, correlation_id: int = 1) -> bytes:
    """A request of this API and version with random contents: header and body, without the length."""
    cls = request_type(api.key, version)
    header = struct.pack(">hhi", api.key, version, correlation_id)
    header += rng.choice((b"\xff\xff", b"\0\0", b"\0\4fuzz"))
    if request_header_flexible(api.key, version):
        header += rng.choice((b"\0", b"\0", b"\1\x05\2xy"))
    return header + encode(cls, random_entity(cls, rng))


def requests(registry: Registry) -> list[tuple[Api, int]]:
    """Every API and version that the registry serves."""
    return [(api, version) for api in registry for version in range(api.min_version, api.max_version + 1)]


def fuzz_one(api: Api, version: int, rng: random.Random) -> Fuzzed:
    """A valid request, or a damaged one."""
    damage = rng.choice(("none", *_DAMAGES))
    frame = bytearray(valid_frame(api, version, rng))
    if damage in _OUTER:
        size = _OUTER[damage](len(frame), rng)
        return Fuzzed(api.name, version, damage, struct.pack(">i", size) + bytes(frame))
    for _ in range(rng.choice((1, 1, 1, 4))):
        if damage != "none" and len(frame) > 8:
            _INNER[damage](frame, rng)
    return Fuzzed(api.name, version, damage, struct.pack(">i", len(frame)) + bytes(frame))


def fuzz(registry: Registry, rng: random.Random) -> Iterator[Fuzzed]:
    """Without end: requests of all APIs and versions in turn, most of them damaged."""
    table = requests(registry)
    while True:
        rng.shuffle(table)
        for api, version in table:
            yield fuzz_one(api, version, rng)


# The key, version and correlation id are left alone by most damages, so that they reach the parser they are meant for.
_BODY = 8


def _flip(frame: bytearray, rng: random.Random) -> None:
    frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)


def _byte(frame: bytearray, rng: random.Random) -> None:
    frame[rng.randrange(_BODY, len(frame))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))


def _truncate(frame: bytearray, rng: random.Random) -> None:
    del frame[rng.randrange(1, len(frame)) :]


def _insert(frame: bytearray, rng: random.Random) -> None:
    at = rng.randrange(_BODY, len(frame))
    frame[at:at] = rng.randbytes(rng.choice((1, 2, 4, 100)))


def _delete(frame: bytearray, rng: random.Random) -> None:
    at = rng.randrange(_BODY, len(frame))
    del frame[at : at + rng.choice((1, 2, 4))]


def _extreme(frame: bytearray, rng: random.Random) -> None:
    word = rng.choice(
        (
            b"\x7f\xff\xff\xff",
            b"\xff\xff\xff\xff",
            b"\x80\0\0\0",
            b"\x7f\xff",
            b"\x80\0",
            b"\xff\xff\xff\xff\x07",
            b"\xff\xff\xff\xff\x0f",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        )
    )
    at = rng.randrange(_BODY, len(frame))
    frame[at : at + len(word)] = word


def _repeat(frame: bytearray, rng: random.Random) -> None:
    at = rng.randrange(_BODY, len(frame))
    frame[at:at] = frame[at : at + 40] * rng.choice((1, 20))


_INNER = {
    "flip": _flip,
    "byte": _byte,
    "truncate": _truncate,
    "insert": _insert,
    "delete": _delete,
    "extreme": _extreme,
    "repeat": _repeat,
}
_OUTER = {
    "longer": lambda size, rng: size + rng.choice((1, 100)),
    "shorter": lambda size, rng: rng.randrange(size),
    "negative": lambda size, rng: rng.choice((-1, -(2**31))),
    "huge": lambda size, rng: rng.choice((2**31 - 1, 101 * 1024 * 1024)),
}
_DAMAGES = (*_INNER, *_OUTER)
