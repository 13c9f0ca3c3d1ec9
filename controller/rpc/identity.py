"""Who a node is on the controller listener, and the signatures that prove it.

Every request carries the sender's cluster id, node id, incarnation and intended receiver, a nonce, the SHA-256
of its body, and an HMAC-SHA256 over all of that, so the receiver can refuse a stranger before it reads (or buffers)
one byte of body. Answers are signed too, over the request's own signature, so that a process which merely
took over a port cannot answer for a controller. A stream is opened by such a request and answer, and what is said on it
is signed with keys that no other stream has (`stream_codec`). Nothing here hides content; the listener is for a
private network.

Pure: no I/O, no clock, and the nonce is drawn by the caller.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

HEADER_CLUSTER = "X-Ottla-Cluster"
HEADER_FROM = "X-Ottla-From"
HEADER_TO = "X-Ottla-To"
HEADER_INCARNATION = "X-Ottla-Incarnation"
HEADER_NONCE = "X-Ottla-Nonce"
HEADER_DIGEST = "X-Ottla-Digest"
HEADER_SIGNATURE = "X-Ottla-Signature"

MIN_SECRET_BYTES = 16
ANYBODY = -1
"""The receiver of a request to an address at which it is not known who listens."""
_MAX_NODE_ID = 2**31 - 1
_EMPTY_DIGEST = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class ClusterIdentity:
    """What one process is: `node_id` of `cluster_id`, in the life named `incarnation` (new at every start).

    Raises ValueError when the secret is shorter than 16 bytes or an id cannot stand in a header.
    """

    cluster_id: str
    node_id: int
    incarnation: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) < MIN_SECRET_BYTES:
            raise ValueError(f"the cluster secret needs at least {MIN_SECRET_BYTES} bytes, it has {len(self.secret)}")
        for name, value in (("cluster id", self.cluster_id), ("incarnation", self.incarnation)):
            if not value or not value.isascii() or not value.isprintable():
                raise ValueError(f"the {name} must be printable ASCII and not empty: {value!r}")
        if not 0 <= self.node_id <= _MAX_NODE_ID:
            raise ValueError(f"node id {self.node_id} is outside 0..{_MAX_NODE_ID}")


class Unauthenticated(Exception):
    """The headers are incomplete or not signed with this cluster's secret (answered with 401)."""


class WrongAddressee(Exception):
    """A signed request of another cluster, for another node, or from this node's own id (answered with 409)."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The verified sender of a request. Its body must hash to `digest`; the answer signs `signature`."""

    node_id: int
    incarnation: str
    digest: str
    signature: str


def digest_of(body: bytes) -> str:
    """SHA-256 of a body as lower-case hex."""
    return hashlib.sha256(body).hexdigest() if body else _EMPTY_DIGEST


def _sign(secret: bytes, *parts: str) -> str:
    # Header values cannot hold a newline, so joining with one is unambiguous.
    return hmac.digest(secret, "\n".join(parts).encode(), "sha256").hex()


def sign_request(me: ClusterIdentity, to: int, method: str, path: str, body: bytes, nonce: str) -> dict[str, str]:
    """The headers that make a request from `me` to node `to` acceptable. `path` includes the query string."""
    digest = digest_of(body)
    sender, receiver = str(me.node_id), str(to)
    signature = _sign(
        me.secret, "request", method, path, me.cluster_id, sender, receiver, me.incarnation, nonce, digest
    )
    return {
        HEADER_CLUSTER: me.cluster_id,
        HEADER_FROM: sender,
        HEADER_TO: receiver,
        HEADER_INCARNATION: me.incarnation,
        HEADER_NONCE: nonce,
        HEADER_DIGEST: digest,
        HEADER_SIGNATURE: signature,
    }


def verify_request(
    me: ClusterIdentity, method: str, path: str, headers: Mapping[str, str], *, for_anybody: bool = False
) -> Caller:
    """Check a request's headers against this node's own identity. `for_anybody`: it need not be meant for this node.

    Raises Unauthenticated for a missing header or wrong signature, and only after that WrongAddressee, so that
    someone without the secret learns nothing about ids.
    """
    try:
        cluster, sender, receiver = headers[HEADER_CLUSTER], headers[HEADER_FROM], headers[HEADER_TO]
        incarnation, nonce = headers[HEADER_INCARNATION], headers[HEADER_NONCE]
        digest, signature = headers[HEADER_DIGEST], headers[HEADER_SIGNATURE]
    except KeyError as missing:
        raise Unauthenticated(f"no {missing.args[0]} header") from None
    expected = _sign(me.secret, "request", method, path, cluster, sender, receiver, incarnation, nonce, digest)
    if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogateescape")):
        raise Unauthenticated("the signature does not match this cluster's secret")
    if cluster != me.cluster_id:
        raise WrongAddressee(f"this is cluster {me.cluster_id}, the request is of cluster {cluster}")
    to_anybody = for_anybody and receiver == str(ANYBODY)
    if receiver != str(me.node_id) and not to_anybody:
        raise WrongAddressee(f"this is node {me.node_id}, the request is for node {receiver}")
    if sender == str(me.node_id) and not (to_anybody and incarnation == me.incarnation):
        raise WrongAddressee(f"node id {me.node_id} is in use here: two processes claim the same node id")
    return Caller(int(sender), incarnation, digest, signature)


def sign_answer(me: ClusterIdentity, request_signature: str, status: int, body: bytes) -> str:
    """Signature of an answer with `status` and `body` to the request that had `request_signature`."""
    return _sign(me.secret, "answer", request_signature, str(status), digest_of(body))


def stream_keys(me: ClusterIdentity, request_signature: str, nonce: str) -> tuple[bytes, bytes]:
    """Keys for the two directions of the stream that this request opened: that of the asker, that of who accepted.

    `nonce` is drawn by who accepts, so that a stream that was recorded fits no other one.
    """
    asker, accepting = (
        _sign(me.secret, "stream", request_signature, nonce, direction).encode() for direction in ("ask", "accept")
    )
    return asker, accepting


def answer_is_genuine(
    me: ClusterIdentity, request_signature: str, status: int, body: bytes, signature: str | None
) -> bool:
    """Whether an answer comes from a node that has the secret and answers exactly this request."""
    if signature is None:
        return False
    expected = sign_answer(me, request_signature, status, body)
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogateescape"))
