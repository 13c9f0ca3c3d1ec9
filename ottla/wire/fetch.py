"""Fetch (key 1), versions 4 to 17: requests and responses without an object per field, records uncopied."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from ottla.wire.api import Chunk, Raw
from ottla.wire.produce import NodeEndpoint

MIN_VERSION, MAX_VERSION = 4, 17


class FetchPartition(NamedTuple):
    """What is asked of one partition; -1 where the asker does not know or the version does not say."""

    partition: int
    fetch_offset: int
    max_bytes: int
    current_leader_epoch: int = -1
    last_fetched_epoch: int = -1
    log_start_offset: int = -1


@dataclass(slots=True)
class FetchRequest:
    """Topics are named up to v12, and given by id (a UUID, zero for none) from v13 on."""

    max_wait_ms: int
    min_bytes: int
    max_bytes: int = 0x7FFFFFFF
    isolation_level: int = 0
    session_id: int = 0
    session_epoch: int = -1
    topics: list[tuple[str | UUID, list[FetchPartition]]] = field(default_factory=list)
    forgotten: list[tuple[str | UUID, list[int]]] = field(default_factory=list)
    rack_id: str = ""
    replica_id: int = -1
    replica_epoch: int = -1
    cluster_id: str | None = None


class FetchPartitionResponse(NamedTuple):
    """What one partition gives. `records` is None, or whole batches as one chunk or a list of chunks.

    `aborted_transactions` is [(producer id, first offset)] or None; `diverging_epoch` is (epoch, end offset)
    (KIP-595); `current_leader` is (leader id, leader epoch) (KIP-951).
    """

    partition: int
    error_code: int = 0
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start_offset: int = -1
    records: Chunk | Sequence[Chunk] | None = b""
    aborted_transactions: Sequence[tuple[int, int]] | None = None
    preferred_read_replica: int = -1
    diverging_epoch: tuple[int, int] | None = None
    current_leader: tuple[int, int] | None = None


@dataclass(slots=True)
class FetchResponse:
    """A decoded response. The records of each partition are one slice of the frame."""

    throttle_ms: int
    error_code: int
    session_id: int
    topics: list[tuple[str | UUID, list[FetchPartitionResponse]]]
    node_endpoints: list[NodeEndpoint]


def parse_fetch_request(body: bytes | memoryview, version: int) -> FetchRequest:
    """Raises ProtocolError."""
    raise NotImplementedError


def encode_fetch_request(version: int, request: FetchRequest) -> Raw:
    """The request's body; what the version does not have is left out."""
    raise NotImplementedError


def encode_fetch_response(
    version: int,
    topics: Sequence[tuple[str | UUID, Sequence[FetchPartitionResponse]]],
    *,
    error_code: int = 0,
    session_id: int = 0,
    throttle_ms: int = 0,
    node_endpoints: Sequence[NodeEndpoint] = (),
) -> Raw:
    """The response's body; record chunks are passed on as they are."""
    raise NotImplementedError


def decode_fetch_response(body: bytes | memoryview, version: int) -> FetchResponse:
    """Raises ProtocolError."""
    raise NotImplementedError
