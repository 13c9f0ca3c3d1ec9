"""Kafka's message schemas by api key and version: kio's classes, built from plain values, read and written.

kio has one set of dataclasses per API version. `build` spares the callers from naming them.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, TypeAlias

from kio.index import load_request_schema, load_response_schema
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer
from kio.serial._implicit_defaults import get_implicit_default
from kio.serial._introspect import EntityField, EntityTupleField, PrimitiveField, classify_field, is_optional
from kio.serial.errors import OutOfBoundValue, SerialError

from ottla.wire.errors import ProtocolError
from ottla.wire.walk import EntityType, Walker

Entity: TypeAlias = Any
"""An instance of one of kio's message classes, or of a class nested in one."""

MAX_ELEMENTS: Final = 100_000
"""Most array elements that `decode` takes, where a struct or a string counts for five: a struct of two bytes becomes
an object of a hundred, and twenty thousand of them already keep the event loop busy for half a second."""


@cache
def request_type(api_key: int, version: int) -> EntityType:
    """kio's request class. Raises kio.index.KioIndexError for what does not exist."""
    return load_request_schema(api_key, version)


@cache
def response_type(api_key: int, version: int) -> EntityType:
    """kio's response class. Raises kio.index.KioIndexError for what does not exist."""
    return load_response_schema(api_key, version)


@cache
def request_header_flexible(api_key: int, version: int) -> bool:
    """Whether requests have header v2, with tagged fields (KIP-482)."""
    return bool(request_type(api_key, version).__header_schema__.__flexible__)


@cache
def response_header_flexible(api_key: int, version: int) -> bool:
    """Whether responses have header v1, with tagged fields. Never for ApiVersions (KIP-511)."""
    return bool(response_type(api_key, version).__header_schema__.__flexible__)


@cache
def walker(cls: EntityType) -> Walker:
    return Walker(cls)


def decode(cls: EntityType, buffer: bytes | memoryview, pos: int = 0, *, max_elements: int = MAX_ELEMENTS) -> Entity:
    """Read one message of class `cls`. Bytes after it are not looked at, as in Kafka.

    Raises ProtocolError, also for more array elements than allowed.
    """
    walk = walker(cls)
    walk.check(buffer, pos, max_elements)
    try:
        try:
            entity, _size = entity_reader(cls)(buffer, pos)
        except (KeyError, OutOfBoundValue):  # kio does not know a tagged field, or a time before 1970
            entity, _size = entity_reader(cls)(walk.known(buffer, pos, max_elements), 0)
    except (SerialError, ValueError, OverflowError, TypeError) as error:
        raise ProtocolError(f"{cls.__name__} v{cls.__version__}: {error}") from error
    return entity


def encode(cls: EntityType, values: Mapping[str, Any] | Entity) -> bytes:
    """A message of class `cls` as bytes, from an instance or from what `build` takes."""
    entity = build(cls, values) if isinstance(values, Mapping) else values
    buffer = io.BytesIO()
    entity_writer(cls)(buffer, entity)
    return buffer.getvalue()


def build(cls: EntityType, values: Mapping[str, Any]) -> Entity:
    """An instance of the kio class `cls` from plain values, under kio's field names.

    Nested structs are mappings, arrays are iterables; instances of the nested class are taken as they
    are. Names that this version does not have are dropped; missing ones get kio's default, or zero,
    empty, null. Times may be ints of ms (for a nullable time -1 is null), error codes ints.
    """
    given = {}
    for name, default, convert in _plan(cls):
        if name not in values:
            given[name] = default()
        elif convert is None:
            given[name] = values[name]
        else:
            given[name] = convert(values[name])
    return cls(**given)


_Convert: TypeAlias = Callable[[Any], Any] | None


@cache
def _plan(cls: EntityType) -> tuple[tuple[str, Callable[[], Any], _Convert], ...]:
    return tuple((field.name, _default_of(field), _converter_of(field)) for field in fields(cls))


def _default_of(field: Field[Any]) -> Callable[[], Any]:
    if field.default is not MISSING:
        default = field.default
        return lambda: default
    kind = classify_field(field)
    if kind.is_array:
        return lambda: ()
    if is_optional(field):
        return lambda: None
    if isinstance(kind, EntityField):
        nested = kind.type_
        return lambda: build(nested, {})
    if field.metadata.get("kafka_type") == "error_code":
        return lambda: ErrorCode.none
    zero = get_implicit_default(kind.type_) if field.metadata.get("kafka_type") != "bool" else False
    return lambda: zero


def _converter_of(field: Field[Any]) -> _Convert:
    kind = classify_field(field)
    one: _Convert = None
    if isinstance(kind, EntityField | EntityTupleField):
        one = _entity_converter(kind.type_)
    elif isinstance(kind, PrimitiveField) or kind.is_array:
        one = _PRIMITIVES.get(str(field.metadata["kafka_type"]))
    if not kind.is_array:
        return one
    if one is None:
        return lambda items: None if items is None else tuple(items)
    return lambda items: None if items is None else tuple([one(item) for item in items])


def _entity_converter(cls: EntityType) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        return build(cls, value) if isinstance(value, Mapping) else value

    return convert


def _to_timedelta(value: Any) -> Any:
    return timedelta(milliseconds=value) if isinstance(value, int) else value


def _to_datetime(value: Any) -> Any:
    if not isinstance(value, int):
        return value
    return None if value < 0 else datetime.fromtimestamp(value / 1000, UTC)


_PRIMITIVES: dict[str, Callable[[Any], Any]] = {
    "error_code": ErrorCode,
    "timedelta_i32": _to_timedelta,
    "timedelta_i64": _to_timedelta,
    "datetime_i64": _to_datetime,
}
