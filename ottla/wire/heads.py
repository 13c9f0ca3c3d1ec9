"""The heads of requests and responses: what stands before a body, whichever API it is of."""

import struct
from collections.abc import Sequence

from ottla.wire.api import Answer, Chunk, Raw
from ottla.wire.errors import ProtocolError
from ottla.wire.framing import Frame
from ottla.wire.primitives import skip_tags
from ottla.wire.registry import Route

# API key, version, correlation id, size of the client id.
REQUEST_HEAD = struct.Struct(">hhih")
_REQUEST_HEAD_SIZE = REQUEST_HEAD.size
_RESPONSE_HEAD = struct.Struct(">ii")
_FLEXIBLE_HEAD = struct.Struct(">iiB")  # without tagged fields


class ClientIds:
    """Reads the client ids of one connection, which are nearly always the same one."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: tuple[bytes, str] = (b"", "")

    def read(self, frame: Frame, size: int, flexible: bool) -> tuple[str | None, int]:
        """The client id of a request, and where its body begins: behind the tagged fields of a flexible version's
        header. Raises ProtocolError."""
        client_id: str | None = None
        pos = _REQUEST_HEAD_SIZE
        try:
            if size >= 0:
                pos += size
                raw = bytes(frame[_REQUEST_HEAD_SIZE:pos])
                known, client_id = self._last
                if raw != known:
                    if len(raw) != size:
                        raise IndexError(pos)
                    client_id = raw.decode()
                    self._last = (raw, client_id)
            if flexible:
                pos = skip_tags(frame, pos) if frame[pos] else pos + 1
        except IndexError as error:
            raise ProtocolError("a request header is cut off") from error
        except UnicodeDecodeError as error:
            raise ProtocolError("the client id is not UTF-8") from error
        return client_id, pos


def encode_response(route: Route | None, correlation_id: int, answer: Answer) -> tuple[list[Chunk], int]:
    """The whole response, with its size in front, and how many bytes that is. Without a route `answer` has to be Raw.

    Raises whatever encoding an answer of the wrong shape does."""
    body: Sequence[Chunk]
    if answer.__class__ is Raw:
        body = answer.chunks
        size = len(body[0]) if len(body) == 1 else sum(map(len, body))
    else:
        assert route is not None
        encoded = route.encode(answer)
        body = (encoded,)
        size = len(encoded)
    if route is not None and route.flexible_response:
        return [_FLEXIBLE_HEAD.pack(size + 5, correlation_id, 0), *body], size + 9
    return [_RESPONSE_HEAD.pack(size + 4, correlation_id), *body], size + 8
