"""What a consumer tells in its join metadata: the start of Kafka's ConsumerProtocolSubscription, of every version."""

from __future__ import annotations

from collections.abc import Iterable

from ottla.broker.coordination import BadRecord, Reader
from ottla.broker.groups.embedded import ByName, assigned_in, subscription_of


def subscribed_topics(metadata: bytes) -> frozenset[str] | None:
    """The topics in a member's metadata (the versions differ only after them), or None for what is none."""
    reader = Reader(metadata)
    try:
        if reader.int16() < 0:
            return None
        return frozenset(reader.string() for _ in range(reader.count()))
    except BadRecord:
        return None


def given_up(members: Iterable[tuple[bytes, bytes]]) -> ByName:
    """Of the join metadata and assignments of members: what they had when this generation began, and nobody has now.

    Cooperative members give up what is to move, and join again for the generation in which others get it (KIP-429).
    Whoever was to do that may have died, and a static member that takes its place does not know of it.
    """
    had: set[tuple[str, int]] = set()
    has: set[tuple[str, int]] = set()
    for metadata, assignment in members:
        subscription = subscription_of(metadata)
        had |= frozenset() if subscription is None else subscription.owned
        has |= assigned_in(assignment) or frozenset()
    return frozenset(had - has)
