"""Kafka's primitive types, as the records of the internal topics are made of. Big-endian; strings are UTF-8."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from uuid import UUID

_INT16 = struct.Struct(">h")
_INT32 = struct.Struct(">i")
_INT64 = struct.Struct(">q")
_MAX_STRING = 0x7FFF
_MAX_VARINT_SHIFT = 28


class BadRecord(Exception):
    """A record of an internal topic that cannot be read."""


class Writer:
    """Collects one key or value. With `flexible`, lengths are compact and structs end with tagged fields (KIP-482)."""

    __slots__ = ("_out", "flexible")

    def __init__(self, *, flexible: bool = False) -> None:
        self._out = bytearray()
        self.flexible = flexible

    def done(self) -> bytes:
        return bytes(self._out)

    def int8(self, value: int) -> None:
        self._out += value.to_bytes(1, "big", signed=True)

    def int16(self, value: int) -> None:
        self._out += _INT16.pack(value)

    def int32(self, value: int) -> None:
        self._out += _INT32.pack(value)

    def int64(self, value: int) -> None:
        self._out += _INT64.pack(value)

    def uuid(self, value: UUID) -> None:
        self._out += value.bytes

    def varint(self, value: int) -> None:
        """Unsigned."""
        while value > 0x7F:
            self._out.append(value & 0x7F | 0x80)
            value >>= 7
        self._out.append(value)

    def string(self, value: str) -> None:
        """Raises ValueError for more than 32,767 bytes where the length has 16 bits."""
        data = value.encode()
        if self.flexible:
            self.varint(len(data) + 1)
        elif len(data) > _MAX_STRING:
            raise ValueError(f"a string of {len(data)} bytes")
        else:
            self.int16(len(data))
        self._out += data

    def nullable_string(self, value: str | None) -> None:
        if value is not None:
            self.string(value)
        elif self.flexible:
            self.varint(0)
        else:
            self.int16(-1)

    def blob(self, value: bytes) -> None:
        self.count(len(value))
        self._out += value

    def count(self, value: int) -> None:
        """The number of elements of an array that follows."""
        if self.flexible:
            self.varint(value + 1)
        else:
            self.int32(value)

    def no_elements(self) -> None:
        """An array that is null."""
        self.count(-1)

    def no_tagged_fields(self) -> None:
        if self.flexible:
            self.varint(0)

    def tagged_fields(self, fields: Mapping[int, bytes]) -> None:
        """By tag. Only where the version has them."""
        self.varint(len(fields))
        for tag in sorted(fields):
            self.varint(tag)
            self.varint(len(fields[tag]))
            self._out += fields[tag]


class Reader:
    """Reads what `Writer` writes. Everything raises BadRecord when the bytes do not hold it."""

    __slots__ = ("_at", "_data", "flexible")

    def __init__(self, data: bytes, *, flexible: bool = False) -> None:
        self._data = data
        self._at = 0
        self.flexible = flexible

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if size < 0 or end > len(self._data):
            raise BadRecord(f"{size} bytes wanted at {self._at} of {len(self._data)}")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def _unpack(self, form: struct.Struct) -> int:
        value: int = form.unpack(self._take(form.size))[0]
        return value

    def int8(self) -> int:
        return int.from_bytes(self._take(1), "big", signed=True)

    def int16(self) -> int:
        return self._unpack(_INT16)

    def int32(self) -> int:
        return self._unpack(_INT32)

    def int64(self) -> int:
        return self._unpack(_INT64)

    def uuid(self) -> UUID:
        return UUID(bytes=self._take(16))

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > _MAX_VARINT_SHIFT:
                raise BadRecord("a varint does not end")

    def nullable_string(self) -> str | None:
        size = self.varint() - 1 if self.flexible else self.int16()
        if size == -1:
            return None
        try:
            return self._take(size).decode()
        except UnicodeDecodeError as error:
            raise BadRecord(str(error)) from error

    def string(self) -> str:
        value = self.nullable_string()
        if value is None:
            raise BadRecord("a string is missing")
        return value

    def blob(self) -> bytes:
        return self._take(self.varint() - 1 if self.flexible else self.int32())

    def nullable_blob(self) -> bytes | None:
        size = self.varint() - 1 if self.flexible else self.int32()
        return None if size == -1 else self._take(size)

    def nullable_count(self) -> int | None:
        """The same for an array that may be null."""
        size = self.varint() - 1 if self.flexible else self.int32()
        return None if size == -1 else self._checked(size)

    def count(self) -> int:
        """The number of elements that follow; one that the bytes cannot hold is refused."""
        return self._checked(self.varint() - 1 if self.flexible else self.int32())

    def _checked(self, value: int) -> int:
        if not 0 <= value <= len(self._data) - self._at:
            raise BadRecord(f"{value} elements with {len(self._data) - self._at} bytes left")
        return value

    def tagged_fields(self) -> dict[int, bytes]:
        """The tagged fields at the end of a struct, by tag; none where the version has none."""
        if not self.flexible:
            return {}
        fields = {}
        for _ in range(self.varint()):
            tag = self.varint()
            fields[tag] = self._take(self.varint())
        return fields
