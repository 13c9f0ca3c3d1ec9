"""Where messages begin in the bytes of a connection: Kafka frames, HTTP between controllers, streams of Raft. Pure.

A connection that is seen only from its middle on is understood from the next write that looks like a whole message.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Protocol

from kio.schema.index import api_key_map

from ottla.controller.rpc.server import CONTROLLER_PATH, RAFT_PATH, WATCH_PATH
from ottla.controller.rpc.stream import MAX_FRAME_BYTES
from ottla.controller.rpc.stream_codec import HEAD
from ottla.simulation.messages import END_OF_HEADERS, PEEK, Message, Names, Piece, raft_names

_LARGEST = 100 * 1024 * 1024
_REQUEST = struct.Struct(">ihhi")
_RESPONSE = struct.Struct(">ii")
_NEWEST_VERSION = 30
API_NAMES = {key: "".join(word.capitalize() for word in name.split("_")) for key, name in api_key_map.items()}
RAFT_STREAM = ("RaftStream",)
_OF_PATHS = {WATCH_PATH: ("Watch",), RAFT_PATH: RAFT_STREAM}


class Stream(Protocol):
    """One direction of a connection."""

    def feed(self, data: bytes) -> list[Piece]:
        """What can be sent on now that `data` was written; some of it may be kept until more has come."""

    def rest(self) -> bytes:
        """What was kept: nothing more will come."""


class KafkaStream:
    """`questions` is shared by both directions: what was asked, by correlation id."""

    def __init__(self, questions: dict[int, Names], *, response: bool, fresh: bool) -> None:
        self._questions = questions
        self._response = response
        self._synced = fresh
        self._kept = bytearray()
        self._left = 0

    def feed(self, data: bytes) -> list[Piece]:
        if not self._synced:
            if not self._looks_whole(data):
                return [Piece(data, None)]
            self._synced = True
        self._kept += data
        pieces = []
        while self._kept:
            if self._left:
                pieces.append(Piece(self._take(min(self._left, len(self._kept))), None))
                self._left -= len(pieces[-1].data)
                continue
            size = 4 + int.from_bytes(self._kept[:4], "big")
            if len(self._kept) < min(size, PEEK) or len(self._kept) < 4:
                break
            begun = self._take(min(size, len(self._kept)))
            self._left = size - len(begun)
            message = Message("kafka", self._names(begun), self._response, begun[:PEEK], size)
            pieces.append(Piece(begun, message))
        return pieces

    def rest(self) -> bytes:
        return self._take(len(self._kept))

    def _take(self, size: int) -> bytes:
        return _take(self._kept, size)

    def _names(self, frame: bytes) -> Names:
        if self._response:
            return self._questions.pop(_RESPONSE.unpack_from(frame)[1], ()) if len(frame) >= _RESPONSE.size else ()
        if len(frame) < _REQUEST.size:
            return ()
        _, key, _, correlation_id = _REQUEST.unpack_from(frame)
        names = (API_NAMES[key],) if key in API_NAMES else ()
        self._questions[correlation_id] = names
        return names

    def _looks_whole(self, data: bytes) -> bool:
        """Whether it is frames from end to end."""
        at = 0
        while at < len(data):
            least = _RESPONSE if self._response else _REQUEST
            if len(data) - at < least.size:
                return False
            size, key, version = (*least.unpack_from(data, at), 0, 0)[:3]
            if not least.size - 4 <= size <= _LARGEST:
                return False
            if not self._response and (key not in API_NAMES or not 0 <= version <= _NEWEST_VERSION):
                return False
            at += 4 + size
        return at == len(data)


class RaftFrames:
    """One direction of a stream of Raft messages. `looks_like` is for those that are seen from their middle on."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._left = 0

    @staticmethod
    def looks_like(data: bytes) -> bool:
        """Whether it is frames from end to end, and at least one."""
        at = 0
        while len(data) - at >= HEAD.size:
            size = HEAD.unpack_from(data, at)[0]
            if size > MAX_FRAME_BYTES:
                return False
            at += HEAD.size + size
        return at == len(data) > 0

    def feed(self, data: bytes) -> list[Piece]:
        self._kept += data
        pieces = []
        while self._kept:
            if self._left:
                begun, message = _take(self._kept, self._left), None
            else:
                if len(self._kept) < HEAD.size:
                    break
                size = HEAD.size + HEAD.unpack_from(self._kept)[0]
                if len(self._kept) < min(size, PEEK):
                    break
                begun, self._left = _take(self._kept, size), size
                message = Message("controller", raft_names(begun[HEAD.size : PEEK]), False, begun[:PEEK], size)
            self._left -= len(begun)
            pieces.append(Piece(begun, message))
        return pieces

    def rest(self) -> bytes:
        return _take(self._kept, len(self._kept))


class HttpStream:
    """`questions` is shared by both directions: what was asked, in order; HTTP/1.1 answers in that order. After a
    request for a stream and its answer, both are RaftFrames."""

    def __init__(self, questions: deque[Names], *, response: bool, fresh: bool) -> None:
        self._questions = questions
        self._response = response
        self._synced = fresh
        self._kept = bytearray()
        self._left = 0
        self._endless = False
        self._frames: RaftFrames | None = None

    def feed(self, data: bytes) -> list[Piece]:
        if self._frames is not None:
            return self._frames.feed(data)
        if self._endless:
            return [Piece(data, None)]
        if not self._synced and not self._kept and RaftFrames.looks_like(data):
            self._frames = RaftFrames()
            return self._frames.feed(data)
        self._kept += data
        pieces = []
        while self._kept:
            if self._left:
                pieces.append(Piece(_take(self._kept, min(self._left, len(self._kept))), None))
                self._left -= len(pieces[-1].data)
                continue
            if not self._begins():
                pieces.append(Piece(self.rest(), None))  # the middle of something
                break
            end = self._kept.find(END_OF_HEADERS)
            if end < 0:
                break
            head = bytes(self._kept[:end])
            size = end + len(END_OF_HEADERS) + _content_length(head)
            if len(self._kept) < min(size, PEEK):
                break
            begun = _take(self._kept, min(size, len(self._kept)))
            self._left = size - len(begun)
            self._endless = b"chunked" in head.lower()
            names, response = self._names(head)
            pieces.append(Piece(begun, Message("controller", names, response, begun[:PEEK], size)))
            if head.startswith(b"HTTP/1.1 101") or (names == RAFT_STREAM and not response):
                self._frames = RaftFrames()
                pieces += self._frames.feed(_take(self._kept, len(self._kept)))
            if self._endless:
                pieces.append(Piece(self.rest(), None))
                break
        return [piece for piece in pieces if piece.data]

    def rest(self) -> bytes:
        return _take(self._kept, len(self._kept)) if self._frames is None else self._frames.rest()

    def _begins(self) -> bool:
        """Whether what is kept is the beginning of a message."""
        if self._synced:
            return True
        self._synced = self._kept.startswith((b"HTTP/1.",) if self._response else (b"POST ", b"GET "))
        return self._synced

    def _names(self, head: bytes) -> tuple[Names, bool]:
        """What it is called, and whether it is a `response`."""
        if self._response:
            return self._questions.popleft() if self._questions else (), True
        path = head.split(b" ", 2)[1].decode().partition("?")[0]
        names = _OF_PATHS.get(path) or (path.removeprefix(CONTROLLER_PATH),)
        self._questions.append(names)
        return names, False


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


def _take(kept: bytearray, size: int) -> bytes:
    """The first bytes, as many as there are of `size`."""
    taken = bytes(kept[:size])
    del kept[:size]
    return taken
