"""What a fetch wants of one partition, and what it gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kio.schema.errors import ErrorCode

from ottla.broker.replication.follower import EpochEnd


@dataclass(slots=True)
class FetchWant:
    """Offsets are log offsets; epochs are -1 when the client does not give them.

    `replica_id` is -1 for consumers, who read below the high watermark only, or with `committed_only` below the last
    stable offset; `broker_epoch` and `log_start`, where the log of that replica begins, go with a replica id.
    """

    offset: int
    max_bytes: int
    current_leader_epoch: int = -1
    last_fetched_epoch: int = -1
    replica_id: int = -1
    broker_epoch: int = -1
    log_start: int = -1
    committed_only: bool = False


@dataclass(slots=True)
class FetchResult:
    """`diverging` (KIP-595) comes without records: the fetcher has to truncate first. So does `preferred`, the replica
    that a consumer shall fetch from instead (KIP-392). Offsets are -1 when unknown. `aborted` goes with records for who
    reads only committed ones: (producer id, first offset) of what it has to pass over among them."""

    error: ErrorCode
    records: bytes = b""
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start_offset: int = -1
    diverging: EpochEnd | None = None
    preferred: int = -1
    aborted: Sequence[tuple[int, int]] = ()
