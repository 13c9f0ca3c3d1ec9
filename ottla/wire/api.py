"""What a request handler sees and gives back."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from ottla.wire.schema import Entity

if TYPE_CHECKING:
    from ottla.wire.metering import Bill

Chunk: TypeAlias = bytes | bytearray | memoryview

ANONYMOUS: Final = "ANONYMOUS"


class _Verdict(Enum):
    NO_RESPONSE = "no response"
    CLOSE = "close"


NO_RESPONSE: Final = _Verdict.NO_RESPONSE
"""The request has no answer (Produce with acks=0)."""
CLOSE: Final = _Verdict.CLOSE
"""Drop the connection, after the answers that come before this one."""

NoResponse: TypeAlias = Literal[_Verdict.NO_RESPONSE]
Close: TypeAlias = Literal[_Verdict.CLOSE]


@dataclass(slots=True)
class Raw:
    """An encoded response body. The chunks are written as they are, and must not change afterwards."""

    chunks: Sequence[Chunk]

    @property
    def size(self) -> int:
        return sum(map(len, self.chunks))


class Later:
    """An answer that comes with a later event, without a Future and the callbacks of one.

    Who owes it calls `give` or `fail`, once, from a callback of its own: never before the handler has returned.
    `unwanted` is called when the client has gone before that; what is given afterwards is dropped. With `holds` no
    further request of the connection is looked at before `let_go`, or the answer: who holds has yet to do something
    that later requests must not get ahead of. Who is owed it sets `receive`, which is called with the answer, or with
    the exception in its place.
    """

    __slots__ = ("holds", "let_go", "receive", "unwanted")

    def __init__(self, unwanted: Callable[[], None], *, holds: bool = False) -> None:
        self.unwanted = unwanted
        self.holds = holds
        self.let_go: Callable[[], None] = _nothing
        self.receive: Callable[[Answer, Exception | None], None] | None = None

    def give(self, answer: "Answer") -> None:
        assert self.receive is not None
        self.receive(answer, None)

    def fail(self, error: Exception) -> None:
        assert self.receive is not None
        self.receive(None, error)


def deaf(seconds: float) -> None:
    """Nothing is read from a connection that is none."""


def _nothing() -> None:
    """What a connection that holds nothing back has to let go of."""


@dataclass(slots=True, eq=False)
class Connection:
    """One client's connection, as handlers know it; compared by identity.

    `principal` is "ANONYMOUS" until an authentication handler sets it. `state` belongs to the APIs. `mute` takes
    seconds for which no further request is looked at (KIP-219); the longest one counts.
    """

    listener: str
    peer: str
    principal: str = ANONYMOUS
    client_software: str = ""
    closed: bool = False
    state: dict[str, Any] = field(default_factory=dict)
    mute: Callable[[float], None] = deaf


@dataclass(slots=True)
class Request:
    """One request. `body` is kio's entity or what the API's own parser made of the body;
    `received_at` is the event loop's time in seconds. `bill` is there while somebody charges for time."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    body: Any
    connection: Connection
    received_at: float
    bill: "Bill | None" = None


Answer: TypeAlias = Mapping[str, Any] | Entity | Raw | NoResponse | Close
Handler: TypeAlias = Callable[[Request], Answer | Awaitable[Answer] | Later]
Parser: TypeAlias = Callable[[bytes | memoryview, int, int], object]
"""Called with frame, version and the position where the body starts in the frame; raises ProtocolError."""


@dataclass(frozen=True, slots=True)
class Api:
    """One row of the registry.

    `handler` is called in the order of arrival on each connection. What it returns may be a `Later`, or awaitable; a
    Future is awaited without a task, and cancelled when the connection closes, while a coroutine runs to its end.
    While a request of a `serial` API is unanswered, no further request of its connection is looked at.
    `max_request_bytes` of None means the server's limit.
    """

    key: int
    name: str
    min_version: int
    max_version: int
    handler: Handler
    parser: Parser | None = None
    max_request_bytes: int | None = None
    serial: bool = False
