"""Cutting a byte stream into frames: an int32 length, then that many bytes.

The transport writes straight into the memory that `buffer` gives. Small frames arrive in a block that
is used over and over, and are copied out of it once. A frame that does not fit there gets memory of its
own, which is handed on as it is, and which grows as bytes arrive: a length is only a claim. Memory that
nobody looks at any more is used again (`Spares`), as fresh memory costs more than what is done with it.
"""

import struct
from collections import deque

from ottla.wire.errors import ProtocolError

Frame = bytes | memoryview

BLOCK_SIZE = 64 * 1024
_STEP = 256 * 1024
_LENGTH = struct.Struct(">i")
_MAX_SPARES = 8
_MAX_SPARE_SIZE = 4 * 1024 * 1024


class Spares:
    """Memory of large frames that have been handled, shared by the connections of a server; 32 MiB at most."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: deque[bytearray] = deque(maxlen=_MAX_SPARES)

    def give(self, memory: bytearray) -> None:
        """Whoever still has a view of it may keep it: it is only taken when there is none."""
        if len(memory) <= _MAX_SPARE_SIZE:
            self._kept.append(memory)

    def take(self, size: int) -> bytearray | None:
        """Memory of at least this size that nobody has a view of, if there is some."""
        for _ in range(len(self._kept)):
            memory = self._kept.popleft()
            if len(memory) >= size and _unseen(memory):
                return memory
            self._kept.append(memory)
        return None


def _unseen(memory: bytearray) -> bool:
    try:
        # A bytearray refuses to change its size while there is a view of it; this moves and copies nothing.
        memory.append(memory.pop())
    except BufferError:
        return False
    return True


class FrameReader:
    """Feed: `buffer()` for memory, bytes into its front, `received(n)`. Take: `next()` until it returns None.

    `max_frame` is the largest length taken. `allocated` is the size in bytes of the memory held for a
    large frame that is not complete yet. `partial` says whether bytes of an incomplete frame, or frames not taken yet,
    are held.
    """

    __slots__ = (
        "_block",
        "_end",
        "_filled",
        "_large",
        "_large_length",
        "_max_frame",
        "_spares",
        "_start",
        "_view",
        "partial",
    )

    def __init__(self, max_frame: int, spares: Spares | None = None) -> None:
        self._max_frame = max_frame
        self._spares = spares or Spares()
        self._block = bytearray(BLOCK_SIZE)
        self._view = memoryview(self._block)
        self._start = 0
        self._end = 0
        self._large: bytearray | None = None
        self._large_length = 0
        self._filled = 0
        self.partial = False

    @property
    def allocated(self) -> int:
        return 0 if self._large is None else len(self._large)

    @property
    def needs_memory(self) -> bool:
        """Whether the next call of `buffer` allocates."""
        return self._large is not None and self._filled == len(self._large) < self._large_length

    @property
    def has_room(self) -> bool:
        """Whether `buffer` has memory to give although `next` was not called until None."""
        if self._large is not None:
            return self._filled < self._large_length
        return self._end - self._start < BLOCK_SIZE

    def buffer(self) -> memoryview:
        """Memory for the next bytes, never empty as long as `next` was called until None."""
        large = self._large
        if large is None:
            if self._start == self._end:
                self._start = self._end = 0
            elif self._start and BLOCK_SIZE - self._end < BLOCK_SIZE // 4:
                self._compact()
            return self._view[self._end :]
        if self._filled == len(large):
            # No view of it is out: the transport has given the last one back before it asks again.
            whole = -(-self._large_length // _STEP) * _STEP
            large.extend(bytes(min(len(large), whole - len(large))))
        return memoryview(large)[self._filled : self._large_length]

    def received(self, size: int) -> None:
        """The first `size` bytes of `buffer()` have been filled; at least one."""
        self.partial = True
        if self._large is None:
            self._end += size
        else:
            self._filled += size

    def next(self) -> Frame | None:
        """The next whole frame without its length, or None until more bytes have come.

        Raises ProtocolError for a length that is negative or above the limit, with the first bytes in the text.
        """
        large = self._large
        if large is not None:
            if self._filled < self._large_length:
                return None
            self._large = None
            self.partial = False
            self._spares.give(large)
            return memoryview(large)[: self._large_length].toreadonly()
        start = self._start
        have = self._end - start
        if have < 4:
            return None
        (length,) = _LENGTH.unpack_from(self._block, start)
        if not 0 <= length <= self._max_frame:
            head = bytes(self._view[start : min(start + 16, self._end)])
            raise ProtocolError(f"a frame of {length} bytes, from {head!r}")
        stop = start + 4 + length
        if stop <= self._end:
            self._start = stop
            self.partial = stop != self._end
            return bytes(self._view[start + 4 : stop])
        if 4 + length > BLOCK_SIZE:
            self._begin_large(length)
        return None

    def _begin_large(self, length: int) -> None:
        arrived = self._view[self._start + 4 : self._end]
        large = self._spares.take(length) or bytearray(_STEP)
        large[: len(arrived)] = arrived
        self._filled = len(arrived)
        self._large = large
        self._large_length = length
        self._start = self._end = 0

    def _compact(self) -> None:
        left = self._end - self._start
        self._view[:left] = bytes(self._view[self._start : self._end])
        self._start, self._end = 0, left
