"""The few primitive encodings that hand-written code needs: unsigned varints and tagged fields (KIP-482)."""

import struct

from ottla.wire.errors import ProtocolError
from ottla.wire.framing import Frame

_I16 = struct.Struct(">h")
_I32 = struct.Struct(">i")

MAX_TAGS = 1000
"""Most tagged fields taken in one struct; the known ones are a handful."""

VARINTS = tuple(bytes((value,)) if value < 0x80 else bytes((value & 0x7F | 0x80, value >> 7)) for value in range(1024))
"""The unsigned varints of 0 to 1023."""
SHORT = len(VARINTS) - 1
"""Arrays and bytes with fewer elements have a size that is found in `VARINTS`, one further on."""


def read_varint(frame: Frame, pos: int) -> tuple[int, int]:
    """An unsigned varint of at most 32 bits and the position after it. Raises IndexError at the end of the frame."""
    byte = frame[pos]
    pos += 1
    if byte < 0x80:
        return byte, pos
    value = byte & 0x7F
    shift = 7
    while True:
        byte = frame[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7
        if shift > 28:
            raise ProtocolError("a varint of more than five bytes")


def varint(value: int) -> bytes:
    """An unsigned varint."""
    if value <= SHORT:
        return VARINTS[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def skip_tags(frame: Frame, pos: int) -> int:
    """Past tagged fields of which none is known. Raises IndexError at the end of the frame."""
    if frame[pos] == 0:
        return pos + 1
    count, pos = read_varint(frame, pos)
    if count:
        if count > MAX_TAGS:
            raise ProtocolError(f"{count} tagged fields")
        for _ in range(count):
            _tag, pos = read_varint(frame, pos)
            size, pos = read_varint(frame, pos)
            pos += size
        if pos > len(frame):
            raise IndexError(pos)
    return pos


def read_tags(frame: Frame, pos: int) -> tuple[dict[int, tuple[int, int]], int]:
    """Tagged fields as {tag: (start, end)} and the position after them. Raises IndexError at the end of the frame."""
    count, pos = read_varint(frame, pos)
    if count > MAX_TAGS:
        raise ProtocolError(f"{count} tagged fields")
    tags = {}
    for _ in range(count):
        tag, pos = read_varint(frame, pos)
        size, pos = read_varint(frame, pos)
        tags[tag] = (pos, pos + size)
        pos += size
    if pos > len(frame):
        raise IndexError(pos)
    return tags, pos


def read_string(frame: Frame, pos: int, flexible: bool) -> tuple[str | None, int]:
    """A string, or None for null, and the position after it.

    Raises IndexError at the end of the frame, UnicodeDecodeError.
    """
    if flexible:
        size, pos = (size, pos + 1) if (size := frame[pos]) < 0x80 else read_varint(frame, pos)
        size -= 1
    else:
        (size,) = _I16.unpack_from(frame, pos)
        pos += 2
    if size < 0:
        return None, pos
    stop = pos + size
    if stop > len(frame):
        raise IndexError(pos)
    return str(frame[pos:stop], "utf-8"), stop


def string(text: str | None, flexible: bool) -> bytes:
    """A string, or null."""
    if text is None:
        return b"\0" if flexible else b"\xff\xff"
    data = text.encode()
    if not flexible:
        return _I16.pack(len(data)) + data
    size = len(data)
    return (VARINTS[size + 1] if size < SHORT else varint(size + 1)) + data


def array_size(count: int, flexible: bool) -> bytes:
    """The length of an array, or of bytes."""
    if not flexible:
        return _I32.pack(count)
    return VARINTS[count + 1] if count < SHORT else varint(count + 1)
