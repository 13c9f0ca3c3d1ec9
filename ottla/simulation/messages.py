"""Messages in the bytes of a connection: Kafka frames, and HTTP between controllers. Pure.

A stream cuts what is sent in one direction at message boundaries and says what each message is called:

    Kafka        the API's name: Produce, Fetch, ApiVersions, ...
    controller   the request's name (AlterPartition, Heartbeat, RegisterBroker, ...), Watch, or for a batch of Raft
                 messages all of their names: AppendEntries, Vote, PreVote, Snapshot, each also with Response behind
                 it (Raft's answers are messages of their own, no `response`: they come in requests, or in HTTP's
                 answers, which are called after them then), TimeoutNow, Join

A connection that is seen only from its middle on is understood from the next write that looks like a whole message.
"""

from __future__ import annotations

import json
import struct
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from kio.schema.index import api_key_map

from ottla.controller.raft import messages as raft
from ottla.controller.rpc import BadMessage, decode_message
from ottla.controller.rpc.framing import BadFrame, split_frames
from ottla.controller.rpc.server import CONTROLLER_PATH, RAFT_PATH, WATCH_PATH

Plane = Literal["kafka", "controller"]
Names = tuple[str, ...]

# As much of a message is looked at before it goes on its way; larger ones are known by their beginning.
PEEK = 64 * 1024
_LARGEST = 100 * 1024 * 1024
_REQUEST = struct.Struct(">ihhi")
_RESPONSE = struct.Struct(">ii")
_NEWEST_VERSION = 30
_END_OF_HEADERS = b"\r\n\r\n"
API_NAMES = {key: "".join(word.capitalize() for word in name.split("_")) for key, name in api_key_map.items()}
_RAFT_NAMES: dict[type, str] = {
    raft.AppendRequest: "AppendEntries",
    raft.AppendResponse: "AppendEntriesResponse",
    raft.SnapshotChunk: "Snapshot",
    raft.SnapshotResponse: "SnapshotResponse",
    raft.TimeoutNow: "TimeoutNow",
    raft.JoinRequest: "Join",
}
CONTROLLER_NAMES = (*_RAFT_NAMES.values(), "Vote", "PreVote", "VoteResponse", "PreVoteResponse")


@dataclass(frozen=True, slots=True)
class Message:
    """One message under way. `names`: what it is called, more than one name only for a batch of Raft messages; none
    for an answer whose question was not seen. `data`: its bytes, headers and all, at most the first 64 KiB of `size`.
    """

    plane: Plane
    names: Names
    response: bool
    data: bytes
    size: int

    @property
    def whole(self) -> bool:
        return len(self.data) == self.size

    @property
    def body(self) -> bytes:
        """Without HTTP's headers; of a Kafka frame all behind its size."""
        return self.data[4:] if self.plane == "kafka" else self.data.partition(_END_OF_HEADERS)[2]

    def json(self) -> Any:
        """The content of a controller request or of its answer."""
        return json.loads(self.body)

    @property
    def raft(self) -> tuple[raft.Message, ...]:
        """The Raft messages in it."""
        return tuple(_raft_messages(self.body))


class Piece(NamedTuple):
    """Bytes to send on. `message` is set on the first piece of each."""

    data: bytes
    message: Message | None


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
        taken = bytes(self._kept[:size])
        del self._kept[:size]
        return taken

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


class HttpStream:
    """`questions` is shared by both directions: what was asked, in order; HTTP/1.1 answers in that order."""

    def __init__(self, questions: deque[Names], *, response: bool, fresh: bool) -> None:
        self._questions = questions
        self._response = response
        self._synced = fresh
        self._kept = bytearray()
        self._left = 0
        self._endless = False

    def feed(self, data: bytes) -> list[Piece]:
        if self._endless:
            return [Piece(data, None)]
        self._kept += data
        pieces = []
        while self._kept:
            if self._left:
                pieces.append(Piece(self._take(min(self._left, len(self._kept))), None))
                self._left -= len(pieces[-1].data)
                continue
            if not self._begins():
                pieces.append(Piece(self.rest(), None))  # the middle of something
                break
            end = self._kept.find(_END_OF_HEADERS)
            if end < 0:
                break
            head = bytes(self._kept[:end])
            size = end + len(_END_OF_HEADERS) + _content_length(head)
            if len(self._kept) < min(size, PEEK):
                break
            begun = self._take(min(size, len(self._kept)))
            self._left = size - len(begun)
            self._endless = b"chunked" in head.lower()
            names, response = self._names(head, begun[end + len(_END_OF_HEADERS) :])
            pieces.append(Piece(begun, Message("controller", names, response, begun[:PEEK], size)))
            if self._endless:
                pieces.append(Piece(self.rest(), None))
                break
        return [piece for piece in pieces if piece.data]

    def rest(self) -> bytes:
        return self._take(len(self._kept))

    def _begins(self) -> bool:
        """Whether what is kept is the beginning of a message."""
        if self._synced:
            return True
        self._synced = self._kept.startswith((b"HTTP/1.",) if self._response else (b"POST ", b"GET "))
        return self._synced

    def _take(self, size: int) -> bytes:
        taken = bytes(self._kept[:size])
        del self._kept[:size]
        return taken

    def _names(self, head: bytes, body: bytes) -> tuple[Names, bool]:
        """What it is called, and whether it is a `response`."""
        if self._response:
            question = self._questions.popleft() if self._questions else ()
            if body and question and question[0] in CONTROLLER_NAMES:
                return _raft_names(body), False
            return question, True
        path = head.split(b" ", 2)[1].decode().partition("?")[0]
        if path == RAFT_PATH:
            names = _raft_names(body)
        else:
            names = ("Watch",) if path == WATCH_PATH else (path.removeprefix(CONTROLLER_PATH),)
        self._questions.append(names)
        return names, False


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


def _raft_messages(body: bytes) -> list[raft.Message]:
    """Those that are there as a whole."""
    found: list[raft.Message] = []
    with suppress(BadFrame, BadMessage):  # cut off after PEEK bytes: what came before that is what can be told
        found.extend(map(decode_message, split_frames(body)))
    return found


def _raft_names(body: bytes) -> Names:
    return tuple(dict.fromkeys(_raft_name(message) for message in _raft_messages(body)))


def _raft_name(message: raft.Message) -> str:
    if isinstance(message, raft.VoteRequest):
        return "PreVote" if message.pre else "Vote"
    if isinstance(message, raft.VoteResponse):
        return "PreVoteResponse" if message.pre else "VoteResponse"
    return _RAFT_NAMES[type(message)]
