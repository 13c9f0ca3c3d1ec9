"""What goes over a Raft stream: frames that cannot be forged, altered, left out, reordered or repeated. Pure.

    size    u32   of the body
    heard   u64   bytes of the other direction that the writer of this had received
    tag     16    HMAC-SHA256 over number, `heard` and body, cut to 128 bits
    body          Raft messages, each with its length (`framing`); nothing: an answer is wanted, or is this

The number of a frame counts from 0 and is not sent. The key is of one connection and one direction (`stream_key` in
`identity`), so a frame fits in one place only, and one that does not fit ends the stream.
"""

import hmac
import struct
from collections.abc import Iterable, Iterator

from ottla.controller.rpc.framing import BadFrame, join_frames

TAG_BYTES = 16
HEAD = struct.Struct(f">IQ{TAG_BYTES}s")
_SIGNED = struct.Struct(">QQ")


class Sealer:
    """Makes the frames of one direction."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._number = 0

    def seal(self, messages: Iterable[bytes], heard: int) -> bytes:
        """The next frame."""
        body = join_frames(messages)
        tag = hmac.digest(self._key, _SIGNED.pack(self._number, heard) + body, "sha256")[:TAG_BYTES]
        self._number += 1
        return HEAD.pack(len(body), heard, tag) + body


class Opener:
    """Takes the frames of one direction apart. Keeps what is incomplete, at most one frame of `largest` bytes."""

    def __init__(self, key: bytes, largest: int) -> None:
        self._key = key
        self._largest = largest
        self._number = 0
        self._kept = bytearray()

    @property
    def incomplete(self) -> bool:
        """Whether the rest of a frame is still to come."""
        return bool(self._kept)

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """`heard` and body of each frame that is complete. Raises BadFrame for one that has no place here."""
        whole: bytes | bytearray = data
        if self._kept:
            self._kept += data
            whole = self._kept
        at, end = 0, len(whole)
        while end - at >= HEAD.size:
            size, heard, tag = HEAD.unpack_from(whole, at)
            if size > self._largest:
                raise BadFrame(f"a frame of {size} bytes is larger than {self._largest}")
            begin = at + HEAD.size
            if size > end - begin:
                break
            at = begin + size
            body = bytes(whole[begin:at])
            expected = hmac.digest(self._key, _SIGNED.pack(self._number, heard) + body, "sha256")[:TAG_BYTES]
            if not hmac.compare_digest(expected, tag):
                raise BadFrame(f"frame {self._number} is not signed for this place")
            self._number += 1
            yield heard, body
        if whole is self._kept:
            del self._kept[:at]
        elif at < end:
            self._kept += data[at:]
