"""Several Raft messages in one body, each prefixed with its length: unsigned, 32 bits, big-endian. Pure."""

import struct
from collections.abc import Iterable

_LENGTH = struct.Struct(">I")
FRAME_OVERHEAD = _LENGTH.size


class BadFrame(ValueError):
    """A length runs past the end of the body."""


def join_frames(frames: Iterable[bytes]) -> bytes:
    parts: list[bytes] = []
    for frame in frames:
        parts += (_LENGTH.pack(len(frame)), frame)
    return b"".join(parts)


def split_frames(body: bytes) -> list[bytes]:
    """The frames of a body in order. Raises BadFrame when one is cut short."""
    frames: list[bytes] = []
    at, end = 0, len(body)
    while at < end:
        if end - at < FRAME_OVERHEAD:
            raise BadFrame(f"{end - at} bytes are left where a length should be")
        (size,) = _LENGTH.unpack_from(body, at)
        at += FRAME_OVERHEAD
        if size > end - at:
            raise BadFrame(f"a frame of {size} bytes with {end - at} left")
        frames.append(body[at : at + size])
        at += size
    return frames
