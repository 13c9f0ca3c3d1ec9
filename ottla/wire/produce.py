"""Produce (key 0), versions 3 to 12: requests and responses without an object per field."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ottla.wire.api import Chunk, Raw

MIN_VERSION, MAX_VERSION = 3, 12


class NodeEndpoint(NamedTuple):
    """Where a broker named as current leader is reached (KIP-951)."""

    node_id: int
    host: str
    port: int
    rack: str | None = None


@dataclass(slots=True)
class ProduceRequest:
    """`topics` is [(name, [(partition index, records or None)])]; the records are slices of the frame."""

    transactional_id: str | None
    acks: int
    timeout_ms: int
    topics: list[tuple[str, list[tuple[int, bytes | memoryview | None]]]]


class ProducePartitionResponse(NamedTuple):
    """`record_errors` is [(batch index, message)]; current leader -1 means none to tell (KIP-951)."""

    partition: int
    error_code: int = 0
    base_offset: int = -1
    log_append_time: int = -1
    log_start_offset: int = -1
    error_message: str | None = None
    record_errors: Sequence[tuple[int, str | None]] = ()
    leader_id: int = -1
    leader_epoch: int = -1


def parse_produce_request(body: bytes | memoryview, version: int) -> ProduceRequest:
    """Raises ProtocolError."""
    raise NotImplementedError


def encode_produce_request(
    version: int,
    topics: Sequence[tuple[str, Sequence[tuple[int, Chunk]]]],
    *,
    acks: int,
    timeout_ms: int,
    transactional_id: str | None = None,
) -> Raw:
    """The request's body; record bytes are not copied."""
    raise NotImplementedError


def encode_produce_response(
    version: int,
    topics: Sequence[tuple[str, Sequence[ProducePartitionResponse]]],
    *,
    throttle_ms: int = 0,
    node_endpoints: Sequence[NodeEndpoint] = (),
) -> Raw:
    """The response's body; what the version does not have is left out."""
    raise NotImplementedError
