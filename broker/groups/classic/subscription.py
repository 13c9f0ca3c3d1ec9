"""What a consumer tells in its join metadata: the start of Kafka's ConsumerProtocolSubscription, of every version."""

from __future__ import annotations

from ottla.broker.coordination import BadRecord, Reader


def subscribed_topics(metadata: bytes) -> frozenset[str] | None:
    """The topics in a member's metadata (the versions differ only after them), or None for what is none."""
    reader = Reader(metadata)
    try:
        if reader.int16() < 0:
            return None
        return frozenset(reader.string() for _ in range(reader.count()))
    except BadRecord:
        return None
