"""What a message on a connection is called, and what is in it. Pure.

Kafka        the API's name: Produce, Fetch, ApiVersions, ...
controller   the request's name (AlterPartition, Heartbeat, RegisterBroker, ...), Watch, RaftStream (the request
             that opens one), or for a frame of Raft messages all of their names: AppendEntries, Vote, PreVote,
             Snapshot, each also with Response behind it (Raft's answers are messages of their own, no `response`),
             TimeoutNow, Join
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ottla.controller.raft import messages as raft
from ottla.controller.rpc import BadMessage, decode_message
from ottla.controller.rpc.framing import BadFrame, split_frames
from ottla.controller.rpc.stream_codec import HEAD

Plane = Literal["kafka", "controller"]
Names = tuple[str, ...]

# As much of a message is looked at before it goes on its way; larger ones are known by their beginning.
PEEK = 64 * 1024
END_OF_HEADERS = b"\r\n\r\n"
_RAFT_NAMES: dict[type, str] = {
    raft.AppendRequest: "AppendEntries",
    raft.AppendResponse: "AppendEntriesResponse",
    raft.SnapshotChunk: "Snapshot",
    raft.SnapshotResponse: "SnapshotResponse",
    raft.TimeoutNow: "TimeoutNow",
    raft.JoinRequest: "Join",
    raft.LeaderHint: "LeaderHint",
}


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
    def framed(self) -> bool:
        """Whether it is a frame of Raft messages."""
        return self.plane == "controller" and self.data[:1] < b"A"  # a size below 64 MiB; HTTP begins with a letter

    @property
    def body(self) -> bytes:
        """Without HTTP's headers or the head of a frame of Raft messages; of a Kafka frame all behind its size."""
        if self.framed:
            return self.data[HEAD.size :]
        return self.data[4:] if self.plane == "kafka" else self.data.partition(END_OF_HEADERS)[2]

    def json(self) -> Any:
        """The content of a controller request or of its answer."""
        return json.loads(self.body)

    @property
    def raft(self) -> tuple[raft.Message, ...]:
        """The Raft messages in it."""
        return tuple(raft_messages(self.body))


class Piece(NamedTuple):
    """Bytes to send on. `message` is set on the first piece of each."""

    data: bytes
    message: Message | None


def raft_messages(body: bytes) -> list[raft.Message]:
    """Those that are there as a whole."""
    found: list[raft.Message] = []
    with suppress(BadFrame, BadMessage):  # cut off after PEEK bytes: what came before that is what can be told
        found.extend(map(decode_message, split_frames(body)))
    return found


def raft_names(body: bytes) -> Names:
    return tuple(dict.fromkeys(_raft_name(message) for message in raft_messages(body)))


def _raft_name(message: raft.Message) -> str:
    if isinstance(message, raft.VoteRequest):
        return "PreVote" if message.pre else "Vote"
    if isinstance(message, raft.VoteResponse):
        return "PreVoteResponse" if message.pre else "VoteResponse"
    return _RAFT_NAMES[type(message)]
