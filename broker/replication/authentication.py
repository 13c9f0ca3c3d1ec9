"""How brokers prove themselves to each other on a Kafka listener: the SASL mechanism "OTTLA-CLUSTER".

Both ends know the cluster's secret and show it without sending it: each signs both nonces, the cluster id and both node
ids with HMAC-SHA256. Neither side's signature can be replayed, turned round, or used towards another node. Pure: the
nonces are drawn by the caller and must be unpredictable.

    client -> server   version, cluster id, own id, id of the wanted node, client nonce
    server -> client   server nonce
    client -> server   signature of the client
    server -> client   signature of the server
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

MECHANISM = "OTTLA-CLUSTER"
NONCE_SIZE = 32
MAX_MESSAGE = 1024

_VERSION = b"1"
_LENGTH = struct.Struct(">H")


class AuthenticationFailed(Exception):
    """The other end is not who it has to be. The text is fit for the log and for the peer."""


@dataclass(frozen=True, slots=True)
class ClusterCredentials:
    """Who this node is, and the secret that all nodes of the cluster share."""

    cluster_id: str
    node_id: int
    secret: bytes = field(repr=False)


def principal_of(node_id: int) -> str:
    """The principal of a connection that this node has authenticated."""
    return f"node:{node_id}"


class ServerExchange:
    """The server's side of one exchange: `step` for each message; `principal` once it is complete."""

    def __init__(self, own: ClusterCredentials, nonce: bytes) -> None:
        self._own = own
        self._nonce = nonce
        self._signed: Sequence[bytes] | None = None
        self._peer = -1
        self._ended = False
        self.principal: str | None = None

    def step(self, message: bytes) -> bytes:
        """The answer to `message`. Raises AuthenticationFailed, and the exchange is over then."""
        if self._ended or self.principal is not None:
            raise AuthenticationFailed("the exchange is over")
        try:
            return self._first(message) if self._signed is None else self._second(message, self._signed)
        except AuthenticationFailed:
            self._ended = True
            raise

    def _first(self, message: bytes) -> bytes:
        fields = _unpack(message, 5)
        version, cluster_id, peer, target, nonce = fields
        if version != _VERSION:
            raise AuthenticationFailed("unknown version of the exchange")
        if cluster_id != self._own.cluster_id.encode():
            raise AuthenticationFailed("the node is of another cluster")
        if target != str(self._own.node_id).encode():
            raise AuthenticationFailed("the connection was meant for another node")
        if len(nonce) != NONCE_SIZE or not peer.isdigit() or len(peer) > 10:
            raise AuthenticationFailed("malformed message")
        self._peer = int(peer)
        self._signed = (*fields, self._nonce)
        return _pack([self._nonce])

    def _second(self, message: bytes, signed: Sequence[bytes]) -> bytes:
        (signature,) = _unpack(message, 1)
        if not hmac.compare_digest(signature, _sign(self._own.secret, b"client", signed)):
            raise AuthenticationFailed("the node does not have the cluster's secret")
        self.principal = principal_of(self._peer)
        return _pack([_sign(self._own.secret, b"server", signed)])


class ClientExchange:
    """The client's side: send `first()`, then what `second` makes of the challenge, then check with `finish`."""

    def __init__(self, own: ClusterCredentials, peer_id: int, nonce: bytes) -> None:
        self._secret = own.secret
        self._fields = (_VERSION, own.cluster_id.encode(), str(own.node_id).encode(), str(peer_id).encode(), nonce)
        self._signed: Sequence[bytes] = ()

    def first(self) -> bytes:
        return _pack(self._fields)

    def second(self, challenge: bytes) -> bytes:
        """Raises AuthenticationFailed for a challenge that is none."""
        (nonce,) = _unpack(challenge, 1)
        if len(nonce) != NONCE_SIZE:
            raise AuthenticationFailed("malformed challenge")
        self._signed = (*self._fields, nonce)
        return _pack([_sign(self._secret, b"client", self._signed)])

    def finish(self, answer: bytes) -> None:
        """Raises AuthenticationFailed when the server does not know the secret."""
        (signature,) = _unpack(answer, 1)
        if not hmac.compare_digest(signature, _sign(self._secret, b"server", self._signed)):
            raise AuthenticationFailed("the server does not have the cluster's secret")


def _sign(secret: bytes, role: bytes, fields: Sequence[bytes]) -> bytes:
    return hmac.digest(secret, _pack([b"ottla-cluster", role, *fields]), hashlib.sha256)


def _pack(fields: Sequence[bytes]) -> bytes:
    """Each field with its length before it, so that no two lists of fields look alike."""
    return b"".join(_LENGTH.pack(len(item)) + item for item in fields)


def _unpack(message: bytes, count: int) -> list[bytes]:
    if len(message) > MAX_MESSAGE:
        raise AuthenticationFailed("message too long")
    fields: list[bytes] = []
    pos = 0
    while pos < len(message):
        if pos + _LENGTH.size > len(message):
            raise AuthenticationFailed("malformed message")
        (length,) = _LENGTH.unpack_from(message, pos)
        pos += _LENGTH.size
        if pos + length > len(message):
            raise AuthenticationFailed("malformed message")
        fields.append(message[pos : pos + length])
        pos += length
    if len(fields) != count:
        raise AuthenticationFailed("malformed message")
    return fields
