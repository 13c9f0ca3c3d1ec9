"""The even share that moves the least."""

from __future__ import annotations

from collections.abc import Mapping

from ottla.client.structs import TopicPartition

Claims = Mapping[TopicPartition, str]


def sticky(
    topics: Mapping[str, frozenset[str]], counts: Mapping[str, int], claims: Claims
) -> dict[str, list[TopicPartition]]:
    """Shares by member, in partition order.

    Everybody keeps what it had; what is left goes to whoever has least; then single partitions move from who has most
    to who has least, as long as that makes the two more even. With equal subscriptions no two shares differ by more
    than one, and no even share keeps more.

    Args:
        topics: what each member is subscribed to, in the order that decides between equals.
        counts: the number of partitions of each topic.
        claims: who had what.
    """
    shares: dict[str, dict[TopicPartition, None]] = {member: {} for member in topics}
    takers = {
        topic: [member for member, theirs in topics.items() if topic in theirs]
        for topic in sorted({topic for theirs in topics.values() for topic in theirs})
    }
    unowned = []
    for topic, members in takers.items():
        for index in range(counts.get(topic, 0)):
            tp = TopicPartition(topic, index)
            owner = claims.get(tp)
            if owner is not None and owner in shares and topic in topics[owner]:
                shares[owner][tp] = None
            else:
                unowned.append((len(members), tp))
    # Those that few can take come first, while there is a choice about the others.
    for _, tp in sorted(unowned):
        least = min(takers[tp.topic], key=lambda member: len(shares[member]))
        shares[least][tp] = None
    _level(shares, topics, claims)
    return {member: sorted(share) for member, share in shares.items()}


def _level(shares: dict[str, dict[TopicPartition, None]], topics: Mapping[str, frozenset[str]], claims: Claims) -> None:
    """Each move makes the sum of the squares smaller, so that there is an end."""
    while True:
        by_size = sorted(shares, key=lambda member: len(shares[member]))
        move = next((found for poor in by_size if (found := _move(poor, by_size, shares, topics, claims))), None)
        if move is None:
            return
        rich, poor, tp = move
        del shares[rich][tp]
        shares[poor][tp] = None


def _move(
    poor: str,
    by_size: list[str],
    shares: dict[str, dict[TopicPartition, None]],
    topics: Mapping[str, frozenset[str]],
    claims: Claims,
) -> tuple[str, str, TopicPartition] | None:
    """From the richest that has something for `poor`: what was not its own before, if there is such."""
    for rich in reversed(by_size):
        if len(shares[rich]) <= len(shares[poor]) + 1:
            return None
        movable = [tp for tp in shares[rich] if tp.topic in topics[poor]]
        if movable:
            return rich, poor, min(movable, key=lambda tp: (claims.get(tp) == rich, tp))
    return None
